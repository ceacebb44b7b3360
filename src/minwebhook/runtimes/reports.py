"""How a job may end, as the server hears of it from the process that ran it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from minwebhook.child import wire


@dataclass(slots=True)  # a frozen one takes three times as long to make, for every job
class Report:
    """What a child said at the end of a job: a frame kind of ``child/wire.py``, its payload, and the mask of byte strings."""

    kind: bytes
    payload: bytes
    mask: bytes = b""
    usage: wire.Usage | None = None


@dataclass(frozen=True, slots=True)
class Vanished:
    """The child closed its socket without a report. One of ``code`` and ``signal`` is known, unless the zygote died."""

    code: int | None = None
    signal: int | None = None
    usage: wire.Usage | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """The child broke a limit or the wire format, and was killed. ``reason`` is for the job's error text."""

    reason: str
    #: ``log`` or ``result`` if it was this limit.
    limit: str = ""
