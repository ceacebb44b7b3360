"""``/api/w/{workspace}/variables``: texts that scripts read, plain ones and secrets."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from minwebhook.api.context import Context
from minwebhook.api.fields import Fields
from minwebhook.api.pages import DEFAULT_PER_PAGE, page_of
from minwebhook.api.permissions import check_path
from minwebhook.api.rights import readable, writable
from minwebhook.errors import BadRequest, NotFound
from minwebhook.http.messages import Response
from minwebhook.jobs.environment import CONTEXTUAL
from minwebhook.variables.model import NewVariable, Variable, VariableChange

#: What clients keep of secret arguments of single runs (Windmill's path for them): not in lists.
_HIDDEN: Final = re.compile(r"u/[^/]+/secret_arg/")
#: Variables that one request removes.
MAX_AT_ONCE: Final = 1000


async def create(context: Context) -> Response:
    """Makes a variable: 201. With `already_encrypted=true` the value of a secret is one that this server encrypted."""
    new = NewVariable.parse(await context.json())
    context.audited_resource = writable(context, new.path)
    sealed = context.query.flag("already_encrypted")
    await context.services.variables.create(context.workspace, new, is_sealed=sealed)
    return Response.text(f"variable {new.path} created", 201)


async def update(context: Context) -> Response:
    """Changes the members that are sent: its path as text."""
    path = writable(context, context.params["path"])
    change = VariableChange.parse(await context.json())
    if change.path is not None:
        writable(context, change.path)
    sealed = context.query.flag("already_encrypted")
    return Response.text(await context.services.variables.update(context.workspace, path, change, is_sealed=sealed))


async def delete(context: Context) -> Response:
    """Removes a variable."""
    path = writable(context, context.params["path"])
    await context.services.variables.delete(context.workspace, path)
    return Response.text(f"variable {path} deleted")


async def get(context: Context) -> Response:
    """A variable. The value of a secret is in clear unless `decrypt_secret=false`; then null, or, with
    `include_encrypted=true`, encrypted."""
    variable = _readable(context)
    decrypts, with_sealed = context.query.flag("decrypt_secret", default=True), context.query.flag("include_encrypted")
    if not variable.is_secret:
        value: str | None = variable.stored
    elif decrypts:
        value = _reveal(context, variable)
    else:
        value = variable.stored if with_sealed else None
    return _json(variable.to_json(value))


async def get_value(context: Context) -> Response:
    """The value alone, as a JSON string."""
    return _json(_reveal(context, _readable(context)))


async def exists(context: Context) -> Response:
    """Whether there is a variable at the path."""
    return _json(context.services.variables.find(context.workspace, context.params["path"]) is not None)


async def list_variables(context: Context) -> Response:
    """Variables that the caller may read, by path; values of secrets are null."""
    prefix = context.query.get("path_start") or ""
    page, per_page = context.number("page", 1), context.number("per_page", DEFAULT_PER_PAGE)
    found = [
        variable
        for variable in await context.services.variables.all(context.workspace)
        if variable.path.startswith(prefix)
        and _HIDDEN.match(variable.path) is None
        and readable(context, "variables", variable.path)
    ]
    return _json([item.to_json(None if item.is_secret else item.stored) for item in page_of(found, page, per_page)])


async def list_contextual(context: Context) -> Response:
    """The variables that every job has in its environment, with an example of each."""
    principal = context.principal
    examples = {
        "WM_WORKSPACE": context.workspace,
        "WM_EMAIL": principal.email,
        "WM_USERNAME": principal.username,
        "WM_PERMISSIONED_AS": principal.permissioned_as,
        "WM_BASE_URL": context.services.base_url,
    }
    return _json(
        [
            {"name": name, "value": examples.get(name, example), "description": sentence, "is_custom": False}
            for name, (example, sentence) in CONTEXTUAL.items()
        ]
    )


async def encrypt(context: Context) -> Response:
    """Encrypts a JSON string: text for `$encrypted:` arguments and for `already_encrypted=true`."""
    value = await context.json()
    if not isinstance(value, str):
        raise BadRequest("send the value as a JSON string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRequest("the value is not valid Unicode") from None
    return Response.text(context.services.variables.seal(context.workspace, value))


async def delete_bulk(context: Context) -> Response:
    """Removes the variables at ``paths``, all or none: the paths of those that were there."""
    fields = Fields(await context.json())
    paths = fields.get("paths")
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths) or len(paths) > MAX_AT_ONCE:
        raise BadRequest(f"paths: send an array of at most {MAX_AT_ONCE} paths")
    for path in paths:
        check_path(context.principal, context.endpoint, path)
    gone = await context.services.variables.delete_all(context.workspace, paths)
    context.audited_resource = ",".join(gone)
    return _json(gone)


def _readable(context: Context) -> Variable:
    path = context.params["path"]
    variable = context.services.variables.find(context.workspace, path)
    if variable is None:
        raise NotFound(f"variable {path} not found")
    return variable


def _reveal(context: Context, variable: Variable) -> str:
    """The value in clear; the log of a job that asks for a secret hides it from now on."""
    value = context.services.variables.value(variable)
    if variable.is_secret:
        context.note_secret(variable.path)
        context.on_secret(value)
    return value


def _json(value: Any) -> Response:
    return Response.json(orjson.dumps(value))
