"""JSON and CBOR bodies as values and back, and which of them a client wants. Pure.

JSON text is put together and passed on rather than decoded and encoded again: numbers keep their digits, a body is not
copied twice. Both decoders bound nesting; sizes are bounded by whoever reads the body.
"""

from __future__ import annotations

import codecs
import datetime
import gc
import io
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn
from uuid import UUID

import cbor2
import orjson

from minwebhook.child import values
from minwebhook.errors import BadRequest

JSON: Final = "application/json"
CBOR: Final = "application/cbor"
FORM: Final = "application/x-www-form-urlencoded"

#: Nesting of a CBOR body. Arguments go on as JSON, of which encoders take less than decoders.
MAX_CBOR_DEPTH: Final = 128
#: Values in a CBOR body, map keys among them: each is a byte there and an object of some 50 bytes here.
MAX_CBOR_ITEMS: Final = 1_000_000
#: What a double can tell from infinity: JSON parsers refuse larger ones.
_MAX_INTEGER_BITS: Final = 1023
#: Tags that cbor2 would make something of that JSON has no form for, or that let a short body say much: decimals and
#: fractions with huge exponents, references, regular expressions, MIME messages, sets, addresses.
_REFUSED_TAGS: Final = (4, 5, 25, 28, 29, 30, 35, 36, 256, 258, 260, 261, 43000)
_PIECE_BYTES: Final = 64 * 1024
_LARGE_BYTES: Final = 1024 * 1024
_SELF_DESCRIBED: Final = 55799
#: Bytes of the argument behind a head, by the head's lower five bits (RFC 8949 §3).
_ARGUMENT_BYTES: Final = {24: 1, 25: 2, 26: 4, 27: 8}
#: Major types whose argument is a length in bytes.
_STRINGS: Final = (2, 3)
#: The decoder quotes the body.
_MAX_ERROR_CHARACTERS: Final = 300


def decode_json(body: bytes) -> Any:
    """The value of a JSON body, to look at: large integers lose digits. Raises :class:`BadRequest`."""
    is_large = len(body) > _LARGE_BYTES
    if is_large:
        gc.disable()  # values have no cycles, and looking for some takes seven times as long as reading
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        text = str(error)
        error.doc = ""  # a copy of the body
    finally:
        if is_large:
            gc.enable()
    if not body:
        raise BadRequest("invalid json: EOF while parsing a value at line 1 column 0")
    _check_utf8(body)  # a body that is not UTF-8 is told so
    raise BadRequest(f"invalid json: {text}")


def _check_utf8(body: bytes) -> None:
    """Raises :class:`BadRequest` as :func:`decode_text` does, without a copy of a large body."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(body)
    try:
        for start in range(0, len(body), _PIECE_BYTES):
            decoder.decode(view[start : start + _PIECE_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        decode_text(body)


def decode_text(body: bytes) -> str:
    """A UTF-8 body. Raises :class:`BadRequest`."""
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"invalid utf8: {error.reason} at byte {error.start}") from None


def json_text(value: Any) -> bytes:
    """``value`` as JSON; also with integers and nesting that orjson refuses."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return values.dumps(value).encode()


def with_members(text: bytes, value: Mapping[str, Any], members: Mapping[str, bytes]) -> bytes:
    """The JSON object ``text``, which means ``value``, with ``members`` (JSON text by name) added or replaced in place."""
    if members.keys() & value.keys():
        # Which of two equal names counts is no question to leave to a parser.
        members = {name: values.dumps(member).encode() for name, member in values.loads(text).items()} | dict(members)
        value = {}
    parts: list[bytes | memoryview] = []
    if value:
        parts.append(memoryview(text)[text.index(b"{") + 1 : text.rindex(b"}")])  # a view: copied once, below
    parts += [json_text(name) + b":" + member for name, member in members.items()]
    return b"{" + b",".join(parts) + b"}"


