"""The ``Prefer`` field of a sync call: how long it wants to wait (RFC 7240). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from minwebhook.http.messages import Headers

#: Digits of a wait that are read; more is as good as for ever.
_MAX_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Preference:
    """A caller that would rather have the job's address than wait longer than this."""

    wait_s: int
    #: What is said to have been applied: ``wait=10`` or ``respond-async``.
    applied: str

    @classmethod
    def parse(cls, headers: Headers) -> Preference | None:
        """``wait=N``, or ``respond-async`` for not at all; None without either. What is malformed is ignored (§2)."""
        if headers.get("prefer") is None:  # nearly always
            return None
        words: dict[str, str] = {}
        for field in headers.get_all("prefer"):
            for item in field.split(","):
                name, _, value = item.partition(";")[0].partition("=")
                words.setdefault(name.strip().lower(), value.strip().strip('"'))
        wait = words.get("wait", "")
        if wait.isascii() and wait.isdigit():
            return cls(int(wait) if len(wait) <= _MAX_DIGITS else 10**_MAX_DIGITS, f"wait={wait[: _MAX_DIGITS + 1]}")
        return cls(0, "respond-async") if "respond-async" in words else None
