"""What a script is: paths, languages, the payload that creates a version, and its hash. Pure.

A script is addressed by its path, each version of it by a hash. The hash is a signed 64-bit integer over everything the
creator sent; on the wire it is 16 lower-case hex digits, its big-endian bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NewType

import orjson

from minwebhook.addresses import parse_networks
from minwebhook.child.programs import PROGRAMS
from minwebhook.errors import BadRequest
from minwebhook.scripts import typescript
from minwebhook.scripts.fields import (
    MAX_TEXT_BYTES,
    Check,
    array,
    boolean,
    encoded_json,
    integer,
    json_array,
    json_object,
    text,
    variable,
    word,
)
from minwebhook.scripts.limits import limits
from minwebhook.scripts.locks import first_lock, texts_of
from minwebhook.scripts.retry import RetryPolicy
from minwebhook.scripts.signatures import SignatureCheck
from minwebhook.scripts.typescript import is_native

#: Bytes of a script's code.
MAX_CONTENT_BYTES: Final = MAX_TEXT_BYTES
MAX_PATH_LENGTH: Final = 255

#: A checked path such as ``u/alice/hello`` or ``f/team/tools/report``.
ScriptPath = NewType("ScriptPath", str)

_PATH: Final = re.compile(r"[ufg](?:/[A-Za-z0-9_-]+){2,}")
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2}){8,}")
#: The first line of an executable.
_RUN_BY: Final = re.compile(r"#![ \t]*/")
_PYTHON_FUNCTION: Final = re.compile(r"^(?:async[ \t]+)?def[ \t]+(main|preprocessor)[ \t]*\(", re.MULTILINE)


class Language(Enum):
    """A language this version runs."""

    PYTHON3 = "python3"
    BASH = "bash"
    BUN = "bun"
    DENO = "deno"
    NATIVETS = "nativets"
    BUNNATIVE = "bunnative"
    EXEC = "exec"
    GO = "go"
    PERL = "perl"
    PHP = "php"
    POWERSHELL = "powershell"
    RUBY = "ruby"


#: Languages whose code is TypeScript, or JavaScript.
TYPESCRIPT: Final = frozenset({Language.BUN, Language.DENO, Language.NATIVETS, Language.BUNNATIVE})
#: The endings of script files, with the dot; of those that fit a name, the longest counts.
EXTENSIONS: Final[Mapping[str, Language]] = {
    ".py": Language.PYTHON3,
    ".sh": Language.BASH,
    ".ts": Language.BUN,
    ".bun.ts": Language.BUN,
    ".deno.ts": Language.DENO,
    ".native.ts": Language.NATIVETS,
    **{each.extension: Language(each.language) for each in PROGRAMS.values() if each.extension},
}


class ScriptKind(Enum):
    """What a script is used as; only flows tell them apart."""

    SCRIPT = "script"
    TRIGGER = "trigger"
    FAILURE = "failure"
    APPROVAL = "approval"
    PREPROCESSOR = "preprocessor"


#: Every language name of Windmill, and ours, so that "not run here" and "no such thing" are different answers.
KNOWN_LANGUAGES: Final = frozenset({language.value for language in Language}) | frozenset(
    {"ansible", "bash", "bigquery", "bun", "bunnative", "csharp", "dbt", "deno", "duckdb", "go", "graphql", "java"}
    | {"mssql", "mysql", "nativets", "nu", "oracledb", "php", "postgresql", "powershell", "python3", "r", "ruby"}
    | {"rust", "snowflake"}
)


def is_script_path(value: str) -> bool:
    """Whether ``value`` is a well-formed path."""
    return len(value) <= MAX_PATH_LENGTH and _PATH.fullmatch(value) is not None


def parse_script_path(value: object, field: str = "path") -> ScriptPath:
    """``value`` as a path; raises :class:`BadRequest` naming ``field``."""
    if not isinstance(value, str) or not is_script_path(value):
        raise BadRequest(
            f"{field} must be u/<user>/<name> or f/<folder>/<name>, each part of letters, digits, - and _, "
            f"at most {MAX_PATH_LENGTH} characters"
        )
    return ScriptPath(value)


def hash_to_hex(value: int) -> str:
    """A script hash as on the wire."""
    return value.to_bytes(8, "big", signed=True).hex()


def hash_from_hex(value: object, field: str = "hash") -> int:
    """A script hash from the wire: hex of at least eight bytes, of which the first eight count."""
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise BadRequest(f"{field} must be 16 hex digits")
    return int.from_bytes(bytes.fromhex(value[:16]), "big", signed=True)


def signature(name: str, value: Any) -> dict[str, Any]:
    """A check for how a sender signs (signatures.py)."""
    SignatureCheck.parse(name, value)
    return json_object(name, value)


def network(name: str, value: Any) -> str:
    """A check for what the script may reach; an instance that allows nothing is not overruled."""
    if value not in ("host", "none"):
        raise BadRequest(f"{name} must be host or none")
    return str(value)


def allowed_networks(name: str, value: Any) -> list[str]:
    """A check for where the script may be run from."""
    return list(parse_networks(name, value) or ())


def retry(name: str, value: Any) -> dict[str, Any]:
    """A check for when failed runs are tried again (retry.py)."""
    RetryPolicy.parse(name, value)
    return json_object(name, value)


_SMALL: Final = integer(0, 2**31 - 1)

#: The optional fields that are only kept and given back (most act on the job); each with its check.
SETTINGS_FIELDS: Final[Mapping[str, Check]] = {
    "is_template": boolean,
    "draft_only": boolean,
    "envs": array(variable),
    "concurrency_key": text,
    "concurrent_limit": _SMALL,
    "concurrency_time_window_s": _SMALL,
    "debounce_key": text,
    "debounce_delay_s": _SMALL,
    "max_total_debouncing_time": _SMALL,
    "max_total_debounces_amount": _SMALL,
    "debounce_args_to_accumulate": array(text),
    "cache_ttl": _SMALL,
    "cache_ignore_s3_path": boolean,
    "dedicated_worker": boolean,
    "ws_error_handler_muted": boolean,
    "priority": integer(-(2**15), 2**15 - 1),
    "timeout": _SMALL,
    "delete_after_use": boolean,
    "delete_after_secs": integer(-(2**31), 2**31 - 1),
    "restart_unless_cancelled": boolean,
    "deployment_message": text,
    "visible_to_runner_only": boolean,
    "codebase": text,
    "on_behalf_of_email": text,
    "assets": json_array,
    "signature": signature,
    "limits": limits,
    "network": network,
    "allowed_networks": allowed_networks,
    "retry": retry,
    "crash_attempts": integer(1, 1000),
}


@dataclass(frozen=True, slots=True)
class NewScript:
    """The payload of ``scripts/create``."""

    path: ScriptPath
    summary: str
    description: str
    content: str
    language: Language
    parent_hash: int | None = None
    kind: ScriptKind = ScriptKind.SCRIPT
    tag: str | None = None
    #: The JSON Schema of the arguments; where the client sends none, what is read off the signature (schemas/).
    schema: Mapping[str, Any] | None = None
    #: Pinned requirements, "" if there are none; None if they have yet to be found (jobs/dependencies.py).
    lock: str | None = ""
    #: True when the code has no ``main`` function; otherwise None, as on the wire.
    no_main_func: bool | None = None
    has_preprocessor: bool | None = None
    #: The fields of ``SETTINGS_FIELDS`` that were sent and are not null.
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    #: The newest live version at the path is the parent, whatever ``parent_hash`` says.
    auto_parent: bool = False
    #: An admin's wish to keep ``on_behalf_of_email``; acted on by the endpoint.
    preserve_on_behalf_of: bool = False

    @classmethod
    def parse(cls, obj: Any) -> NewScript:
        """Check a decoded JSON body. Unknown fields are ignored: clients send what newer servers know.

        Raises :class:`BadRequest` naming the field; nothing else, whatever ``obj`` is.
        """
        if not isinstance(obj, dict):
            raise BadRequest("the body must be a JSON object")
        content = text("content", _required(obj, "content"))
        language = marked_language(parse_language(_required(obj, "language")), content)
        check_content(language, content)
        no_main_func, has_preprocessor = _entry_points(language, content, obj)
        parent = _optional(obj, "parent_hash", word)
        settings = {
            name: check(name, obj[name]) for name, check in SETTINGS_FIELDS.items() if obj.get(name) is not None
        }
        if "debounce_key" not in settings and obj.get("custom_debounce_key") is not None:
            settings["debounce_key"] = text("custom_debounce_key", obj["custom_debounce_key"])
        encoded_json("the settings of the script", settings)
        return cls(
            path=parse_script_path(_required(obj, "path")),
            summary=text("summary", _required(obj, "summary")),
            description=text("description", _required(obj, "description")),
            content=content,
            language=language,
            parent_hash=None if parent is None else hash_from_hex(parent, "parent_hash"),
            kind=_kind(obj.get("kind")),
            tag=_optional(obj, "tag", text) or None,
            schema=_optional(obj, "schema", json_object),
            lock=_lock(language, obj.get("lock")) or first_lock(language.value, content),
            no_main_func=no_main_func,
            has_preprocessor=has_preprocessor,
            settings=settings,
            auto_parent=bool(_optional(obj, "auto_parent", boolean)),
            preserve_on_behalf_of=bool(_optional(obj, "preserve_on_behalf_of", boolean)),
        )

    @property
    def source(self) -> bytes:
        """The code in UTF-8."""
        return self.content.encode()

    @property
    def is_draft_only(self) -> bool:
        """Whether this is a placeholder that a real version may replace."""
        return bool(self.settings.get("draft_only"))


def script_hash(new: NewScript, workspace: str) -> int:
    """The hash of a version: changes when any field does, the same everywhere."""
    return _digest(new, workspace, {"parent_hash": new.parent_hash})


def script_fingerprint(new: NewScript) -> int:
    """A hash of what a version *is*, without its parent and deployment message: equal means nothing would change."""
    settings = {name: value for name, value in new.settings.items() if name != "deployment_message"}
    return _digest(new, "", {"parent_hash": None, "settings": settings})


def _digest(new: NewScript, workspace: str, changes: Mapping[str, Any]) -> int:
    fields = {
        field.name: getattr(new, field.name)
        for field in dataclasses.fields(new)
        if field.name not in ("auto_parent", "preserve_on_behalf_of")
    }
    canonical = orjson.dumps(
        {"workspace": workspace, **fields, **changes}, option=orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS
    )
    return int.from_bytes(hashlib.blake2b(canonical, digest_size=8).digest(), "big", signed=True)


def _required(obj: dict[Any, Any], name: str) -> Any:
    if obj.get(name) is None:
        raise BadRequest(f"{name} is missing")
    return obj[name]


def _optional(obj: dict[Any, Any], name: str, check: Check) -> Any:
    value = obj.get(name)
    return None if value is None else check(name, value)


def parse_language(value: object) -> Language:
    """A language this version runs; raises :class:`BadRequest`."""
    runnable = ", ".join(language.value for language in Language)
    if not isinstance(value, str) or value not in KNOWN_LANGUAGES:
        raise BadRequest(f"language must be the name of a language; this version runs {runnable}")
    try:
        return Language(value)
    except ValueError:
        raise BadRequest(f"language {value} is not run by this version; it runs {runnable}") from None


def marked_language(language: Language, content: str) -> Language:
    """``bun`` is ``bunnative`` if the code is marked ``//native``, and only then."""
    if language in (Language.BUN, Language.BUNNATIVE):
        return Language.BUNNATIVE if is_native(content) else Language.BUN
    return language


