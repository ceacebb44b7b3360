"""The schema as numbered steps, and applying them; the number of the last applied one is SQLite's ``user_version``.

A migration is data: once released it never changes, a new need is a new number. Each is applied in one transaction
together with the new version number, so an interrupted start leaves the old schema or the new one.

Times are integers in milliseconds since 1970 (``_at``, ``expiration``, ``scheduled_for``), flags are 0 or 1, JSON is
stored as the bytes or text it is answered with.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from minwebhook.errors import SettingsError

#: Marks the file as ours (``file(1)`` shows it), so that another program's database is never migrated by mistake.
APPLICATION_ID: Final = int.from_bytes(b"mwhk", "big")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema: its number (1, 2, 3 …), a name for people, and the SQL script."""

    id: int
    name: str
    script: str


_FIRST: Final = """
CREATE TABLE workspace (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    archived INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE usr (
    email TEXT PRIMARY KEY NOT NULL,
    username TEXT NOT NULL UNIQUE,
    super_admin INTEGER NOT NULL DEFAULT 0,
    disabled INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE member (
    workspace_id TEXT NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
    email TEXT NOT NULL REFERENCES usr (email) ON DELETE CASCADE,
    username TEXT NOT NULL,
    is_admin INTEGER NOT NULL DEFAULT 0,
    operator INTEGER NOT NULL DEFAULT 0,
    disabled INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, email),
    UNIQUE (workspace_id, username)
) STRICT;

CREATE TABLE token (
    hash TEXT PRIMARY KEY NOT NULL,
    prefix TEXT NOT NULL,
    label TEXT,
    expiration INTEGER,
    workspace_id TEXT REFERENCES workspace (id) ON DELETE CASCADE,
    email TEXT NOT NULL REFERENCES usr (email) ON DELETE CASCADE,
    super_admin INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER,
    scopes TEXT,
    read_only INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX token_by_email ON token (email, created_at DESC);
CREATE INDEX token_by_expiration ON token (expiration) WHERE expiration IS NOT NULL;

CREATE TABLE script (
    workspace_id TEXT NOT NULL,
    hash INTEGER NOT NULL,
    path TEXT NOT NULL,
    parent_hash INTEGER,
    parent_hashes TEXT,
    summary TEXT NOT NULL,
    description TEXT NOT NULL,
    content TEXT NOT NULL,
    language TEXT NOT NULL,
    kind TEXT NOT NULL,
    tag TEXT,
    schema TEXT,
    lock TEXT,
    settings TEXT NOT NULL,
    fingerprint INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    archived INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0,
    no_main_func INTEGER,
    has_preprocessor INTEGER,
    PRIMARY KEY (workspace_id, hash)
) STRICT;
CREATE INDEX script_by_path ON script (workspace_id, path, created_at);
CREATE UNIQUE INDEX script_live ON script (workspace_id, path) WHERE archived = 0 AND deleted = 0;
CREATE UNIQUE INDEX script_lineage ON script (workspace_id, parent_hash) WHERE parent_hash IS NOT NULL;

CREATE TABLE job (
    id BLOB PRIMARY KEY NOT NULL,
    workspace_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('queued', 'success', 'failure', 'canceled', 'skipped')),
    script_path TEXT,
    script_hash INTEGER,
    language TEXT,
    raw_code TEXT,
    created_by TEXT NOT NULL,
    email TEXT NOT NULL,
    permissioned_as TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    scheduled_for INTEGER NOT NULL,
    started_at INTEGER,
    completed_at INTEGER,
    duration_ms INTEGER,
    args BLOB,
    result BLOB,
    canceled_by TEXT,
    canceled_reason TEXT,
    tag TEXT,
    priority INTEGER,
    timeout_s REAL,
    parent_job BLOB,
    root_job BLOB,
    labels TEXT,
    visible_to_owner INTEGER NOT NULL DEFAULT 1,
    mem_peak INTEGER,
    options TEXT
) STRICT;
CREATE INDEX job_queued ON job (scheduled_for) WHERE status = 'queued';
CREATE INDEX job_by_time ON job (workspace_id, created_at DESC);
CREATE INDEX job_by_script ON job (workspace_id, script_path, created_at);

CREATE TABLE job_log (
    job_id BLOB PRIMARY KEY NOT NULL,
    log TEXT NOT NULL
) STRICT;
"""

