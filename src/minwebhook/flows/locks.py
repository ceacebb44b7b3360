"""The packages of scripts within flows: found by one job when a version is deployed, and written into its definition."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import orjson

from minwebhook.errors import ApiError
from minwebhook.flows.model import RawScript
from minwebhook.flows.store import FlowStore, FlowVersion
from minwebhook.jobs.packages import UnlockedStep, code_lock_spec
from minwebhook.jobs.table import JobTable
from minwebhook.scripts.store import ScriptStore

logger = logging.getLogger(__name__)


class FlowLocks:
    """Looks for them (jobs/packages.py), and keeps what was found."""

    def __init__(self, flows: FlowStore, scripts: ScriptStore) -> None:
        self._flows = flows
        self._scripts = scripts

    def unlocked(self, workspace: str, number: int) -> list[UnlockedStep]:
        """The scripts of a version whose packages have yet to be found."""
        version = self._flows.version(workspace, number)
        found = []
        for module in version.flow.all_modules if version is not None else ():
            value, imports = module.value, version.step_imports.get(module.id, {}) if version is not None else {}
            if isinstance(value, RawScript) and self._scripts.lock_with(workspace, value.lock, imports) is None:
                found.append(UnlockedStep(module.id, value.language.value, value.content, tuple(imports.items())))
        return found

    async def keep(self, workspace: str, number: int, locks: Mapping[str, str], error: str | None) -> None:
        """The locks by module, and what went wrong with others."""
        await self._flows.set_locks(workspace, number, locks, error)

    async def submit(self, jobs: JobTable, version: FlowVersion, username: str, email: str = "") -> None:
        """Has the locks of a version found by a new job, if any are missing. A full queue is no reason to fail: the next
        start tries again, and so does each run."""
        if not self.unlocked(version.workspace_id, version.id):
            return
        job_id = jobs.new_id()
        await self._flows.begin_locks(version, job_id)
        source = orjson.dumps({"flow_version": version.id})
        spec = code_lock_spec(version.workspace_id, "", source, version.path, username=username, email=email)
        try:
            await jobs.submit(spec, job_id=job_id)
        except ApiError as error:
            logger.warning("the packages of %s are not looked for yet: %s", version.path, error.detail)
