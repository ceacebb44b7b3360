"""What deno has compiled of its own modules and of our runner: half of a start, made once and copied by each process.

The cache is made by a process that runs no script (``run.mjs warm-up``), and each job's process gets a copy, so that no code of
one script is ever in another's. It belongs to one file of deno; that of another is made anew.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import trio

from minwebhook.child.engines import CODE_CACHE

logger = logging.getLogger(__name__)

_TIMEOUT_S: Final = 30.0
#: The first job of deno is likely to come now, and is not to wait for this.
_PAUSE_S: Final = 1.0


class CodeCache:
    """The cache of one program, in a directory of its own below ``directory``."""

    def __init__(self, program: str, runner: str, directory: Path, *, pause_s: float = _PAUSE_S) -> None:
        """``runner`` is the directory of run.mjs."""
        self._pause_s = pause_s
        self._program = program
        self._runner = runner
        found = Path(program).stat()
        key = f"{program}:{found.st_size}:{found.st_mtime_ns}"
        self.place: Final = directory / hashlib.sha256(key.encode()).hexdigest()[:16]

    def lay_out(self) -> None:
        """Makes the directory, which scripts will see. Those of other programs go."""
        self.place.mkdir(mode=0o755, parents=True, exist_ok=True)
        for other in self.place.parent.iterdir():
            if other != self.place:
                shutil.rmtree(other, ignore_errors=True)

    async def make(self) -> None:
        """Makes the cache, if it is not there. That it cannot be made is told, and no error: starts take longer then."""
        try:
            if any(self.place.iterdir()):
                return
            await trio.sleep(self._pause_s)
            with tempfile.TemporaryDirectory(dir=self.place.parent, ignore_cleanup_errors=True) as name:
                await self._warm_up(Path(name))
                await trio.to_thread.run_sync(self._keep, Path(name))
        except (OSError, sqlite3.Error, subprocess.SubprocessError) as error:
            logger.warning("the code of deno is compiled at each start: %s", error)

    async def _warm_up(self, directory: Path) -> None:
        flags = ("--quiet", "--no-prompt", "--no-check", "--no-config", "--no-lock", "--no-remote")
        rights = ("--allow-env", "--allow-read", f"--allow-write={directory}", "--allow-sys")
        with trio.move_on_after(_TIMEOUT_S) as scope:
            await trio.run_process(
                [self._program, "run", *flags, *rights, f"{self._runner}/run.mjs", "warm-up"],
                env={
                    "HOME": str(directory),
                    "DENO_DIR": str(directory),
                    "PATH": os.defpath,
                    "DENO_NO_UPDATE_CHECK": "1",
                    "NO_COLOR": "1",
                },
                cwd=directory,
                stdin=subprocess.DEVNULL,
                capture_stdout=True,
                capture_stderr=True,
            )
        if scope.cancelled_caught:
            raise OSError(f"not done within {_TIMEOUT_S:g} s")

    def _keep(self, directory: Path) -> None:
        for file in directory.glob(f"{CODE_CACHE}*"):
            if file.suffix or "-" in file.name:
                continue
            database = sqlite3.connect(file)
            try:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                database.close()
            file.chmod(0o644)
            file.rename(self.place / file.name)
