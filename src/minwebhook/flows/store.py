"""Versions of flows in the database: creating, updating, look-ups, lists, archiving and deleting.

A flow is addressed by its path; each change makes a version, numbered by one sequence for the whole instance. The definition
is kept as the text that was sent. :meth:`FlowStore.deployed` and :meth:`FlowStore.version` are on the way of every run and
answer from a cache; whatever changes a path evicts it inside its transaction.
"""

# Queries are put together from the constants of this file; values are always bound.

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final
from uuid import UUID

import orjson

from minwebhook.db.database import Database
from minwebhook.errors import BadRequest, NotFound
from minwebhook.flows.level import Level
from minwebhook.flows.model import FlowStep, FlowValue, RawScript, ScriptStep
from minwebhook.flows.reading import read_value
from minwebhook.paths import Paths
from minwebhook.scripts.fields import Check, boolean, encoded_json, integer, json_object, text
from minwebhook.scripts.imports import FIELD
from minwebhook.scripts.model import ScriptPath, parse_script_path
from minwebhook.scripts.script import parameters_of_preprocessor
from minwebhook.times import rfc3339

#: Versions kept in memory; the one unused for longest goes.
MAX_CACHED: Final = 512
#: Versions that a history shows.
MAX_HISTORY: Final = 1000

_SMALL: Final = integer(0, 2**31 - 1)
#: The optional fields besides the definition, each with its check.
SETTINGS_FIELDS: Final[Mapping[str, Check]] = {
    "draft_only": boolean,
    "tag": text,
    "dedicated_worker": boolean,
    "timeout": _SMALL,
    "deployment_message": text,
    "visible_to_runner_only": boolean,
    "on_behalf_of_email": text,
    "ws_error_handler_muted": boolean,
}

#: Where a version keeps how the search for its packages went: ``job``, ``error``, and ``done``.
_LOCK: Final = "lock"

_SELECT: Final = (
    "SELECT v.*, f.archived, f.version AS latest FROM flow_version AS v"
    " JOIN flow AS f ON f.workspace_id = v.workspace_id AND f.path = v.path"
)


@dataclass(frozen=True, slots=True)
class NewFlow:
    """The payload of ``flows/create`` and ``flows/update``."""

    path: ScriptPath
    summary: str
    description: str
    #: The definition as JSON text.
    value: str
    schema: str | None
    settings: Mapping[str, Any]
    #: The definition as it is understood.
    flow: FlowValue

    @classmethod
    def parse(cls, obj: Any) -> NewFlow:
        """Checks a decoded JSON body. Raises :class:`BadRequest` naming the field."""
        if not isinstance(obj, dict):
            raise BadRequest("the body must be a JSON object")
        for needed in ("path", "summary", "value"):
            if obj.get(needed) is None:
                raise BadRequest(f"{needed} is missing")
        value = encoded_json("value", obj["value"])
        scripts: dict[str, Any] = {}
        flow = read_value(obj["value"], scripts=scripts)
        if _lock_those_without_packages(flow, scripts):
            value = encoded_json("value", obj["value"])
        settings = {
            name: check(name, obj[name]) for name, check in SETTINGS_FIELDS.items() if obj.get(name) is not None
        }
        schema = obj.get("schema")
        return cls(
            path=parse_script_path(obj["path"]),
            summary=text("summary", obj["summary"]),
            description=text("description", obj.get("description") or ""),
            value=value,
            schema=None if schema is None else encoded_json("schema", json_object("schema", schema)),
            settings=settings,
            flow=flow,
        )


