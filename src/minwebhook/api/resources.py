"""``/api/w/{workspace}/resources``: JSON values that scripts read and keep (state is one of them), and their types."""

from __future__ import annotations

from typing import Any

import orjson

from minwebhook.api.context import Context
from minwebhook.api.pages import DEFAULT_PER_PAGE, page_of
from minwebhook.api.rights import readable, writable
from minwebhook.child import values
from minwebhook.errors import BadRequest, NotFound
from minwebhook.http.messages import Response
from minwebhook.jobs.references import reader_of
from minwebhook.times import now_ms
from minwebhook.variables.model import NewResource, NewResourceType, Resource, ResourceChange, parse_value


async def create(context: Context) -> Response:
    """Makes a resource: 201. With `update_if_exists=true` one that is there is replaced."""
    new = NewResource.parse(await context.json())
    context.audited_resource = writable(context, new.path)
    replace = context.query.flag("update_if_exists")
    await context.services.resources.create(
        context.workspace, new, context.principal.username, now_ms(), replace=replace
    )
    return Response.text(f"resource {new.path} created", 201)


async def update(context: Context) -> Response:
    """Changes the members that are sent: its path as text."""
    path = writable(context, context.params["path"])
    change = ResourceChange.parse(await context.json())
    if change.path is not None:
        writable(context, change.path)
    return Response.text(await context.services.resources.update(context.workspace, path, change, now_ms()))


async def update_value(context: Context) -> Response:
    """Changes the value alone."""
    path = writable(context, context.params["path"])
    body = await context.json()
    if not isinstance(body, dict) or "value" not in body:
        raise BadRequest('send {"value": …}')
    change = ResourceChange(path=None, value=parse_value(body), resource_type=None, description=None)
    await context.services.resources.update(context.workspace, path, change, now_ms())
    return Response.text(f"value of resource {path} updated")


async def delete(context: Context) -> Response:
    """Removes a resource."""
    path = writable(context, context.params["path"])
    await context.services.resources.delete(context.workspace, path)
    return Response.text(f"resource {path} deleted")


async def get(context: Context) -> Response:
    """A resource with its value as it was sent."""
    resource = _readable(context)
    return _json(resource.to_json(context.services.resources.value(resource)))


async def get_value(context: Context) -> Response:
    """The value alone, as it was sent."""
    return Response.json(context.services.resources.value(_readable(context)))


async def get_value_interpolated(context: Context) -> Response:
    """The value with `$var:` and `$res:` replaced by what they name."""
    resource = _readable(context)
    value = values.loads(context.services.resources.value(resource))
    reader = reader_of(context.principal, context.workspace, on_secret=context.on_secret)
    resolved = context.services.references.resolve(value, reader)
    for path in sorted(reader.secrets_read):
        context.note_secret(path)
    return Response.json(values.dumps(resolved).encode())


async def exists(context: Context) -> Response:
    """Whether there is a resource at the path."""
    return _json(context.services.resources.find(context.workspace, context.params["path"]) is not None)


async def list_resources(context: Context) -> Response:
    """Resources that the caller may read, by path. `resource_type` and `resource_type_exclude` take lists with commas."""
    prefix = context.query.get("path_start") or ""
    page, per_page = context.number("page", 1), context.number("per_page", DEFAULT_PER_PAGE)
    wanted, unwanted = _words(context, "resource_type"), _words(context, "resource_type_exclude")
    services = context.services
    found = [
        item
        for item in await services.resources.all(context.workspace)
        if item.path.startswith(prefix)
        and readable(context, "resources", item.path)
        and (not wanted or item.resource_type in wanted)
        and item.resource_type not in unwanted
    ]
    return _json([item.to_json(services.resources.value(item)) for item in page_of(found, page, per_page)])


async def create_type(context: Context) -> Response:
    """Makes a resource type: 201."""
    new = NewResourceType.parse(await context.json())
    context.audited_resource = new.name
    await context.services.resources.create_type(context.workspace, new, context.principal.username, now_ms())
    return Response.text(f"resource type {new.name} created", 201)


async def update_type(context: Context) -> Response:
    """Replaces the schema and the description of a type."""
    new = NewResourceType.parse(await context.json(), context.params["name"])
    await context.services.resources.update_type(context.workspace, new, now_ms())
    return Response.text(f"resource type {new.name} updated")


async def delete_type(context: Context) -> Response:
    """Removes a type; its resources stay."""
    name = context.params["name"]
    await context.services.resources.delete_type(context.workspace, name)
    return Response.text(f"resource type {name} deleted")


async def get_type(context: Context) -> Response:
    """A resource type of the workspace, or of `admins`, whose types all have."""
    name = context.params["name"]
    found = context.services.resources.find_type(context.workspace, name)
    if found is None:
        raise NotFound(f"resource type {name} not found")
    return _json(found.to_json())


async def type_exists(context: Context) -> Response:
    """Whether there is such a type."""
    return _json(context.services.resources.find_type(context.workspace, context.params["name"]) is not None)


async def list_types(context: Context) -> Response:
    """All resource types."""
    return _json([kind.to_json() for kind in await context.services.resources.types(context.workspace)])


async def list_type_names(context: Context) -> Response:
    """The names of all resource types."""
    return _json([kind.name for kind in await context.services.resources.types(context.workspace)])


async def file_extensions(context: Context) -> Response:
    """Resource types whose resources are files, and how these end."""
    found = await context.services.resources.types(context.workspace)
    return _json(
        {
            kind.name: {"format_extension": kind.format_extension, "is_fileset": False}
            for kind in found
            if kind.format_extension
        }
    )


def _readable(context: Context) -> Resource:
    path = context.params["path"]
    resource = context.services.resources.find(context.workspace, path)
    if resource is None or not readable(context, "resources", path):
        raise NotFound(f"resource {path} not found")
    return resource


def _words(context: Context, name: str) -> frozenset[str]:
    text = context.query.get(name)
    return frozenset(text.split(",")) if text else frozenset()


def _json(value: Any) -> Response:
    return Response.json(orjson.dumps(value))
