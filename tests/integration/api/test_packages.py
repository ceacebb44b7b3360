"""Scripts with packages through the real server: deployed, run, previewed, refused, restarted."""

from __future__ import annotations

import http.server
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flows import forloop, py, step
from tests.server import Client, Server, eventually, serving
from tests.wheels import make_wheel

USES = "import thing\n\ndef main():\n    return [thing.VALUE, {number}]\n"


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheelhouse")
    make_wheel(place, "thing", "1.0", {"thing/__init__.py": "from base import VALUE\n"}, ["base"])
    make_wheel(place, "base", "1.0", {"base.py": "VALUE = 'one'\n"})
    make_wheel(place, "base", "2.0", {"base.py": "VALUE = 'two'\n"})
    return place


@pytest.fixture(scope="module")
def flags(wheelhouse: Path) -> tuple[str, ...]:
    return ("--workers", "2", "--offline", "--package-wheelhouse", str(wheelhouse))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, flags: tuple[str, ...]) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("packages") / "data", *flags) as (server, _):
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    return server.client()


def status(client: Client, script_hash: str) -> dict[str, Any]:
    answer = client.get(f"/scripts/deployment_status/h/{script_hash}")
    assert answer.status == 200, answer.text
    shown: dict[str, Any] = answer.json()
    assert list(shown) == ["lock", "lock_error_logs", "job_id"]
    return shown


def settled(client: Client, script_hash: str) -> dict[str, Any]:
    """The deployment status once its packages are found, or not."""

    def probe() -> dict[str, Any] | None:
        shown = status(client, script_hash)
        return shown if shown["lock"] is not None or shown["lock_error_logs"] is not None else None

    found = eventually(probe, "the end of a deployment")
    assert found is not None
    return found


def test_a_script_without_packages_has_its_lock_at_once(client: Client) -> None:
    script_hash = client.deploy("u/admin/plain", "import json\n\ndef main():\n    return json.dumps(1)\n")
    assert status(client, script_hash) == {"lock": "", "lock_error_logs": None, "job_id": None}
    assert client.deploy("u/admin/sh", "import thing", "bash")
    assert client.get("/scripts/deployment_status/h/0000000000000000").status == 404


def test_packages_are_found_by_a_job(client: Client) -> None:
    script_hash = client.deploy("u/admin/found", USES.format(number=1))
    shown = settled(client, script_hash)
    assert shown["lock"] == "# py: {}.{}\nbase==2.0\nthing==1.0".format(*sys.version_info[:2])
    job = client.ended(shown["job_id"])
    assert (job["job_kind"], job["success"], job["tag"]) == ("dependencies", True, "dependency")
    assert job["script_hash"] == script_hash
    assert job["result"]["lock"] == shown["lock"]
    assert client.get("/scripts/get/p/u/admin/found").json()["lock"] == shown["lock"]
    assert client.run("u/admin/found").json() == ["two", 1]
    listed = client.get("/jobs/completed/list", job_kinds="dependencies").json()
    assert shown["job_id"] in [each["id"] for each in listed]


def test_a_first_version_can_be_called_while_its_packages_are_looked_for(client: Client) -> None:
    client.deploy("u/admin/soon", USES.format(number=2) + "# another lock\n# extra_requirements:\n# base<3\n")
    assert client.run("u/admin/soon").json() == ["two", 2]


def test_the_lock_of_the_client_is_kept(client: Client) -> None:
    lock = "# py: 3.11\nbase==1.0\nthing==1.0\n"
    script_hash = client.deploy("u/admin/locked", USES.format(number=3), lock=lock)
    assert status(client, script_hash) == {"lock": lock, "lock_error_logs": None, "job_id": None}
    assert client.run("u/admin/locked").json() == ["one", 3]
    assert client.get("/scripts/get/p/u/admin/locked").json()["lock"] == lock
    by_lines = client.deploy("u/admin/lines", USES.format(number=3), lock=lock.splitlines())
    assert client.post(f"/jobs/run_wait_result/h/{by_lines}").json() == ["one", 3]


