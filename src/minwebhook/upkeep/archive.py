"""The file of a backup: a tar archive (POSIX pax) that says itself what it is and whether it is whole.

::

    minwebhook.json                  {"format": 1, "version", "created_at", "schema_version", "has_objects"}
    minwebhook.db                    the database, of one moment
    objects/<workspace>/<key>        an object; its type and disposition are pax headers MINWEBHOOK.*
    …
    end.json                         {"files", "sha256"}: of all members before it

Members come in this order. The hash is over the name, time, headers and content of each, preceded by their lengths: a
file that was cut short, damaged or put together anew is known as such. Times of objects keep their nanoseconds.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Final

import orjson

from minwebhook.db.copies import FILE_NAME
from minwebhook.errors import UpkeepError

FORMAT: Final = 1
MANIFEST: Final = "minwebhook.json"
END: Final = "end.json"
DATABASE: Final = FILE_NAME
OBJECTS: Final = "objects"

_VENDOR: Final = "MINWEBHOOK."
_CHUNK_BYTES: Final = 1024 * 1024
#: Of the two JSON members.
_MAX_JSON_BYTES: Final = 64 * 1024
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive."""

    name: str
    size: int
    mtime_ns: int = 0
    #: What is known of an object: ``content_type``, ``content_disposition``.
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def object_place(self) -> tuple[str, str] | None:
        """Workspace and key, if it is an object. They come from the archive: check them before use."""
        folder, _, rest = self.name.partition("/")
        workspace, _, key = rest.partition("/")
        return (workspace, key) if folder == OBJECTS else None


class ArchiveWriter:
    """Writes members one after the other; :meth:`finish` makes the archive whole."""

    def __init__(self, file: IO[bytes]) -> None:
        # As a stream: nothing is ever gone back to.
        self._tar = tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_CHUNK_BYTES)  # noqa: SIM115
        self._digest = _Digest()

    def add(self, member: Member, content: IO[bytes]) -> bool:
        """Write ``member``. False if ``content`` had fewer bytes than it should, and was filled up with zeros."""
        info = tarfile.TarInfo(member.name)
        info.size = member.size
        info.mode = 0o600
        # As text: the number that tarfile would write loses the nanoseconds.
        info.pax_headers = {"mtime": f"{member.mtime_ns // _NS}.{member.mtime_ns % _NS:09}"}
        info.pax_headers |= {_VENDOR + name: value for name, value in member.headers.items()}
        self._digest.begin(member)
        reader = _Exactly(content, member.size, self._digest)
        self._tar.addfile(info, reader)
        return not reader.is_short

    def add_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a small member of JSON."""
        data = orjson.dumps(value)
        self.add(Member(name, len(data)), io.BytesIO(data))

    def finish(self) -> None:
        """Write what says that this is all."""
        self.add_json(END, self._digest.to_json())
        self._tar.close()


class ArchiveReader:
    """Reads members one after the other. Raises :class:`UpkeepError` for what is no backup, or not a whole one."""

    def __init__(self, file: IO[bytes]) -> None:
        self._digest = _Digest()
        try:
            self._tar = tarfile.open(fileobj=file, mode="r|", bufsize=_CHUNK_BYTES)  # noqa: SIM115
        except tarfile.TarError as error:
            raise UpkeepError("this file is not a backup: it is no tar archive") from error
        self.manifest = self._read_manifest()

    def members(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Every member with the chunks of its content, which must be taken before the next one.

        When this ends without an error, the archive was whole, and every byte that it gave is as it was written.
        """
        while True:
            member, chunks = self._next()
            if member.name == END:
                wanted = self._digest.to_json()
                if _json(chunks) != wanted:
                    raise UpkeepError("this backup is damaged: its checksum does not fit")
                return
            self._digest.begin(member)
            yield member, self._hashed(chunks)

    def _read_manifest(self) -> dict[str, Any]:
        member, chunks = self._next()
        if member.name != MANIFEST:
            raise UpkeepError(f"this file is not a backup: its first member is not {MANIFEST}")
        self._digest.begin(member)
        manifest = _json(self._hashed(chunks))
        if manifest.get("format") != FORMAT:
            raise UpkeepError(
                f"this backup has format {manifest.get('format')!r}, this program knows {FORMAT}: use a newer one"
            )
        return manifest

    def _next(self) -> tuple[Member, Iterator[bytes]]:
        try:
            info = self._tar.next()
            if info is None:
                raise UpkeepError("this backup is not whole: its end is missing")
            file = self._tar.extractfile(info) if info.isreg() else None
            if file is None:
                raise UpkeepError(f"this file is not a backup: {ascii(info.name)[:80]} is not a plain file")
            seconds, _, fraction = info.pax_headers.get("mtime", "0").partition(".")
            mtime_ns = int(seconds) * _NS + int(fraction.ljust(9, "0")[:9])
            headers = {
                name.removeprefix(_VENDOR): value
                for name, value in info.pax_headers.items()
                if name.startswith(_VENDOR)
            }
            return Member(info.name, info.size, mtime_ns, headers), _chunks(file, info.size)
        except (tarfile.TarError, ValueError, OSError) as error:
            raise UpkeepError(f"this backup is damaged: {error}") from error

    def _hashed(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._digest.update(chunk)
            yield chunk


class _Digest:
    """The hash over all members so far."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._files = 0

    def begin(self, member: Member) -> None:
        name = member.name.encode("utf-8", "surrogateescape")
        headers = orjson.dumps([member.mtime_ns, *sorted(member.headers.items())])
        self._sha256.update(b"%d:%d:%d:" % (len(name), len(headers), member.size) + name + headers)
        self._files += 1

    def update(self, data: bytes) -> None:
        self._sha256.update(data)

    def to_json(self) -> dict[str, Any]:
        return {"files": self._files, "sha256": self._sha256.hexdigest()}


class _Exactly(io.RawIOBase):
    """Exactly ``size`` bytes of a file, however long it is now: others may write to it meanwhile."""

    def __init__(self, content: IO[bytes], size: int, digest: _Digest) -> None:
        self._content = content
        self._left = size
        self._digest = digest
        self.is_short = False

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._content.read(wanted)
        if len(data) < wanted:
            self.is_short = True
            data = data.ljust(wanted, b"\0")
        self._left -= wanted
        self._digest.update(data)
        return data


def _chunks(file: IO[bytes], size: int) -> Iterator[bytes]:
    left = size
    while left:
        try:
            chunk = file.read(min(_CHUNK_BYTES, left))
        except (tarfile.TarError, OSError) as error:
            raise UpkeepError(f"this backup is damaged: {error}") from error
        if not chunk:
            raise UpkeepError("this backup is not whole: a file in it is cut short")
        left -= len(chunk)
        yield chunk


def _json(chunks: Iterator[bytes]) -> dict[str, Any]:
    data = b""
    for chunk in chunks:
        data += chunk
        if len(data) > _MAX_JSON_BYTES:
            raise UpkeepError("this file is not a backup: what should describe it is too long")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UpkeepError("this file is not a backup: what should describe it is not JSON") from error
    if not isinstance(value, dict):
        raise UpkeepError("this file is not a backup: what should describe it is no object")
    return value