_RESULT_CACHE: Final = """
CREATE TABLE result_cache (
    key BLOB PRIMARY KEY NOT NULL,
    result BLOB NOT NULL,
    mask BLOB NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX result_cache_by_expiry ON result_cache (expires_at);
"""

_LISTS_AND_WIPING: Final = """
-- Signs what anonymous callers may see. A workspace without one has no such links.
ALTER TABLE workspace ADD COLUMN key TEXT CHECK (length(key) = 64);
UPDATE workspace SET key = lower(hex(randomblob(32)));

ALTER TABLE job ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN delete_at INTEGER;
CREATE INDEX job_to_wipe ON job (delete_at) WHERE delete_at IS NOT NULL;

-- Lists show ended jobs by the time of creation. Ascending, because rows come in this order.
DROP INDEX job_by_time;
DROP INDEX job_by_script;
CREATE INDEX job_ended ON job (workspace_id, created_at, id, status) WHERE status != 'queued';
CREATE INDEX job_ended_anywhere ON job (created_at, id, status) WHERE status != 'queued';
CREATE INDEX job_ended_by_script ON job (workspace_id, script_path, created_at, id, status) WHERE status != 'queued';
CREATE INDEX job_by_end ON job (workspace_id, completed_at, status, tag) WHERE status != 'queued';
CREATE INDEX job_by_parent ON job (workspace_id, parent_job, created_at, id) WHERE parent_job IS NOT NULL;
"""

_STREAMED_RESULTS: Final = """
CREATE TABLE job_stream (
    job_id BLOB PRIMARY KEY NOT NULL,
    -- The text of all chunks, and where each ends in it: 32 bits each, little-endian.
    chunks BLOB NOT NULL,
    ends BLOB NOT NULL
) STRICT;
"""

#: ``config`` is the JSON of ``edit_large_file_storage_config``, NULL where the settings decide; ``secret`` signs access.
_STORAGE: Final = """
CREATE TABLE workspace_storage (
    workspace_id TEXT PRIMARY KEY NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
    secret BLOB NOT NULL,
    config TEXT,
    edited_at INTEGER NOT NULL
) STRICT;
"""

_UPLOADS: Final = """
-- Objects of requests that have no job yet.
CREATE TABLE upload (
    workspace_id TEXT NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (workspace_id, key)
) STRICT, WITHOUT ROWID;
"""

_IDEMPOTENCY: Final = """
-- Jobs by the keys that senders repeat. Written together with the job.
CREATE TABLE idempotency (
    key BLOB PRIMARY KEY NOT NULL,
    fingerprint BLOB NOT NULL,
    job_id BLOB NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);
"""

#: See jobs/model.py; NULL for jobs of which nothing is known.
_USAGE: Final = """
ALTER TABLE job ADD COLUMN ended_by TEXT;
ALTER TABLE job ADD COLUMN cpu_ms INTEGER;
ALTER TABLE job ADD COLUMN peak_kib INTEGER;
"""

_ATTEMPTS: Final = """
-- Runs that were begun, those of them that failed and were tried again, and whether somebody should look at the job.
ALTER TABLE job ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN dead INTEGER NOT NULL DEFAULT 0;
CREATE INDEX job_dead ON job (workspace_id, completed_at, id) WHERE dead = 1;
"""

_LOCKS: Final = """
-- A lock that is NULL is being looked for by lock_job, or was not found and lock_error_logs says why.
ALTER TABLE script ADD COLUMN lock_error_logs TEXT;
ALTER TABLE script ADD COLUMN lock_job BLOB;
CREATE INDEX script_without_lock ON script (workspace_id, hash) WHERE lock IS NULL;
"""

