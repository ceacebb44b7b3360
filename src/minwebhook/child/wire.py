"""The frames between the server and a child. Pure.

A frame is one kind byte, the payload's length as 4 bytes little-endian, the job's 8-byte number, and the payload::

    child  -> server   READY   empty; the child is warm and waits for its job
    server -> child    JOB     six sections, see pack_job
    child  -> server   CODE    a cache of the compiled script (opaque to the server), sent before the script runs
    child  -> server   MASK    where the next frame's JSON holds byte strings (values.py); only if it does
    child  -> server   ARGUMENTS  what the preprocessor made of the arguments: a JSON object; only if asked for
    child  -> server   USAGE   what the job used, see pack_usage; right before the report
    child  -> server   RESULT  the result as JSON text
    child  -> server   ERROR   the error object as JSON text: {"message", "name", "stack"?, "extra"?}
    child  -> server   EXIT    JSON {"code": int, "signal": int?, "result_json": text?, "result_text": text?,
                               "program": text?}: the script is a program, and ended; without a result the last line of
                               its log is the result. ``program`` is what ended, if it is not the script

A child speaks on its own socket; its stdout and stderr are the job's log and never carry frames. The number of a job is
random and comes with it; every frame of the child repeats it, so that what an earlier job of the same process left behind
or sends late is never taken for the answer to a later one.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

READY: Final = b"Y"
JOB: Final = b"J"
CODE: Final = b"C"
MASK: Final = b"M"
ARGUMENTS: Final = b"A"
RESULT: Final = b"R"
ERROR: Final = b"E"
EXIT: Final = b"X"
USAGE: Final = b"U"

_HEAD: Final = struct.Struct("<cI8s")
_SECTIONS: Final = struct.Struct("<IIIIII")
_USAGE: Final = struct.Struct("<II")
_MAX_COUNT: Final = 2**32 - 1

HEAD_BYTES: Final = _HEAD.size

#: The number in frames that belong to no job.
NO_JOB: Final = bytes(8)


class FrameError(Exception):
    """The other side broke the frame format: unknown kind, or a payload over the limit."""


class FrameTooLarge(FrameError):
    """A payload over the limit."""


class Usage(NamedTuple):
    """What the processes of a job used."""

    #: Processor time in milliseconds.
    cpu_ms: int
    #: The resident memory at its peak, in KiB.
    peak_kib: int


def frame(kind: bytes, payload: bytes = b"", job: bytes = NO_JOB) -> bytes:
    """One frame as bytes; ``job`` is the job's number."""
    return _HEAD.pack(kind, len(payload), job) + payload


def payload_length(head: bytes) -> int:
    """The payload's length that the first :data:`HEAD_BYTES` of a frame announce."""
    length: int = _HEAD.unpack_from(head)[1]
    return length


def job_number(head: bytes) -> bytes:
    """The number of the job that a frame, given by its first :data:`HEAD_BYTES`, belongs to."""
    number: bytes = _HEAD.unpack_from(head)[2]
    return number


def pack_job(
    header: bytes,
    source: bytes,
    compiled: bytes,
    arguments: bytes,
    job: bytes = NO_JOB,
    *,
    mask: bytes = b"",
    imported: bytes = b"",
) -> bytes:
    """A whole JOB frame of the job with this number.

    ``header`` is what :func:`pack_header` gave; ``source`` the script's text in UTF-8, empty for a process that has it;
    ``compiled`` what an earlier CODE frame of the same script carried, or empty; ``arguments`` a JSON object, and
    ``mask`` the JSON text that says where it holds byte strings (values.py), or empty; ``imported`` the scripts that it
    imports, a JSON object of path to source, or empty.
    """
    sections = _SECTIONS.pack(len(header), len(source), len(compiled), len(arguments), len(mask), len(imported))
    parts = (sections, header, source, compiled, arguments, mask, imported)
    return b"".join((_HEAD.pack(JOB, sum(map(len, parts)), job), *parts))


def pack_usage(cpu_s: float, peak_kib: int) -> bytes:
    """The payload of a USAGE frame."""
    return _USAGE.pack(min(max(round(cpu_s * 1000), 0), _MAX_COUNT), min(peak_kib, _MAX_COUNT))


def unpack_usage(payload: bytes) -> Usage:
    """What :func:`pack_usage` was given. Raises :class:`FrameError`."""
    if len(payload) != _USAGE.size:
        raise FrameError("unreadable figures of what the job used")
    return Usage(*_USAGE.unpack(payload))


