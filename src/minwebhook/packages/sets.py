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
import re
import secrets
import shutil
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar

import orjson
import trio

from minwebhook.child.engines import NOTE
from minwebhook.errors import PackageError
from minwebhook.packages.bun import Bun
from minwebhook.packages.deno import Deno
from minwebhook.packages.maker import Maker
from minwebhook.packages.uv import Interpreter, Uv
from minwebhook.settings import PackageSettings

logger = logging.getLogger(__name__)

#: Searches and installations at one time; further ones wait.
_AT_ONCE: Final = 2
_KEY: Final = re.compile(r"[0-9a-f]{64}")
#: Answers to questions for requirements that are kept, and for how long: indexes get new versions.
_MAX_RESOLVED: Final = 256
_RESOLVED_S: Final = 600.0
_REMOVE_S: Final = 30.0

T = TypeVar("T")

PackageKind = Literal["python", "npm", "deno"]


class Content(NamedTuple):
    """Packages of one kind: what is wanted, or what is to be installed."""

    kind: PackageKind
    texts: tuple[str, ...]


class PackageSets:
    """Finds out which packages requirements mean, and installs them."""

    def __init__(
        self,
        settings: PackageSettings,
        directory: Path,
        interpreter: Interpreter,
        in_use: Callable[[], set[str]],
        programs: Mapping[str, str] | None = None,
    ) -> None:
        """``in_use`` gives the directories of sets that scripts run with, and that must stay.

        ``programs`` are the paths of ``bun`` and ``deno``, if they are there.
        """
        self._settings = settings
        self._directory = directory
        self._making = directory / ".making"
        cache = Path(settings.package_cache or directory / ".cache").absolute()
        self._cache = cache
        self._in_use = in_use
        self.python_version: Final = interpreter.version  # that packages are for, as ``3.11``
        programs = programs or {}
        self._makers: dict[PackageKind, Maker] = {
            "python": Uv(settings, interpreter, cache / "uv"),
            "npm": Bun(settings, programs.get("bun"), cache / "bun"),
            "deno": Deno(settings, programs.get("deno"), cache / "deno"),
        }
        self._limiter = trio.CapacityLimiter(_AT_ONCE)
        self._flights: dict[Hashable, _Flight] = {}
        self._resolved: OrderedDict[Content, tuple[float, Content]] = OrderedDict()
        #: Directories by what they hold; the one used last at the end.
        self._known: OrderedDict[Content, str] = OrderedDict()

    async def sweep(self) -> None:
        """Removes what an earlier process left half made. Before anything else is done here."""

        def work() -> None:
            shutil.rmtree(self._making, ignore_errors=True)
            for path in (self._directory, self._making, self._cache):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)

        await trio.to_thread.run_sync(work)

    def find(self, content: Content) -> str | None:
        """The directory of an installed set; None if it is not known to be there. Cheap."""
        directory = self._known.get(content)
        if directory is not None:
            self._known.move_to_end(content)
        return directory

    async def resolve(self, wanted: Content) -> Content:
        """What to install for these requirements; asked once at a time. Raises :class:`PackageError`."""
        known = self._resolved.get(wanted)
        if known is not None and trio.current_time() < known[0] + _RESOLVED_S:
            return known[1]
        return await self._once(("resolve", wanted), lambda: self._resolve(wanted))

    async def install(self, content: Content) -> str:
        """The directory with exactly these packages, installed if it is not there. Raises :class:`PackageError`."""
        directory = self.find(content)
        if directory is None:
            directory = await self._once(("install", content), lambda: self._install(content))
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

    async def _resolve(self, wanted: Content) -> Content:
        async with self._scratch() as scratch:
            found = Content(wanted.kind, await self._makers[wanted.kind].resolve(wanted.texts, scratch))
        self._resolved[wanted] = (trio.current_time(), found)
        self._resolved.move_to_end(wanted)
        while len(self._resolved) > _MAX_RESOLVED:
            self._resolved.popitem(last=False)
        return found

    async def _install(self, content: Content) -> str:
        maker = self._makers[content.kind]
        place = self._directory / hashlib.sha256("\n".join((*maker.identity, *content.texts)).encode()).hexdigest()
        if not await trio.to_thread.run_sync(place.is_dir):
            async with self._scratch() as scratch:
                await maker.install(content.texts, scratch / "set", scratch)
                await trio.to_thread.run_sync(self._publish, scratch / "set", place, maker.note(content.texts))
        await trio.to_thread.run_sync(os.utime, place)
        self._known[content] = str(place)
        await self._make_room()
        return str(place)

    def _publish(self, made: Path, place: Path, note: dict[str, Any]) -> None:
        """On disk, then under its name."""
        made.mkdir(exist_ok=True)  # of packages for other systems only, nothing was installed
        (made / NOTE).write_bytes(orjson.dumps({**note, "bytes": _size_of(made)}, option=orjson.OPT_INDENT_2))
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
        """Removes what was fetched, if it is ours, then sets, until all fit into ``package_disk_bytes``."""
        sets = await trio.to_thread.run_sync(self._sets)
        cached = 0 if self._settings.package_cache else await trio.to_thread.run_sync(_size_of, self._cache)
        excess = sum(sets.values()) + cached - self._settings.package_disk_bytes
        if excess <= 0:
            return
        if cached and len(self._flights) <= 1:  # nobody else is using it
            excess -= cached
            await trio.to_thread.run_sync(lambda: _empty(self._cache))
        order = {directory: number for number, directory in enumerate(self._known.values(), 1)}
        newest = next(reversed(self._known.values()), None)
        for directory in sorted(sets, key=lambda each: (order.get(each, 0), Path(each).stat().st_mtime)):
            if excess <= 0:
                return
            if directory == newest or directory in self._in_use():
                continue
            self._known = OrderedDict((content, each) for content, each in self._known.items() if each != directory)
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
                    found[str(place)] = int(orjson.loads((place / NOTE).read_bytes())["bytes"])
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
