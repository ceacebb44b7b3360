"""The packages of scripts within flows: found by one job when a version is deployed, and written into its definition."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import orjson

from minwebhook.errors import ApiError
from minwebhook.flows.model import FlowValue, RawScript
from minwebhook.flows.reading import read_value
from minwebhook.flows.store import FlowStore, FlowVersion, with_locks
from minwebhook.jobs.packages import UnlockedStep, code_lock_spec
from minwebhook.jobs.table import JobTable
from minwebhook.scripts.store import ScriptStore

logger = logging.getLogger(__name__)


class FlowLocks:
    """Looks for them (jobs/packages.py), and keeps what was found."""

    def __init__(self, flows: FlowStore, scripts: ScriptStore) -> None:
        self._flows = flows
        self._scripts = scripts

    def unlocked(self, workspace: str, source: Mapping[str, Any]) -> list[UnlockedStep]:
        """The scripts whose packages have yet to be found: of a version, or of a definition that came with a request."""
        if "flow_version" in source:
            version = self._flows.version(workspace, source["flow_version"])
            return [] if version is None else self._unlocked(workspace, version.flow, version.step_imports)
        return self._unlocked(workspace, read_value(source["flow_value"]), source["imports"])

    def _unlocked(
        self, workspace: str, flow: FlowValue, step_imports: Mapping[str, Mapping[str, str]]
    ) -> list[UnlockedStep]:
        found = []
        for module in flow.all_modules:
            value, imports = module.value, step_imports.get(module.id, {})
            if isinstance(value, RawScript) and self._scripts.lock_with(workspace, value.lock, imports) is None:
                found.append(UnlockedStep(module.id, value.language.value, value.content, tuple(imports.items())))
        return found

    async def keep(
        self, workspace: str, source: Mapping[str, Any], locks: Mapping[str, str], error: str | None
    ) -> Mapping[str, Any]:
        """The locks by module, and what went wrong with others; ``updated_flow_value`` of a definition that came along."""
        if "flow_version" in source:
            await self._flows.set_locks(workspace, source["flow_version"], locks, error)
            return {}
        return {"updated_flow_value": with_locks(source["flow_value"], locks)}

    async def submit(self, jobs: JobTable, version: FlowVersion, username: str, email: str = "") -> None:
        """Has the locks of a version found by a new job, if any are missing. A full queue is no reason to fail: the next
        start tries again, and so does each run."""
        source = {"flow_version": version.id}
        if not self.unlocked(version.workspace_id, source):
            return
        job_id = jobs.new_id()
        await self._flows.begin_locks(version, job_id)
        text = orjson.dumps(source)
        spec = code_lock_spec(version.workspace_id, "", text, version.path, username=username, email=email)
        try:
            await jobs.submit(spec, job_id=job_id)
        except ApiError as error:
            logger.warning("the packages of %s are not looked for yet: %s", version.path, error.detail)