_VARIABLES: Final = """
-- Values of secret variables and of all resources are sealed texts (vault/seal.py).
CREATE TABLE variable (
    workspace_id TEXT NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    value TEXT NOT NULL,
    is_secret INTEGER NOT NULL,
    description TEXT NOT NULL,
    account INTEGER,
    is_oauth INTEGER NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (workspace_id, path)
) STRICT;
CREATE INDEX variable_by_expiry ON variable (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE resource (
    workspace_id TEXT NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    value TEXT NOT NULL,
    resource_type TEXT NOT NULL,
    description TEXT NOT NULL,
    created_by TEXT NOT NULL,
    edited_at INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, path)
) STRICT;

CREATE TABLE resource_type (
    workspace_id TEXT NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    schema TEXT,
    description TEXT NOT NULL,
    created_by TEXT NOT NULL,
    edited_at INTEGER NOT NULL,
    format_extension TEXT,
    PRIMARY KEY (workspace_id, name)
) STRICT;

-- Sealed as well: a configuration, which is JSON until the next start, and what signs access, which was in secret.
CREATE TABLE new_workspace_storage (
    workspace_id TEXT PRIMARY KEY NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
    secret BLOB,
    config TEXT,
    edited_at INTEGER NOT NULL,
    sealed_secret TEXT
) STRICT;
INSERT INTO new_workspace_storage (workspace_id, secret, config, edited_at)
    SELECT workspace_id, secret, config, edited_at FROM workspace_storage;
DROP TABLE workspace_storage;
ALTER TABLE new_workspace_storage RENAME TO workspace_storage;
"""

_AUDIT: Final = """
-- Each hash covers the one before it (audit/record.py).
CREATE TABLE audit (
    id INTEGER PRIMARY KEY NOT NULL,
    workspace_id TEXT,
    at INTEGER NOT NULL,
    username TEXT NOT NULL,
    operation TEXT NOT NULL,
    action_kind TEXT NOT NULL,
    resource TEXT,
    parameters TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX audit_by_workspace ON audit (workspace_id, id);
"""

#: ``password`` is an argon2id hash; NULL: the user has none, and cannot log in. ``owners`` and ``extra_perms`` are JSON.
_IDENTITY: Final = """
ALTER TABLE usr ADD COLUMN password TEXT;
ALTER TABLE usr ADD COLUMN name TEXT;
CREATE TABLE folder (
    workspace_id TEXT NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    display_name TEXT,
    summary TEXT,
    owners TEXT NOT NULL,
    extra_perms TEXT NOT NULL,
    created_by TEXT NOT NULL,
    edited_at INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE usr_group (
    workspace_id TEXT NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    summary TEXT,
    PRIMARY KEY (workspace_id, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE usr_group_member (
    workspace_id TEXT NOT NULL,
    name TEXT NOT NULL,
    username TEXT NOT NULL,
    PRIMARY KEY (workspace_id, username, name),
    FOREIGN KEY (workspace_id, name) REFERENCES usr_group (workspace_id, name) ON DELETE CASCADE,
    FOREIGN KEY (workspace_id, username) REFERENCES member (workspace_id, username) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX group_members ON usr_group_member (workspace_id, name);
CREATE INDEX token_of_runnable ON token (workspace_id) WHERE scopes IS NOT NULL;
"""

_MAIL: Final = """
-- Mails until a mail server has taken them, and when the owner of a token was told that its time is nearly over.
CREATE TABLE mail (
    id INTEGER PRIMARY KEY NOT NULL,
    recipient TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    next_attempt_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX mail_by_attempt ON mail (next_attempt_at);
ALTER TABLE token ADD COLUMN warned_at INTEGER;
"""

