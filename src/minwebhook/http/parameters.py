"""The parameters of Content-Type and Content-Disposition, and the filename in them (RFC 9110 §5.6.6, RFC 6266). Pure.

What senders write between quotes differs; :func:`parse_parameters` reads both kinds and takes linear time for any text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

#: Longest filename given out, in bytes of UTF-8: what file systems take as one name.
MAX_FILENAME_BYTES: Final = 255
#: Longer file extensions are cut like the rest of a name that is too long.
_MAX_EXTENSION_BYTES: Final = 32

#: The characters of a token (RFC 9110 §5.6.2), as the inside of a bracket expression.
TCHAR: Final = r"!#$%&'*+.^_`|~0-9A-Za-z-"
#: One ``; name=value``, or an empty one. A quoted value ends before ``;`` or the end of the text: first with ``\`` as
#: the escape character, then with ``\`` as a character like any other, which is how browsers write it. A value without
#: quotes is all up to the next ``;``. Nothing is given back once it matched, so time is linear in the text.
_PARAMETER: Final = re.compile(
    rf"""[ \t]*+;[ \t]*+
    (?: (?P<name>[{TCHAR}]++) [ \t]*+ = [ \t]*+
        (?: " (?P<escaped> [^"\\]*+ (?: \\. [^"\\]*+ )*+ ) " [ \t]*+ (?=;|\Z)
          | " (?P<quoted> [^"]*+ ) " [ \t]*+ (?=;|\Z)
          | (?!") (?P<bare> [^;]*+ ) )
    )?+""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED: Final = re.compile(r'\\(["\\])')
_CONTROLS: Final = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)))


def parse_parameters(text: str) -> tuple[str, dict[str, str]]:
    """The value of a header and its parameters by name, value and names in lower case.

    Raises :class:`ValueError` saying what is wrong. Parameters that say two things are refused and not guessed.
    """
    value = text.partition(";")[0]
    parameters: dict[str, str] = {}
    at = len(value)
    while at < len(text):
        match = _PARAMETER.match(text, at)
        if match is None:
            raise ValueError("malformed parameters")
        at = match.end()
        if match["name"] is None:
            continue
        name = match["name"].lower()
        if name in parameters:
            raise ValueError(f"two parameters {name}")
        if match["bare"] is not None:
            parameters[name] = match["bare"].rstrip(" \t")
        else:
            parameters[name] = _unquote(match["escaped"] if match["escaped"] is not None else match["quoted"])
    return value.strip().lower(), parameters


def _unquote(text: str) -> str:
    r"""What stands between quotes, as its sender meant it.

    ``\"`` shows a sender with the escapes of mail (RFC 2045); browsers write ``%22`` for a quote, ``%0D`` and ``%0A``
    for line ends, and nothing else that way. A doubled backslash is one backslash for both kinds of programs.
    """
    if '\\"' in text:
        return _ESCAPED.sub(r"\1", text)
    return text.replace("\\\\", "\\").replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def filename_in(parameters: Mapping[str, str]) -> str | None:
    """The filename a sender gave, or None: ``filename*`` (RFC 8187) if it can be read, else ``filename``.

    Of a Windows path the last part, without control characters, at most :data:`MAX_FILENAME_BYTES`. It may still be "" or
    hold ``../``: it is a text to show, not a path to open.
    """
    filename = _extended(parameters.get("filename*"))
    if filename is None:
        filename = parameters.get("filename")
    if filename is None:
        return None
    if filename.startswith("\\") or filename[1:3] == ":\\":
        filename = filename.rpartition("\\")[2]
    return _shorten(filename.translate(_CONTROLS))


def _extended(text: str | None) -> str | None:
    """The text in ``charset'language'percent-encoded``, or None."""
    charset, _, rest = (text or "").partition("'")
    _, quote, encoded = rest.partition("'")
    if not quote or charset.lower() not in ("utf-8", "iso-8859-1"):
        return None
    try:
        return unquote_to_bytes(encoded).decode(charset)
    except UnicodeDecodeError:
        return None


def _shorten(filename: str) -> str:
    """At most :data:`MAX_FILENAME_BYTES` of the name; the end of the stem goes first, the extension stays."""
    data = filename.encode()
    if len(data) <= MAX_FILENAME_BYTES:
        return filename
    stem, dot, extension = data.rpartition(b".")
    if not stem or len(extension) > _MAX_EXTENSION_BYTES:
        return data[:MAX_FILENAME_BYTES].decode(errors="ignore")
    return (stem[: MAX_FILENAME_BYTES - len(dot + extension)] + dot + extension).decode(errors="ignore")