@dataclass(frozen=True)  # no slots: what is derived is derived once
class FlowVersion:
    """One version as stored."""

    id: int
    workspace_id: str
    path: ScriptPath
    summary: str
    description: str
    value: str
    schema: str | None
    settings: Mapping[str, Any]
    created_by: str
    created_at_ms: int
    archived: bool

    @cached_property
    def flow(self) -> FlowValue:
        """What it does."""
        return read_value(orjson.loads(self.value))

    @cached_property
    def level(self) -> Level:
        """What its runs run: all have the same one."""
        return Level.of(self.flow, is_deployed=True)

    @cached_property
    def prepared_level(self) -> Level:
        """The same with the preprocessor."""
        return Level.of(self.flow, preprocess=True, is_deployed=True)

    @cached_property
    def preprocessor_parameters(self) -> tuple[str, ...] | None:
        """The parameters of its preprocessor; None if it has none."""
        module = self.flow.preprocessor_module
        if module is None:
            return None
        value = module.value
        known = parameters_of_preprocessor(value.language, value.content) if isinstance(value, RawScript) else None
        return ("event",) if known is None else known

    @property
    def step_imports(self) -> Mapping[str, Mapping[str, str]]:
        """What the scripts within it import: path to hash, by module."""
        found: Mapping[str, Mapping[str, str]] = self.settings.get(FIELD, {})
        return found

    def uses(self, kind: str, path: str) -> bool:
        """Whether a step of it is the ``script`` or ``flow`` at a path, or code that imports the script."""
        wanted = FlowStep if kind == "flow" else ScriptStep
        if any(isinstance(module.value, wanted) and module.value.path == path for module in self.flow.all_modules):
            return True
        return kind == "script" and any(path in imports for imports in self.step_imports.values())

    @property
    def lock_job(self) -> str | None:
        """The job that looks, or looked, for the packages of these scripts; None if none had to."""
        job: str | None = self.settings.get(_LOCK, {}).get("job")
        return job

    @property
    def lock_error_logs(self) -> str | None:
        """Why they could not all be found; None if nothing went wrong."""
        error: str | None = self.settings.get(_LOCK, {}).get("error")
        return error

    @property
    def tag(self) -> str | None:
        """The tag that all its jobs have; None if each has its own."""
        return self.settings.get("tag") or None

    @property
    def timeout_s(self) -> int | None:
        """Seconds that a run may take."""
        return self.settings.get("timeout") or None

    @property
    def visible_to_runner_only(self) -> bool:
        """Whether its jobs are shown to the caller alone."""
        return bool(self.settings.get("visible_to_runner_only"))

    def to_json(self) -> dict[str, Any]:
        """The object of ``flows/get``."""
        shown: dict[str, Any] = {
            "workspace_id": self.workspace_id,
            "path": self.path,
            "summary": self.summary,
            "description": self.description,
            "value": orjson.Fragment(self.value),
            "edited_by": self.created_by,
            "edited_at": rfc3339(self.created_at_ms),
            "archived": self.archived,
            "schema": orjson.Fragment(self.schema) if self.schema is not None else None,
            "extra_perms": {},
            "version_id": self.id,
        }
        shown.update(
            {name: value for name, value in self.settings.items() if name not in ("deployment_message", _LOCK)}
        )
        return shown

    def to_list_item(self, *, with_deployment_msg: bool, without_description: bool) -> dict[str, Any]:
        """The object of ``flows/list``."""
        item: dict[str, Any] = {
            "workspace_id": self.workspace_id,
            "path": self.path,
            "summary": self.summary,
            "edited_by": self.created_by,
            "edited_at": rfc3339(self.created_at_ms),
            "archived": self.archived,
            "extra_perms": {},
            "starred": False,
            "has_draft": False,
        }
        if not without_description:
            item["description"] = self.description
        for name in ("draft_only", "ws_error_handler_muted"):
            if self.settings.get(name):
                item[name] = True
        if with_deployment_msg and "deployment_message" in self.settings:
            item["deployment_msg"] = self.settings["deployment_message"]
        return item

    def to_history_item(self) -> dict[str, Any]:
        """The object of ``flows/history``."""
        item: dict[str, Any] = {"id": self.id, "created_at": rfc3339(self.created_at_ms)}
        if "deployment_message" in self.settings:
            item["deployment_msg"] = self.settings["deployment_message"]
        return item


@dataclass(frozen=True, slots=True)
class FlowQuery:
    """Filters and paging of a list of flows; None means "any"."""

    page: int = 1
    per_page: int = 30
    path_start: str | None = None
    path_exact: str | None = None
    edited_by: str | None = None
    show_archived: bool = False
    order_desc: bool = True
    include_draft_only: bool = False
    starred_only: bool = False
    #: Only paths that are in each of these; from the caller's rights.
    within: tuple[Paths, ...] = ()

    def where(self, workspace: str) -> tuple[str, list[Any]]:
        """The condition, and its values."""
        parts = ["v.workspace_id = ?", "v.id = f.version", "f.archived = ?"]
        values: list[Any] = [workspace, int(self.show_archived)]
        if self.path_start is not None:
            parts.append("v.path >= ? AND v.path < ?")
            values += [self.path_start, self.path_start + "\U0010ffff"]
        for column, wanted in (("v.path", self.path_exact), ("v.created_by", self.edited_by)):
            if wanted is not None:
                parts.append(f"{column} = ?")
                values.append(wanted)
        for paths in self.within:
            condition, more = paths.sql("v.path")
            parts.append(condition)
            values += more
        if not self.include_draft_only:
            parts.append("ifnull(json_extract(v.settings, '$.draft_only'), 0) = 0")
        if self.starred_only:
            parts.append("0")
        return " AND ".join(parts), values


