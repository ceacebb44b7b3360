"""Sets of installed packages: a directory for each lock, ``DATA/packages/<key>``, shared by all scripts with that lock.

A set is made in a directory of its own, is flushed to disk and gets its name in one step: what has the name is whole.
It never changes. Sets unused for longest go when there is no room, but none that scripts run with. What a killed server
left half made is removed at the start.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import re
import secrets
import shutil
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
import trio

from minwebhook.errors import PackageError
from minwebhook.packages.uv import Interpreter, Uv
from minwebhook.settings import PackageSettings

logger = logging.getLogger(__name__)

#: Runs of uv at one time; further ones wait.
_AT_ONCE: Final = 2
_KEY: Final = re.compile(r"[0-9a-f]{64}")
#: What a set is, for people who look into its directory.
_NOTE: Final = ".minwebhook.json"
#: Answers to questions for requirements that are kept, and for how long: indexes get new versions.
_MAX_RESOLVED: Final = 256
_RESOLVED_S: Final = 600.0
_REMOVE_S: Final = 30.0

T = TypeVar("T")


class PackageSets:
    """Finds out which packages requirements mean, and installs them."""

    def __init__(
        self, settings: PackageSettings, directory: Path, interpreter: Interpreter, in_use: Callable[[], set[str]]
    ) -> None:
        """``in_use`` gives the directories of sets that scripts run with, and that must stay."""
        self._settings = settings
        self._directory = directory
        self._making = directory / ".making"
        self._cache = directory / ".cache"
        self._in_use = in_use
        self._uv = Uv(settings, interpreter, self._cache)
        self._limiter = trio.CapacityLimiter(_AT_ONCE)
        self._flights: dict[Hashable, _Flight] = {}
        self._resolved: OrderedDict[tuple[str, ...], tuple[float, tuple[str, ...]]] = OrderedDict()
        #: Directories by their pins; the one used last at the end.
        self._known: OrderedDict[tuple[str, ...], str] = OrderedDict()

    @property
    def python_version(self) -> str:
        """Of the interpreter that packages are for, as ``3.11``."""
        return self._uv.interpreter.version

    async def sweep(self) -> None:
        """Removes what an earlier process left half made. Before anything else is done here."""

        def work() -> None:
            shutil.rmtree(self._making, ignore_errors=True)
            for path in (self._directory, self._making, self._cache):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)

        await trio.to_thread.run_sync(work)

    def find(self, pins: tuple[str, ...]) -> str | None:
        """The directory of an installed set; None if it is not known to be there. Cheap."""
        directory = self._known.get(pins)
        if directory is not None:
            self._known.move_to_end(pins)
        return directory

    async def resolve(self, requirements: tuple[str, ...]) -> tuple[str, ...]:
        """Pins for all that these requirements need; asked once at a time. Raises :class:`PackageError`."""
        known = self._resolved.get(requirements)
        if known is not None and trio.current_time() < known[0] + _RESOLVED_S:
            return known[1]
        return await self._once(("resolve", requirements), lambda: self._resolve(requirements))

    async def install(self, pins: tuple[str, ...]) -> str:
        """The directory with exactly these packages, installed if it is not there. Raises :class:`PackageError`."""
        directory = self.find(pins)
        if directory is None:
            directory = await self._once(("install", pins), lambda: self._install(pins))
        return directory

    async def _once(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """The result of ``work``, shared by all who ask while it is done; if who does it is cancelled, another takes over."""
        while (flight := self._flights.get(key)) is not None:
            await flight.landed.wait()
            if flight.error is not None:
                raise PackageError(str(flight.error))
            if flight.has_result:
                result: T = flight.result
                return result
        flight = self._flights[key] = _Flight()
        try:
            async with self._limiter:
                flight.result = value = await work()
            flight.has_result = True
            return value
        except PackageError as error:
            flight.error = error
            raise
        finally:
            del self._flights[key]
            flight.landed.set()

    async def _resolve(self, requirements: tuple[str, ...]) -> tuple[str, ...]:
        async with self._scratch() as scratch:
            pins = await self._uv.compile(requirements, scratch)
        self._resolved[requirements] = (trio.current_time(), pins)
        self._resolved.move_to_end(requirements)
        while len(self._resolved) > _MAX_RESOLVED:
            self._resolved.popitem(last=False)
        return pins

    async def _install(self, pins: tuple[str, ...]) -> str:
        place = self._directory / self._key(pins)
        if not await trio.to_thread.run_sync(place.is_dir):
            async with self._scratch() as scratch:
                await self._uv.install(pins, scratch / "set", scratch)
                await trio.to_thread.run_sync(self._publish, scratch / "set", place, pins)
        await trio.to_thread.run_sync(os.utime, place)
        self._known[pins] = str(place)
        await self._make_room()
        return str(place)

    def _key(self, pins: tuple[str, ...]) -> str:
        parts = [self.python_version, platform.machine(), *pins]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _publish(self, made: Path, place: Path, pins: tuple[str, ...]) -> None:
        """On disk, then under its name."""
        made.mkdir(exist_ok=True)  # of packages for other systems only, nothing was installed
        note = {"python": self.python_version, "packages": pins, "bytes": _size_of(made)}
        (made / _NOTE).write_bytes(orjson.dumps(note, option=orjson.OPT_INDENT_2))
        made.chmod(0o755)
        _flush(made)
        made.rename(place)
        _flush(self._directory)

    @asynccontextmanager
    async def _scratch(self) -> AsyncIterator[Path]:
        """A directory that is there meanwhile. What the disk refuses becomes :class:`PackageError`."""
        scratch = self._making / secrets.token_hex(8)
        try:
            await trio.to_thread.run_sync(scratch.mkdir, 0o700)
            yield scratch
        except OSError as error:
            raise PackageError(f"packages cannot be installed: {error.strerror}") from error
        finally:
            # Also when cancelled; what is left then goes at the next start.
            with trio.move_on_after(_REMOVE_S, shield=True):
                await trio.to_thread.run_sync(_remove, scratch)

    # --- room ---------------------------------------------------------------------------------------------------------

    async def _make_room(self) -> None:
        """Removes the cache of uv, then sets, until all fit into ``package_disk_bytes``."""
        sets = await trio.to_thread.run_sync(self._sets)
        excess = sum(sets.values()) + await trio.to_thread.run_sync(_size_of, self._cache)
        excess -= self._settings.package_disk_bytes
        if excess <= 0:
            return
        if not self._flights or len(self._flights) == 1:  # nobody else is using it
            excess -= await trio.to_thread.run_sync(_size_of, self._cache)
            await trio.to_thread.run_sync(lambda: _empty(self._cache))
        order = {directory: number for number, directory in enumerate(self._known.values(), 1)}
        newest = next(reversed(self._known.values()), None)
        for directory in sorted(sets, key=lambda each: (order.get(each, 0), Path(each).stat().st_mtime)):
            if excess <= 0:
                return
            if directory == newest or directory in self._in_use():
                continue
            self._known = OrderedDict((pins, each) for pins, each in self._known.items() if each != directory)
            logger.info("packages unused for longest are removed: %s", directory)
            excess -= sets[directory]
            gone = self._making / secrets.token_hex(8)
            await trio.to_thread.run_sync(os.rename, directory, gone)
            await trio.to_thread.run_sync(_remove, gone)

    def _sets(self) -> dict[str, int]:
        """Bytes of each set on disk."""
        found = {}
        for place in self._directory.iterdir():
            if _KEY.fullmatch(place.name):
                try:
                    found[str(place)] = int(orjson.loads((place / _NOTE).read_bytes())["bytes"])
                except (OSError, ValueError, KeyError):
                    found[str(place)] = _size_of(place)
        return found


class _Flight:
    """Work that is under way, for all who wait for its result."""

    def __init__(self) -> None:
        self.landed = trio.Event()
        self.has_result = False
        self.result: Any = None
        self.error: PackageError | None = None


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _size_of(directory: Path) -> int:
    """Bytes of all files below."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 - thousands of files
            except OSError:
                continue  # it was removed meanwhile
    return total


def _flush(directory: Path) -> None:
    """The file system of ``directory`` to disk: one call (syncfs(2)) instead of one for each of a thousand files."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
            raise OSError(ctypes.get_errno(), "syncfs")
    finally:
        os.close(fd)
