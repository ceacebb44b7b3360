"""Whether a data directory is sound: the database, how its rows fit together, and the local objects.

A *problem* is something that should never be; a *note* is something that a running server has, or that the next start
tidies up by itself. Reading needs no lock and disturbs no server; :func:`repair` needs the directory for itself.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from minwebhook.db import copies
from minwebhook.db.migrations import APPLICATION_ID, MIGRATIONS
from minwebhook.errors import UpkeepError
from minwebhook.storage.listing import all_keys
from minwebhook.storage.local import NEW_FOLDER
from minwebhook.storage.sidecars import SHARDS, Sidecars
from minwebhook.storage.tree import Tree
from minwebhook.storage.workspaces import FOLDER
from minwebhook.upkeep.backup import workspaces
from minwebhook.upkeep.progress import OnProgress, silent

_BUSY_TIMEOUT_S: Final = 10.0
_MAX_MESSAGES: Final = 20
#: SQLite's steps between two signs of life.
_STEPS: Final = 5_000_000


@dataclass(frozen=True, slots=True)
class Rule:
    """What no row may be: a query that counts those that are, and what to do about them."""

    code: str
    sentence: str
    query: str
    #: Statement that :func:`repair` executes; empty if only a person can decide.
    repair: str = ""


_NO_JOB: Final = "NOT EXISTS (SELECT 1 FROM job WHERE job.id = {table}.job_id)"

_OUTPUT_BYTES: Final = (
    "SELECT (SELECT coalesce(sum(length(CAST(log AS BLOB))), 0) FROM job_log)"
    " + (SELECT coalesce(sum(length(chunks) + length(ends)), 0) FROM job_stream)"
)

#: In the order of the tables.
RULES: Final = (
    Rule(
        "log_without_job",
        "logs whose job is gone",
        f"SELECT count(*) FROM job_log WHERE {_NO_JOB.format(table='job_log')}",  # noqa: S608 - constants
        f"DELETE FROM job_log WHERE {_NO_JOB.format(table='job_log')}",  # noqa: S608
    ),
    Rule(
        "stream_without_job",
        "streamed results whose job is gone",
        f"SELECT count(*) FROM job_stream WHERE {_NO_JOB.format(table='job_stream')}",  # noqa: S608
        f"DELETE FROM job_stream WHERE {_NO_JOB.format(table='job_stream')}",  # noqa: S608
    ),
    Rule(
        "output_size_wrong",
        "sums of the sizes of logs and streamed results that are wrong",
        f"SELECT abs(count(*) - 1) + coalesce(sum(bytes IS NOT ({_OUTPUT_BYTES})), 0) FROM output_total",  # noqa: S608
        f"UPDATE output_total SET bytes = ({_OUTPUT_BYTES})",  # noqa: S608
    ),
    Rule(
        "queued_without_arguments",
        "queued jobs whose arguments are lost; they run without",
        "SELECT count(*) FROM job WHERE status = 'queued' AND args IS NULL",
    ),
    Rule(
        "queued_without_code",
        "queued jobs whose code is gone; they fail at the next start",
        "SELECT count(*) FROM job WHERE status = 'queued' AND script_hash IS NOT NULL AND NOT EXISTS"
        " (SELECT 1 FROM script WHERE script.workspace_id = job.workspace_id AND script.hash = job.script_hash)",
    ),
    Rule(
        "ended_without_time",
        "ended jobs without the time of their end",
        "SELECT count(*) FROM job WHERE status != 'queued' AND completed_at IS NULL",
        "UPDATE job SET completed_at = coalesce(started_at, created_at)"
        " WHERE status != 'queued' AND completed_at IS NULL",
    ),
    Rule(
        "job_without_workspace",
        "jobs whose workspace is gone",
        "SELECT count(*) FROM job WHERE workspace_id NOT IN (SELECT id FROM workspace)",
    ),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know: a code for machines, a sentence for people, how many there are."""

    code: str
    sentence: str
    count: int = 1

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {"code": self.code, "message": self.sentence, "count": self.count}


