"""``/api/w/{workspace}/folders``: folders, and who may do what in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import orjson

from minwebhook.api.context import Context
from minwebhook.api.fields import Fields
from minwebhook.auth.folders import folder_json, parse_owners, parse_perms
from minwebhook.auth.rights import Folder, holders_of, parse_holder, parse_name
from minwebhook.errors import BadRequest, NotFound
from minwebhook.http.messages import Response
from minwebhook.times import now_ms


async def create(context: Context) -> Response:
    """Makes a folder. Without ``owners`` the caller owns it. For admins if there is something below its path already."""
    fields, principal = Fields(await context.json()), context.principal
    owners, perms = fields.get("owners"), fields.get("extra_perms")
    folder = Folder(
        parse_name(fields.get("name")),
        (principal.permissioned_as,) if owners is None else parse_owners(owners),
        {} if perms is None else parse_perms(perms),
        fields.text("display_name"),
        fields.text("summary"),
        principal.username,
        now_ms(),
    )
    if not principal.is_admin and not folder.is_owner(_holders(context)):
        raise BadRequest(f"owners: name {principal.permissioned_as}, or nobody but admins could use the folder")
    context.audited_resource = folder.name
    await context.services.folders.create(context.workspace, folder, by_admin=principal.is_admin)
    return Response.text(f"created folder {folder.name}")


async def list_folders(context: Context) -> Response:
    """The folders that the caller may see."""
    shown = [folder_json(context.workspace, folder) for folder in await _visible(context)]
    return Response.json(orjson.dumps(shown))


async def list_names(context: Context) -> Response:
    """Their names."""
    return Response.json(orjson.dumps([folder.name for folder in await _visible(context)]))


async def get(context: Context) -> Response:
    """One folder."""
    return Response.json(orjson.dumps(folder_json(context.workspace, _seen(context))))


async def exists(context: Context) -> Response:
    """Whether there is such a folder, for the caller's eyes."""
    folder = context.services.folders.find(context.workspace, context.params["name"])
    return Response.json(b"true" if folder is not None and _may_see(context, folder) else b"false")


async def is_owner(context: Context) -> Response:
    """Whether the caller may change it."""
    folder = context.services.folders.find(context.workspace, context.params["name"])
    return Response.json(b"true" if folder is not None and _may_change(context, folder) else b"false")


async def update(context: Context) -> Response:
    """Changes what is sent of it: ``owners``, ``extra_perms``, ``display_name``, ``summary``; for its owners."""
    fields = Fields(await context.json())
    owners, perms = fields.get("owners"), fields.get("extra_perms")
    display_name, summary = fields.text("display_name"), fields.text("summary")

    def change(folder: Folder) -> Folder:
        return replace(
            folder,
            owners=folder.owners if owners is None else parse_owners(owners),
            extra_perms=folder.extra_perms if perms is None else parse_perms(perms),
            display_name=folder.display_name if display_name is None else display_name,
            summary=folder.summary if summary is None else summary,
        )

    return await _change(context, change)


async def add_owner(context: Context) -> Response:
    """One more owner, ``{"owner": "u/alice"}``; for its owners."""
    owner = parse_holder(Fields(await context.json()).get("owner"), "owner")
    return await _change(context, lambda folder: replace(folder, owners=tuple(dict.fromkeys((*folder.owners, owner)))))


async def remove_owner(context: Context) -> Response:
    """One owner less; for its owners."""
    owner = parse_holder(Fields(await context.json()).get("owner"), "owner")
    return await _change(
        context, lambda folder: replace(folder, owners=tuple(each for each in folder.owners if each != owner))
    )


async def delete(context: Context) -> Response:
    """Removes a folder; what is in it stays, for admins. For its owners."""
    name = context.params["name"]
    _changed(context, _seen(context))
    await context.services.folders.delete(context.workspace, name)
    return Response.text(f"deleted folder {name}")


async def _change(context: Context, change: Callable[[Folder], Folder]) -> Response:
    name = context.params["name"]
    _seen(context)

    def work(folder: Folder) -> Folder:
        _changed(context, folder)
        return change(folder)

    await context.services.folders.change(context.workspace, name, now_ms(), work)
    return Response.text(f"updated folder {name}")


async def _visible(context: Context) -> list[Folder]:
    folders = await context.services.folders.list_all(context.workspace)
    return [folder for folder in folders if _may_see(context, folder)]


def _holders(context: Context) -> frozenset[str]:
    username = context.principal.username
    return holders_of(username, context.services.auth.rights(context.workspace, username).groups)


def _may_see(context: Context, folder: Folder) -> bool:
    return context.principal.is_admin or folder.may_read(_holders(context))


def _may_change(context: Context, folder: Folder) -> bool:
    return context.principal.is_admin or folder.is_owner(_holders(context))


def _seen(context: Context) -> Folder:
    """The folder of the route, if the caller may see it. Raises :class:`NotFound`."""
    folder = context.services.folders.get(context.workspace, context.params["name"])
    if not _may_see(context, folder):
        raise NotFound(f"folder {folder.name} not found")
    return folder


def _changed(context: Context, folder: Folder) -> None:
    """Raises :class:`BadRequest` if the caller may not change it."""
    if not _may_change(context, folder):
        raise BadRequest(f"only owners of the folder {folder.name} may do this: {', '.join(folder.owners)}")
