"""The storages of all workspaces: from the settings, or from a configuration that an admin of the workspace gave.

Without a configuration a workspace has its own directory in the data directory, or its own part of the bucket that the
settings name. Configurations are kept in the database with their secrets (its file is the owner's alone); a secret of
each workspace signs access to its objects. A storage is opened when it is first asked for and stays open; two
workspaces that name the same place share it.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

import orjson
import trio

from minwebhook.db.database import Database
from minwebhook.errors import BadGateway, BadRequest, NotFound, SettingsError
from minwebhook.settings import StorageSettings
from minwebhook.storage.backend import Backend
from minwebhook.storage.config import Directory, Limits, Place, WorkspaceConfig, parse_config, parse_edit
from minwebhook.storage.local import LocalBackend
from minwebhook.storage.objects import ObjectStorage
from minwebhook.storage.s3 import S3Backend
from minwebhook.storage.s3_location import S3Location, endpoint_url
from minwebhook.storage.signing import SECRET_BYTES, Signer

T = TypeVar("T")

#: Below the data directory.
FOLDER: Final = "objects"

#: Ids that may be a folder or a part of a key; others have no storage of their own.
_WORKSPACE: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


class WorkspaceStorages:
    """Finds, configures and opens the storages of workspaces."""

    def __init__(self, db: Database, settings: StorageSettings, data: Path) -> None:
        """Raises :class:`SettingsError` when the settings do not go together."""
        self._db = db
        self._kind = settings.storage
        self._objects = data.absolute() / FOLDER
        self._limits = _limits(settings, data)
        self._shared_s3 = _settings_location(settings, self._limits) if settings.storage == "s3" else None
        self._backends: dict[Place, Backend] = {}
        self._open: dict[tuple[str, str | None], ObjectStorage] = {}
        self._opening = trio.Lock()
        if self._shared_s3 is not None:
            # What is missing or wrong is said at the start, not at the first upload.
            try:
                S3Backend(self._shared_s3)
            except BadRequest as error:
                raise SettingsError(f"s3_ca: {error.detail}") from error

    async def find(self, workspace: str, name: str | None = None) -> ObjectStorage | None:
        """The workspace's primary storage, or its secondary one called ``name``; None if it has no storage at all.

        Raises :class:`BadRequest` when there is no secondary storage of this name, and :class:`BadGateway` when the
        storage cannot be used.
        """
        storage = self._open.get((workspace, name))
        if storage is not None:
            return storage
        async with self._opening:  # a directory can be opened once
            storage = self._open.get((workspace, name))
            if storage is not None:
                return storage
            place = self._place(workspace, name)
            if place is None:
                return None
            secret = await self._secret(workspace)
            try:
                backend = await self._backend(place)
            except (SettingsError, BadRequest) as error:
                raise BadGateway("the storage of this workspace cannot be used; the server's log says why") from error
            storage = self._open[workspace, name] = ObjectStorage(backend, Signer(secret, name))
            return storage

    async def edit(self, workspace: str, body: object, now_ms: int) -> None:
        """Set or take away the configuration, as ``edit_large_file_storage_config`` asks; see ``config.py``.

        Directories are opened to see whether they can be used, S3 stores are not asked. Raises :class:`BadRequest`,
        and :class:`NotFound` for an unknown workspace.
        """
        config = parse_edit(body, self._limits)
        async with self._opening:
            if config is not None:
                for place in (config.primary, *config.secondary.values()):
                    try:
                        await self._backend(place)
                    except SettingsError as error:
                        raise BadRequest(f"this storage cannot be used: {error}") from error
            text = None if config is None else orjson.dumps(config.json).decode()

            def work(connection: sqlite3.Connection) -> None:
                connection.execute(
                    "INSERT INTO workspace_storage (workspace_id, secret, config, edited_at) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT (workspace_id) DO UPDATE SET config = excluded.config, edited_at = excluded.edited_at",
                    (workspace, secrets.token_bytes(SECRET_BYTES), text, now_ms),
                )
                for key in [key for key in self._open if key[0] == workspace]:
                    del self._open[key]  # uploads that go on keep theirs

            await self._transact(work, workspace)

    def config(self, workspace: str) -> WorkspaceConfig | None:
        """The workspace's own configuration; raises :class:`BadGateway` when the settings do not allow it any more."""
        rows = self._db.read("SELECT config FROM workspace_storage WHERE workspace_id = ?", (workspace,))
        if not rows or rows[0]["config"] is None:
            return None
        try:
            return parse_config(orjson.loads(rows[0]["config"]), self._limits)
        except BadRequest as error:
            raise BadGateway(f"the storage of this workspace cannot be used: {error.detail}") from error

    def secondary_names(self, workspace: str) -> list[str]:
        """The names of the secondary storages (``get_secondary_storage_names``)."""
        config = self.config(workspace)
        return [] if config is None else sorted(config.secondary)

    async def sweep(self, before_ms: int) -> int:
        """Remove what crashes left before ``before_ms`` in every storage that can be reached; how many things.

        For a task beside the server's work after its start. ``before_ms`` is some hours ago: other servers may share a
        bucket.
        """
        removed = 0
        for row in await self._db.read_in_thread("SELECT id FROM workspace"):
            try:
                names = [None, *self.secondary_names(row["id"])]
                for name in names:
                    place = self._place(row["id"], name)
                    if isinstance(place, Directory) and not await trio.Path(place.base, *place.folder).is_dir():
                        continue  # never used
                    storage = await self.find(row["id"], name)
                    if storage is not None:
                        removed += await storage.sweep(before_ms)
            except BadGateway:
                continue  # it cannot be reached now; the next start tries again
        return removed

    def close(self) -> None:
        """Let go of everything; nothing may be in use any more."""
        self._open.clear()
        for backend in self._backends.values():
            backend.close()
        self._backends.clear()

    def _place(self, workspace: str, name: str | None) -> Place | None:
        config = self.config(workspace)
        if name is not None:
            place = None if config is None else config.secondary.get(name)
            if place is None:
                raise BadRequest(f"there is no secondary storage called {ascii(name)[:80]}")
            return place
        if config is not None:
            return config.primary
        if self._kind == "none":
            return None
        if not is_folder_name(workspace):
            raise BadGateway("a workspace with such an id has no storage unless one is configured for it")
        if self._shared_s3 is not None:
            return replace(self._shared_s3, prefix=f"{workspace}/")
        return Directory(str(self._objects), (workspace,))

    async def _backend(self, place: Place) -> Backend:
        """The open backend of a place. Held: the lock of opening."""
        backend = self._backends.get(place)
        if backend is None:
            backend = self._backends[place] = await trio.to_thread.run_sync(_open, place)
        return backend

    async def _secret(self, workspace: str) -> bytes:
        """The workspace's secret, made when it is first needed."""

        def work(connection: sqlite3.Connection) -> bytes:
            connection.execute(
                "INSERT INTO workspace_storage (workspace_id, secret, edited_at) VALUES (?, ?, 0)"
                " ON CONFLICT (workspace_id) DO NOTHING",
                (workspace, secrets.token_bytes(SECRET_BYTES)),
            )
            query = "SELECT secret FROM workspace_storage WHERE workspace_id = ?"
            return bytes(connection.execute(query, (workspace,)).fetchone()["secret"])

        return await self._transact(work, workspace)

    async def _transact(self, work: Callable[[sqlite3.Connection], T], workspace: str) -> T:
        try:
            return await self._db.transact(work)
        except sqlite3.IntegrityError as error:
            raise NotFound(f"workspace {workspace} not found") from error


