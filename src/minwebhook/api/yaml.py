"""JSON values as YAML 1.2: blocks for what has structure, JSON for what has none. Pure.

All strings are in JSON's quotes, so that none can be taken for something else; only keys that are plain words are not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

_WORD: Final = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)$)[A-Za-z][A-Za-z0-9_]*", re.IGNORECASE)
#: What JSON leaves as it is, while YAML does not know it (YAML 1.2.2, 5.1) or takes it for the end of a line.
_UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def dumps(value: Any) -> str:
    """``value`` as a YAML document. YAML wants keys of less than 1024 characters."""
    lines: list[str] = []
    if _has_structure(value):
        _write(value, "", lines)
    else:
        lines.append(_scalar(value))
    return "\n".join(lines) + "\n"


def _write(value: Any, indent: str, lines: list[str]) -> None:
    """The lines of an object or array that is not empty."""
    if isinstance(value, Mapping):
        starts = ((f"{indent}{key if _WORD.fullmatch(key) else _scalar(key)}:", value[key]) for key in value)
    else:
        starts = ((f"{indent}-", item) for item in value)
    for start, member in starts:
        if _has_structure(member):
            lines.append(start)
            _write(member, indent + "  ", lines)
        else:
            lines.append(f"{start} {_scalar(member)}")


def _has_structure(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple) and len(value) > 0


def _scalar(value: Any) -> str:
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))
