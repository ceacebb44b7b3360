"""Every command in a ``console`` block of the README and of docs/ does what the page says, on a real server.

The commands of a page run in one bash, in order, so that variables of one serve the next. What differs from run to run
(ids, hashes, times, the interpreter's version) is compared by its form.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.docs.pages import PAGES, ROOT, Command, commands_of
from tests.server import ADMIN_TOKEN, Client, serving

COMMANDS: Final = [command for page in PAGES for command in commands_of(page)]
#: What must be there for the pages that name it, besides bash.
_PROGRAMS: Final = ("curl", "openssl")
#: How the pages write the server's address.
ADDRESS: Final = "http://127.0.0.1:8000"
#: What uploads.md says that the file of secrets has.
SECRETS: Final = 'github = "It is a secret to everybody"\ncontacts = { base64 = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" }\n'
_MARK: Final = "--- next command ---"
_PAGE_TIMEOUT_S: Final = 50.0

#: What varies, and what it is replaced by on both sides. The order matters: a UUID holds hex digits.
_VARYING: Final = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b"), "<job id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"), "<time>"),
    (re.compile(r"\bdur=\d+\.\d\d\b"), "dur=<ms>"),
    (re.compile(r'"workers_alive":\d+'), '"workers_alive":<count>'),
    (re.compile(r"PYTHON \(3\.\d+\)"), "PYTHON (<version>)"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "<hash>"),
    (re.compile(r"\bupload_\d{13}_\d+\b"), "upload_<number>"),
    (re.compile(r"\bexp=\d+&sig=[0-9a-f]{64}\b"), "<presigned>"),
)


def form(output: str) -> str:
    """``output`` without what varies."""
    for pattern, name in _VARYING:
        output = pattern.sub(name, output)
    return output.strip()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with the scripts of the examples."""
    scripts = ROOT / "examples" / "scripts"
    folder = tmp_path_factory.mktemp("docs")
    secrets = folder / "secrets.toml"
    secrets.write_text(SECRETS, encoding="utf-8")
    secrets.chmod(0o600)
    flags = ("--scripts", str(scripts), "--hook-secrets", str(secrets))
    with serving(folder / "data", *flags) as (_, client):
        yield client


@pytest.fixture(scope="module")
def outputs(
    client: Client, require_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], dict[int, str]]:
    """Runs a page's commands, once; what each printed, by its line."""
    known: dict[Path, dict[int, str]] = {}
    bash = require_program("bash")
    home = tmp_path_factory.mktemp("home")  # no .curlrc but ours

    def run(page: Path) -> dict[int, str]:
        if page not in known:
            commands = commands_of(page)
            programs = [name for name in _PROGRAMS if any(name in command.text for command in commands)]
            directories = dict.fromkeys(str(Path(require_program(name)).parent) for name in programs)
            script = "".join(f"{command.text}\necho\necho '{_MARK}'\n" for command in commands)
            ended = subprocess.run(
                [bash, "--noprofile", "--norc", "-c", script.replace(ADDRESS, client.address)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={
                    "PATH": ":".join([*directories, "/usr/bin", "/bin"]),
                    "HOME": str(home),
                    "TOKEN": ADMIN_TOKEN,
                    "no_proxy": "127.0.0.1",
                },
                timeout=_PAGE_TIMEOUT_S,
                check=True,
            )
            pieces = ended.stdout.split(f"\n{_MARK}\n")
            assert pieces.pop() == "", "bash ended before the last command"
            known[page] = {command.line: piece for command, piece in zip(commands, pieces, strict=True)}
        return known[page]

    return run


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.id)
def test_the_page_shows_what_the_command_prints(command: Command, outputs: Callable[[Path], dict[int, str]]) -> None:
    assert form(outputs(command.page)[command.line]) == form(command.output), command.text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_curl_escapes_the_test(page: Path) -> None:
    shown = sum("curl -" in line for line in page.read_text(encoding="utf-8").splitlines())
    assert shown == sum("curl -" in command.text for command in commands_of(page))


def test_the_pages_with_commands_are_found() -> None:
    assert {command.page.name for command in COMMANDS} >= {"README.md", "api.md", "senders.md", "webhooks.md"}