def is_folder_name(workspace: str) -> bool:
    """Whether a workspace's id is fit to be the name of its folder."""
    return _WORKSPACE.fullmatch(workspace) is not None


def _open(place: Place) -> Backend:
    if isinstance(place, Directory):
        return LocalBackend.open(Path(place.base), *place.folder)
    return S3Backend(place)


def _limits(settings: StorageSettings, data: Path) -> Limits:
    """What workspaces may configure."""
    if settings.storage_root:
        root, data = Path(settings.storage_root).resolve(), data.resolve()
        if not Path(settings.storage_root).is_absolute():
            raise SettingsError("storage_root must be an absolute path")
        if root.is_relative_to(data) or data.is_relative_to(root):
            raise SettingsError("storage_root and the data directory must not contain each other")
    ca_pem = ""
    if settings.s3_ca:
        try:
            ca_pem = Path(settings.s3_ca).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"s3_ca: cannot read the certificates in {settings.s3_ca}: {error}") from error
    return Limits(settings.storage_root, settings.s3_plain_http_hosts, ca_pem, settings.s3_timeout_s)


def _settings_location(settings: StorageSettings, limits: Limits) -> S3Location:
    """The bucket of the settings."""
    try:
        return S3Location(
            bucket=settings.s3_bucket,
            endpoint=endpoint_url(settings.s3_endpoint, settings.s3_region, plain_http_hosts=limits.plain_http_hosts),
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key,
            region=settings.s3_region,
            path_style=settings.s3_path_style,
            ca_pem=limits.ca_pem,
            timeout_s=limits.timeout_s,
        )
    except BadRequest as error:
        raise SettingsError(f"storage = s3 needs the s3_ settings: {error.detail}") from error
