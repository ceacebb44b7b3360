"""What code that comes with a request may import: scripts that its sender may read."""

from __future__ import annotations

from collections.abc import Mapping

from minwebhook.api.context import Context
from minwebhook.api.rights import readable
from minwebhook.errors import BadRequest, NotFound
from minwebhook.flows.model import FlowValue, RawScript
from minwebhook.scripts.imports import pin_imports
from minwebhook.scripts.model import Language
from minwebhook.scripts.script import Script


def find_step_imports(context: Context, flow: FlowValue, path: str) -> dict[str, Mapping[str, str]]:
    """The same for each script within a flow, by module. Raises :class:`BadRequest` that names the module."""
    found = {}
    for module in flow.all_modules:
        value = module.value
        if isinstance(value, RawScript):
            try:
                imports = find_imports(context, value.language, value.content, f"{path}/{module.id}" if path else "")
            except BadRequest as error:
                raise BadRequest(f"module {module.id}: {error.detail}") from None
            if imports:
                found[module.id] = imports
    return found


def find_imports(context: Context, language: Language, code: str, path: str) -> Mapping[str, str]:
    """Path to hash of all that the code imports. Raises :class:`BadRequest`."""

    def find(name: str) -> Script | None:
        if not readable(context, "scripts", name):
            return None
        try:
            return context.services.scripts.deployed(context.workspace, name)
        except NotFound:
            return None

    return pin_imports(language, code, path, find)