def test_a_lock_may_not_name_files_or_addresses(client: Client) -> None:
    new = {
        "path": "u/admin/evil",
        "summary": "",
        "description": "",
        "content": USES.format(number=3),
        "language": "python3",
    }
    answer = client.post("/scripts/create", {**new, "lock": "thing @ file:///etc/passwd"})
    assert answer.status == 400
    assert "addresses, paths and options are not allowed" in answer.text


def test_the_version_before_answers_as_long_as_a_new_one_has_no_packages(client: Client) -> None:
    client.deploy("u/admin/next", USES.format(number=4))
    assert client.run("u/admin/next").json() == ["two", 4]
    broken = client.deploy("u/admin/next", "import absent_package\n" + USES.format(number=5))
    shown = settled(client, broken)
    assert "absent-package" in shown["lock_error_logs"]
    assert "pip download" in shown["lock_error_logs"], "says what to do"
    assert client.ended(shown["job_id"])["success"] is False
    assert client.run("u/admin/next").json() == ["two", 4]
    script = client.get("/scripts/get/p/u/admin/next").json()
    assert (script["hash"], script["lock"], script["lock_error_logs"]) == (broken, None, shown["lock_error_logs"])
    (item,) = client.get("/scripts/list", path_exact="u/admin/next").json()
    assert item["has_deploy_errors"] is True
    assert "absent-package" in client.post(f"/jobs/run_wait_result/h/{broken}").error["message"]
    client.deploy("u/admin/next", USES.format(number=6))
    eventually(lambda: client.run("u/admin/next").json() == ["two", 6], "the new version")


def test_an_archived_path_is_not_run_again_for_want_of_packages(client: Client) -> None:
    client.deploy("u/admin/gone", USES.format(number=7))
    client.deploy("u/admin/gone", "import absent_package\n" + USES.format(number=8))
    client.post("/scripts/archive/p/u/admin/gone")
    assert client.run("u/admin/gone").status == 404


def test_the_interpreter_that_a_script_wants(client: Client) -> None:
    script_hash = client.deploy("u/admin/old", "# py: <3.9\ndef main():\n    return 1\n")
    assert "wants Python <3.9" in settled(client, script_hash)["lock_error_logs"]
    assert client.preview("# py: >=3.11\ndef main():\n    return 1\n").json() == 1


def test_previews_bring_their_packages_along(client: Client) -> None:
    code = "# requirements:\n# base==1.0\n\nimport base\n\ndef main():\n    return base.VALUE, base.__file__\n"
    assert client.preview(code).json() == ["one", "/packages/base.py"]
    assert "absent-package" in client.preview("import absent_package\n\ndef main():\n    pass\n").error["message"]
    # Packages of one script are not there for another.
    assert (
        "No module named"
        in client.preview(
            code.replace("# base==1.0", "# thing==1.0\n# base==2.0") + "import json, thing, absentee"
        ).error["message"]
    )
    assert (
        client.preview(
            "def main():\n    try:\n        __import__('base')\n    except ImportError:\n        return 'none'"
        ).json()
        == "none"
    )


def test_jobs_cannot_change_packages(client: Client) -> None:
    code = "import thing, pathlib\n\ndef main():\n    pathlib.Path(thing.__file__).write_text('x')\n"
    assert client.preview(code).error["message"].startswith("[Errno 30] Read-only file system")


def test_locks_for_clients(client: Client) -> None:
    """What ``wmill generate-metadata`` asks for: with the token in a cookie."""
    raw = {"raw_code": USES.format(number=9), "language": "python3", "script_path": "f/x/y"}
    body = {"raw_scripts": [raw], "raw_workspace_dependencies": None, "entrypoint": "f/x/y", "temp_script_refs": None}
    cookie = {"Cookie": f"token={client.token}", "Authorization": ""}
    answer = client.with_token("").post("/jobs/run/dependencies_async", body, {"Cookie": cookie["Cookie"]})
    assert answer.status == 201, answer.text
    job = client.ended(answer.text)
    assert job["result"]["lock"].endswith("\nbase==2.0\nthing==1.0")
    assert job["raw_code"] == raw["raw_code"]
    bash = {"raw_scripts": [{"raw_code": "echo", "language": "bash"}]}
    assert client.ended(client.post("/jobs/run/dependencies_async", bash).text)["result"]["lock"] == ""
    wrongs: tuple[Any, ...] = (
        {},
        {"raw_scripts": []},
        {"raw_scripts": [{"language": "bash"}]},
        {"raw_scripts": [{"raw_code": "", "language": "x"}]},
        {"raw_scripts": [{"raw_code": "", "language": "bash"}], "entrypoint": 1},
        [],
    )
    for wrong in wrongs:
        assert client.post("/jobs/run/dependencies_async", wrong).status == 400