_OUTPUT_TOTAL: Final = """
-- Bytes of all logs and streamed results, so that nobody has to count them.
CREATE TABLE output_total (bytes INTEGER NOT NULL) STRICT;
INSERT INTO output_total SELECT
    (SELECT coalesce(sum(length(CAST(log AS BLOB))), 0) FROM job_log)
    + (SELECT coalesce(sum(length(chunks) + length(ends)), 0) FROM job_stream);
CREATE TRIGGER job_log_comes AFTER INSERT ON job_log BEGIN
    UPDATE output_total SET bytes = bytes + length(CAST(NEW.log AS BLOB));
END;
CREATE TRIGGER job_log_changes AFTER UPDATE ON job_log BEGIN
    UPDATE output_total SET bytes = bytes + length(CAST(NEW.log AS BLOB)) - length(CAST(OLD.log AS BLOB));
END;
CREATE TRIGGER job_log_goes AFTER DELETE ON job_log BEGIN
    UPDATE output_total SET bytes = bytes - length(CAST(OLD.log AS BLOB));
END;
CREATE TRIGGER job_stream_comes AFTER INSERT ON job_stream BEGIN
    UPDATE output_total SET bytes = bytes + length(NEW.chunks) + length(NEW.ends);
END;
CREATE TRIGGER job_stream_changes AFTER UPDATE ON job_stream BEGIN
    UPDATE output_total
        SET bytes = bytes + length(NEW.chunks) + length(NEW.ends) - length(OLD.chunks) - length(OLD.ends);
END;
CREATE TRIGGER job_stream_goes AFTER DELETE ON job_stream BEGIN
    UPDATE output_total SET bytes = bytes - length(OLD.chunks) - length(OLD.ends);
END;
"""

#: ``flow_status`` is JSON; ``flow_items`` is what the loop of a flow that has not ended goes through.
_FLOWS: Final = """
ALTER TABLE job ADD COLUMN flow_step_id TEXT;
ALTER TABLE job ADD COLUMN flow_status BLOB;
ALTER TABLE job ADD COLUMN suspend_until INTEGER;
CREATE TABLE flow_items (
    job_id BLOB PRIMARY KEY NOT NULL,
    items BLOB NOT NULL
) STRICT;
CREATE TABLE flow (
    workspace_id TEXT NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    version INTEGER NOT NULL,
    archived INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (workspace_id, path)
) STRICT, WITHOUT ROWID;
CREATE TABLE flow_version (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    workspace_id TEXT NOT NULL,
    path TEXT NOT NULL,
    summary TEXT NOT NULL,
    description TEXT NOT NULL,
    value TEXT NOT NULL,
    schema TEXT,
    settings TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    FOREIGN KEY (workspace_id, path) REFERENCES flow (workspace_id, path) ON UPDATE CASCADE ON DELETE CASCADE
) STRICT;
CREATE INDEX flow_version_of_path ON flow_version (workspace_id, path, id);
"""

#: ``networks`` is a JSON array. ``sealed_key`` takes the place of ``key``, which stays empty (auth/workspace_keys.py).
#: ``audit_start`` has the last record that was removed for its age: where the chain begins.
_LIMITS: Final = """
ALTER TABLE token ADD COLUMN networks TEXT;
ALTER TABLE token ADD COLUMN requests_per_minute INTEGER;
ALTER TABLE workspace ADD COLUMN sealed_key TEXT;
CREATE TABLE audit_start (
    id INTEGER PRIMARY KEY NOT NULL,
    hash BLOB NOT NULL
) STRICT;
"""

#: ``job_id`` is the step after which the flow waits, or the flow itself; then ``used_by`` is the step that a message counted
#: for. ``payload`` is JSON.
_APPROVALS: Final = """
CREATE TABLE approval (
    id INTEGER PRIMARY KEY NOT NULL,
    workspace_id TEXT NOT NULL REFERENCES workspace (id) ON DELETE CASCADE,
    flow_id BLOB NOT NULL,
    job_id BLOB NOT NULL,
    resume_id INTEGER NOT NULL,
    approved INTEGER NOT NULL,
    payload BLOB NOT NULL,
    approver TEXT,
    created_at INTEGER NOT NULL,
    used_by BLOB,
    UNIQUE (job_id, resume_id)
) STRICT;
CREATE INDEX approval_of_flow ON approval (flow_id);
"""

_CHILDREN: Final = "CREATE INDEX job_of_parent ON job (parent_job) WHERE parent_job IS NOT NULL;"

#: The public beginning of the token that started a job, or its user's e-mail: whose turn it takes (jobs/queue.py).
_OWNERS: Final = """
ALTER TABLE job ADD COLUMN owner TEXT;
-- One index for both: of all children, and of those in a workspace.
DROP INDEX job_of_parent;
DROP INDEX job_by_parent;
CREATE INDEX job_by_parent ON job (parent_job, workspace_id, created_at, id) WHERE parent_job IS NOT NULL;
"""

