"""What authorization costs for one request: the token found, and whether the route, the script and the user allow it.

    make bench-authorization

The function that every request goes through, with a real database behind it; sockets and the job are not part of it. The
budget is 15 µs; look at the medians. Not collected by the suite, which asserts no speed.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import pytest

from bench.contract import Benchmark
from minwebhook.api.context import Services, authorize
from minwebhook.api.routes import all_routes
from minwebhook.auth.failures import FailedTokens
from minwebhook.auth.job_tokens import JobTokens
from minwebhook.auth.requests import NewToken
from minwebhook.auth.store import AuthStore
from minwebhook.auth.token_store import insert_token
from minwebhook.db.database import Database
from minwebhook.http.messages import Headers, Request
from minwebhook.http.routing import Router
from minwebhook.settings import Settings

_PATH: Final = "/api/w/demo/jobs/run_wait_result/p/f/team/hook"
_HOOK: Final = ("jobs:run:scripts:f/team/other", "jobs:run:scripts:f/team/*")
MANY: Final = 100_000


def _fill(database: Database, tokens: int) -> None:
    """An admin, a member who may read a folder, a token of each kind, and so many others."""
    connection = database._writer
    connection.execute("BEGIN")
    connection.execute("INSERT INTO workspace (id, name, created_at) VALUES ('demo', '', 0)")
    for name, is_admin in (("admin", 1), ("dev", 0)):
        connection.execute("INSERT INTO usr (email, username, created_at) VALUES (?, ?, 0)", (f"{name}@x", name))
        connection.execute(
            "INSERT INTO member (workspace_id, email, username, is_admin, created_at) VALUES ('demo', ?, ?, ?, 0)",
            (f"{name}@x", name, is_admin),
        )
    connection.execute(
        "INSERT INTO folder (workspace_id, name, owners, extra_perms, created_by, edited_at)"
        " VALUES ('demo', 'team', '[]', '{\"u/dev\": false}', 'admin', 0)"
    )
    insert_token(connection, "admin".ljust(32, "-"), NewToken(), "admin@x", False, 0)
    insert_token(connection, "member".ljust(32, "-"), NewToken(), "dev@x", False, 0)
    insert_token(connection, "hook".ljust(32, "-"), NewToken(scopes=_HOOK, workspace_id="demo"), "dev@x", False, 0)
    for number in range(tokens):
        insert_token(connection, f"{number:032}", NewToken(), "dev@x", False, 0)
    connection.execute("COMMIT")


@pytest.fixture(scope="module", params=[0, MANY], ids=["few", "100000"])
def services(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """What ``authorize`` needs, over a database with few tokens and with many."""
    path: Path = tmp_path_factory.mktemp("bench") / "bench.db"
    database = Database.open(path)
    _fill(database, request.param)
    made = types.SimpleNamespace(
        auth=AuthStore(database), job_tokens=JobTokens(), failed_tokens=FailedTokens(300, 60), settings=Settings()
    )
    yield cast(Services, made)
    database.close()


def _call(services: Services, token: str) -> Any:
    match = Router(all_routes()).resolve("POST", _PATH)
    headers = Headers([("host", "x"), ("authorization", f"Bearer {token.ljust(32, '-')}"), ("content-length", "2")])
    request = Request("POST", _PATH, "", headers, "id", "127.0.0.1:1")
    endpoint, params = match.route.endpoint, match.params
    return lambda: authorize(endpoint, request, params, services)


@pytest.mark.parametrize("kind", ["admin", "member", "hook"])
def test_a_token_in_use(benchmark: Benchmark, services: Services, kind: str) -> None:
    assert benchmark(_call(services, kind)) is not None


def test_a_token_that_was_not_used_lately(benchmark: Benchmark, services: Services) -> None:
    call = _call(services, "hook")

    def fresh() -> Any:
        services.auth.forget()
        return call()

    assert benchmark(fresh) is not None
