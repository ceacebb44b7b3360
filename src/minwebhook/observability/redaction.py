"""What is secret wherever it appears, and texts without it. One list, for everything that is recorded: the log, the audit
log, what is kept of requests. Pure, but for the values that the program was started with (:func:`hide`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

HIDDEN: Final = "[hidden]"

#: Parameters of queries whose values are credentials, or hold whatever the caller sent.
QUERY_NAMES: Final = (
    *("token", "view_token", "payload", "secret", "sig", "signature", "password"),
    *(
        "api_key",
        "apikey",
        "access_token",
        "client_secret",
        "x-amz-signature",
        "x-amz-credential",
        "x-amz-security-token",
    ),
)
#: Members of JSON objects whose texts are secrets.
_MEMBERS: Final = "token|secret|secret_?key|access_?key|password|api_?key|client_?secret|private_?key|smtp_password"

_SECRETS: Final = re.compile(
    rf"""(?P<query>[?&](?:{"|".join(map(re.escape, QUERY_NAMES))})=)[^\s&"]+
    |(?P<field>\bBearer\s+|\btoken=)[^\s&"';,]+
    |(?P<basic>\bBasic\s+)[A-Za-z0-9+/]{{8,}}={{0,2}}(?![A-Za-z0-9+/])
    |(?P<user>://)[^/\s"'@]+(?=@)
    |(?P<member>"(?:{_MEMBERS})"\s*:\s*")(?:[^"\\]|\\.)+(?=")
    |(?P<own>\bmw[jk]_)[A-Za-z0-9_-]+""",
    re.IGNORECASE | re.VERBOSE,
)
_GROUPS: Final = ("query", "field", "basic", "user", "member", "own")
#: Shorter ones would be found everywhere.
_MIN_LENGTH: Final = 6

_known: re.Pattern[str] | None = None


def hide(values: Iterable[str]) -> None:
    """From now on these values are secret wherever they appear: those of settings. Replaces what was hidden before."""
    global _known  # noqa: PLW0603 - as the log, it is the process's
    wanted = sorted({value for value in values if len(value) >= _MIN_LENGTH}, key=len, reverse=True)
    _known = re.compile("|".join(map(re.escape, wanted))) if wanted else None


def redact(text: str) -> str:
    """``text`` without secrets: what each stood for is ``[hidden]``."""
    if _known is not None:
        text = _known.sub(HIDDEN, text)
    return _SECRETS.sub(_replacement, text)


def _replacement(match: re.Match[str]) -> str:
    return f"{next(filter(None, map(match.group, _GROUPS)), '')}{HIDDEN}"


# --- of requests that are kept ----------------------------------------------------------------------------------------

_COOKIE: Final = re.compile(r"(?P<name>(?:^|;)\s*token=)[^;]*")


def kept_header(name: str, value: str) -> str:
    """The value of a header field as it may be kept: without the caller's token."""
    if name == "authorization" and value.startswith("Bearer "):
        return f"Bearer {HIDDEN}"
    if name == "cookie" and "token" in value:
        return _COOKIE.sub(lambda match: match["name"] + HIDDEN, value)
    return value


def kept_query(values: Mapping[str, str]) -> dict[str, str]:
    """The parameters of a query as they may be kept: without the caller's token."""
    return {name: value for name, value in values.items() if name != "token"}
