"""Authentication against real files: who gets in, who no longer does, and how little is written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from minwebhook.auth import store as module
from minwebhook.auth import token_store
from minwebhook.auth.expiry import TokenExpiry
from minwebhook.auth.principal import Principal
from minwebhook.auth.requests import NewToken
from minwebhook.auth.store import ADMIN_EMAIL, AuthStore
from minwebhook.auth.token_store import TokenStore
from minwebhook.auth.tokens import EPHEMERAL_LABEL, token_hash
from minwebhook.db.database import Database
from minwebhook.errors import BadRequest, NotAuthorized, NotFound, PermissionDenied
from minwebhook.paths import Paths

NOW = 1_700_000_000_000
MINUTE = 60_000


@pytest.fixture
async def db(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Database]:
    database = Database.open(tmp_path / "test.db")
    await nursery.start(database.run)
    yield database
    database.close()


@pytest.fixture
def store(db: Database) -> AuthStore:
    return AuthStore(db)


@pytest.fixture
def tokens(db: Database, store: AuthStore) -> TokenStore:
    return TokenStore(db, store)


@pytest.fixture
async def admin(store: AuthStore) -> Principal:
    token = await store.bootstrap(NOW)
    assert token is not None
    return store.authenticate(token, None, NOW)


@pytest.fixture
async def alice(store: AuthStore, db: Database, admin: Principal) -> Principal:
    """A plain member of ``demo``; tests make her tokens."""
    await db.write("INSERT INTO usr (email, username, created_at) VALUES ('alice@x', 'alice', 1)")
    await db.write(
        "INSERT INTO member (workspace_id, email, username, created_at) VALUES ('demo', 'alice@x', 'alice', 1)"
    )
    return Principal("alice@x", "alice", False, False, "alice", "demo", None)


def is_refused(store: AuthStore, token: str, workspace: str | None, now_ms: int = NOW) -> bool:
    try:
        store.authenticate(token, workspace, now_ms)
    except NotAuthorized as error:
        assert error.text == "Not authorized: Unauthorized"
        return True
    return False


async def test_the_first_start_makes_an_admin_and_shows_the_token_once(db: Database, store: AuthStore) -> None:
    token = await store.bootstrap(NOW)
    assert token is not None
    assert await store.bootstrap(NOW) is None
    assert await AuthStore(db).bootstrap(NOW) is None
    for workspace in (None, "admins", "demo"):
        principal = store.authenticate(token, workspace, NOW)
        assert principal == Principal(ADMIN_EMAIL, "admin", True, True, "admin", workspace, token[:10])
    assert not db.read("SELECT 1 FROM token WHERE hash = ?", (token,))


async def test_a_token_is_made_again_when_none_works_any_more(
    store: AuthStore, tokens: TokenStore, admin: Principal
) -> None:
    assert admin.token_prefix is not None
    await tokens.create(admin, NewToken(expiration_ms=NOW - 1), NOW)
    await tokens.create(admin, NewToken(label=EPHEMERAL_LABEL), NOW)
    await tokens.delete(admin, admin.token_prefix)
    token = await store.bootstrap(NOW)
    assert token is not None
    assert store.authenticate(token, None, NOW).is_super_admin


async def test_a_token_from_the_settings_is_the_admin_s(db: Database) -> None:
    store = AuthStore(db, "from the settings")
    assert await store.bootstrap(NOW) is None
    principal = store.authenticate("from the settings", "demo", NOW)
    assert principal == Principal(ADMIN_EMAIL, "admin", True, True, "admin", "demo", None)
    assert is_refused(store, "from the setting", "demo")
    assert "from the settings" not in repr(vars(store))
    assert is_refused(AuthStore(db, ""), "", None)


async def test_unknown_tokens_are_refused_and_not_remembered(store: AuthStore, admin: Principal) -> None:
    before = len(store._cache)
    for guess in ("", "x" * 32, "\udce4", "a" * 100_000):
        assert is_refused(store, guess, "demo")
    assert len(store._cache) == before


async def test_a_token_ends_when_its_time_is_over_also_in_the_cache(
    store: AuthStore, tokens: TokenStore, admin: Principal
) -> None:
    token = await tokens.create(admin, NewToken(expiration_ms=NOW + MINUTE), NOW)
    assert not is_refused(store, token, "demo", NOW + MINUTE - 1)
    assert is_refused(store, token, "demo", NOW + MINUTE)
    assert is_refused(store, await tokens.create(admin, NewToken(expiration_ms=NOW - 1), NOW), None)


async def test_a_bound_token_is_good_for_its_workspace_only(
    store: AuthStore, tokens: TokenStore, admin: Principal
) -> None:
    token = await tokens.create(admin, NewToken(workspace_id="demo"), NOW)
    assert not is_refused(store, token, "demo")
    assert is_refused(store, token, "admins")
    assert is_refused(store, token, None)


async def test_members_get_in_and_others_do_not(
    store: AuthStore, tokens: TokenStore, db: Database, alice: Principal
) -> None:
    token = await tokens.create(alice, NewToken(label="ci"), NOW)
    principal = store.authenticate(token, "demo", NOW)
    own = Paths(("u/alice/*", "g/all/*"))
    assert principal == Principal(
        "alice@x", "alice", False, False, "label-ci", "demo", token[:10], readable=own, writable=own
    )
    assert principal.permissioned_as == "u/alice"
    assert is_refused(store, token, "admins")
    assert is_refused(store, token, "nowhere")

    for change, undo in (
        ("UPDATE member SET disabled = 1", "UPDATE member SET disabled = 0"),
        ("UPDATE usr SET disabled = 1", "UPDATE usr SET disabled = 0"),
    ):
        await db.write(f"{change} WHERE email = 'alice@x'")
        store.forget()
        assert is_refused(store, token, "demo")
        await db.write(f"{undo} WHERE email = 'alice@x'")
        store.forget()
        assert not is_refused(store, token, "demo")


async def test_super_admins_enter_every_workspace_under_their_email(
    store: AuthStore, tokens: TokenStore, db: Database, admin: Principal
) -> None:
    token = await tokens.create(admin, NewToken(), NOW)
    await db.write("INSERT INTO workspace (id, name, created_at) VALUES ('other', 'Other', 1)")
    principal = store.authenticate(token, "other", NOW)
    assert (principal.username, principal.permissioned_as, principal.is_admin) == (ADMIN_EMAIL, ADMIN_EMAIL, True)

    await db.write("UPDATE usr SET super_admin = 0")
    store.forget()
    assert is_refused(store, token, "other")
    assert not store.authenticate(token, None, NOW).is_super_admin


async def test_operators_are_known_as_such(
    store: AuthStore, tokens: TokenStore, db: Database, alice: Principal
) -> None:
    await db.write("UPDATE member SET operator = 1 WHERE email = 'alice@x'")
    assert store.authenticate(await tokens.create(alice, NewToken(), NOW), "demo", NOW).operator


async def test_a_deleted_token_stops_at_once(
    store: AuthStore, tokens: TokenStore, admin: Principal, alice: Principal
) -> None:
    token = await tokens.create(alice, NewToken(), NOW)
    assert not is_refused(store, token, "demo")
    assert await tokens.delete(admin, token[:10]) == 0
    assert not is_refused(store, token, "demo")
    assert await tokens.delete(alice, token[:10]) == 1
    assert is_refused(store, token, "demo")
    assert await tokens.delete(alice, token[:10]) == 0


async def test_a_token_is_deleted_even_when_the_caller_goes_away(
    store: AuthStore, tokens: TokenStore, db: Database, alice: Principal
) -> None:
    token = await tokens.create(alice, NewToken(), NOW)
    assert not is_refused(store, token, "demo")
    with trio.CancelScope() as scope:
        scope.cancel()
        await tokens.delete(alice, token[:10])
    await db.flush()
    assert is_refused(store, token, "demo")


async def test_a_user_is_found_by_email_with_the_rights_of_now(
    store: AuthStore, db: Database, admin: Principal, alice: Principal
) -> None:
    own = Paths(("u/alice/*", "g/all/*"))
    assert store.principal_of("alice@x", "demo") == replace(alice, readable=own, writable=own)
    # An admin, but not of the instance: jobs have no such rights.
    assert store.principal_of(ADMIN_EMAIL, "demo") == Principal(
        ADMIN_EMAIL, "admin", True, False, "admin", "demo", None
    )
    await db.write("UPDATE usr SET disabled = 1 WHERE email = 'alice@x'")
    store.forget()  # as whoever changes users does
    for email, workspace in (("alice@x", "demo"), ("alice@x", None), ("nobody@x", "demo")):
        with pytest.raises(NotAuthorized):
            store.principal_of(email, workspace)


async def test_expired_tokens_are_swept(store: AuthStore, tokens: TokenStore, db: Database, admin: Principal) -> None:
    await tokens.create(admin, NewToken(expiration_ms=NOW), NOW)
    kept = await tokens.create(admin, NewToken(expiration_ms=NOW + 1), NOW)
    expiry = TokenExpiry(db, sends_mail=False, on_deleted=store.evict, on_mail=lambda: None)
    assert await expiry.look(NOW) == (1, 1)
    assert db.read("SELECT 1 FROM token WHERE hash = ?", (token_hash(kept),))


async def test_the_time_of_last_use_is_written_every_two_minutes_at_most(
    store: AuthStore, tokens: TokenStore, db: Database, admin: Principal
) -> None:
    token = await tokens.create(admin, NewToken(), NOW)

    async def last_used(now_ms: int) -> int | None:
        store.authenticate(token, "demo", now_ms)
        store.authenticate(token, "admins", now_ms)
        await db.flush()
        value: int | None = db.read("SELECT last_used_at FROM token WHERE hash = ?", (token_hash(token),))[0][0]
        return value

    assert await last_used(NOW) == NOW
    assert await last_used(NOW + 2 * MINUTE - 1) == NOW
    assert await last_used(NOW + 2 * MINUTE) == NOW + 2 * MINUTE
    store.forget()
    assert await last_used(NOW + 3 * MINUTE) == NOW + 2 * MINUTE


async def test_bad_workspaces_and_too_many_tokens_are_refused(
    store: AuthStore, tokens: TokenStore, db: Database, admin: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadRequest, match="workspace_id: there is no workspace nowhere"):
        await tokens.create(admin, NewToken(workspace_id="nowhere"), NOW)
    await db.write("INSERT INTO workspace (id, name, created_at, archived) VALUES ('old', 'Old', 1, 1)")
    with pytest.raises(BadRequest, match="workspace_id: the workspace old is archived"):
        await tokens.create(admin, NewToken(workspace_id="old"), NOW)
    monkeypatch.setattr(token_store, "MAX_TOKENS_PER_USER", 1)
    with pytest.raises(BadRequest, match="at most 1 tokens"):
        await tokens.create(admin, NewToken(), NOW)


async def test_the_list_shows_one_s_own_tokens_newest_first(
    store: AuthStore, tokens: TokenStore, admin: Principal, alice: Principal
) -> None:
    for number in range(5):
        await tokens.create(alice, NewToken(label=f"n{number}"), NOW + number)
    await tokens.create(alice, NewToken(EPHEMERAL_LABEL, NOW + 5, "demo"), NOW + 9)

    everything = await tokens.list_own(alice)
    assert [token.label for token in everything] == [EPHEMERAL_LABEL, "n4", "n3", "n2", "n1", "n0"]
    assert len(await tokens.list_own(alice, exclude_ephemeral=True)) == 5
    assert len(await tokens.list_own(admin)) == 1
    for page in (0, 1, -5):
        assert [token.label for token in await tokens.list_own(alice, True, page, 2)] == ["n4", "n3"]
    assert [token.label for token in await tokens.list_own(alice, True, 3, 2)] == ["n0"]
    assert await tokens.list_own(alice, True, 10**30, 10**30) == []
    shown = everything[0].to_json()
    assert shown == {
        "label": EPHEMERAL_LABEL,
        "token_prefix": everything[0].token_prefix,
        "expiration": "2023-11-14T22:13:20.005000Z",
        "created_at": "2023-11-14T22:13:20.009000Z",
        "last_used_at": "2023-11-14T22:13:20.009000Z",
        "scopes": None,
        "workspace_id": "demo",
        "read_only": False,
        "allowed_networks": None,
        "requests_per_minute": None,
    }


async def test_restrictions_count_from_the_next_request_on(
    store: AuthStore, tokens: TokenStore, alice: Principal, admin: Principal
) -> None:
    token = await tokens.create(alice, NewToken(scopes=("jobs:read",), read_only=True), NOW)
    scopes = store.authenticate(token, "demo", NOW).scopes
    assert scopes is not None
    assert (scopes.texts, scopes.is_read_only) == (("jobs:read",), True)
    await tokens.set_scopes(alice, token[:10], ("jobs:run",))
    await tokens.set_label(alice, token[:10], "webhook-x")
    principal = store.authenticate(token, "demo", NOW)
    assert principal.scopes is not None
    assert (principal.scopes.texts, principal.display_name) == (("jobs:run",), "webhook-x")
    unbound = await tokens.create(alice, NewToken(scopes=("jobs:read",)), NOW)
    await tokens.set_scopes(alice, unbound[:10], ())
    assert store.authenticate(unbound, "demo", NOW).scopes is None
    with pytest.raises(NotFound):
        await tokens.set_scopes(admin, unbound[:10], ("jobs:run",))  # of somebody else
    session = await tokens.create(alice, NewToken(label="session"), NOW)
    with pytest.raises(NotFound):
        await tokens.set_label(alice, session[:10], "mine")


async def test_nobody_hands_out_more_than_they_have(store: AuthStore, tokens: TokenStore, alice: Principal) -> None:
    own = ("users:write", "jobs:run:scripts:f/team/*")
    token = await tokens.create(alice, NewToken(scopes=own), NOW)
    principal = store.authenticate(token, "demo", NOW)
    wider: tuple[tuple[str, ...], ...] = (
        (),
        ("jobs:run",),
        ("jobs:run:scripts:f/*",),
        (*own, "jobs:read"),
        ("if_jobs:filter_tags:a",),
    )
    narrower: tuple[tuple[str, ...], ...] = (
        own,
        ("users:read",),
        ("jobs:run:scripts:f/team/a,f/team/b/*", "if_jobs:filter_tags:a"),
    )
    for scopes in wider:
        with pytest.raises(PermissionDenied):
            await tokens.create(principal, NewToken(scopes=scopes), NOW)
        with pytest.raises(PermissionDenied):
            await tokens.set_scopes(principal, token[:10], scopes)
    for scopes in narrower:
        assert await tokens.create(principal, NewToken(scopes=scopes), NOW)


async def test_no_token_lasts_longer_than_the_instance_lets_it(
    db: Database, store: AuthStore, alice: Principal
) -> None:
    tokens = TokenStore(db, store, max_days=2)
    day = 24 * 60 * MINUTE
    for asked, given in ((None, NOW + 2 * day), (NOW + 3 * day, NOW + 2 * day), (NOW + day, NOW + day)):
        await tokens.create(alice, NewToken(expiration_ms=asked), NOW)
        assert (await tokens.list_own(alice))[0].expiration_ms == given


async def test_the_tokens_of_a_script_are_those_made_for_it_alone(
    store: AuthStore, tokens: TokenStore, db: Database, alice: Principal, admin: Principal
) -> None:
    made: tuple[tuple[tuple[str, ...], str | None], ...] = (
        (("jobs:run:scripts:u/a/b",), "demo"),
        (("run:script/u/a/b", "jobs:read"), "demo"),
        (("jobs:run:scripts:u/a/b",), "admins"),
        (("jobs:run:scripts:u/a/b",), None),
        (("jobs:run:scripts:u/a/*",), "demo"),
        (("jobs:run:flows:u/a/b",), "demo"),
        ((), "demo"),
    )
    for scopes, workspace in made:
        await tokens.create(alice, NewToken(workspace_id=workspace, scopes=scopes), NOW)
    await tokens.create(admin, NewToken(workspace_id="demo", scopes=("jobs:run:scripts:u/a/b",)), NOW)
    found = await tokens.list_of_runnable("demo", "scripts", "u/a/b")
    assert [(token.email, token.scopes[0]) for token in found] == [
        (ADMIN_EMAIL, "jobs:run:scripts:u/a/b"),
        ("alice@x", "run:script/u/a/b"),
        ("alice@x", "jobs:run:scripts:u/a/b"),
    ]
    assert "workspace_id" not in found[0].to_runnable_json()


async def test_another_user_s_token_is_made_for_super_admins(
    store: AuthStore, tokens: TokenStore, alice: Principal
) -> None:
    token = await tokens.impersonate("alice@x", NewToken(), NOW)
    assert store.authenticate(token, "demo", NOW).username == "alice"
    with pytest.raises(NotFound):
        await tokens.impersonate("nobody@x", NewToken(), NOW)


async def test_workspaces_exist_until_archived(store: AuthStore, db: Database, admin: Principal) -> None:
    assert store.workspace_exists("demo")
    assert store.workspace_exists("demo")
    assert not store.workspace_exists("nowhere")
    await db.write("UPDATE workspace SET archived = 1 WHERE id = 'demo'")
    store.forget()
    assert not store.workspace_exists("demo")


async def test_caches_are_bounded(
    store: AuthStore, tokens: TokenStore, db: Database, admin: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CACHED_TOKENS", 3)
    monkeypatch.setattr(module, "MAX_CACHED_WORKSPACES", 3)
    made = [await tokens.create(admin, NewToken(), NOW) for _ in range(6)]
    for token in made * 2:
        for workspace in ("a", "b", "c", "d", "e", None):
            assert store.authenticate(token, workspace, NOW).is_admin
    assert len(store._cache) <= 3
    assert all(len(cached.principals) <= 3 for cached in store._cache.values())
    for name in "abcdef":
        await db.write("INSERT INTO workspace (id, name, created_at) VALUES (?, '', 1)", (name,))
        assert store.workspace_exists(name)
    assert len(store._workspaces) <= 3
