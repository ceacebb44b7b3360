"""Debian's Chromium without a window, driven through its driver (W3C WebDriver, by HTTP)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from tests.server import eventually

_FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # it refuses to run as root with one
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Browser:
    """One window."""

    def __init__(self, driver: httpx.Client, session: str) -> None:
        self._driver = driver
        self._session = session

    def open(self, address: str) -> None:
        """Goes to a page and waits for it."""
        self._command("url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        """What ``script``, the body of a function, returns."""
        return self._command("execute/sync", {"script": script, "args": list(arguments)})

    def _command(self, name: str, data: dict[str, Any]) -> Any:
        answer = self._driver.post(f"/session/{self._session}/{name}", json=data)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]


@contextmanager
def browsing(chromium: str, chromedriver: str, directory: Path) -> Iterator[Browser]:
    """A browser that lives in the block; what it writes goes below ``directory``."""
    log = directory / "chromedriver.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [chromedriver, "--port=0"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(directory)},
        )
    try:
        port = eventually(lambda: _port(log), "the port of chromedriver", timeout_s=30)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as driver:
            options = {"binary": chromium, "args": [*_FLAGS, f"--user-data-dir={directory / 'profile'}"]}
            capabilities = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
            answer = driver.post("/session", json={"capabilities": capabilities})
            assert answer.status_code == 200, answer.text
            session = answer.json()["value"]["sessionId"]
            try:
                yield Browser(driver, session)
            finally:
                driver.delete(f"/session/{session}")
    finally:
        process.terminate()
        process.wait(30)


def _port(log: Path) -> str | None:
    """``… was started successfully on port 12345.``"""
    text = log.read_text(errors="replace")
    _, found, rest = text.partition("started successfully on port ")
    return rest.partition(".")[0] if found and "." in rest else None
