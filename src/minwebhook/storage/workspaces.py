"""The storages of all workspaces: from the settings, or from a configuration that an admin of the workspace gave.

Without a configuration a workspace has its own directory in the data directory, or its own part of the bucket that the
settings name. Configurations are kept in the database, sealed, for they hold secrets; a secret of each workspace, sealed as
well, signs access to its objects. A storage is opened when it is first asked for and stays open; two
workspaces that name the same place share it.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import orjson
import trio

from minwebhook.db.database import Database
from minwebhook.errors import BadGateway, BadRequest, Internal, NotFound, SettingsError
from minwebhook.settings import StorageSettings
from minwebhook.storage.backend import Backend
from minwebhook.storage.config import Directory, Limits, Place, WorkspaceConfig, parse_config, parse_edit
from minwebhook.storage.local import LocalBackend
from minwebhook.storage.objects import ObjectStorage
from minwebhook.storage.s3_location import S3Location, endpoint_url
from minwebhook.storage.signing import SECRET_BYTES, Signer
from minwebhook.vault.seal import STORAGE, SealError, Vault, is_sealed

T = TypeVar("T")

#: The value of the resource of a workspace at a path. Raises :class:`BadRequest` if there is none.
FindResource: TypeAlias = Callable[[str, str], object]

#: Below the data directory.
FOLDER: Final = "objects"

#: Ids that may be a folder or a part of a key; others have no storage of their own.
_WORKSPACE: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


def no_resources(workspace: str, path: str) -> object:
    """There are none."""
    raise BadRequest(f"resource {path} not found")


class WorkspaceStorages:
    """Finds, configures and opens the storages of workspaces."""

    def __init__(
        self,
        db: Database,
        settings: StorageSettings,
        data: Path,
        vault: Vault,
        find_resource: FindResource = no_resources,
    ) -> None:
        """``find_resource`` gives the value of a resource, by workspace and path.

        Raises :class:`SettingsError` when the settings do not go together.
        """
        self._db = db
        self._vault = vault
        self._find_resource = find_resource
        #: Workspaces whose configuration names a resource.
        self._naming: set[str] = set()
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
                _bucket(self._shared_s3)
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
        config = parse_edit(body, self._limits, self._resources_of(workspace))
        async with self._opening:
            if config is not None:
                for place in (config.primary, *config.secondary.values()):
                    try:
                        await self._backend(place)
                    except SettingsError as error:
                        raise BadRequest(f"this storage cannot be used: {error}") from error
            text = None if config is None else self._seal(workspace, orjson.dumps(config.json).decode())

            def work(connection: sqlite3.Connection) -> None:
                connection.execute(
                    "INSERT INTO workspace_storage (workspace_id, config, edited_at) VALUES (?, ?, ?)"
                    " ON CONFLICT (workspace_id) DO UPDATE SET config = excluded.config, edited_at = excluded.edited_at",
                    (workspace, text, now_ms),
                )
                self._forget(workspace)

            await self._transact(work, workspace)

    async def seal_plain(self) -> int:
        """Seal what earlier versions stored in clear; how many rows. For the start."""

        def work(connection: sqlite3.Connection) -> int:
            rows = connection.execute(
                "SELECT workspace_id, secret, config FROM workspace_storage"
                " WHERE secret IS NOT NULL OR (config IS NOT NULL AND config NOT LIKE 'sealed:%')"
            ).fetchall()
            if rows:
                # What was there in clear is written over (https://sqlite.org/pragma.html#pragma_secure_delete).
                connection.execute("PRAGMA secure_delete = ON")
            for row in rows:
                workspace, config = row["workspace_id"], row["config"]
                if config is not None and not is_sealed(config):
                    config = self._seal(workspace, config)
                connection.execute(
                    "UPDATE workspace_storage SET config = ?, sealed_secret = coalesce(?, sealed_secret), secret = NULL"
                    " WHERE workspace_id = ?",
                    (config, self._seal(workspace, row["secret"].hex()) if row["secret"] else None, workspace),
                )
            return len(rows)

        return await self._db.transact(work)

    def forget(self, workspace: str) -> None:
        """Lets go of the storages of a workspace that was deleted."""
        self._naming.discard(workspace)
        self._forget(workspace)

    def resources_changed(self, workspace: str) -> None:
        """A configuration that names a resource is read again when it is next needed."""
        if workspace in self._naming:
            self._naming.discard(workspace)
            self._forget(workspace)

    def config(self, workspace: str) -> WorkspaceConfig | None:
        """The workspace's own configuration; raises :class:`BadGateway` when it cannot be used (any more)."""
        rows = self._db.read("SELECT config FROM workspace_storage WHERE workspace_id = ?", (workspace,))
        if not rows or rows[0]["config"] is None:
            return None
        try:
            stored = orjson.loads(self._vault.open(STORAGE, workspace, rows[0]["config"]))
            return parse_config(stored, self._limits, self._resources_of(workspace))
        except (BadRequest, Internal) as error:
            raise BadGateway(f"the storage of this workspace cannot be used: {error.detail}") from error
        except SealError as error:
            raise BadGateway(f"the configuration of this storage cannot be opened: {error}") from error

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
        for storage in await self.in_use():
            with suppress(BadGateway):  # it cannot be reached now; the next time tries again
                removed += await storage.sweep(before_ms)
        return removed

    async def in_use(self) -> list[ObjectStorage]:
        """Every storage of all workspaces that can be opened and was ever used, each place once."""
        found: dict[int, ObjectStorage] = {}
        for row in await self._db.read_in_thread("SELECT id FROM workspace"):
            with suppress(BadGateway):
                for name in (None, *self.secondary_names(row["id"])):
                    place = self._place(row["id"], name)
                    if isinstance(place, Directory) and not await trio.Path(place.base, *place.folder).is_dir():
                        continue  # never used
                    storage = await self.find(row["id"], name)
                    if storage is not None:
                        found.setdefault(id(storage.backend), storage)
        return list(found.values())

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

        def work(connection: sqlite3.Connection) -> str:
            query = "SELECT sealed_secret FROM workspace_storage WHERE workspace_id = ?"
            row = connection.execute(query, (workspace,)).fetchone()
            if row is not None and row["sealed_secret"] is not None:
                return str(row["sealed_secret"])
            sealed = self._seal(workspace, secrets.token_hex(SECRET_BYTES))
            connection.execute(
                "INSERT INTO workspace_storage (workspace_id, sealed_secret, edited_at) VALUES (?, ?, 0)"
                " ON CONFLICT (workspace_id) DO UPDATE SET sealed_secret = excluded.sealed_secret",
                (workspace, sealed),
            )
            return sealed

        try:
            return bytes.fromhex(self._vault.open(STORAGE, workspace, await self._transact(work, workspace)))
        except SealError as error:
            raise BadGateway(f"what signs access to this storage cannot be opened: {error}") from error

    def _seal(self, workspace: str, text: str) -> str:
        return self._vault.seal(STORAGE, workspace, text)

    def _forget(self, workspace: str) -> None:
        for key in [key for key in self._open if key[0] == workspace]:
            del self._open[key]  # uploads that go on keep theirs

    def _resources_of(self, workspace: str) -> Callable[[str], object]:
        """Finds resources of a workspace for its configuration."""

        def find(path: str) -> object:
            self._naming.add(workspace)
            return self._find_resource(workspace, path)

        return find

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
    return _bucket(place)


def _bucket(location: S3Location) -> Backend:
    from minwebhook.storage.s3 import S3Backend  # noqa: PLC0415 - brings an HTTP client and an XML parser along

    return S3Backend(location)


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