def pack_header(
    path: str,
    environment: Mapping[str, str],
    *,
    stays: bool,
    preprocess: bool = False,
    is_preprocessor: bool = False,
    plain: bool = False,
    limits: str = "",
) -> bytes:
    """The header of a JOB frame: the script's path, what to do, and the variables.

    ``stays``: the process stays for further jobs. ``preprocess``: the script's preprocessor makes the arguments.
    ``is_preprocessor``: its preprocessor is called instead of ``main``, and gives the result.
    ``plain``: arguments stay what they are in JSON, whatever type is declared (of TypeScript).
    ``limits`` are those that differ from what the process has already (child/limits.py).

    Texts separated by NUL, which no variable can hold anyway (those that have one lose it): a child reads this in the
    time of the job, and a JSON parser would take five times as long.
    """
    flags = ("s" if stays else "") + ("p" if preprocess else "") + ("o" if is_preprocessor else "")
    flags += "n" if plain else ""
    parts = [path, flags, limits, *(f"{name}={value}" for name, value in environment.items())]
    text = "\0".join(parts)
    if text.count("\0") >= len(parts):
        text = "\0".join(part.replace("\0", "") for part in parts)
    return text.encode("utf-8", "replace")


def add_variables(header: bytes, environment: Mapping[str, str]) -> bytes:
    """A header with more variables, which count where it has the name already."""
    if not environment:
        return header
    text = "\0".join([f"{name}={value}" for name, value in environment.items()])
    if text.count("\0") >= len(environment):
        text = "\0".join(f"{name}={value}".replace("\0", "") for name, value in environment.items())
    return b"%b\0%b" % (header, text.encode("utf-8", "replace"))


class JobHeader(NamedTuple):  # dataclasses would bring inspect along into every child
    """What :func:`pack_header` was given; ``variables`` as ``name=value`` in UTF-8."""

    path: str
    stays: bool
    preprocess: bool
    limits: str
    variables: list[bytes]
    is_preprocessor: bool = False


def unpack_header(header: bytes) -> JobHeader:
    """The header of a JOB frame."""
    path, flags, limits, *variables = header.split(b"\0")
    return JobHeader(path.decode(), b"s" in flags, b"p" in flags, limits.decode(), variables, b"o" in flags)


def unpack_job(payload: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes, bytes]:
    """The sections of a JOB frame's payload: header, source, compiled, arguments, mask, imported."""
    if len(payload) < _SECTIONS.size:
        raise FrameError("job frame too short")
    lengths = _SECTIONS.unpack_from(payload)
    if _SECTIONS.size + sum(lengths) != len(payload):
        raise FrameError("job frame sections do not add up")
    parts = []
    start = _SECTIONS.size
    for length in lengths:
        parts.append(payload[start : start + length])
        start += length
    return parts[0], parts[1], parts[2], parts[3], parts[4], parts[5]


class FrameReader:
    """Cuts a byte stream into frames. Memory stays below the payload limit plus one read."""

    __slots__ = ("_buffer", "_job", "_kinds", "_max_payload", "_wanted")

    def __init__(self, kinds: bytes, max_payload: int, job: bytes = NO_JOB) -> None:
        """Accepts frames of one job, of the given ``kinds`` (one byte each), with at most ``max_payload`` bytes."""
        self._kinds = kinds
        self._job = job
        self._max_payload = max_payload
        self._buffer = bytearray()
        self._wanted = HEAD_BYTES

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Takes bytes as they came and gives the frames that are now whole. Raises :class:`FrameError`."""
        buffer = self._buffer
        source: bytes | bytearray = data  # nearly always whole frames: the buffer is not needed
        if buffer:
            buffer += data
            if len(buffer) < self._wanted:
                return []
            source = buffer
        frames: list[tuple[bytes, bytes]] = []
        start, size = 0, len(source)
        self._wanted = HEAD_BYTES
        while size - start >= HEAD_BYTES:
            kind, length, job = _HEAD.unpack_from(source, start)
            if kind not in self._kinds:
                raise FrameError(f"unexpected frame kind {kind!r}")
            if job != self._job:
                raise FrameError("a frame of another job")
            if length > self._max_payload:
                raise FrameTooLarge(f"frame of {length} bytes is over the limit of {self._max_payload}")
            end = start + HEAD_BYTES + length
            if size < end:
                self._wanted = HEAD_BYTES + length
                break
            frames.append((kind, bytes(memoryview(source)[start + HEAD_BYTES : end])))
            start = end
        if source is buffer:
            del buffer[:start]
        elif start < size:
            buffer += data[start:]
        return frames