def decode_cbor(body: bytes) -> tuple[bytes, Any, values.Mask]:
    """A CBOR body (RFC 8949) as JSON text, what that means, and where byte strings are (child/values.py).

    One item. Map keys are texts, each once. Times (tags 0, 1, 100, 1004) become RFC 3339 texts, bignums integers, UUIDs
    (tag 37) texts; ``undefined`` becomes null. Raises :class:`BadRequest` for the rest.
    """
    _check_items(body)
    stream = io.BytesIO(body)
    decoder = cbor2.CBORDecoder(
        stream,
        max_depth=MAX_CBOR_DEPTH,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
        semantic_decoders=_SEMANTIC_DECODERS,
        tag_hook=_refuse_tag,
    )
    try:
        value = decoder.decode()
    except cbor2.CBORError as error:
        cause = f": {error.__cause__}" if error.__cause__ is not None else ""
        raise BadRequest(f"invalid cbor: {error}{cause}"[:_MAX_ERROR_CHARACTERS]) from None
    except (ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise BadRequest(f"invalid cbor: {type(error).__name__}") from None
    if stream.tell() != len(body):
        raise BadRequest(f"invalid cbor: {len(body) - stream.tell()} bytes behind the item; send one item")
    plain, mask = _plain(value)
    return json_text(plain), plain, mask


def encode_cbor(value: Any, mask: values.Mask) -> bytes:
    """A value that came from JSON as CBOR, with the byte strings that ``mask`` names; they are put into the value."""
    return cbor2.dumps(values.restore(value, mask))


def _check_items(body: bytes) -> None:
    """Refuses more values than :data:`MAX_CBOR_ITEMS` before any is made, by their heads (RFC 8949 §3)."""
    if len(body) <= MAX_CBOR_ITEMS:  # each has a byte at least
        return
    at = 0
    for _ in range(MAX_CBOR_ITEMS):
        if at >= len(body):
            return  # a body that ends too early is the decoder's to tell
        kind, information = body[at] >> 5, body[at] & 31
        behind = at + 1 + _ARGUMENT_BYTES.get(information, 0)
        if kind in _STRINGS:
            argument = int.from_bytes(body[at + 1 : behind], "big") if information >= 24 else information
            at = behind + argument
        else:
            at = behind
    if at < len(body):
        raise BadRequest(f"invalid cbor: more than {MAX_CBOR_ITEMS} values")


def _plain(value: Any) -> tuple[Any, values.Mask]:
    """Decoded CBOR as what JSON knows: the value without byte strings, and their mask."""
    if isinstance(value, dict):
        return _plain_dict(value)
    if isinstance(value, list | tuple):
        return _plain_list(value)
    if isinstance(value, bytes):
        return values.to_base64(value), True
    return _scalar(value), None


def _plain_dict(value: dict[Any, Any]) -> tuple[Any, values.Mask]:
    mask: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for key, member in value.items():
        if type(key) is not str:
            raise BadRequest(f"invalid cbor: the map key {key!r:.40} is not a text string")
        if type(member) in _AS_THEY_ARE:
            plain[key] = member
            continue
        plain[key], found = _plain(member)
        if found is not None:
            mask[key] = found
    return plain, mask or None


def _plain_list(value: list[Any] | tuple[Any, ...]) -> tuple[Any, values.Mask]:
    mask: dict[str, Any] = {}
    plain: list[Any] = []
    for index, member in enumerate(value):
        if type(member) in _AS_THEY_ARE:
            plain.append(member)
            continue
        made, found = _plain(member)
        plain.append(made)
        if found is not None:
            mask[str(index)] = found
    return plain, mask or None


_AS_THEY_ARE: Final = frozenset({str, bool, type(None)})


def _scalar(value: Any) -> Any:
    """A value that holds no others, as JSON has it."""
    if value is None or value is cbor2.undefined:
        return None
    if isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        if value.bit_length() > _MAX_INTEGER_BITS:
            raise BadRequest(f"invalid cbor: an integer of more than {_MAX_INTEGER_BITS} bits")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadRequest("invalid cbor: NaN and infinities cannot be arguments; send null")
        return value
    if isinstance(value, datetime.datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, datetime.date | UUID):
        return str(value)
    raise BadRequest(f"invalid cbor: a simple value {value!r:.40} cannot be an argument")


def _refuse_tag(tag: cbor2.CBORTag, immutable: bool) -> NoReturn:
    raise cbor2.CBORDecodeError(f"tag {tag.tag} is not taken here")


def _refuse(value: Any, immutable: bool) -> NoReturn:
    raise cbor2.CBORDecodeError("not taken here")


_SEMANTIC_DECODERS: Final[dict[int, Callable[[Any, bool], Any]]] = {
    **dict.fromkeys(_REFUSED_TAGS, _refuse),
    _SELF_DESCRIBED: lambda value, immutable: value,
}


def prefers_cbor(accept: str | None) -> bool:
    """Whether an ``Accept`` field names CBOR, and not JSON with a higher weight (RFC 9110 §12.5.1)."""
    if accept is None or "cbor" not in accept:
        return False
    weights: dict[str, float] = {}
    for item in accept.split(","):
        media_type, *parameters = (part.strip() for part in item.lower().split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            weights[media_type] = float(weight)
        except ValueError:
            weights[media_type] = 0.0
    return weights.get(CBOR, 0.0) > 0 and weights[CBOR] >= weights.get(JSON, 0.0)
