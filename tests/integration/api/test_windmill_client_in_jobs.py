"""Windmill's own client for TypeScript inside of jobs: the real package, found by the server, told by the environment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from minwebhook.runtimes.engines import find_engines
from minwebhook.settings import SandboxSettings
from tests.conftest import missing
from tests.server import Client, Server, eventually, serving

#: Language, first line, and how the package is called.
ENGINES = {
    "bun": ("bun", "", "windmill-client@1.818.0"),
    "nodejs": ("bun", "//nodejs", "windmill-client@1.818.0"),
    "deno": ("deno", "", "npm:windmill-client@1.818.0"),
}
CODE = """
import * as wmill from "{package}";

export async function main(run: string) {{
  const path = `u/admin/client_${{run}}`;
  const first = await wmill.getState();
  await wmill.setState({{ count: 1 }});
  await wmill.setVariable(path, "old");
  await wmill.setVariable(path, "new");
  await wmill.setResource({{ token: "$var:" + path }}, path, "any");
  const stored = await wmill.writeS3File({{ s3: `made/${{run}}.txt` }}, "häl");
  const bytes = await wmill.loadS3File(stored);
  const failed = await wmill.runScriptByPath("u/admin/broken", {{}}).catch((error) => String(error).includes("no luck"));
  return {{
    first: first ?? null,
    state: await wmill.getState(),
    variable: await wmill.getVariable(path),
    resource: await wmill.getResource(path),
    file: new TextDecoder().decode(bytes),
    twice: await wmill.runScriptByPath("u/admin/double", {{ n: 4 }}),
    failed,
    who: (await wmill.UserService.whoami({{ workspace: process.env.WM_WORKSPACE! }})).username,
  }};
}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One whose scripts reach nothing but itself."""
    data = tmp_path_factory.mktemp("client") / "data"
    with serving(data, "--workers", "3", "--sandbox-network", "none") as (server, client):
        client.deploy("u/admin/double", "def main(n: int):\n    return 2 * n\n")
        client.deploy("u/admin/broken", "def main():\n    raise ValueError('no luck')\n")
        yield server


def settled(client: Client, script_hash: str) -> dict[str, Any]:
    def probe() -> dict[str, Any] | None:
        shown: dict[str, Any] = client.get(f"/scripts/deployment_status/h/{script_hash}").json()
        return shown if shown["lock"] is not None or shown["lock_error_logs"] is not None else None

    found = eventually(probe, "the end of a deployment", 90)
    assert found is not None
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_state_variables_resources_files_and_other_scripts(server: Server, engine: str) -> None:
    for runtime in (engine, "bun" if engine == "nodejs" else engine):  # bun installs what node runs
        if reason := find_engines(SandboxSettings()).missing(runtime):
            missing(f"{runtime}: {reason}")
    client = server.client()
    language, first, package = ENGINES[engine]
    path = f"u/admin/uses_{engine}"
    shown = settled(client, client.deploy(path, first + CODE.format(package=package), language))
    if shown["lock_error_logs"] is not None:
        missing(f"windmill-client from the registry of npm: {shown['lock_error_logs']}")
    assert client.run(path, {"run": engine}).json() == {
        "first": None,
        "state": {"count": 1},
        "variable": "new",
        "resource": {"token": "new"},
        "file": "häl",
        "twice": 8,
        "failed": True,
        "who": "admin",
    }
