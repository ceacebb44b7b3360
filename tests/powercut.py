"""Power cuts: what a server did to its database is recorded, and replayed up to a moment without what was not synced there.

The record (tests/preload/recorder.c) has every write, truncation and sync, in order. At a cut the content of a file is what it
was at its last sync, and of what came later anything may have reached the disk: nothing, all, some writes and not others, a
piece of one. That is more than most disks do, and as much as they may. A sync that fails is told of once: the kernel takes for
written then what may never have come to the disk, and the next sync succeeds without it.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from tests.preloaded import compiled

_HEAD: Final = struct.Struct("<BBHIQ")
#: What a disk writes whole or not at all.
_SECTOR: Final = 512
#: The recorded names of the database itself and of its directory; others are what follows the database's path.
_ITSELF: Final = "."
_DIRECTORY: Final = "/"


class Operation(NamedTuple):
    """A recorded call."""

    #: Where its record ends.
    end: int
    kind: str
    name: str
    offset: int
    data: bytes


def environment(folder: Path, database: Path, record: Path) -> dict[str, str]:
    """What a server is started with to be recorded. While there is a file ``folder/fail``, its syncs fail."""
    library = compiled("recorder", folder)
    fail = folder / "fail"
    return {
        "LD_PRELOAD": str(library),
        "RECORD_FILES": str(database),
        "RECORD_TO": str(record),
        "FAIL_SYNCS": str(fail),
    }


def operations(record: bytes) -> Iterator[Operation]:
    """The calls, in order; what the process was about to note when it died is left out."""
    start = 0
    while start + _HEAD.size <= len(record):
        kind, name_size, _, size, offset = _HEAD.unpack_from(record, start)
        name_start = start + _HEAD.size
        start = name_start + name_size + size
        if start > len(record):
            return
        data = record[name_start + name_size : start]
        yield Operation(start, chr(kind), record[name_start : name_start + name_size].decode(), offset, data)


@dataclass
class _File:
    """What is on the disk for certain, and what is on its way there."""

    synced: bytearray | None = None
    pending: list[Operation] = field(default_factory=list)

    def sync(self) -> None:
        content = self.synced
        for operation in self.pending:
            content = _applied(content, operation)
        self.synced, self.pending = (bytearray() if content is None else content), []

    def fail(self, chance: random.Random) -> None:
        """A sync that fails. What it was about is on the disk or not, and no later sync changes that."""
        share = chance.choice([0.0, 0.5])
        content = self.synced
        for operation in self.pending:
            if operation.kind != "W" or chance.random() < share:
                content = _applied(content, operation)
        self.synced, self.pending = content, []

    def sync_name(self) -> None:
        """Its directory is synced: what was unlinked does not come back."""
        unlinked = [index for index, operation in enumerate(self.pending) if operation.kind == "U"]
        if unlinked:
            self.synced, self.pending = None, self.pending[unlinked[-1] + 1 :]

    def cut(self, chance: random.Random) -> bytes | None:
        """What may be found when there is power again; None if there is no file."""
        content = None if self.synced is None else bytearray(self.synced)
        share = chance.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        for operation in self.pending:
            if chance.random() >= share:
                continue
            size = len(operation.data)
            if chance.random() < 0.3:
                size = _SECTOR * chance.randint(0, size // _SECTOR)
            content = _applied(content, operation._replace(data=operation.data[:size]))
        return None if content is None else bytes(content)


def _applied(content: bytearray | None, operation: Operation) -> bytearray | None:
    if operation.kind == "U":
        return None
    content = bytearray() if content is None else content
    if operation.kind == "T":
        del content[operation.offset :]
        content.extend(bytes(operation.offset - len(content)))
    else:
        content.extend(bytes(max(operation.offset - len(content), 0)))
        content[operation.offset : operation.offset + len(operation.data)] = operation.data
    return content


class Cut(NamedTuple):
    """The files of a database after a power cut."""

    #: How much of the record had been written then.
    moment: int
    #: By what follows the path of the database.
    files: dict[str, bytes]

    def write(self, database: Path) -> None:
        """Makes them, and nothing else, of this database."""
        for suffix in ("", "-wal", "-shm", "-journal"):
            database.with_name(database.name + suffix).unlink(missing_ok=True)
        for suffix, content in self.files.items():
            database.with_name(database.name + suffix).write_bytes(content)


def cuts(record: Path, number: int, seed: int, *, after: int = 0, obeys_syncs: bool = True) -> Iterator[Cut]:
    """So many random moments in the order of time, ``after`` a place in the record. A disk that does not obey syncs has
    nothing for certain."""
    chance = random.Random(seed)
    done = list(operations(record.read_bytes()))
    possible = [index for index, operation in enumerate(done) if operation.end > after]
    wanted: Sequence[int] = sorted(chance.sample(possible, min(number, len(possible))))
    files: dict[str, _File] = {}
    index = 0
    for last in wanted:
        for operation in done[index : last + 1]:
            file = files.setdefault(operation.name, _File())
            if operation.kind == "F":
                file.fail(chance)
            elif operation.kind != "S":
                file.pending.append(operation)
            elif obeys_syncs and operation.name == _DIRECTORY:
                for each in files.values():
                    each.sync_name()
            elif obeys_syncs:
                file.sync()
        index = last + 1
        found = {
            "" if name == _ITSELF else name: content
            for name, file in files.items()
            if name != _DIRECTORY and not name.endswith("-shm") and (content := file.cut(chance)) is not None
        }
        yield Cut(done[last].end, found)
