"""Programs that were built of scripts (Go), on disk: a version is compiled once, also if the server starts again."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import secrets
from pathlib import Path
from typing import Final

from minwebhook.jobs.model import JobSpec

logger = logging.getLogger(__name__)

#: Space for all; above it those unused for longest go.
MAX_BYTES: Final = 512 * 1024 * 1024
_DIGEST_BYTES: Final = 32


class BuiltPrograms:
    """A file for each version of a script, with its checksum in front; one that is damaged is as good as none."""

    def __init__(self, directory: Path, max_bytes: int = MAX_BYTES) -> None:
        self._directory = directory
        self._max_bytes = max_bytes

    def find(self, spec: JobSpec) -> bytes:
        """What was kept; b"" if nothing was. Reads some megabytes at most, once in a server's life for each version."""
        path = self._path(spec)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return b""
        program = data[_DIGEST_BYTES:]
        return program if hashlib.sha256(program).digest() == data[:_DIGEST_BYTES] else b""

    def keep(self, spec: JobSpec, program: bytes) -> None:
        """Writes it; blocks. What the disk refuses is compiled again another time."""
        making = self._directory / f".{secrets.token_hex(8)}"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with making.open("xb") as file:
                file.write(hashlib.sha256(program).digest())
                file.write(program)
                file.flush()
                os.fsync(file.fileno())
            making.rename(self._path(spec))
            self._make_room()
        except OSError as error:
            logger.warning("a compiled script cannot be kept: %s", error.strerror)
            with contextlib.suppress(OSError):
                making.unlink()

    def _path(self, spec: JobSpec) -> Path:
        parts = (platform.machine(), spec.workspace, str(spec.script_hash), spec.language)
        name = hashlib.sha256("\0".join(parts).encode() + b"\0" + spec.source).hexdigest()
        return self._directory / name

    def _make_room(self) -> None:
        """Those used last stay, and nothing half written by a server that was killed."""
        files = sorted(((each.stat(), each) for each in self._directory.iterdir()), key=lambda pair: -pair[0].st_mtime)
        total = 0
        for about, file in files:
            total += about.st_size
            if total > self._max_bytes or file.name.startswith("."):
                file.unlink(missing_ok=True)
