"""``/api/users``: users of the instance, and who the caller is."""

from __future__ import annotations

import orjson

from minwebhook.api.context import Context
from minwebhook.api.fields import Fields
from minwebhook.api.permissions import visible_paths
from minwebhook.auth.passwords import parse_password
from minwebhook.flows.runnables import runnables
from minwebhook.http.messages import Response
from minwebhook.times import now_ms


async def whoami(context: Context) -> Response:
    """The caller, instance-wide."""
    user = context.services.users.get(context.principal.email)
    # A token has the rights of its time: that of a job never those of a super admin.
    is_super_admin = context.principal.is_super_admin
    return Response.json(orjson.dumps({**user.to_json(), "super_admin": is_super_admin, "devops": is_super_admin}))


async def email(context: Context) -> Response:
    """The caller's e-mail, as text."""
    return Response.text(context.principal.email)


async def all_runnables(context: Context) -> Response:
    """The live scripts and flows that the caller may see, in all of the caller's workspaces, and where they are run."""
    services, principal = context.services, context.principal
    found = []
    for workspace in await services.workspaces.list_all(principal.email):
        if context.job_workspace in (None, workspace.id):
            member = services.auth.principal_in(principal, workspace.id)
            visible = (visible_paths(member, domain) for domain in ("scripts", "flows"))
            found += await runnables(services.db, workspace.id, *visible)
    return Response.json(orjson.dumps(found))


async def create(context: Context) -> Response:
    """Makes a user, who is in no workspace yet; for super admins."""
    fields = Fields(await context.json())
    context.audited_resource = address = fields.email()
    services = context.services
    name, is_super_admin = fields.text("name"), bool(fields.flag("super_admin"))
    password = fields.get("password")
    hashed = None if password is None else await services.passwords.hash(parse_password(password))
    user = await services.users.create(
        address, now_ms(), name=name, password_hash=hashed, is_super_admin=is_super_admin
    )
    return Response.text(f"created {user.email} as {user.username}", 201)


async def list_users(context: Context) -> Response:
    """One page of all users of the instance; for super admins."""
    users = await context.services.users.list_all(context.number("page", 1), context.number("per_page", 30))
    return Response.json(orjson.dumps([user.to_json() for user in users]))


async def exists(context: Context) -> Response:
    """Whether there is a user with this e-mail; for super admins."""
    return Response.json(b"true" if context.services.users.find(context.params["email"].lower()) else b"false")


async def update(context: Context) -> Response:
    """Changes a user: ``is_super_admin``, ``disabled``, ``name``; for super admins. It counts from the next request on."""
    fields = Fields(await context.json())
    address = context.params["email"].lower()
    await context.services.users.update(
        address,
        is_super_admin=fields.flag("is_super_admin"),
        is_disabled=fields.flag("disabled"),
        name=fields.text("name"),
    )
    return Response.text(f"updated {address}")


async def delete(context: Context) -> Response:
    """Removes a user with all tokens and memberships; scripts and jobs stay. For super admins."""
    address = context.params["email"].lower()
    await context.services.users.delete(address)
    return Response.text(f"deleted {address}")


async def set_password(context: Context) -> Response:
    """Sets the caller's password, and ends the caller's sessions."""
    return await _set_password(context, context.principal.email)


async def set_password_of(context: Context) -> Response:
    """Sets a user's password, and ends the user's sessions; for super admins."""
    return await _set_password(context, context.params["email"].lower())


async def _set_password(context: Context, address: str) -> Response:
    services = context.services
    context.audited_resource = address
    password = parse_password(Fields(await context.json()).get("password"))
    services.users.get(address)
    await services.users.set_password(address, await services.passwords.hash(password))
    return Response.text(f"password of {address} set")
