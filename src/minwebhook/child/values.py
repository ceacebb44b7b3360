"""Values between server and child: JSON text, and where in it byte strings are. Pure.

JSON knows no bytes, so a byte string travels as base64 and a *mask* says where: True in its place, a dict by member
name or index for what holds one, nothing elsewhere. ``{"a": [1, b"x"]}`` is ``{"a":[1,"eA=="]}`` with the mask
``{"a": {"1": true}}``. Whoever knows only JSON sees base64; whoever knows bytes gets them back. Data cannot pose as
bytes: a mask is only ever made from real ones.
"""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar

#: True for a byte string; member names or indexes for what holds some; None for what holds none.
Mask: TypeAlias = Any

#: What is sent as base64.
BYTES: Final = (bytes, bytearray, memoryview)

#: Nesting that the server lets in (orjson's limit), more than Python's json takes by default.
_MAX_DEPTH: Final = 1024
_MAX_INDEX_DIGITS: Final = 12

T = TypeVar("T")


def loads(text: str | bytes) -> Any:
    """JSON as Python values; integers of any size keep their digits, nesting goes as deep as the server's parser."""
    try:
        return json.loads(text)
    except RecursionError:
        return _deeper(lambda: json.loads(text))


def dumps(value: Any) -> str:
    """What :func:`loads` gave as compact JSON again."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        return _deeper(lambda: json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _deeper(work: Callable[[], T]) -> T:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 2 * _MAX_DEPTH)
    try:
        return work()
    finally:
        sys.setrecursionlimit(limit)


def to_base64(value: bytes | bytearray | memoryview) -> str:
    """A byte string as it is in JSON."""
    return base64.b64encode(value).decode()


def mask_of(value: Any) -> Mask:
    """Where ``value`` (of dicts, lists, tuples) holds byte strings; None if nowhere."""
    if isinstance(value, BYTES):
        return True
    if isinstance(value, dict):
        found = {_member_name(key): mask for key, member in value.items() if (mask := mask_of(member)) is not None}
    elif isinstance(value, list | tuple):
        found = {str(index): mask for index, member in enumerate(value) if (mask := mask_of(member)) is not None}
    else:
        return None
    return found or None


def _member_name(key: Any) -> str:
    """A dict's key as JSON has it."""
    return key if isinstance(key, str) else str(next(iter(json.loads(json.dumps({key: None})))))


def restore(value: Any, mask: Mask) -> Any:
    """``value``, as decoded from JSON, with its byte strings back in place. A mask that does not fit changes nothing."""
    root = [value]
    pending: list[tuple[Any, Any, Mask]] = [(root, 0, mask)] if mask is not None else []
    while pending:
        holder, key, mask = pending.pop()
        member = holder[key]
        if mask is True:
            holder[key] = _from_base64(member)
        elif isinstance(mask, dict):
            for name, inner in mask.items():
                if isinstance(member, dict) and name in member:
                    pending.append((member, name, inner))
                elif isinstance(member, list) and (index := _index(name)) < len(member):
                    pending.append((member, index, inner))
    return root[0]


def _index(name: str) -> int:
    """An index into a list; for what is none, one that no list has."""
    return int(name) if len(name) < _MAX_INDEX_DIGITS and name.isascii() and name.isdigit() else sys.maxsize


def _from_base64(text: Any) -> Any:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else text
    except (binascii.Error, ValueError):
        return text