def test_a_search_that_a_crash_interrupts_is_done_again(
    make_server: Callable[..., Server], flags: tuple[str, ...], tmp_path: Path
) -> None:
    program = tmp_path / "stuck"
    program.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs\nsleep 300\n")
    program.chmod(0o755)
    server = make_server(*flags, environment={"MINWEBHOOK_UV": str(program)})
    client = server.start()
    script_hash = client.deploy("u/admin/a", USES.format(number=1))
    eventually((tmp_path / "runs").exists, "the start of the search")
    # A job that waits for packages keeps no other one from running.
    waiting = [client.submit("u/admin/a") for _ in range(3)]
    assert client.preview("def main():\n    return 1").json() == 1
    server.kill()
    server.environment.clear()
    client = server.start()
    shown = settled(client, script_hash)
    assert shown["lock"]
    assert [client.ended(each)["result"] for each in waiting] == [["two", 1]] * 3


def test_jobs_that_wait_for_packages_can_be_cancelled(
    make_server: Callable[..., Server], flags: tuple[str, ...], tmp_path: Path
) -> None:
    program = tmp_path / "stuck"
    program.write_text("#!/bin/sh\nexec sleep 300\n")
    program.chmod(0o755)
    client = make_server(*flags, environment={"MINWEBHOOK_UV": str(program)}).start()
    client.deploy("u/admin/a", USES.format(number=1))
    job = client.submit("u/admin/a")
    client.running(job)
    client.post(f"/jobs_u/queue/cancel/{job}", {"reason": "why"})
    assert client.ended(job)["canceled"] is True


def test_files_that_are_deployed_get_their_packages_when_they_can_be_had(
    make_server: Callable[..., Server], tmp_path: Path, wheelhouse: Path
) -> None:
    scripts = tmp_path / "scripts" / "u" / "admin"
    scripts.mkdir(parents=True)
    (scripts / "a.py").write_text(USES.format(number=1))
    server = make_server("--offline", "--scripts", str(tmp_path / "scripts"))
    client = server.start()
    script_hash = client.get("/scripts/get/p/u/admin/a").json()["hash"]
    assert "set package_wheelhouse" in settled(client, script_hash)["lock_error_logs"]
    server.stop()
    server.flags = (*server.flags, "--package-wheelhouse", str(wheelhouse))
    client = server.start()
    assert settled(client, script_hash)["lock"]
    assert client.run("u/admin/a").json() == ["two", 1]


