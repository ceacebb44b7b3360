"""Registries of packages for TypeScript: npm, jsr, and modules at addresses, all served here, so that no test needs others."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import json
import tarfile
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Registry:
    """What is served, what was asked for, and whether a password is wanted."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.password = ""
        self._files: dict[str, bytes] = {}
        self._versions: dict[str, dict[str, Any]] = {}

    def add_npm(self, name: str, version: str, files: Mapping[str, str], **about: Any) -> None:
        """A package of npm; ``about`` is what its package.json says besides."""
        package = {"name": name, "version": version, **about}
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for inside, text in {"package.json": json.dumps(package), **files}.items():
                entry = tarfile.TarInfo(f"package/{inside}")
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))
        data = buffer.getvalue()
        path = f"/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
        self._files[path] = data
        digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
        dist = {"tarball": f"{self.url}{path}", "integrity": f"sha512-{digest}"}
        versions = self._versions.setdefault(name, {})
        versions[version] = {**package, "dist": dist}
        document = {"name": name, "dist-tags": {"latest": version}, "versions": versions}
        self._files[f"/{name}"] = json.dumps(document).encode()

    def add_jsr(self, name: str, version: str, module: str) -> None:
        """A package of jsr that exports one module."""
        digest = hashlib.sha256(module.encode()).hexdigest()
        manifest = {"/mod.ts": {"size": len(module.encode()), "checksum": f"sha256-{digest}"}}
        self.add(f"/{name}/{version}/mod.ts", module)
        self.add(f"/{name}/{version}_meta.json", json.dumps({"manifest": manifest, "exports": {"./sub": "./mod.ts"}}))
        scope, _, short = name[1:].partition("/")
        meta = {"scope": scope, "name": short, "latest": version, "versions": {version: {}}}
        self.add(f"/{name}/meta.json", json.dumps(meta))

    def add(self, path: str, text: str) -> None:
        """A file at an address."""
        self._files[path] = text.encode()

    def find(self, path: str) -> bytes | None:
        """What is at a path."""
        return self._files.get(urllib.parse.unquote(path))


@contextmanager
def registry() -> Iterator[Registry]:
    """A registry that answers meanwhile."""
    served = Registry()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            wanted = f"Basic {base64.b64encode(served.password.encode()).decode()}"
            if served.password and self.headers.get("authorization") != wanted:
                self._answer(401, b"{}")
            elif (data := served.find(self.path)) is None:
                self._answer(404, b"{}")
            else:
                self._answer(200, data)

        def _answer(self, status: int, data: bytes) -> None:
            kind = "application/typescript" if self.path.endswith(".ts") else "application/json"
            self.send_response(status)
            self.send_header("content-type", "application/octet-stream" if self.path.endswith(".tgz") else kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is printed."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