class FlowStore:
    """All flows of all workspaces."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._versions: OrderedDict[int, FlowVersion] = OrderedDict()
        self._deployed: OrderedDict[tuple[str, str], FlowVersion] = OrderedDict()

    async def create(self, workspace: str, new: NewFlow, created_by: str, now_ms: int) -> int:
        """Stores the first version of a flow; its number. Raises :class:`BadRequest` if the path is taken."""

        def work(connection: sqlite3.Connection) -> int:
            row = connection.execute(
                _SELECT + " WHERE v.workspace_id = ? AND v.path = ? AND v.id = f.version", (workspace, new.path)
            ).fetchone()
            if row is not None:
                if not orjson.loads(row["settings"]).get("draft_only"):
                    raise BadRequest(f"Flow {new.path} already exists; update it, or choose another path")
                self._delete(connection, workspace, new.path)
            connection.execute("INSERT INTO flow (workspace_id, path, version) VALUES (?, ?, 0)", (workspace, new.path))
            return self._add(connection, workspace, new, created_by, now_ms)

        return await self._db.transact(work)

    async def update(self, workspace: str, path: str, new: NewFlow, created_by: str, now_ms: int) -> int:
        """Stores a further version, at another path if it says so; its number.

        Raises :class:`NotFound`, and :class:`BadRequest` if that path is taken.
        """

        def work(connection: sqlite3.Connection) -> int:
            key = (workspace, path)
            if connection.execute("SELECT 1 FROM flow WHERE workspace_id = ? AND path = ?", key).fetchone() is None:
                raise _missing(path)
            self._evict(workspace, path)
            if new.path != path:
                taken = connection.execute(
                    "SELECT 1 FROM flow WHERE workspace_id = ? AND path = ?", (workspace, new.path)
                ).fetchone()
                if taken is not None:
                    raise BadRequest(f"Flow {new.path} already exists; choose another path")
                connection.execute("UPDATE flow SET path = ? WHERE workspace_id = ? AND path = ?", (new.path, *key))
            return self._add(connection, workspace, new, created_by, now_ms)

        return await self._db.transact(work)

    def _add(self, connection: sqlite3.Connection, workspace: str, new: NewFlow, created_by: str, now_ms: int) -> int:
        self._evict(workspace, new.path)
        cursor = connection.execute(
            "INSERT INTO flow_version (workspace_id, path, summary, description, value, schema, settings, created_by,"
            " created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                workspace, new.path, new.summary, new.description, new.value, new.schema,
                orjson.dumps(new.settings).decode(), created_by, now_ms,
            ),
        )  # fmt: skip
        version = cursor.lastrowid
        assert version is not None  # noqa: S101 - a row was inserted
        connection.execute(
            "UPDATE flow SET version = ?, archived = 0 WHERE workspace_id = ? AND path = ?",
            (version, workspace, new.path),
        )
        return version

    def forget(self, workspace: str) -> None:
        """Lets go of what is kept in memory of a workspace that was deleted."""
        for _, path in [key for key in self._deployed if key[0] == workspace]:
            self._evict(workspace, path)
        for version in [each for each in self._versions.values() if each.workspace_id == workspace]:
            del self._versions[version.id]

    def _evict(self, workspace: str, path: str) -> None:
        self._deployed.pop((workspace, path), None)
        for version in [
            each for each in self._versions.values() if (each.workspace_id, each.path) == (workspace, path)
        ]:
            del self._versions[version.id]

    def deployed(self, workspace: str, path: str) -> FlowVersion:
        """The version that a run of the path runs. Raises :class:`NotFound`, for archived ones too."""
        path = path.removeprefix("/")
        found = self._deployed.get((workspace, path))
        if found is None:
            found = self._find("v.workspace_id = ? AND v.path = ? AND v.id = f.version", (workspace, path))
            if found is None or found.archived:
                raise _missing(path)
            _keep(self._deployed, (workspace, path), found)
        return found

    def version(self, workspace: str, version: int) -> FlowVersion | None:
        """One version, of an archived flow too; None if there is none in the workspace."""
        found = self._versions.get(version)
        if found is None:
            found = self._find("v.id = ?", (min(version, 2**62),))
            if found is not None:
                _keep(self._versions, version, found)
        return found if found is not None and found.workspace_id == workspace else None

    def get(self, workspace: str, path: str) -> FlowVersion:
        """The newest version, even if archived. Raises :class:`NotFound`."""
        found = self._find("v.workspace_id = ? AND v.path = ? AND v.id = f.version", (workspace, path))
        if found is None:
            raise _missing(path)
        return found

    def exists(self, workspace: str, path: str) -> bool:
        """Whether there is a flow, archived or not."""
        return bool(self._db.read("SELECT 1 FROM flow WHERE workspace_id = ? AND path = ?", (workspace, path)))

    def _find(self, condition: str, values: tuple[Any, ...]) -> FlowVersion | None:
        rows = self._db.read(f"{_SELECT} WHERE {condition}", values)
        return _version(rows[0]) if rows else None

    def windows(self) -> list[FlowVersion]:
        """Versions whose ended runs count for a while (``concurrency_time_window_s``)."""
        rows = self._db.read(
            f"{_SELECT} WHERE json_extract(v.value, '$.concurrency_time_window_s') > 0"
            " AND json_extract(v.value, '$.concurrent_limit') > 0"
        )
        return [_version(row) for row in rows]

    def without_locks(self) -> list[FlowVersion]:
        """The live versions, of all workspaces, for whose packages a job was made that has not ended."""
        rows = self._db.read(
            f"{_SELECT} WHERE v.id = f.version AND f.archived = 0"
            " AND json_extract(v.settings, '$.lock.job') IS NOT NULL"
            " AND json_extract(v.settings, '$.lock.done') IS NULL"
        )
        return [_version(row) for row in rows]

    async def history(self, workspace: str, path: str) -> list[FlowVersion]:
        """The versions of a flow, newest first."""
        sql = f"{_SELECT} WHERE v.workspace_id = ? AND v.path = ? ORDER BY v.id DESC LIMIT ?"
        return await self._db.read_in_thread(sql, (workspace, path, MAX_HISTORY), _version)

    async def list(self, workspace: str, query: FlowQuery) -> list[FlowVersion]:
        """One page of flows."""
        where, values = query.where(workspace)
        order = "DESC" if query.order_desc else "ASC"
        offset = min((max(query.page, 1) - 1) * query.per_page, 2**62)
        sql = f"{_SELECT} WHERE {where} ORDER BY v.created_at {order}, v.id {order} LIMIT ? OFFSET ?"
        return await self._db.read_in_thread(sql, (*values, query.per_page, offset), _version)

    async def live(self, workspace: str, within: tuple[Paths, ...]) -> Sequence[FlowVersion]:
        """Every flow that is not archived, by path."""
        where, values = FlowQuery(within=within, include_draft_only=True).where(workspace)
        return await self._db.read_in_thread(f"{_SELECT} WHERE {where} ORDER BY v.path", values, _version)

    async def users_of(self, workspace: str, kind: str, path: str, within: tuple[Paths, ...]) -> Sequence[str]:
        """The paths of flows, that are not archived, in which there is a step of the ``script`` or ``flow`` at a path, or code
        that imports the script."""
        where, values = FlowQuery(within=within, include_draft_only=True).where(workspace)
        text = orjson.dumps(path).decode()[1:-1]  # as it is written in a definition
        sql = f"{_SELECT} WHERE {where} AND (instr(v.value, ?) OR instr(v.settings, ?)) ORDER BY v.path"

        def user(row: sqlite3.Row) -> str | None:
            version = _version(row)
            return version.path if version.uses(kind, path) else None

        found = await self._db.read_in_thread(sql, (*values, text, text), user)
        return [each for each in found if each is not None]

    async def set_setting(self, version: FlowVersion, name: str, value: str | bool) -> None:
        """Changes one of the optional fields of a version, which stays what it is."""
        changed = (f"$.{name}", orjson.dumps(value).decode(), version.id)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE flow_version SET settings = json_set(settings, ?, json(?)) WHERE id = ?", changed
            )
            self._evict(version.workspace_id, version.path)

        await self._db.transact(work)

    async def begin_locks(self, version: FlowVersion, job: UUID) -> None:
        """A job looks for the packages of the scripts within a version."""

        def work(connection: sqlite3.Connection) -> None:
            self._change_lock(connection, version.workspace_id, version.id, {"job": str(job)}, {})

        await self._db.transact(work)

    async def set_locks(self, workspace: str, number: int, locks: Mapping[str, str], error: str | None) -> None:
        """They were found, by module: the definition has them from now on. Others may not have been."""

        def work(connection: sqlite3.Connection) -> None:
            self._change_lock(connection, workspace, number, {"done": True, "error": error}, locks)

        await self._db.transact(work)

    def _change_lock(
        self,
        connection: sqlite3.Connection,
        workspace: str,
        number: int,
        changes: Mapping[str, Any],
        locks: Mapping[str, str],
    ) -> None:
        row = connection.execute(
            "SELECT path, value, settings FROM flow_version WHERE workspace_id = ? AND id = ?", (workspace, number)
        ).fetchone()
        if row is None:
            return
        settings, value = orjson.loads(row["settings"]), row["value"]
        settings[_LOCK] = {**settings.get(_LOCK, {}), **changes}
        if locks:
            value = orjson.dumps(with_locks(orjson.loads(value), locks)).decode()
        connection.execute(
            "UPDATE flow_version SET settings = ?, value = ? WHERE id = ?",
            (orjson.dumps(settings).decode(), value, number),
        )
        self._evict(workspace, row["path"])

    async def archive(self, workspace: str, path: str, *, archived: bool) -> None:
        """Takes a flow out of service, or back into it. Raises :class:`NotFound`."""

        def work(connection: sqlite3.Connection) -> None:
            self._evict(workspace, path)
            query = "UPDATE flow SET archived = ? WHERE workspace_id = ? AND path = ?"
            if not connection.execute(query, (int(archived), workspace, path)).rowcount:
                raise _missing(path)

        await self._db.transact(work)

    async def delete(self, workspace: str, path: str) -> None:
        """Removes a flow with all its versions. Raises :class:`NotFound`."""

        def work(connection: sqlite3.Connection) -> None:
            if not self._delete(connection, workspace, path):
                raise _missing(path)

        await self._db.transact(work)

    def _delete(self, connection: sqlite3.Connection, workspace: str, path: str) -> int:
        self._evict(workspace, path)
        key = (workspace, path)
        return connection.execute("DELETE FROM flow WHERE workspace_id = ? AND path = ?", key).rowcount


def with_locks(value: Any, locks: Mapping[str, str]) -> Any:
    """A definition, which is changed, with these locks of the scripts within it, by module, and empty ones of those that need
    no packages."""
    scripts: dict[str, Any] = {}
    _lock_those_without_packages(read_value(value, scripts=scripts), scripts)
    for module, lock in locks.items():
        scripts[module]["lock"] = lock
    return value


def _lock_those_without_packages(flow: FlowValue, scripts: Mapping[str, Any]) -> bool:
    """Gives scripts that need no packages, and came without a lock, an empty one, as deployed scripts have it; whether there
    were any. The locks of the others are found by a job."""
    found = [
        scripts[module.id]
        for module in flow.all_modules
        if isinstance(module.value, RawScript) and module.value.lock == "" and scripts[module.id].get("lock") is None
    ]
    for script in found:
        script["lock"] = ""
    return bool(found)


def _keep(cache: OrderedDict[Any, FlowVersion], key: Any, version: FlowVersion) -> None:
    cache[key] = version
    while len(cache) > MAX_CACHED:
        cache.popitem(last=False)


def _missing(path: str) -> NotFound:
    return NotFound(f"Flow not found at name {path}")


def _version(row: sqlite3.Row) -> FlowVersion:
    return FlowVersion(
        id=row["id"],
        workspace_id=row["workspace_id"],
        path=ScriptPath(row["path"]),
        summary=row["summary"],
        description=row["description"],
        value=row["value"],
        schema=row["schema"],
        settings=orjson.loads(row["settings"]),
        created_by=row["created_by"],
        created_at_ms=row["created_at"],
        archived=bool(row["archived"]),
    )
