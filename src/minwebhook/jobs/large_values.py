"""Large arguments and results, looked at in processes that can do nothing else (``large_helper.py``): the server's end.

What is small is read in the loop, which is faster. Above :data:`LARGE_BYTES` reading may hold up everybody, so it is done
beside the loop, within bounds of memory and time; what does not fit into them is refused, or fails its job.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from minwebhook.errors import PayloadTooLarge, Unavailable
from minwebhook.http.messages import Headers, Response
from minwebhook.jobs import outcomes
from minwebhook.jobs.large_work import Words, outcome_of, raise_error
from minwebhook.jobs.log import JobLog
from minwebhook.jobs.model import Outcome
from minwebhook.runtimes.reports import Report
from minwebhook.sandbox.computing import Computers, Lost, NotStarted, packed_filter
from minwebhook.webhooks import messages, responses
from minwebhook.webhooks.arguments import Arguments, Layout
from minwebhook.webhooks.responses import Result

#: Above this a value is large: reading so much JSON takes the loop 5 ms, or 70 if it is made to take long.
LARGE_BYTES: Final = 1024 * 1024
#: Values of JSON that is read in the loop all the same, because all of it is looked at there: a fifth of a second at most.
MAX_VALUES_IN_LOOP: Final = 250_000
#: What a value may take while it is read. Numbers and texts take up to 10 times their JSON.
_MEMORY_BYTES: Final = 640 << 20
_TIMEOUT_S: Final = 30.0
_PROCESSES: Final = 2
_MAX_ANSWER_BYTES: Final = (1 << 32) - 1
_LENGTH: Final = struct.Struct("!I")
#: What is needed beside the program itself.
_MODULES: Final = ("orjson", "cbor2")

logger = logging.getLogger(__name__)


class LargeValues:
    """The processes, and what is asked of them."""

    def __init__(self, *, insecure: bool, memory_bytes: int = _MEMORY_BYTES) -> None:
        """``insecure``: go on where the kernel has no system call filter. ``memory_bytes``: what reading one value may take."""
        self._too_much = (
            f"it holds too many values: reading it takes more than {memory_bytes >> 20} MiB of memory or {_TIMEOUT_S:g} s;"
            " send fewer, or a file"
        )
        self._computers = Computers(
            "minwebhook.jobs.large_helper",
            {"packages": _packages(), "memory_bytes": memory_bytes, "filter": packed_filter(insecure=insecure)},
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

    async def arguments(
        self, headers: Headers, body: bytes, query: str, *, layout: Layout, include_headers: Sequence[str]
    ) -> Arguments:
        """As :func:`~minwebhook.webhooks.arguments.post_arguments`; also raises :class:`PayloadTooLarge`."""
        words = {"headers": headers.items(), "query": query, "layout": layout.value, "names": include_headers}
        found, text = await self._ask("arguments", words, body)
        return Arguments(text, found["mask"].encode())

    async def check(self, schema: Mapping[str, Any], arguments: bytes) -> None:
        """As :func:`~minwebhook.schemas.validation.check_arguments`; also raises :class:`PayloadTooLarge`."""
        await self._ask("check", {"schema": schema}, arguments)

    async def check_count(self, body: bytes) -> None:
        """Whether a JSON body has few enough values to be read in the loop. Raises :class:`PayloadTooLarge`, and
        :class:`BadRequest` for what is no JSON."""
        if len(body) > LARGE_BYTES:
            await self._ask("count", {"most": MAX_VALUES_IN_LOOP}, body)

    async def judge(self, report: Report, log: JobLog, program: str) -> Outcome:
        """As :func:`~minwebhook.jobs.outcomes.judge`; a report of too many values is a failure of the job."""
        log.close()
        facts = {
            "tail_text": log.tail(),
            "last": log.last_line(),
            "is_silent": log.is_silent,
            "stream": log.chunks.text(),
        }
        words = {
            "kind": report.kind.decode("latin-1"),
            "mask": report.mask.decode("utf-8", "replace"),
            "log": facts,
            "program": program,
        }
        try:
            found, result = await self._ask("outcome", words, report.payload)
        except PayloadTooLarge:
            return outcomes.execution_error("the result holds too many values", ended_by="result")
        except Unavailable as error:
            return outcomes.execution_error(error.detail)
        return outcome_of(found, result)

    async def response(self, result: Result, *, failure_status: int, as_cbor: bool) -> Response:
        """As :func:`~minwebhook.webhooks.responses.sync_response`; also raises :class:`PayloadTooLarge`."""
        if len(result.text) <= LARGE_BYTES or (not as_cbor and not responses.may_be_composite(result.text)):
            return responses.sync_response(result, failure_status=failure_status, as_cbor=as_cbor)
        words = {
            "is_success": result.is_success,
            "mask": result.mask.decode(),
            "failure_status": failure_status,
            "as_cbor": as_cbor,
        }
        found, body = await self._ask("response", words, result.text)
        headers = tuple((name, value) for name, value in found["headers"])
        return Response(found["status"], body, found["content_type"], headers)

    async def part(self, text: bytes, mask: bytes, path: str | None, *, as_cbor: bool) -> Response:
        """What is at ``path`` in a JSON text, None for all of it. Raises :class:`PayloadTooLarge`."""
        if len(text) <= LARGE_BYTES:
            return responses.part_response(text, mask, path or "", as_cbor=as_cbor)
        found, body = await self._ask("part", {"path": path or "", "mask": mask.decode(), "as_cbor": as_cbor}, text)
        return Response(200, body, found["content_type"])

    async def message(self, message: str | bytes, subprotocol: str | None) -> messages.Run:
        """As :func:`~minwebhook.webhooks.messages.parse`, of a message that is large."""
        data = message.encode() if isinstance(message, str) else message
        if isinstance(message, str) is not (subprotocol == messages.JSON):
            raise messages.BadMessage("send JSON in text messages, and CBOR in binary ones")
        try:
            found, text = await self._ask("message", {"subprotocol": subprotocol}, data)
        except (PayloadTooLarge, Unavailable) as error:
            raise messages.BadMessage(error.detail) from None
        if "problem" in found:
            raise messages.BadMessage(found["problem"], messages.Id(*found["id"]))
        run = found["run"] | {"id": messages.Id(*found["run"]["id"])}
        return messages.Run(arguments=Arguments(text, found["mask"].encode()), **run)

    async def _ask(self, name: str, words: Mapping[str, Any], data: bytes) -> tuple[Words, bytes]:
        try:
            answer = await self._computers.ask([name.encode(), json.dumps(words).encode(), data], timeout_s=_TIMEOUT_S)
        except (Lost, trio.TooSlowError):
            raise PayloadTooLarge(self._too_much) from None
        except NotStarted as error:
            logger.error("large values cannot be read: %s", error)
            raise Unavailable("large values cannot be read on this server now; its log says why") from error
        if answer[:1] == b"m":
            raise PayloadTooLarge(self._too_much)
        (size,) = _LENGTH.unpack_from(answer, 1)
        begin = 1 + _LENGTH.size + size
        found: Words = json.loads(answer[1 + _LENGTH.size : begin])
        raise_error(found)
        return found, data if answer[:1] == b"s" else answer[begin:]


def _packages() -> list[str]:
    """The directories of the packages that it needs."""
    specs = [importlib.util.find_spec(module) for module in _MODULES]
    return list(dict.fromkeys(str(Path(spec.origin).resolve().parent.parent) for spec in specs if spec and spec.origin))
