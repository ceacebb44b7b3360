"""All paths at once, the history of a script, and taking its versions out of service, or away."""

from __future__ import annotations

from typing import Any

from tests.server import Client

CODE = "def main(): return {}"


def _versions(client: Client, path: str, count: int = 2) -> list[str]:
    return [client.deploy(path, CODE.format(number)) for number in range(count)]


def test_paths_and_code_of_all_that_is_live(client: Client) -> None:
    for name in ("a", "b", "gone"):
        _versions(client, f"u/admin/all_{name}")
    assert client.post("/scripts/archive/p/u/admin/all_gone").status == 200
    paths = [path for path in client.get("/scripts/list_paths").json() if path.startswith("u/admin/all_")]
    assert paths == ["u/admin/all_a", "u/admin/all_b"]
    found = {each["path"]: each["content"] for each in client.get("/scripts/list_search").json()}
    assert found["u/admin/all_b"] == CODE.format(1)
    assert "u/admin/all_gone" not in found


def test_the_newest_version_and_its_message(client: Client) -> None:
    path = "u/admin/messages"
    first, second = _versions(client, path)
    assert client.get(f"/scripts/get_latest_version/{path}").json() == {"script_hash": second}
    assert client.get("/scripts/get_latest_version/u/admin/nothing").json() is None
    assert client.get(f"/scripts/get/draft/{path}").json()["hash"] == second
    assert client.post(f"/scripts/history_update/h/{first}/p/{path}", {"deployment_msg": "why"}).status == 200
    assert client.post(f"/scripts/history_update/h/{second}/p/{path}", {"deployment_msg": "then"}).status == 200
    history = client.get(f"/scripts/history/p/{path}").json()
    assert [each["deployment_msg"] for each in history] == ["then", "why"]
    assert client.get(f"/scripts/get_latest_version/{path}").json()["deployment_msg"] == "then"
    assert client.post(f"/scripts/history_update/h/{first}/p/u/admin/other", {"deployment_msg": "x"}).status == 404
    assert client.post(f"/scripts/history_update/h/{first}/p/{path}", {"deployment_msg": 1}).status == 400
    assert client.post(f"/scripts/toggle_workspace_error_handler/p/{path}", {"muted": True}).status == 200
    assert client.get(f"/scripts/get/p/{path}").json()["ws_error_handler_muted"] is True
    assert client.post(f"/scripts/toggle_workspace_error_handler/p/{path}", {"muted": "x"}).status == 400


def test_code_by_hash_and_without_versions_of_packages(client: Client) -> None:
    path = "u/admin/pinned"
    hash = client.deploy(path, 'import x from "npm:lodash@4.17/fp"\nexport function main() {}', "deno", lock="")
    assert client.get(f"/scripts/raw/h/{hash}.ts").text == client.get(f"/scripts/raw/h/{hash}").text
    assert "lodash@4.17/fp" in client.get(f"/scripts/raw/p/{path}.deno.ts").text
    assert 'from "npm:lodash/fp"' in client.get(f"/scripts/raw_unpinned/p/{path}.ts").text
    assert client.get("/scripts/raw/h/xyz.ts").status == 400
    assert client.get(f"/scripts/raw/h/{'0' * 16}.ts").status == 404
    _versions(client, "u/admin/plain", 1)
    assert client.get("/scripts/raw_unpinned/p/u/admin/plain.py").text == CODE.format(0)
    assert client.get("/scripts/raw_unpinned/p/u/admin/plain").status == 400


def test_one_version_is_archived_or_deleted(client: Client) -> None:
    path = "u/admin/one_version"
    first, second = _versions(client, path)
    assert client.post(f"/scripts/archive/h/{second}").json()["archived"] is True
    assert client.run(path).status == 404
    left = client.post(f"/scripts/delete/h/{first}").json()
    assert (left["deleted"], left["content"], left["hash"]) == (True, "", first)
    assert client.get(f"/scripts/raw/h/{first}").status == 404
    assert client.post(f"/scripts/archive/h/{'0' * 16}").status == 404
    assert client.post("/scripts/delete/h/x").status == 400


def test_all_versions_are_deleted(client: Client) -> None:
    for name in ("a", "b", "c"):
        _versions(client, f"u/admin/away_{name}")
    answer = client.post("/scripts/delete/p/u/admin/away_a")
    assert (answer.status, answer.json()) == (200, "u/admin/away_a")
    assert client.get("/scripts/exists/p/u/admin/away_a").json() is False
    assert client.post("/scripts/delete/p/u/admin/away_a").status == 404
    paths = ["u/admin/away_a", "u/admin/away_b", "u/admin/away_c"]
    assert client.call("DELETE", "/scripts/delete_bulk", data={"paths": paths}).json() == paths[1:]
    assert client.run("u/admin/away_b").status == 404
    wrongs: tuple[Any, ...] = ({}, {"paths": "x"}, {"paths": [1]}, [], {"paths": ["u/admin/x"] * 1001})
    for wrong in wrongs:
        assert client.call("DELETE", "/scripts/delete_bulk", data=wrong).status == 400
