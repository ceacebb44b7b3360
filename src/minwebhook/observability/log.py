"""The log: one JSON object a line on stderr, with the ids of request and job; never a token.

``logging`` stays the interface; :func:`configure` installs the formatter, and ``redaction.py`` runs over every line.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from minwebhook.observability.redaction import redact

_FIELDS: Final = ("request_id", "job_id", "method", "path", "status", "duration_ms", "client", "workspace")


class JsonFormatter(logging.Formatter):
    """One line per record: ``time, level, message``, the fields given as ``extra``, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a line end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name.removeprefix("minwebhook."),
            "message": redact(record.getMessage()),
        }
        for name in _FIELDS:
            value = getattr(record, name, None)
            if value is not None:
                line[name] = redact(value) if isinstance(value, str) else value
        if record.exc_info:
            line["traceback"] = redact(self.formatException(record.exc_info))
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:  # half a surrogate pair, which JSON in UTF-8 cannot hold
            text = json.dumps(line, default=str, ensure_ascii=False).encode("utf-8", "replace")
            return text.decode()


def configure(level: str) -> None:
    """Sends every log of the program to stderr from ``level`` up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger("minwebhook")
    root.handlers[:] = [handler]
    root.propagate = False
    set_level(level)


def set_level(level: str) -> None:
    """Writes nothing less severe from now on."""
    logging.getLogger("minwebhook").setLevel(level.upper())