class Index(http.server.BaseHTTPRequestHandler):
    """A private index with one package, for those who know its password."""

    wheel: Path
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.headers["Authorization"] != "Basic bWU6c2VjcmV0LWNhbmFyeQ==":  # me:secret-canary
            self._answer(401, b"")
        elif self.path == "/simple/base/":
            self._answer(200, f'<a href="/files/{self.wheel.name}">{self.wheel.name}</a>'.encode())
        elif self.path.startswith("/files/"):
            self._answer(200, self.wheel.read_bytes())
        else:
            self._answer(404, b"")

    do_HEAD = do_GET

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", "Basic")
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def index(wheelhouse: Path) -> Iterator[str]:
    handler = type("Handler", (Index,), {"wheel": wheelhouse / "base-1.0-py3-none-any.whl", "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}/simple"
        server.shutdown()
        thread.join()


def test_a_private_index_and_its_password(make_server: Callable[..., Server], index: str) -> None:
    server = make_server(environment={"MINWEBHOOK_PACKAGE_INDEX": f"http://me:secret-canary@{index}"})
    client = server.start()
    assert client.preview("import base\n\ndef main():\n    return base.VALUE").json() == "one"
    failed = client.preview("import absent_package\n\ndef main():\n    pass\n")
    assert "absent-package" in failed.error["message"]
    assert "secret-canary" not in failed.text + server.log


def test_without_the_program_scripts_without_packages_run(make_server: Callable[..., Server]) -> None:
    client = make_server("--uv", "/nowhere/uv").start()
    assert client.preview("def main():\n    return 1").json() == 1
    assert "setting uv" in client.preview("import base\n\ndef main():\n    pass").error["message"]


def test_scripts_of_the_workspace_are_imported_as_they_were_at_the_deployment(client: Client) -> None:
    client.post("/folders/create", {"name": "team"})
    base = "import thing\n\nWORD = {word!r}\n\ndef shout():\n    return [WORD, thing.VALUE]\n"
    client.deploy("f/team/base", base.format(word="old"))
    client.deploy("u/admin/near", "from f.team import base\nfrom f.team.base import shout as loud\n\nX = base.WORD\n")
    code = "from .near import X, loud\nimport f.team.base as other\n\ndef main():\n    return [X, loud(), other.WORD]\n"
    script_hash = client.deploy("u/admin/importer", code)
    shown = settled(client, script_hash)
    assert "thing==1.0" in shown["lock"], "what is imported needs a package"
    old = ["old", ["old", "two"], "old"]
    assert [client.run("u/admin/importer").json() for _ in range(2)] == [old, old]
    client.deploy("f/team/base", base.format(word="new"), parent_hash=live(client, "f/team/base"))
    assert client.run("u/admin/importer").json() == old
    # A preview imports what is there now; what it imports itself wins over what an import was deployed with.
    assert client.preview(code.replace("from .near", "from u.admin.near")).json() == ["new", ["new", "two"], "new"]
    settled(client, client.deploy("u/admin/importer", code, parent_hash=script_hash))
    imports = client.get("/scripts/get/p/u/admin/importer").json()["imports"]
    assert sorted(imports) == ["f/team/base", "u/admin/near"]
    assert client.run("u/admin/importer").json() == ["new", ["new", "two"], "new"]
    failed = client.preview("from f.team.base import shout\n\ndef main():\n    shout(1)\n").error["stack"]
    assert "in main" in failed


def test_an_error_in_an_imported_script_shows_its_lines(client: Client) -> None:
    client.deploy("u/admin/breaks", "def broken():\n    raise ValueError('no luck')\n")
    error = client.preview("from u.admin.breaks import broken\n\ndef main():\n    broken()\n").error
    assert (error["name"], error["message"]) == ("ValueError", "no luck")
    assert 'File "u/admin/breaks.py", line 2, in broken\n    raise ValueError' in error["stack"]


def test_what_may_not_be_read_is_not_imported(server: Server, client: Client) -> None:
    client.deploy("u/admin/secret", "SECRET = 1\n")
    alice = server.user("alice")
    code = "from u.admin.secret import SECRET\n\ndef main():\n    return SECRET\n"
    for refused in (
        alice.post(
            "/scripts/create",
            {"path": "u/alice/x", "summary": "", "description": "", "content": code} | {"language": "python3"},
        ),
        alice.preview(code),
        client.preview("from u.admin.absent import x\n\ndef main(): pass\n"),
    ):
        assert refused.status == 400, refused.text
        assert "which is no script in Python that you may read" in refused.text
    assert (
        client.preview(
            "try:\n    from typing import TYPE_CHECKING\nfinally:\n    pass\nif TYPE_CHECKING:\n"
            "    from u.admin.absent import x\n\ndef main():\n    return 1\n"
        ).json()
        == 1
    )


def live(client: Client, path: str) -> str:
    found: str = client.get(f"/scripts/get/p/{path}").json()["hash"]
    return found


# --- flows --------------------------------------------------------------------------------------------------------------


def flow_status(client: Client, path: str) -> dict[str, Any]:
    def probe() -> dict[str, Any] | None:
        job = client.get(f"/flows/deployment_status/p/{path}").json()["job_id"]
        if job is not None and client.job(job)["type"] != "CompletedJob":
            return None
        shown: dict[str, Any] = client.get(f"/flows/deployment_status/p/{path}").json()
        return shown

    found = eventually(probe, "the end of a deployment")
    assert found is not None
    return found


def test_scripts_within_flows_have_their_packages_and_imports_from_the_deployment(client: Client) -> None:
    client.deploy("u/admin/words", "import base\n\nWORD = ['old', base.VALUE]\n")
    uses = "import base\nfrom ..words import WORD\n\ndef main(n=0):\n    return [n, WORD, base.VALUE]\n"
    plain = "def main(a):\n    return a\n"
    loop = forloop([1], step("deep", py(uses, n="flow_input.iter.value")))
    value = {"modules": [step("a", py(uses)), step("b", py(plain, a="results.a")), step("c", loop)]}
    body = {"path": "u/admin/packed", "summary": "", "value": value}
    assert client.post("/flows/create", body).status == 201
    shown = flow_status(client, "u/admin/packed")
    assert (shown["lock_error_logs"], client.job(shown["job_id"])["success"]) == (None, True)
    flow = client.get("/flows/get/u/admin/packed").json()
    modules = flow["value"]["modules"]
    lock = "# py: {}.{}\nbase==2.0".format(*sys.version_info[:2])
    assert modules[0]["value"]["lock"] == modules[2]["value"]["modules"][0]["value"]["lock"] == lock
    assert modules[1]["value"]["lock"] == "", "it needs none"
    assert flow["imports"] == {id: {"u/admin/words": live(client, "u/admin/words")} for id in ("a", "deep")}
    client.deploy("u/admin/words", "WORD = 'new'\n", parent_hash=live(client, "u/admin/words"))
    ran = client.post("/jobs/run_wait_result/f/u/admin/packed", {}).json()
    assert ran == [[1, ["old", "two"], "two"]]
    preview = {"value": {"modules": value["modules"][:1]}, "path": "u/admin/packed"}
    job = client.post("/jobs/run/preview_flow", preview).text
    assert client.ended(job)["result"] == [0, "new", "two"]
    assert client.post("/flows/update/u/admin/packed", body).status == 200
    flow_status(client, "u/admin/packed")
    assert client.post("/jobs/run_wait_result/f/u/admin/packed", {}).json() == [[1, "new", "two"]]


def test_what_scripts_within_flows_cannot_have_is_said(server: Server, client: Client) -> None:
    absent = {
        "modules": [step("a", py("import absent_package\ndef main(): pass\n")), step("b", py(USES.format(number=1)))]
    }
    assert client.post("/flows/create", {"path": "u/admin/lacks", "summary": "", "value": absent}).status == 201
    shown = flow_status(client, "u/admin/lacks")
    assert shown["lock_error_logs"].startswith("module a: ")
    assert "absent-package" in shown["lock_error_logs"]
    modules = client.get("/flows/get/u/admin/lacks").json()["value"]["modules"]
    assert "thing==1.0" in modules[1]["value"]["lock"], "the others have theirs"
    client.deploy("u/admin/hidden", "SECRET = 1\n")
    alice = server.user("bob")
    value = {"modules": [step("x", py("from u.admin.hidden import SECRET\ndef main(): return SECRET\n"))]}
    forged = {**value, "step_imports": {"x": {"u/admin/hidden": live(client, "u/admin/hidden")}}}
    for refused in (
        alice.post("/flows/create", {"path": "u/bob/peeks", "summary": "", "value": value}),
        alice.post("/jobs/run/preview_flow", {"value": value}),
        alice.post("/jobs/run/preview_flow", {"value": forged}),
    ):
        assert refused.status == 400, refused.text
        assert "module x: the code imports u/admin/hidden" in refused.text
    sneaks = "import importlib\n\ndef main():\n    return importlib.import_module('u.admin.hidden').SECRET\n"
    kept = {**forged, "modules": [step("x", py(sneaks))]}
    job = alice.post("/jobs/run/preview_flow", {"value": kept}).text
    assert "No module named 'u'" in str(alice.ended(job)["result"])
