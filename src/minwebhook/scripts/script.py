"""One stored version of a script, and its shapes on the wire. Pure but for reading a database row."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final
from uuid import UUID

import orjson

from minwebhook.addresses import Network, parse_network
from minwebhook.schemas.validation import asks_for_validation, check_arguments
from minwebhook.scripts import typescript
from minwebhook.scripts.limits import Limits
from minwebhook.scripts.locks import needed_lock
from minwebhook.scripts.model import TYPESCRIPT, Language, NewScript, ScriptKind, ScriptPath, hash_to_hex
from minwebhook.scripts.preprocessor import preprocessor_parameters
from minwebhook.scripts.requirements import imported_modules
from minwebhook.scripts.retry import RetryPolicy
from minwebhook.scripts.signatures import SignatureCheck
from minwebhook.times import rfc3339


def parameters_of_preprocessor(language: Language, content: str) -> tuple[str, ...] | None:
    """The parameters of the function ``preprocessor`` of a script; None in a language without functions that are called."""
    if language is Language.PYTHON3:
        return preprocessor_parameters(content)
    return typescript.preprocessor_parameters(content) if language in TYPESCRIPT else None


#: Looks at values of arguments, while nothing else runs.
_MAX_STEPS: Final = 20_000


@dataclass(frozen=True)  # no slots: what is derived from the code is derived once
class Script:
    """A version of a script as stored."""

    workspace_id: str
    hash: int
    path: ScriptPath
    #: Earlier versions this one follows, newest first, at most ``MAX_LINEAGE``.
    parent_hashes: tuple[int, ...]
    summary: str
    description: str
    content: str
    language: Language
    kind: ScriptKind
    tag: str | None
    schema: Mapping[str, Any] | None
    #: Pinned requirements, "" if there are none; None as long as they are not found.
    lock: str | None
    #: Why they could not be found; None if nothing went wrong.
    lock_error_logs: str | None
    #: The job that looks, or looked, for them; None if none had to.
    lock_job: UUID | None
    #: The other optional fields of the payload, those that were sent (``SETTINGS_FIELDS``).
    settings: Mapping[str, Any]
    #: What the version is, apart from its place in the history (``script_fingerprint``).
    fingerprint: int
    created_by: str
    created_at_ms: int
    archived: bool
    deleted: bool
    no_main_func: bool | None
    has_preprocessor: bool | None

    @cached_property
    def source(self) -> bytes:
        """The code in UTF-8."""
        return self.content.encode()

    @cached_property
    def packages_lock(self) -> str | None:
        """Its lock, or "" if all it needs is the standard library; None as long as its packages are not found."""
        return needed_lock(self.language.value, self.lock)

    @cached_property
    def imported_modules(self) -> tuple[str, ...]:
        """The modules it imports that are not of the standard library."""
        return imported_modules(self.content) if self.language is Language.PYTHON3 else ()

    @cached_property
    def preprocessor_parameters(self) -> tuple[str, ...] | None:
        """The parameters of its preprocessor; None if it has none."""
        return parameters_of_preprocessor(self.language, self.content) if self.has_preprocessor else None

    @cached_property
    def validates(self) -> bool:
        """Whether arguments that do not fit its schema are refused."""
        return self.schema is not None and asks_for_validation(self.language.value, self.content)

    def check_arguments(self, arguments: bytes) -> None:
        """Raises :class:`BadRequest` if it wants arguments checked and these, JSON text, do not fit its schema.

        Also :class:`~minwebhook.schemas.validation.TooMuch`, if that would take the loop more than some hundredths of a
        second.
        """
        if self.validates and self.schema is not None:
            check_arguments(self.schema, orjson.loads(arguments), steps=_MAX_STEPS)

    @cached_property
    def signature(self) -> SignatureCheck | None:
        """How its sender signs, if that is to be checked before a job is made."""
        value = self.settings.get("signature")
        return None if value is None else SignatureCheck.parse("signature", value)

    @cached_property
    def allowed_networks(self) -> tuple[Network, ...] | None:
        """Where it may be run from by a request; None for anywhere."""
        texts = self.settings.get("allowed_networks")
        return None if texts is None else tuple(map(parse_network, texts))

    @property
    def environment(self) -> tuple[str, ...]:
        """Environment variables of its own, ``NAME=value``."""
        return tuple(self.settings.get("envs") or ())

    @property
    def cache_ttl_s(self) -> int | None:
        """Seconds for which a result answers further runs with equal arguments; None or 0 for never."""
        return self.settings.get("cache_ttl") or None

    @property
    def delete_after_s(self) -> int | None:
        """Seconds after which a sync run's arguments, result and log are blanked; 0 at once, None never."""
        seconds = self.settings.get("delete_after_secs")
        if seconds is not None:
            return int(seconds) if seconds >= 0 else None
        return 0 if self.settings.get("delete_after_use") else None

    @property
    def concurrent_limit(self) -> int | None:
        """How many of its runs may run at a time; None or 0 for any number."""
        return self.settings.get("concurrent_limit")

    @property
    def concurrency_key(self) -> str | None:
        """What its runs are counted by, instead of its path."""
        return self.settings.get("concurrency_key")

    @property
    def concurrency_window_ms(self) -> int:
        """For how long a run counts after its end, in milliseconds."""
        return 1000 * (self.settings.get("concurrency_time_window_s") or 0)

    @cached_property
    def retry(self) -> RetryPolicy | None:
        """When its failed runs are tried again."""
        value = self.settings.get("retry")
        return None if value is None else RetryPolicy.parse("retry", value)

    @property
    def crash_attempts(self) -> int | None:
        """How often a run is begun that ended with the server; None for the instance's number."""
        return self.settings.get("crash_attempts")

    @property
    def is_live(self) -> bool:
        """Whether it is the deployed version of its path."""
        return not (self.archived or self.deleted)

    @property
    def timeout_s(self) -> int | None:
        """The script's own limit on a run, in seconds."""
        return self.settings.get("timeout")

    @cached_property
    def limits(self) -> Limits | None:
        """What its jobs may use, where it is not what all may."""
        value = self.settings.get("limits")
        return Limits(**value) if value else None

    @property
    def has_network(self) -> bool:
        """Whether its jobs may reach more than this server, if the instance allows that."""
        return self.settings.get("network") != "none"

    @property
    def priority(self) -> int | None:
        """The priority of its jobs."""
        return self.settings.get("priority")

    @property
    def visible_to_runner_only(self) -> bool:
        """Whether its jobs are shown to the caller alone."""
        return bool(self.settings.get("visible_to_runner_only"))

    @property
    def dedicated_worker(self) -> bool:
        """Whether one process stays and runs many of its jobs."""
        return bool(self.settings.get("dedicated_worker"))

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> Script:
        """A full row of the table ``script``."""
        parents = orjson.loads(row["parent_hashes"]) if row["parent_hashes"] is not None else []
        return cls(
            workspace_id=row["workspace_id"],
            hash=row["hash"],
            path=ScriptPath(row["path"]),
            parent_hashes=tuple(int.from_bytes(bytes.fromhex(parent), "big", signed=True) for parent in parents),
            summary=row["summary"],
            description=row["description"],
            content=row["content"],
            language=Language(row["language"]),
            kind=ScriptKind(row["kind"]),
            tag=row["tag"],
            schema=None if row["schema"] is None else orjson.loads(row["schema"]),
            lock=row["lock"],
            lock_error_logs=row["lock_error_logs"],
            lock_job=UUID(bytes=row["lock_job"]) if row["lock_job"] is not None else None,
            settings=orjson.loads(row["settings"]),
            fingerprint=row["fingerprint"],
            created_by=row["created_by"],
            created_at_ms=row["created_at"],
            archived=bool(row["archived"]),
            deleted=bool(row["deleted"]),
            no_main_func=True if row["no_main_func"] else None,
            has_preprocessor=True if row["has_preprocessor"] else None,
        )

    def to_new(self) -> NewScript:
        """The payload that would follow this version with nothing changed."""
        return NewScript(
            path=self.path,
            summary=self.summary,
            description=self.description,
            content=self.content,
            language=self.language,
            parent_hash=self.hash,
            kind=self.kind,
            tag=self.tag,
            schema=self.schema,
            lock=self.lock,
            no_main_func=self.no_main_func,
            has_preprocessor=self.has_preprocessor,
            settings=self.settings,
        )

    def to_json(self) -> dict[str, Any]:
        """The object of ``scripts/get``; optional fields are left out when they are not set."""
        shown = {
            "workspace_id": self.workspace_id,
            "hash": hash_to_hex(self.hash),
            "path": self.path,
            "parent_hashes": [hash_to_hex(parent) for parent in self.parent_hashes] or None,
            "summary": self.summary,
            "description": self.description,
            "content": self.content,
            "created_by": self.created_by,
            "created_at": rfc3339(self.created_at_ms),
            "archived": self.archived,
            "schema": self.schema,
            "deleted": self.deleted,
            "extra_perms": {},
            "lock": self.lock,
            "lock_error_logs": self.lock_error_logs,
            "language": self.language.value,
            "kind": self.kind.value,
            "tag": self.tag,
        }
        shown.update({name: value for name, value in self.settings.items() if name != "deployment_message"})
        if self.no_main_func:
            shown["no_main_func"] = True
        if self.has_preprocessor:
            shown["has_preprocessor"] = True
        return shown

    def deployment_status(self) -> dict[str, Any]:
        """The object of ``scripts/deployment_status``."""
        return {
            "lock": self.lock,
            "lock_error_logs": self.lock_error_logs,
            "job_id": str(self.lock_job) if self.lock_job is not None else None,
        }

    def to_list_item(self, *, with_description: bool = True, with_deployment_msg: bool = False) -> dict[str, Any]:
        """The object of ``scripts/list``."""
        item: dict[str, Any] = {
            "hash": hash_to_hex(self.hash),
            "path": self.path,
            "summary": self.summary,
            "created_at": rfc3339(self.created_at_ms),
            "archived": self.archived,
            "extra_perms": {},
            "language": self.language.value,
            "starred": False,
            "tag": self.tag,
            "has_deploy_errors": self.lock_error_logs is not None,
            "ws_error_handler_muted": bool(self.settings.get("ws_error_handler_muted")),
            "kind": self.kind.value,
        }
        if with_description:
            item["description"] = self.description
        if with_deployment_msg and "deployment_message" in self.settings:
            item["deployment_msg"] = self.settings["deployment_message"]
        if self.settings.get("draft_only"):
            item["draft_only"] = True
        if self.no_main_func:
            item["no_main_func"] = True
        if self.settings.get("codebase"):
            item["use_codebase"] = True
        return item
