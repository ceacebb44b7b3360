"""Versions of scripts on real files: lineage, conflicts, look-ups, lists, archiving and deleting."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from minwebhook.db.database import Database
from minwebhook.errors import BadRequest, NotFound
from minwebhook.scripts import store as module
from minwebhook.scripts.model import NewScript, hash_to_hex
from minwebhook.scripts.query import ScriptQuery
from minwebhook.scripts.store import ScriptStore

NOW = 1_700_000_000_123
PATH = "u/admin/hello"


def payload(content: str = "def main(): pass", **more: Any) -> NewScript:
    parent = more.get("parent_hash")
    if isinstance(parent, int):
        more["parent_hash"] = hash_to_hex(parent)
    base = {"path": PATH, "summary": "", "description": "", "content": content, "language": "python3"}
    return NewScript.parse({**base, **more})


async def create(store: ScriptStore, content: str = "def main(): pass", now_ms: int = NOW, **more: Any) -> int:
    return await store.create("demo", payload(content, **more), "admin", now_ms)


async def refusal(store: ScriptStore, content: str = "def main(): pass", **more: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        await create(store, content, **more)
    return caught.value.detail


# Creating


async def test_a_new_script_is_found_by_path_and_hash(store: ScriptStore) -> None:
    hash = await create(store)
    script = store.deployed("demo", PATH)
    assert script == store.get_by_path("demo", PATH) == store.get_by_hash("demo", hash)
    assert (script.hash, script.parent_hashes, script.created_by, script.is_live) == (hash, (), "admin", True)
    assert store.exists("demo", PATH)
    assert not store.exists("admins", PATH)


async def test_missing_scripts_are_404(store: ScriptStore) -> None:
    for look in (store.get_by_path, store.deployed):
        with pytest.raises(NotFound, match=PATH):
            look("demo", PATH)
    with pytest.raises(NotFound, match="0000000000000007"):
        store.get_by_hash("demo", 7)
    assert await store.history("demo", PATH) == []


async def test_a_successor_replaces_its_parent_at_once(store: ScriptStore) -> None:
    first = await create(store)
    assert store.deployed("demo", PATH).hash == first
    second = await create(store, "def main(): return 2", parent_hash=first)
    assert store.deployed("demo", PATH).hash == second
    assert store.get_by_hash("demo", first).archived
    assert store.get_by_path("demo", PATH).parent_hashes == (first,)
    assert [item.hash for item in await store.history("demo", PATH)] == [second, first]


async def test_the_lineage_is_newest_first_and_bounded(store: ScriptStore) -> None:
    hashes: list[int] = []
    for number in range(25):
        parent = {"parent_hash": hashes[0]} if hashes else {}
        hashes.insert(0, await create(store, f"def main(): return {number}", **parent))
    script = store.deployed("demo", PATH)
    assert script.parent_hashes == tuple(hashes[1:21])


async def test_the_same_version_twice_is_refused(store: ScriptStore) -> None:
    hash = await create(store)
    assert hash_to_hex(hash) in await refusal(store)
    await store.archive_path("demo", PATH)
    assert "exists already" in await refusal(store)
    assert await store.create("admins", payload(), "admin", NOW) != hash


async def test_a_taken_path_is_refused_with_the_hash_that_is_there(store: ScriptStore) -> None:
    hash = await create(store)
    text = await refusal(store, "other")
    assert text.startswith(f"path conflict for {PATH}")
    assert hash_to_hex(hash) in text


async def test_a_draft_makes_way(store: ScriptStore) -> None:
    draft = await create(store, draft_only=True)
    hash = await create(store, "def main(): return 1")
    assert store.deployed("demo", PATH).hash == hash
    with pytest.raises(NotFound):
        store.get_by_hash("demo", draft)


async def test_the_parent_must_exist_in_the_workspace(store: ScriptStore) -> None:
    hash = await store.create("admins", payload(), "admin", NOW)
    assert "there is no version" in await refusal(store, "other", parent_hash=hash)


async def test_the_lineage_is_a_line(store: ScriptStore) -> None:
    first = await create(store)
    second = await create(store, "two", parent_hash=first)
    text = await refusal(store, "three", parent_hash=first)
    assert "was followed already" in text
    assert hash_to_hex(second) in text
    assert store.deployed("demo", PATH).hash == second


async def test_a_rename_archives_the_old_path(store: ScriptStore) -> None:
    hash = await create(store)
    store.deployed("demo", PATH)
    moved = await create(store, path="f/team/moved", parent_hash=hash)
    assert store.deployed("demo", "f/team/moved").hash == moved
    with pytest.raises(NotFound):
        store.deployed("demo", PATH)
    assert store.get_by_path("demo", PATH).archived


async def test_a_rename_onto_a_live_script_is_refused(store: ScriptStore) -> None:
    hash = await create(store)
    await create(store, path="f/team/there")
    assert "path conflict for f/team/there" in await refusal(store, path="f/team/there", parent_hash=hash)
    assert store.deployed("demo", PATH).hash == hash


async def test_an_archived_script_comes_back_with_its_last_version_as_parent(store: ScriptStore) -> None:
    hash = await create(store)
    await store.archive_path("demo", PATH)
    again = await create(store, parent_hash=hash)
    assert store.deployed("demo", PATH).hash == again


async def test_auto_parent_follows_the_live_version_whatever_was_sent(store: ScriptStore) -> None:
    first = await create(store, "one", auto_parent=True)
    second = await create(store, "two", parent_hash=first, auto_parent=True)
    third = await create(store, "three", parent_hash=first, auto_parent=True)
    assert store.deployed("demo", PATH).parent_hashes == (second, first)
    assert store.deployed("demo", PATH).hash == third


async def test_skip_if_noop_makes_no_version_of_the_same(store: ScriptStore) -> None:
    hash = await create(store, summary="s", timeout=5)
    same = payload(summary="s", timeout=5, parent_hash=hash, deployment_message="again", auto_parent=True)
    assert await store.create("demo", same, "other", NOW, skip_if_noop=True) == hash
    changed = payload(summary="s", timeout=6, parent_hash=hash)
    assert await store.create("demo", changed, "other", NOW, skip_if_noop=True) != hash


async def test_the_newest_stays_the_newest_when_the_clock_goes_back(store: ScriptStore) -> None:
    first = await create(store, now_ms=NOW)
    second = await create(store, "two", now_ms=NOW, parent_hash=first)
    third = await create(store, "three", now_ms=NOW - 1000, parent_hash=second)
    assert store.get_by_path("demo", PATH).hash == third
    assert store.get_by_path("demo", PATH).created_at_ms == NOW + 2


async def test_concurrent_creations_of_one_path_have_one_winner(store: ScriptStore) -> None:
    outcomes: list[str] = []

    async def attempt(number: int) -> None:
        try:
            await create(store, f"def main(): return {number}")
            outcomes.append("created")
        except BadRequest:
            outcomes.append("refused")

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(attempt, number)
    assert sorted(outcomes) == ["created"] + ["refused"] * 9


# Archiving and deleting


async def test_archiving_a_path_takes_it_out_of_service_at_once(store: ScriptStore) -> None:
    hash = await create(store)
    store.deployed("demo", PATH)
    await store.archive_path("demo", PATH)
    with pytest.raises(NotFound):
        store.deployed("demo", PATH)
    assert store.exists("demo", PATH)
    assert store.get_by_path("demo", PATH).hash == hash
    with pytest.raises(NotFound):
        await store.archive_path("demo", "u/admin/none")


async def test_archiving_happens_even_when_the_caller_goes_away(db: Database, store: ScriptStore) -> None:
    await create(store)
    store.deployed("demo", PATH)
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.archive_path("demo", PATH)
    await db.flush()
    with pytest.raises(NotFound):
        store.deployed("demo", PATH)


async def test_one_version_is_archived_or_blanked(store: ScriptStore) -> None:
    hash = await create(store, schema={"type": "object"}, lock="a==1")
    store.deployed("demo", PATH)
    assert (await store.archive_hash("demo", hash)).archived
    with pytest.raises(NotFound):
        store.deployed("demo", PATH)
    deleted = await store.delete_hash("demo", hash)
    assert (deleted.content, deleted.lock, deleted.schema, deleted.deleted) == ("", "", None, True)
    for change in (store.archive_hash, store.delete_hash):
        with pytest.raises(NotFound):
            await change("demo", 7)


async def test_a_deleted_path_is_gone_and_free(store: ScriptStore) -> None:
    first = await create(store)
    await create(store, "two", parent_hash=first)
    store.deployed("demo", PATH)
    assert await store.delete_path("demo", PATH) == 2
    assert not store.exists("demo", PATH)
    with pytest.raises(NotFound):
        store.deployed("demo", PATH)
    with pytest.raises(NotFound):
        await store.delete_path("demo", PATH)
    assert await create(store) == first


# Shapes


async def test_the_shape_of_get(store: ScriptStore) -> None:
    first = await create(store)
    hash = await create(
        store,
        "def main(): return 1\ndef preprocessor(event): return event",
        parent_hash=first,
        schema={"type": "object"},
        timeout=5,
        deployment_message="why",
        visible_to_runner_only=True,
        delete_after_use=True,
        dedicated_worker=True,
        priority=3,
    )
    script = store.get_by_hash("demo", hash)
    assert script.to_json() == {
        "workspace_id": "demo",
        "hash": hash_to_hex(hash),
        "path": PATH,
        "parent_hashes": [hash_to_hex(first)],
        "summary": "",
        "description": "",
        "content": "def main(): return 1\ndef preprocessor(event): return event",
        "created_by": "admin",
        "created_at": "2023-11-14T22:13:20.124000Z",
        "archived": False,
        "schema": {"type": "object"},
        "deleted": False,
        "extra_perms": {},
        "lock": "",
        "lock_error_logs": None,
        "language": "python3",
        "kind": "script",
        "tag": None,
        "timeout": 5,
        "visible_to_runner_only": True,
        "delete_after_use": True,
        "dedicated_worker": True,
        "priority": 3,
        "has_preprocessor": True,
    }
    assert (script.timeout_s, script.priority, script.delete_after_s) == (5, 3, 0)
    assert (script.visible_to_runner_only, script.dedicated_worker) == (True, True)
    assert [item.to_json() for item in await store.history("demo", PATH)] == [
        {"script_hash": hash_to_hex(hash), "deployment_msg": "why"},
        {"script_hash": hash_to_hex(first)},
    ]
    assert orjson.dumps(script.to_json())


async def test_the_shape_of_a_list_item(store: ScriptStore) -> None:
    hash = await create(store, "x", description="d", codebase="c", draft_only=True, deployment_message="why")
    [script] = await store.list("demo", ScriptQuery(include_without_main=True, include_draft_only=True))
    item = {
        "hash": hash_to_hex(hash),
        "path": PATH,
        "summary": "",
        "created_at": "2023-11-14T22:13:20.123000Z",
        "archived": False,
        "extra_perms": {},
        "language": "python3",
        "starred": False,
        "tag": None,
        "has_deploy_errors": False,
        "ws_error_handler_muted": False,
        "kind": "script",
        "draft_only": True,
        "no_main_func": True,
        "use_codebase": True,
    }
    assert script.to_list_item(with_description=False) == item
    assert script.to_list_item(with_deployment_msg=True) == {**item, "description": "d", "deployment_msg": "why"}


# Lists


async def paths(store: ScriptStore, **query: str) -> list[str]:
    return [script.path for script in await store.list("demo", ScriptQuery.parse(query))]


async def test_lists_are_filtered_and_paged(store: ScriptStore) -> None:
    a = await create(store, path="f/a/one", now_ms=NOW)
    b = await create(store, "x", path="f/a/one", parent_hash=a, no_main_func=None, language="bash", now_ms=NOW + 1)
    c = await create(store, "y", path="f/a/one", parent_hash=b, language="bash", now_ms=NOW + 2, is_template=True)
    await create(store, path="f/ab/two", kind="approval", now_ms=NOW + 3)
    await create(store, "no main here", path="u/x/three", now_ms=NOW + 4)
    await create(store, path="u/x/four", now_ms=NOW + 5, draft_only=True)
    await create(store, path="u/x/gone", now_ms=NOW + 6)
    await store.archive_path("demo", "u/x/gone")
    await store.create("admins", payload(), "admin", NOW)

    assert await paths(store) == ["f/ab/two", "f/a/one"]
    assert await paths(store, order_desc="false") == ["f/a/one", "f/ab/two"]
    assert await paths(store, include_without_main="true", include_draft_only="true", per_page="2") == [
        "u/x/four",
        "u/x/three",
    ]
    for page, found in (("0", ["f/ab/two"]), ("1", ["f/ab/two"]), ("2", ["f/a/one"]), ("3", [])):
        assert await paths(store, page=page, per_page="1") == found
    assert await paths(store, path_start="f/a/") == ["f/a/one"]
    assert await paths(store, path_exact="f/a/one") == ["f/a/one"]
    assert await paths(store, path_exact="f/a") == []
    assert await paths(store, show_archived="true") == ["u/x/gone"]
    assert await paths(store, kinds="approval,failure") == ["f/ab/two"]
    assert await paths(store, languages="bash") == ["f/a/one"]
    assert await paths(store, is_template="true") == ["f/a/one"]
    assert await paths(store, is_template="false") == ["f/ab/two"]
    assert await paths(store, dedicated_worker="true") == []
    assert await paths(store, created_by="admin", starred_only="false") == ["f/ab/two", "f/a/one"]
    assert await paths(store, created_by="nobody") == []
    assert await paths(store, starred_only="true") == []
    assert await paths(store, first_parent_hash=hash_to_hex(b)) == ["f/a/one"]
    assert await paths(store, first_parent_hash=hash_to_hex(a)) == []
    assert await paths(store, last_parent_hash=hash_to_hex(a)) == ["f/a/one"]
    assert await paths(store, parent_hash=hash_to_hex(a)) == ["f/a/one"]
    assert await paths(store, parent_hash=hash_to_hex(c)) == []
    assert await paths(store, page="999999999", per_page="5000") == []


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"page": "-1"}, "page must be a whole number"),
        ({"per_page": "ten"}, "per_page must be a whole number"),
        ({"page": "9" * 40}, "page must be a whole number"),
        ({"show_archived": "yes"}, "show_archived must be true or false"),
        ({"parent_hash": "x"}, "parent_hash must be 16 hex digits"),
        ({"path_start": "a\0"}, "path_start must be printable text"),
        ({"kinds": "a," * 200}, "kinds has too many entries"),
    ],
)
def test_bad_queries_are_refused_by_name(query: dict[str, str], text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        ScriptQuery.parse(query)
    assert caught.value.detail == text


# The cache


async def test_the_cache_is_bounded_in_entries_and_bytes(store: ScriptStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CACHED_SCRIPTS", 3)
    for number in range(5):
        await create(store, path=f"u/a/n{number}")
        store.deployed("demo", f"u/a/n{number}")
    assert [path for _, path in store._cache._scripts] == ["u/a/n2", "u/a/n3", "u/a/n4"]
    store.deployed("demo", "u/a/n2")
    store.deployed("demo", "u/a/n0")
    assert [path for _, path in store._cache._scripts] == ["u/a/n4", "u/a/n2", "u/a/n0"]
    monkeypatch.setattr(module, "MAX_CACHED_BYTES", 0)
    store.deployed("demo", "u/a/n1")
    assert not store._cache._scripts
    assert store._cache._bytes == 0


action = st.tuples(
    st.sampled_from(["create", "follow", "auto", "archive", "delete", "look"]), st.integers(0, 1), st.integers(0, 2)
)


@settings(max_examples=40, deadline=None)
@given(st.lists(action, max_size=12))
async def test_the_deployed_version_is_always_the_one_of_a_dict(actions: list[tuple[str, int, int]]) -> None:
    """A random walk over two paths: the live version, through the cache, equals a model's."""
    live: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        db = Database.open(Path(folder) / "test.db")
        store = ScriptStore(db)
        async with trio.open_nursery() as nursery:
            await nursery.start(db.run)
            for clock, (kind, which, version) in enumerate(actions):
                path = f"u/a/n{which}"
                more: dict[str, Any] = {"path": path}
                if kind == "auto":
                    more["auto_parent"] = True
                if kind == "follow" and path in live:
                    more["parent_hash"] = live[path]
                try:
                    if kind == "archive":
                        await store.archive_path("demo", path)
                        live.pop(path, None)
                    elif kind == "delete":
                        await store.delete_path("demo", path)
                        live.pop(path, None)
                    elif kind != "look":
                        hash = await create(store, f"version {version}", clock, **more)
                        assert path not in live or kind != "create"
                        live[path] = hash
                except NotFound:
                    assert path not in live
                except BadRequest:
                    pass
                for known in ("u/a/n0", "u/a/n1"):
                    try:
                        assert store.deployed("demo", known).hash == live.get(known)
                    except NotFound:
                        assert known not in live
            nursery.cancel_scope.cancel()
        db.close()
