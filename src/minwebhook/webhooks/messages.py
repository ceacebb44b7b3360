"""Messages on a WebSocket of jobs: what clients ask for, and what they are told. Pure.

A client sends objects with ``op``; what it calls a request by, ``id``, comes back with everything about it::

    {"op": "run", "id": 1, "path": "u/demo/hello", "args": {…}, "logs": false, "stream": false}     or "hash" for "path"
    {"op": "subscribe", "id": 2, "job": UUID}
    {"op": "cancel", "id": 3, "job": UUID, "reason": "…"}

and gets objects with ``type``::

    {"type": "started", "id": 1, "job": UUID}
    {"type": "log" | "stream", "id": 1, "job": UUID, "text": "…"}
    {"type": "result", "id": 1, "job": UUID, "success": true, "result": …}
    {"type": "error", "id": 1, "job": UUID | null, "message": "…"}

as JSON in text messages (subprotocol ``minwebhook.json``) or as CBOR in binary ones (``minwebhook.cbor``), where arguments
and results may hold byte strings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import UUID

import cbor2
import orjson

from minwebhook.child import values
from minwebhook.errors import ApiError, BadRequest
from minwebhook.http.codecs import decode_cbor, decode_json, json_text
from minwebhook.webhooks.arguments import Arguments
from minwebhook.webhooks.query import parse_uuid
from minwebhook.webhooks.responses import Result

JSON: Final = "minwebhook.json"
CBOR: Final = "minwebhook.cbor"
SUBPROTOCOLS: Final = (JSON, CBOR)
MAX_ID_CHARACTERS: Final = 200

#: Integers that orjson may round have so many digits.
_LONG_NUMBER: Final = re.compile(r"[0-9]{16}")


class Id(NamedTuple):
    """What a client calls a request by."""

    value: str | int | float | bool | None
    #: The same as JSON text.
    text: str


#: Of a request that has none.
NO_ID: Final = Id(None, "null")


@dataclass(slots=True)  # a frozen one takes three times as long to make, for every run
class Run:
    """Run a deployed script: by path, or one version of it by its hash."""

    id: Id
    path: str | None
    hash: str | None
    arguments: Arguments
    logs: bool
    stream: bool


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Follow a job, whoever started it."""

    id: Id
    job_id: UUID


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a job."""

    id: Id
    job_id: UUID
    reason: str | None


class BadMessage(ApiError):
    """A message that cannot be followed. ``id`` is the one it has, as far as that can be told."""

    status = 400
    prefix = "Bad request: "

    def __init__(self, detail: str, message_id: Id = NO_ID) -> None:
        super().__init__(detail)
        self.id = message_id


def parse(message: str | bytes, subprotocol: str | None) -> Run | Subscribe | Cancel:
    """What a client asks for. Raises :class:`BadMessage`."""
    try:
        value, mask = _decode(message, subprotocol)
    except BadRequest as error:
        raise BadMessage(error.detail) from None
    if not isinstance(value, dict):
        raise BadMessage('send an object with op: "run", "subscribe" or "cancel"')
    message_id = _id(value.get("id"))
    try:
        return _request(value, mask if isinstance(mask, dict) else {}, message_id)
    except BadRequest as error:
        raise BadMessage(error.detail, message_id) from None


def _id(value: Any) -> Id:
    if value is None:
        return NO_ID
    if isinstance(value, dict | list) or len(str(value)) > MAX_ID_CHARACTERS:
        raise BadMessage(f"id: send a text or number of at most {MAX_ID_CHARACTERS} characters")
    return Id(value, json_text(value).decode())


def _decode(message: str | bytes, subprotocol: str | None) -> tuple[Any, values.Mask]:
    if subprotocol == CBOR:
        if isinstance(message, str):
            raise BadRequest("send CBOR in binary messages")
        _, value, mask = decode_cbor(message)
        return value, mask
    if not isinstance(message, str):
        raise BadRequest("send JSON in text messages")
    value = decode_json(message.encode("utf-8", "surrogatepass"))
    return values.loads(message) if _LONG_NUMBER.search(message) else value, None


def _request(value: dict[str, Any], mask: dict[str, Any], message_id: Id) -> Run | Subscribe | Cancel:
    match value.get("op"):
        case "run":
            path, script_hash = _text(value, "path"), _text(value, "hash")
            if (path is None) == (script_hash is None):
                raise BadRequest("send the path or the hash of a script")
            arguments = value.get("args")
            if arguments is not None and not isinstance(arguments, dict):
                raise BadRequest("args: send an object")
            inner = mask.get("args")
            made = Arguments(json_text(arguments or {}), orjson.dumps(inner) if inner else b"")
            return Run(message_id, path, script_hash, made, _flag(value, "logs"), _flag(value, "stream"))
        case "subscribe":
            return Subscribe(message_id, _job_id(value))
        case "cancel":
            return Cancel(message_id, _job_id(value), _text(value, "reason"))
        case _:
            raise BadRequest('op: send "run", "subscribe" or "cancel"')


def _text(value: dict[str, Any], name: str) -> str | None:
    text = value.get(name)
    if text is not None and (not isinstance(text, str) or "\0" in text):
        raise BadRequest(f"{name}: send a text without NUL characters")
    return text


def _flag(value: dict[str, Any], name: str) -> bool:
    flag = value.get(name)
    if flag is not None and not isinstance(flag, bool):
        raise BadRequest(f"{name}: send true or false")
    return bool(flag)


def _job_id(value: dict[str, Any]) -> UUID:
    text = value.get("job")
    if not isinstance(text, str):
        raise BadRequest("job: send the id of a job")
    return parse_uuid(text, "job")


def event(subprotocol: str | None, kind: str, message_id: Id, job_id: str | None, **members: Any) -> str | bytes:
    """A message of this ``kind``, with more ``members``."""
    if subprotocol == CBOR:
        return cbor2.dumps({"type": kind, "id": message_id.value, "job": job_id, **members})
    rest = f",{json_text(members).decode()[1:]}" if members else "}"
    return _beginning(kind, message_id, job_id) + rest


def result(subprotocol: str | None, message_id: Id, job_id: str, ended: Result) -> str | bytes:
    """How a job ended. In JSON the result's text is passed on as it is."""
    if subprotocol == CBOR:
        mask = values.loads(ended.mask) if ended.mask else None
        plain = values.restore(values.loads(ended.text), mask)
        return event(subprotocol, "result", message_id, job_id, success=ended.is_success, result=plain)
    success = "true" if ended.is_success else "false"
    return f'{_beginning("result", message_id, job_id)},"success":{success},"result":{ended.text.decode()}}}'


def _beginning(kind: str, message_id: Id, job_id: str | None) -> str:
    job = "null" if job_id is None else f'"{job_id}"'
    return f'{{"type":"{kind}","id":{message_id.text},"job":{job}'
