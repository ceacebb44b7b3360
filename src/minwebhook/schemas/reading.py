"""From a language and a source to the schema of its ``main``. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from minwebhook.schemas.conventions import (
    bash_parameters,
    perl_parameters,
    php_parameters,
    powershell_parameters,
    ruby_parameters,
)
from minwebhook.schemas.go import go_parameters
from minwebhook.schemas.model import Parameter, SchemaError, schema_of
from minwebhook.schemas.python import python_parameters


def _typescript_parameters(source: str) -> list[Parameter]:
    from minwebhook.schemas.typescript import typescript_parameters  # noqa: PLC0415 - 0.6 MiB, for the first who asks

    return typescript_parameters(source)


#: What reads each language; the others have no signatures.
_READERS: Final[dict[str, Callable[[str], list[Parameter]]]] = {
    "python3": python_parameters,
    **dict.fromkeys(("bun", "deno", "nativets", "bunnative"), _typescript_parameters),
    "bash": bash_parameters,
    "go": go_parameters,
    "php": php_parameters,
    "ruby": ruby_parameters,
    "perl": perl_parameters,
    "powershell": powershell_parameters,
}


def has_signature(language: str) -> bool:
    """Whether scripts of the language declare what their arguments are."""
    return language in _READERS


def read_schema(language: str, source: str) -> dict[str, Any]:
    """The schema of the arguments. Raises :class:`SchemaError`, and nothing else whatever the source is."""
    reader = _READERS.get(language)
    if reader is None:
        raise SchemaError(f"scripts in {language} have no signature that can be read")
    try:
        return schema_of(reader(source))
    except (RecursionError, MemoryError):
        raise SchemaError("nested too deeply, or too large") from None