def split_extension(name: str) -> tuple[str, Language] | None:
    """A file's name without its ending, and the language; None if it ends in none of them."""
    for ending in sorted(EXTENSIONS, key=len, reverse=True):
        if name.endswith(ending):
            return name.removesuffix(ending), EXTENSIONS[ending]
    return None


def check_content(language: Language, content: str) -> None:
    """Raises :class:`BadRequest` for what cannot be run, whatever it says."""
    if language is not Language.EXEC:
        return
    first = content.removeprefix("\ufeff").partition("\n")[0]
    if not _RUN_BY.match(first):
        raise BadRequest(
            "content: a script of the language exec begins with #! and the path of the program that runs it"
        )
    if first.endswith("\r"):
        raise BadRequest(
            "content: the first line ends with a carriage return, which would belong to the name of the program: "
            "send line ends of Unix (LF), not of Windows (CRLF)"
        )


def _kind(value: object) -> ScriptKind:
    if value is None:
        return ScriptKind.SCRIPT
    try:
        return ScriptKind(value)
    except ValueError:
        raise BadRequest(f"kind must be one of {', '.join(kind.value for kind in ScriptKind)}") from None


def _lock(language: Language, value: object) -> str:
    """Text, or an array of lines, of what may be installed."""
    if isinstance(value, list):
        value = "\n".join(array(text)("lock", value))
    lock = "" if value is None else text("lock", value)
    texts_of(language.value, lock)
    return lock


def entry_points(language: Language, content: str) -> set[str] | None:
    """Which of ``main`` and ``preprocessor`` a script has; None for a language without functions that are called."""
    if language is Language.PYTHON3:
        return set(_PYTHON_FUNCTION.findall(content))
    return typescript.entry_points(content) if language in TYPESCRIPT else None


def _entry_points(language: Language, content: str, obj: dict[Any, Any]) -> tuple[bool | None, bool | None]:
    """``no_main_func`` and ``has_preprocessor``: read off Python and TypeScript, otherwise as the client says.

    A search by pattern, not a parse: code may be a mebibyte of anything, and the loop waits. At worst a ``def main(``
    at the start of a line of a long string literal is taken for the function.
    """
    said = _optional(obj, "no_main_func", boolean) or None, _optional(obj, "has_preprocessor", boolean) or None
    found = entry_points(language, content)
    if found is None:
        return said
    return ("main" not in found) or None, ("preprocessor" in found) or None
