"""What is shown of a stored file: the kind by its name, the text, a table as CSV. Pure."""

from __future__ import annotations

import csv
import enum
import io
from typing import Any, Final

_CSV: Final = (".csv", ".tsv")
_TEXT: Final = (".json", ".yaml", ".yml", ".xml", ".txt", ".log", ".md", ".html", ".toml", ".ini", ".jsonl")
#: Bytes that are looked at (upstream's limit), and rows of a table.
MAX_PREVIEW_BYTES: Final = 8 * 1024 * 1024
MAX_ROWS: Final = 1000


class PreviewKind(enum.Enum):
    """What a file is, by the end of its key."""

    TEXT = "RawText"
    CSV = "Csv"
    PARQUET = "Parquet"
    UNKNOWN = "Unknown"

    @classmethod
    def of(cls, key: str) -> PreviewKind:
        """The kind of the object ``key``."""
        name = key.lower()
        if name.endswith(_CSV):
            return cls.CSV
        if name.endswith(_TEXT):
            return cls.TEXT
        return cls.PARQUET if name.endswith(".parquet") else cls.UNKNOWN


def preview(key: str, data: bytes, *, separator: str, has_header: bool) -> dict[str, Any]:
    """``{"content", "content_type", "msg"}`` of the piece ``data`` of a file; content is None for what is no text.

    Bytes that are not UTF-8, such as the halves of a character at the ends of a piece, are U+FFFD.
    """
    kind = PreviewKind.of(key)
    content = message = None
    if kind is PreviewKind.CSV:
        is_tabs = key.lower().endswith(".tsv") and separator == ","
        content = _table(data.decode("utf-8", "replace"), "\t" if is_tabs else separator, has_header=has_header)
    elif kind is PreviewKind.TEXT:
        content = data.decode("utf-8", "replace")
    else:
        message = f"there is no preview of this kind of file ({kind.value}): download it"
    return {"content": content, "content_type": kind.value, "msg": message}


def _table(text: str, separator: str, *, has_header: bool) -> str:
    """At most ``MAX_ROWS`` rows with commas, below a row of names; the last one may be cut, as the piece is."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    try:
        for number, row in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=separator)):
            if number == MAX_ROWS:
                break
            if number == 0 and not has_header:
                writer.writerow([f"column_{index + 1}" for index in range(len(row))])
            writer.writerow(row)
    except csv.Error:
        pass  # a field longer than the module reads: what came before is shown
    return out.getvalue()
