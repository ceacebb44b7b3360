"""References in the arguments of flows: a restricted token reads nothing by them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server import Client, serving

STEP = {
    "id": "a",
    "value": {
        "type": "rawscript",
        "language": "python3",
        "content": "def main(given, own): return [given, own]",
        "input_transforms": {
            "given": {"type": "javascript", "expr": "flow_input.x"},
            "own": {"type": "static", "value": "$var:u/admin/hidden"},
        },
    },
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """With a secret, and a flow that shows what it gets."""
    with serving(tmp_path_factory.mktemp("references") / "data") as (_, client):
        secret = {"path": "u/admin/hidden", "value": "canary", "is_secret": True, "description": ""}
        assert client.post("/variables/create", secret).status == 201
        flow = {"path": "u/admin/shows", "summary": "", "value": {"modules": [STEP]}}
        assert client.post("/flows/create", flow).status == 201
        yield client


@pytest.mark.parametrize(
    "arguments",
    [
        b'{"x": "$var:u/admin/hidden"}',
        b'{"x": "\\u0024var:u/admin/hidden"}',
        b'{"x": ["a", {"b": "$res:u/admin/hidden"}]}',
        b'{"x": "cut me: $var:u/admin/hidden"}',
    ],
)
def test_a_token_for_a_flow_names_no_secret_and_its_author_does(client: Client, arguments: bytes) -> None:
    made = client.post("/api/users/tokens/create", {"scopes": ["jobs:run:flows:u/admin/shows"]})
    hook = client.with_token(made.text)
    json = {"Content-Type": "application/json"}
    for way in ("run", "run_wait_result", "run_and_stream"):
        refused = hook.call("POST", f"/jobs/{way}/f/u/admin/shows", arguments, json)
        assert refused.status == 403, way
        assert "may not name variables and resources" in refused.text
    answer = hook.post("/jobs/run_wait_result/f/u/admin/shows", {"x": "plain"})
    assert answer.status == 200
    assert answer.json()[0] == "plain"
    assert answer.json()[1] != "$var:u/admin/hidden", "the author's own is followed"
