"""The code of the scripts that scripts import, for the processes that run them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import orjson

from minwebhook.jobs.model import JobSpec
from minwebhook.scripts.imports import FIELD
from minwebhook.scripts.model import hash_from_hex
from minwebhook.scripts.script import Script
from minwebhook.scripts.store import ScriptStore

#: Bundles that are kept, and their bytes together.
_MOST: Final = 256
_MOST_BYTES: Final = 16 * 1024 * 1024


class ImportedScripts:
    """Bundles of imported code, a JSON object of path to source; those used last are kept."""

    def __init__(self, scripts: ScriptStore) -> None:
        self._scripts = scripts
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._bytes = 0

    def sources(self, spec: JobSpec) -> list[str]:
        """The code of all that the job's script imports."""
        pins = dict(spec.imports)
        if spec.script_hash is not None:
            script = self._scripts.find_by_hash(spec.workspace, spec.script_hash)
            pins = {} if script is None else script.settings.get(FIELD, {})
        return [script.content for script in self._found(spec.workspace, pins)]

    def bundle(self, spec: JobSpec) -> bytes:
        """What the job's script imports; b"" for nothing."""
        if spec.script_hash is None:
            return self._made(spec.workspace, dict(spec.imports))
        key = (spec.workspace, spec.script_hash)
        bundle = self._kept.get(key)
        if bundle is not None:
            self._kept.move_to_end(key)
            return bundle
        script = self._scripts.find_by_hash(*key)
        bundle = self._made(spec.workspace, {} if script is None else script.settings.get(FIELD, {}))
        self._kept[key] = bundle
        self._bytes += len(bundle)
        while len(self._kept) > _MOST or self._bytes > _MOST_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest)
        return bundle

    def _made(self, workspace: str, pins: Mapping[str, str]) -> bytes:
        if not pins:
            return b""
        return orjson.dumps({script.path: script.content for script in self._found(workspace, pins)})

    def _found(self, workspace: str, pins: Mapping[str, str]) -> list[Script]:
        found = (self._scripts.find_by_hash(workspace, hash_from_hex(version)) for version in pins.values())
        return [script for script in found if script is not None]
