"""Members of a JSON body, checked one by one. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

from minwebhook.errors import BadRequest

_MAX_TEXT: Final = 10_000
_EMAIL: Final = re.compile(r"[^@\s\x00-\x1f\x7f]{1,200}@[^@\s\x00-\x1f\x7f]{1,200}")


class Fields:
    """A JSON object. Every method raises :class:`BadRequest` that names the member."""

    def __init__(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise BadRequest("send a JSON object")
        self._value = value

    def get(self, name: str) -> Any:
        """As it is; None if it is not there."""
        return self._value.get(name)

    def text(self, name: str) -> str | None:
        """A text, or nothing."""
        value = self._value.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or len(value) > _MAX_TEXT or "\0" in value or not _is_unicode(value):
            raise BadRequest(f"{name}: send a text of at most {_MAX_TEXT} characters")
        return value

    def required_text(self, name: str) -> str:
        """A text with something in it."""
        value = self.text(name)
        if not value:
            raise BadRequest(f"{name}: send a text")
        return value

    def flag(self, name: str) -> bool | None:
        """true, false, or nothing."""
        value = self._value.get(name)
        if value is not None and not isinstance(value, bool):
            raise BadRequest(f"{name}: send true or false")
        return value

    def email(self, name: str = "email") -> str:
        """An e-mail address, in small letters."""
        value = self.required_text(name).strip().lower()
        if not _EMAIL.fullmatch(value):
            raise BadRequest(f"{name}: send an e-mail address")
        return value


def _is_unicode(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)
