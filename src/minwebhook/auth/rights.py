"""What members of a workspace may do with what lies at a path. Pure.

``u/alice/…`` is Alice's alone, ``g/team/…`` its members', ``f/team/…`` whose the folder says: its owners may do everything,
others what ``extra_perms`` gives them or a group of theirs (true: change, false: look and run). Everyone is in the group
``all``. Admins may do everything, so nothing here is asked about them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from minwebhook.auth.principal import Principal
from minwebhook.errors import BadRequest
from minwebhook.paths import Paths

#: The group of every member.
EVERYONE: Final = "all"

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_USERNAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}")
_HOLDER: Final = re.compile(r"[ug]/[A-Za-z0-9_.@-]{1,100}")
_WORKSPACE: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")
#: No user may have these names: jobs show them for what nobody, or the server, did.
_RESERVED: Final = frozenset({"anonymous", "timeout"})


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder, and who may do what below it. Holders of rights are written ``u/alice`` and ``g/team``."""

    name: str
    owners: tuple[str, ...] = ()
    extra_perms: Mapping[str, bool] = field(default_factory=dict)
    display_name: str | None = None
    summary: str | None = None
    created_by: str = ""
    edited_at_ms: int = 0

    def is_owner(self, holders: frozenset[str]) -> bool:
        """Whether one of these owns it."""
        return not holders.isdisjoint(self.owners)

    def may_write(self, holders: frozenset[str]) -> bool:
        """Whether one of these may change what is in it."""
        return self.is_owner(holders) or any(self.extra_perms.get(holder) for holder in holders)

    def may_read(self, holders: frozenset[str]) -> bool:
        """Whether one of these may see and run what is in it."""
        return self.is_owner(holders) or any(holder in self.extra_perms for holder in holders)


@dataclass(frozen=True, slots=True)
class Rights:
    """Where a member who is no admin may do what."""

    groups: tuple[str, ...]
    folders_read: tuple[str, ...]
    folders_write: tuple[str, ...]
    folders_owned: tuple[str, ...]
    readable: Paths
    writable: Paths

    @classmethod
    def of(cls, username: str, groups: Iterable[str], folders: Iterable[Folder]) -> Rights:
        """Those of the member ``username``, who is in ``groups`` (and in ``all``)."""
        groups = tuple(sorted({*groups, EVERYONE}))
        holders = holders_of(username, groups)
        folders = tuple(folders)
        read = tuple(folder.name for folder in folders if folder.may_read(holders))
        write = tuple(folder.name for folder in folders if folder.may_write(holders))
        owned = tuple(folder.name for folder in folders if folder.is_owner(holders))
        own = (f"u/{username}/*", *(f"g/{group}/*" for group in groups))
        return cls(
            groups,
            read,
            write,
            owned,
            Paths((*own, *(f"f/{name}/*" for name in read))),
            Paths((*own, *(f"f/{name}/*" for name in write))),
        )


def may_read(principal: Principal, path: str | None) -> bool:
    """Whether ``principal`` may see, and run, what is at ``path``."""
    return principal.is_admin or (principal.readable is not None and principal.readable.has(path))


def may_write(principal: Principal, path: str | None) -> bool:
    """Whether ``principal`` may make, change and delete what is at ``path``."""
    return principal.is_admin or (principal.writable is not None and principal.writable.has(path))


def holders_of(username: str, groups: Iterable[str]) -> frozenset[str]:
    """The names under which a member may have rights."""
    return frozenset({f"u/{username}", *(f"g/{group}" for group in groups)})


def owner_of(path: str) -> str:
    """Whose a path is, for error texts: ``u/alice``, ``f/team``."""
    return "/".join(path.split("/")[:2])


def parse_name(value: Any, what: str = "name") -> str:
    """The name of a folder or group. Raises :class:`BadRequest`."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise BadRequest(f"{what} must be 1 to 100 letters, digits, - and _")
    return value


def parse_username(value: Any, what: str = "username") -> str:
    """Raises :class:`BadRequest`."""
    if not isinstance(value, str) or not _USERNAME.fullmatch(value):
        raise BadRequest(f"{what} must begin with a letter and have at most 100 letters, digits, - and _")
    if value in _RESERVED:
        raise BadRequest(f"{what}: {value} is reserved; choose another")
    return value


def parse_workspace_id(value: Any, what: str = "id") -> str:
    """Raises :class:`BadRequest`."""
    if not isinstance(value, str) or not _WORKSPACE.fullmatch(value):
        raise BadRequest(f"{what} must be 1 to 50 small letters, digits, - and _, and begin with a letter or digit")
    return value


def parse_holder(value: Any, what: str) -> str:
    """``u/alice`` or ``g/team``. Raises :class:`BadRequest`."""
    if not isinstance(value, str) or not _HOLDER.fullmatch(value):
        raise BadRequest(f"{what}: name users as u/<user> and groups as g/<group>")
    return value


def username_from(email: str) -> str:
    """A username that the local part of an address suggests; others may have it."""
    kept = re.sub(r"[^A-Za-z0-9_]", "", email.partition("@")[0])[:80]
    name = kept if kept[:1].isalpha() else f"user{kept}"
    return f"{name}1" if name in _RESERVED else name
