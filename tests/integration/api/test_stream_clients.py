"""Streams as others read them: through nginx with its default buffering, and by the EventSource of a browser.

No chunk is written before the one before it has arrived: a script waits at a gate, which the test opens. So nothing here
depends on time, and whoever holds events back makes the test fail.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Browser, browsing
from tests.server import Client, Server, eventually
from tests.streaming import CuttingProxy, connected

GATED = """
import socket

def main(port: int):
    with socket.create_connection(("127.0.0.1", int(port))) as gate:
        for word in ("one ", "two ", "three "):
            yield word
            gate.recv(1)
"""
CHUNKS = "def main():\n    for n in range(60):\n        yield f'chunk {n} é😀;'\n"


@pytest.fixture(autouse=True, scope="module")
def scripts(server: Server) -> None:
    server.client().deploy("u/admin/gated", GATED)
    server.client().deploy("u/admin/chunks", CHUNKS)


@pytest.fixture
def gate() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        yield listener


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return port_of(listener)


@contextmanager
def nginx(program: str, target: str, directory: Path) -> Iterator[str]:
    """Debian's nginx in front of ``target``, all that concerns buffering as it comes; its address."""
    port = free_port()
    paths = " ".join(
        f"{name}_temp_path {directory / name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"daemon off; master_process off; pid {directory / 'pid'}; error_log {directory / 'error.log'};\n"
        f"events {{}}\nhttp {{ access_log off; {paths}\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {target}; }} }} }}\n"
    )
    process = subprocess.Popen(
        [program, "-e", str(directory / "start.log"), "-p", str(directory), "-c", str(configuration)]
    )
    try:
        address = f"http://127.0.0.1:{port}"
        eventually(lambda: answers(address), "nginx")
        yield address
    finally:
        process.terminate()
        process.wait(20)


def answers(address: str) -> bool:
    try:
        return Client(address).get("/api/version").status == 200
    except OSError:
        return False


def test_through_nginx(
    client: Client, gate: socket.socket, require_program: Callable[[str], str], tmp_path: Path
) -> None:
    program = require_program("nginx")
    with nginx(program, client.address, tmp_path) as address:
        behind = Client(address, client.token)
        data = {"port": port_of(gate)}
        updates: list[dict[str, Any]] = []
        with connected(behind, "/jobs/run_and_stream/p/u/admin/gated", method="POST", data=data) as source:
            assert source.response.headers["server"].startswith("nginx")
            events = source.iter_sse()
            assert json.loads(next(events).data) == {"type": "update"}
            script, _ = gate.accept()
            with script:
                for _ in range(3):
                    updates.append(json.loads(next(events).data))  # arrives while the script waits
                    script.sendall(b"x")
                updates += [json.loads(event.data) for event in events]
    assert [update.get("new_result_stream") for update in updates] == ["one ", "two ", "three ", None]
    assert updates[-1]["only_result"] == "one two three "


@pytest.fixture(scope="module")
def browser(require_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium, driver = require_program("chromium"), require_program("chromedriver")
    with browsing(chromium, driver, tmp_path_factory.mktemp("browser")) as browser:
        yield browser


#: A page's reader: what has come is in ``window.seen``.
READER = """
window.seen = {text: "", opened: 0, last: null};
const source = new EventSource(arguments[0]);
window.source = source;
source.onopen = () => seen.opened++;
source.onmessage = (event) => {
  const update = JSON.parse(event.data);
  seen.text += update.new_result_stream || "";
  if (update.completed) { seen.last = update; seen.id = event.lastEventId; }
};
"""


def seen(browser: Browser, name: str) -> Any:
    return browser.run(f"return window.seen.{name}")


def runs_of(client: Client, name: str) -> int:
    return len(client.get("/jobs/list", script_path_exact=f"u/admin/{name}").json())


def has_seen(browser: Browser, text: str) -> bool:
    return bool(seen(browser, "text") == text)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_event_source(client: Client, gate: socket.socket, browser: Browser) -> None:
    before = runs_of(client, "gated")
    browser.open(f"{client.address}/api/version")
    payload = json.dumps({"port": port_of(gate)}).encode().hex()
    address = f"{client.address}/api/w/demo/jobs/run_and_stream/p/u/admin/gated?token={client.token}"
    browser.run(
        "const bytes = arguments[1].match(/../g).map(byte => String.fromCharCode(parseInt(byte, 16))).join('');"
        "arguments[0] += '&payload=' + encodeURIComponent(btoa(bytes));" + READER,
        address,
        payload,
    )
    script, _ = gate.accept()
    text = ""
    with script:
        for word in ("one ", "two ", "three "):
            text += word
            eventually(partial(has_seen, browser, text), f"the words {text}")
            script.sendall(b"x")
        last = eventually(lambda: seen(browser, "last"), "the last event")
    assert last == {"type": "update", "completed": True, "only_result": "one two three "}
    # It connects again, as every EventSource does whose stream ends, and is told to stay away.
    eventually(lambda: browser.run("return window.source.readyState") == 2, "the end of the EventSource")
    assert runs_of(client, "gated") == before + 1
    assert seen(browser, "opened") == 1


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_event_source_that_is_cut_again_and_again(make_server: Callable[..., Server], browser: Browser) -> None:
    client = make_server("--stream-retry-s", "0.01").start()
    client.deploy("u/admin/chunks", CHUNKS)
    with CuttingProxy(client.address, 2000) as proxy:
        browser.open(f"{client.address}/api/version")
        # The page is of another origin than the stream.
        browser.run(READER, f"{proxy.address}/api/w/demo/jobs/run_and_stream/p/u/admin/chunks?token={client.token}")
        eventually(lambda: seen(browser, "last"), "the last event", timeout_s=60)
        assert seen(browser, "text") == "".join(f"chunk {n} é😀;" for n in range(60))
        assert seen(browser, "opened") > 1
        eventually(lambda: browser.run("return window.source.readyState") == 2, "the end of the EventSource")
    assert runs_of(client, "chunks") == 1


#: A page that runs a script on a WebSocket; what it was told is in ``window.told``.
TALKER = """
window.told = [];
const socket = new WebSocket(arguments[0], ["minwebhook.json"]);
socket.onopen = () => socket.send(JSON.stringify({op: "run", id: 1, path: arguments[1], stream: true, args: {a: 40}}));
socket.onmessage = (event) => told.push(JSON.parse(event.data));
socket.onclose = (event) => told.push({type: "closed", code: event.code});
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_websocket(client: Client, browser: Browser) -> None:
    client.deploy("u/admin/browser_socket", "def main(a: int):\n    yield 'x'\n    yield str(a)\n")
    browser.open(f"{client.address}/api/version")
    address = f"ws{client.address.removeprefix('http')}/api/w/demo/jobs/ws?token={client.token}"
    browser.run(TALKER, address, "u/admin/browser_socket")
    told = eventually(
        lambda: [each for each in browser.run("return window.told") if each["type"] == "result"], "the result"
    )
    (result,) = told
    assert (result["id"], result["success"], result["result"]) == (1, True, "x40")
    started, *_ = browser.run("return window.told")
    assert started["type"] == "started"
