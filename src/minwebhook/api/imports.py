"""What code that comes with a request may import: scripts that its sender may read."""

from __future__ import annotations

from collections.abc import Mapping

from minwebhook.api.context import Context
from minwebhook.api.rights import readable
from minwebhook.errors import NotFound
from minwebhook.scripts.imports import pin_imports
from minwebhook.scripts.model import Language
from minwebhook.scripts.script import Script


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
