"""Reads the signatures of scripts for the server, in processes that can do nothing else (``helper.py``).

Parsing a large script takes a second, in which no other Python of the process runs, and hundreds of MiB; and code of
strangers, well chosen, may do worse to a parser. Here it ends at most such a process, at its deadline.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any, Final

import orjson
import trio

from minwebhook.sandbox.computing import Computers, Lost, NotStarted, packed_filter
from minwebhook.schemas.model import MAX_SCHEMA_BYTES, SchemaError
from minwebhook.schemas.reading import has_signature
from minwebhook.schemas.tree import MODULES

#: Sources are bounded, and so is what a parser makes of one.
_MEMORY_BYTES: Final = 1 << 30
_PROCESSES: Final = 2
_MAX_ANSWER_BYTES: Final = 2 * MAX_SCHEMA_BYTES

logger = logging.getLogger(__name__)


class SchemaReader:
    """The processes, and what is asked of them."""

    def __init__(self, *, timeout_s: float, insecure: bool) -> None:
        """``insecure``: go on where the kernel has no system call filter."""
        self._timeout_s = timeout_s
        self._computers = Computers(
            "minwebhook.schemas.helper",
            {"packages": _packages(), "memory_bytes": _MEMORY_BYTES, "filter": packed_filter(insecure=insecure)},
            count=_PROCESSES,
            max_answer_bytes=_MAX_ANSWER_BYTES,
        )

    @property
    def process_count(self) -> int:
        """Processes that run now."""
        return self._computers.process_count

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ends processes that have nothing to do, until cancelled; then all."""
        await self._computers.run(task_status=task_status)

    async def read(self, language: str, source: str) -> dict[str, Any]:
        """The schema of the arguments of ``main``. Raises :class:`SchemaError` with the reason there is none."""
        if not has_signature(language):
            raise SchemaError(f"scripts in {language} have no signature that can be read")
        request = [language.encode(), source.encode("utf-8", "replace")]
        try:
            answer = await self._computers.ask(request, timeout_s=self._timeout_s)
        except trio.TooSlowError:
            raise SchemaError(f"not read within {self._timeout_s:g} s (schema_timeout_s)") from None
        except Lost:
            raise SchemaError("the code brought the process that read it to an end") from None
        except NotStarted as error:
            logger.error("signatures cannot be read: %s", error)
            raise SchemaError("signatures cannot be read on this server now; its log says why") from error
        if answer[:1] == b"v":
            try:
                schema: dict[str, Any] = orjson.loads(answer[1:])
            except orjson.JSONDecodeError:
                raise SchemaError("nested too deeply") from None
            return schema
        raise SchemaError(answer[1:].decode("utf-8", "replace"))

    async def read_or_none(self, language: str, source: str) -> dict[str, Any] | None:
        """The same, and None if it cannot be read."""
        try:
            return await self.read(language, source)
        except SchemaError:
            return None


def _packages() -> list[str]:
    """The directories of the packages that read some languages."""
    specs = [importlib.util.find_spec(module) for module in MODULES]
    return list(dict.fromkeys(str(Path(spec.origin).resolve().parent.parent) for spec in specs if spec and spec.origin))