#: Where the request came from that made the job: a JSON object, as the audit log has it in ``parameters``.
_ORIGINS: Final = "ALTER TABLE job ADD COLUMN origin TEXT;"

_RESETS: Final = """
-- Who may set a password with the token that a mail has told; only its hash is here.
CREATE TABLE password_reset (
    hash TEXT PRIMARY KEY NOT NULL,
    email TEXT NOT NULL REFERENCES usr (email) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX password_reset_of ON password_reset (email);
"""

#: Iterations and branches of flows that have not ended; of those that have ended, ``flow_status`` has them.
_ITERATIONS: Final = """
CREATE TABLE flow_iteration (
    job_id BLOB NOT NULL,
    module TEXT NOT NULL,
    place INTEGER NOT NULL,
    iteration BLOB NOT NULL,
    success INTEGER,
    started_at INTEGER,
    duration_ms INTEGER,
    PRIMARY KEY (job_id, module, place)
) STRICT, WITHOUT ROWID;
"""

#: Every step, in order.
MIGRATIONS: Final[tuple[Migration, ...]] = (
    Migration(1, "first schema", _FIRST),
    Migration(2, "kept results", _RESULT_CACHE),
    Migration(3, "lists, wiping, workspace keys", _LISTS_AND_WIPING),
    Migration(4, "streamed results", _STREAMED_RESULTS),
    Migration(5, "object storage", _STORAGE),
    Migration(6, "uploads under way", _UPLOADS),
    Migration(7, "idempotency keys", _IDEMPOTENCY),
    Migration(8, "what jobs used", _USAGE),
    Migration(9, "attempts and dead letters", _ATTEMPTS),
    Migration(10, "packages of scripts", _LOCKS),
    Migration(11, "variables and resources", _VARIABLES),
    Migration(12, "audit log", _AUDIT),
    Migration(13, "passwords, folders, groups", _IDENTITY),
    Migration(14, "mails", _MAIL),
    Migration(15, "the size of all output", _OUTPUT_TOTAL),
    Migration(16, "flows", _FLOWS),
    Migration(17, "limits of tokens, sealed keys of workspaces, where the audit log begins", _LIMITS),
    Migration(18, "approvals", _APPROVALS),
    Migration(19, "children of jobs", _CHILDREN),
    Migration(20, "owners of jobs", _OWNERS),
    Migration(21, "where jobs came from", _ORIGINS),
    Migration(22, "forgotten passwords", _RESETS),
    Migration(23, "iterations of flows", _ITERATIONS),
)


def migrate(
    connection: sqlite3.Connection,
    migrations: Sequence[Migration] = MIGRATIONS,
    *,
    keep_copy: Callable[[int], None] = lambda version: None,
) -> int:
    """Bring the database behind ``connection`` (in autocommit mode) up to date; the number of steps applied.

    ``keep_copy`` is called with the version of a schema that is about to change. Raises :class:`SettingsError` for a
    database of a newer version of this program and for one that is not ours.
    """
    if [step.id for step in migrations] != list(range(1, len(migrations) + 1)):
        raise ValueError("migrations must be numbered 1, 2, 3 …")
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    is_empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if application != APPLICATION_ID and not is_empty:
        raise SettingsError("the data directory holds a database of another program; choose another with --data")
    if version > len(migrations):
        raise SettingsError(
            f"the database has schema version {version}, this program knows up to {len(migrations)}: "
            "start the newer program again, or restore a backup from before the upgrade"
        )
    if 0 < version < len(migrations):
        keep_copy(version)
    for step in migrations[version:]:
        _apply(connection, step)
    return len(migrations) - version


def _apply(connection: sqlite3.Connection, step: Migration) -> None:
    """Run one step and note its number, both or neither."""
    try:
        # Both pragmas write to the file's header page, so they are part of the transaction.
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{step.script}\n;PRAGMA application_id = {APPLICATION_ID};"
            f"\nPRAGMA user_version = {step.id};\nCOMMIT;"
        )
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