@dataclass(slots=True)
class Report:
    """What was found."""

    data: str
    is_in_use: bool = False
    schema_version: int = 0
    problems: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    #: Bytes of files, of tables with their indexes, and of free pages; jobs by status; objects by workspace.
    sizes: dict[str, Any] = field(default_factory=dict)
    repaired: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "sound": self.is_sound,
            "data": self.data,
            "in_use": self.is_in_use,
            "schema_version": self.schema_version,
            "problems": [finding.to_json() for finding in self.problems],
            "notes": [finding.to_json() for finding in self.notes],
            "repaired": self.repaired,
            "sizes": self.sizes,
        }


def check(data: Path, *, on_progress: OnProgress = silent) -> Report:
    """Look at everything; changes nothing. Raises :class:`UpkeepError` if there is nothing to look at."""
    path = data.absolute() / copies.FILE_NAME
    if not path.is_file():
        raise UpkeepError(f"there is no database in {data}: is --data right?")
    report = Report(str(data.absolute()), is_in_use=copies.is_locked(path))
    if report.is_in_use:
        report.notes.append(Finding("in_use", "a server uses this directory; what it is just doing may be listed"))
    try:
        uri = f"{path.as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        with closing(connection):
            _check_database(connection, report, on_progress)
        for suffix in ("", *copies.COMPANIONS):
            with suppress(FileNotFoundError):
                report.sizes[f"file{suffix}_bytes"] = path.with_name(path.name + suffix).stat().st_size
        _check_objects(data / FOLDER, report, on_progress)
    except sqlite3.DatabaseError as error:
        report.problems.append(Finding("unreadable", f"the database cannot be read: {error}; restore a backup"))
    except OSError as error:
        raise UpkeepError(f"the data directory cannot be read: {error}") from error
    for kept in sorted(path.parent.glob(f"{path.name}.schema-*")):
        report.notes.append(Finding("kept_copy", f"{kept.name} is a copy from before an upgrade, {_size(kept)} bytes"))
    for kept in sorted(path.parent.glob("before-restore-*")):
        report.notes.append(Finding("kept_restore", f"{kept.name} is what a restore replaced"))
    return report


def repair(data: Path, *, on_progress: OnProgress = silent) -> list[str]:
    """Do what can be done without losing anything that has an owner; what was done, a sentence each.

    Rebuilds the indexes, removes rows of jobs that are gone, and what uploads left. A damaged table is not repaired:
    restore a backup. Raises :class:`SettingsError` while a server uses the directory, and :class:`UpkeepError`.
    """
    path = data.absolute() / copies.FILE_NAME
    if not path.is_file():
        raise UpkeepError(f"there is no database in {data}: is --data right?")
    lock = copies.lock(path)
    try:
        done = []
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            version = _version(connection)
            if version != len(MIGRATIONS):
                raise UpkeepError(
                    f"the schema has version {version}: start the server once, which brings it up to date"
                )
            on_progress("indexes", 0, 0)
            connection.execute("REINDEX")
            done.append("all indexes were rebuilt")
            on_progress("free pages", 0, 0)
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect with the next line
            connection.execute("VACUUM")
            done.append("the database was written anew, without free pages")
            for rule in RULES:
                if rule.repair and (count := connection.execute(rule.repair).rowcount):
                    done.append(f"{rule.sentence}: {count} rows repaired")
        removed = 0
        for _, tree in workspaces(data / FOLDER):
            for name in list(tree.names(NEW_FOLDER)):
                removed += tree.remove((*NEW_FOLDER, name))
            for segments in list(_ownerless(tree)):
                removed += tree.remove(segments)
        if removed:
            done.append(f"{removed} files that uploads left were removed")
        return done
    except (OSError, sqlite3.Error) as error:
        raise UpkeepError(f"the data directory cannot be repaired: {error}; restore a backup") from error
    finally:
        os.close(lock)


