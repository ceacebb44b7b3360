"""The page for approvals, as a browser opens it and sends its form."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flows import IDENTITY, JSON, py, step
from tests.server import Client, eventually, serving


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """One server for all."""
    with serving(tmp_path_factory.mktemp("pages") / "data", "--workers", "2") as (_, client):
        yield client


def _waiting(client: Client, *modules: JSON) -> str:
    job_id = client.post("/jobs/run/preview_flow", {"value": {"modules": list(modules)}}).text

    def waits() -> bool:
        return bool(client.job(job_id)["flow_status"]["modules"][1]["type"] == "WaitingForEvents")

    eventually(waits, "that the flow waits")
    return job_id


FORM = {
    "schema": {
        "properties": {"n": {"type": "integer"}, "who": {"type": "string"}},
        "required": ["n"],
        "order": ["n", "who"],
    }
}
BROWSER = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("is_signed", [True, False])
def test_somebody_approves_on_the_page(client: Client, is_signed: bool) -> None:
    code = "def main(): return {'description': 'Pay <b>ada</b>?', 'default_args': {'who': 'ada'}}"
    suspend = {"required_events": 1, "resume_form": FORM}
    modules = [step("a", py(code), suspend=suspend, summary="Pay"), step("b", py("def main(x): return x", x="resume"))]
    job_id = _waiting(client, *modules)
    asked = client.job(job_id)["flow_status"]["modules"][0]["job"]
    urls = client.get(f"/jobs/resume_urls/{asked}/7", approver="grace").json()
    address = urls["resume"].partition("/api/w/")[2].replace("/jobs_u/resume/", "/") if is_signed else ""
    path = f"/approve/{address}" if is_signed else "/approve/" + urls["approvalPage"].partition("/approve/")[2]
    browser = client.with_token("")
    page = browser.call("GET", path)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert (page.headers["cache-control"], page.headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert "Pay &lt;b&gt;ada&lt;/b&gt;?" in page.text
    assert 'name="f.who" value="ada"' in page.text
    assert "http" not in page.text.replace("http-equiv", "")
    assert browser.call("POST", path, b"action=resume&f.n=x", BROWSER).status == 400
    assert browser.call("POST", path, b"{}", {"Content-Type": "application/json"}).status == 415
    assert client.job(job_id)["running"]
    done = browser.call("POST", path, b"action=resume&f.n=3&f.who=", BROWSER)
    assert (done.status, "Approved" in done.text) == (200, True)
    assert client.ended(job_id)["result"] == {"n": 3}
    again = browser.call("GET", path)
    assert (again.status, "Nothing to approve" in again.text) == (200, True)
    assert browser.call("POST", path, b"action=resume&f.n=3", BROWSER).status == 400
    assert browser.call(
        "GET", path[:-1] if not is_signed else path.replace("approver=grace", "approver=eve")
    ).status in (401, 403)


def test_somebody_refuses_on_the_page_unless_the_step_hides_that(client: Client) -> None:
    for hide in (False, True):
        modules = [step("a", IDENTITY, suspend={"required_events": 1, "hide_cancel": hide}), step("b", IDENTITY)]
        job_id = _waiting(client, *modules)
        path = (
            "/approve/" + client.get(f"/jobs/resume_urls/{job_id}/1").json()["approvalPage"].partition("/approve/")[2]
        )
        assert ("Refuse" in client.with_token("").call("GET", path).text) is not hide
        answer = client.with_token("").call("POST", path, b"action=cancel", BROWSER)
        assert answer.status == (400 if hide else 200)
        if not hide:
            assert client.ended(job_id)["result"]["error"]["name"] == "SuspendedDisapproved"
