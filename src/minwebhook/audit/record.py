"""Records of the audit log, and the chain that they form. Pure.

The hash of a record is SHA-256 over the hash of the one before it (32 zero bytes before the first) and over the record as
the JSON array ``[id, workspace, at, username, operation, action_kind, resource, parameters]``. Ids are 1, 2, 3 … Whoever
knows the hash of one record can tell whether any record up to it was changed, added or taken out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from minwebhook.times import rfc3339

HASH_BYTES: Final = 32
#: The hash before the first record.
NO_HASH: Final = bytes(HASH_BYTES)

#: Kinds of actions, as upstream's clients know them.
CREATED: Final = "Created"
UPDATED: Final = "Updated"
DELETED: Final = "Delete"
EXECUTED: Final = "Execute"
ACTION_KINDS: Final = (CREATED, UPDATED, DELETED, EXECUTED)

_MAX_RESOURCE: Final = 300


@dataclass(frozen=True, slots=True)
class Event:
    """Something that somebody did. Parameters never hold what is secret."""

    operation: str
    action_kind: str
    username: str
    #: None for what belongs to no workspace.
    workspace: str | None
    resource: str | None
    #: Unix milliseconds.
    at_ms: int
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """An event in the log."""

    id: int
    workspace: str | None
    at_ms: int
    username: str
    operation: str
    action_kind: str
    resource: str | None
    #: JSON text.
    parameters: str
    hash: bytes

    def to_json(self, *, with_hash: bool = False) -> dict[str, Any]:
        """The item of ``audit/list``."""
        shown = {
            "id": self.id,
            "workspace_id": self.workspace,
            "timestamp": rfc3339(self.at_ms),
            "username": self.username,
            "operation": self.operation,
            "action_kind": self.action_kind,
            "resource": self.resource,
            "parameters": orjson.Fragment(self.parameters),
        }
        return {**shown, "hash": self.hash.hex()} if with_hash else shown

    def hash_after(self, previous: bytes) -> bytes:
        """The hash that this record has behind one with the hash ``previous``."""
        return _hash(
            previous,
            (
                *(self.id, self.workspace, self.at_ms, self.username),
                *(self.operation, self.action_kind, self.resource, self.parameters),
            ),
        )


@dataclass(frozen=True, slots=True)
class Break:
    """The first record that does not fit, and why."""

    id: int
    reason: str


def chain(events: Iterable[Event], last_id: int, last_hash: bytes) -> Iterator[tuple[Any, ...]]:
    """The rows of ``events`` behind the last record, in the order of :class:`Record`."""
    for event in events:
        last_id += 1
        resource = None if event.resource is None else event.resource[:_MAX_RESOURCE]
        parameters = orjson.dumps(event.parameters).decode()
        row = (
            *(last_id, event.workspace, event.at_ms, event.username),
            *(event.operation, event.action_kind, resource, parameters),
        )
        last_hash = _hash(last_hash, row)
        yield (*row, last_hash)


def first_break(
    records: Iterable[Record], start_id: int = 0, start_hash: bytes = NO_HASH
) -> tuple[Break | None, int, bytes]:
    """The first record that does not fit into the chain, if any; the id of the last that fits, and its hash.

    The chain begins behind the record ``start_id`` with ``start_hash``.
    """
    count, previous = start_id, start_hash
    for record in records:
        if record.id != count + 1:
            return Break(record.id, f"the records from {count + 1} on, before this one, are missing"), count, previous
        if record.hash_after(previous) != record.hash:
            return Break(record.id, "it, or its place behind the one before it, was changed"), count, previous
        count, previous = record.id, record.hash
    return None, count, previous


def _hash(previous: bytes, row: tuple[Any, ...]) -> bytes:
    return hashlib.sha256(previous + orjson.dumps(row)).digest()