def _version(connection: sqlite3.Connection) -> int:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise UpkeepError("the database is of another program")
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check_database(connection: sqlite3.Connection, report: Report, on_progress: OnProgress) -> None:
    """In one read transaction: a server that writes meanwhile does not make rows seem to be missing."""
    report.schema_version = _version(connection)
    step = "integrity"

    def alive() -> int:
        on_progress(step, 0, 0)
        return 0

    connection.set_progress_handler(alive, _STEPS)
    connection.execute("BEGIN")
    for row in connection.execute(f"PRAGMA integrity_check({_MAX_MESSAGES})"):
        if row[0] != "ok":
            report.problems.append(Finding("damaged", f"the database is damaged: {row[0]}"))
    step = "foreign keys"
    broken: dict[str, int] = {}
    for row in connection.execute("PRAGMA foreign_key_check"):
        broken[row[0]] = broken.get(row[0], 0) + 1
    for table, count in broken.items():
        report.problems.append(Finding("foreign_key", f"rows of {table} name something that is gone", count))
    if report.schema_version != len(MIGRATIONS):
        newer = report.schema_version > len(MIGRATIONS)
        where = report.problems if newer else report.notes
        does = "a newer program made it" if newer else "the next start of the server brings it up to date"
        where.append(Finding("schema", f"schema version {report.schema_version}, not {len(MIGRATIONS)}: {does}"))
        return  # its tables are not those that the rules are about
    for rule in RULES:
        step = rule.code
        if count := connection.execute(rule.query).fetchone()[0]:
            report.problems.append(Finding(rule.code, rule.sentence, count))
    if count := connection.execute("SELECT count(*) FROM upload").fetchone()[0]:
        report.notes.append(Finding("open_uploads", "uploads that no job has yet; a start removes them", count))
    step = "sizes"
    _measure(connection, report)


def _measure(connection: sqlite3.Connection, report: Report) -> None:
    page_bytes, free = (int(connection.execute(f"PRAGMA {n}").fetchone()[0]) for n in ("page_size", "freelist_count"))
    report.sizes["free_bytes"] = page_bytes * free
    report.sizes["jobs"] = dict(connection.execute("SELECT status, count(*) FROM job GROUP BY status").fetchall())
    with suppress(sqlite3.OperationalError):  # not every SQLite has it
        report.sizes["table_bytes"] = dict(
            connection.execute(
                "SELECT tbl_name, sum(pgsize) FROM dbstat JOIN sqlite_schema USING (name)"
                " WHERE aggregate = TRUE GROUP BY tbl_name ORDER BY 2 DESC"
            ).fetchall()
        )


def _check_objects(folder: Path, report: Report, on_progress: OnProgress) -> None:
    sizes = report.sizes["objects"] = {}
    for workspace, tree in workspaces(folder):
        count = size = 0
        for key in all_keys(tree):
            if (found := tree.stat_file(key.split("/"))) is not None:
                count, size = count + 1, size + found.st_size
                on_progress("objects", count, 0)
        sizes[workspace] = {"count": count, "bytes": size}
        for code, sentence, number in (
            ("unfinished_files", "files of uploads that did not end", sum(1 for _ in tree.names(NEW_FOLDER))),
            ("ownerless_sidecars", "descriptions of objects that are gone", sum(1 for _ in _ownerless(tree))),
        ):
            if number:
                report.notes.append(Finding(code, f"{sentence}, in the workspace {workspace}", number))


def _ownerless(tree: Tree) -> Iterator[tuple[str, ...]]:
    """Sidecars of objects that are not there."""
    sidecars = Sidecars(tree)
    for number in range(SHARDS):
        for segments, key in sidecars.shard(number):
            if key is None or tree.stat_file(key.split("/")) is None:
                yield segments


def _size(path: Path) -> int:
    return path.stat().st_size
