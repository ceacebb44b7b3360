"""What is deployed before the first request comes: scripts of a directory, and locks that nobody looks for any more."""

from __future__ import annotations

import logging
from pathlib import Path
from uuid import UUID

from minwebhook.auth.store import ADMIN_USERNAME
from minwebhook.jobs.executor import Executor
from minwebhook.jobs.packages import submit_lock_job
from minwebhook.parts import Parts
from minwebhook.runtimes.programs import check_executable
from minwebhook.scripts.directory import deploy_directory
from minwebhook.settings import Settings
from minwebhook.times import now_ms

logger = logging.getLogger(__name__)

#: Workspace that ``--scripts`` deploys into.
SCRIPTS_WORKSPACE = "demo"


class Deployment:
    """Deploys the directory of the setting ``scripts``: at the start, and again after SIGHUP."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._executor: Executor | None = None
        #: Paths of scripts that were deployed while there was none.
        self._expected: list[str] = []

    def expect_on(self, executor: Executor) -> None:
        """Processes that deployed scripts will need are started there from now on."""
        self._executor = executor
        self._expect_runs()

    async def deploy(self, settings: Settings) -> None:
        """Deploys what changed in the directory, if there is one. Raises what the directory's files are refused with."""
        if not settings.server.scripts:
            return
        root = Path(settings.server.scripts)
        deployed = await deploy_directory(
            self._parts.scripts,
            root,
            SCRIPTS_WORKSPACE,
            ADMIN_USERNAME,
            now_ms(),
            self._check,
            missing=self._parts.programs.missing_after_check,
            read_schema=self._parts.schemas.read_or_none,
        )
        for script in deployed:
            if script.is_new:
                logger.info("deployed %s", script.path)
                self._expected.append(script.path)
        self._expect_runs()

    def _check(self, language: str, source: bytes) -> None:
        """Raises :class:`BadRequest` for code that cannot be run on this machine."""
        self._parts.engines.check(language, source)
        check_executable(language, source)

    async def find_locks(self) -> None:
        """Versions whose packages nobody looks for: deployed from files, or in the moment of a crash."""
        for script in self._parts.scripts.without_lock():
            if script.lock_job is None or self._parts.jobs.get(script.lock_job) is None:
                await submit_lock_job(self._parts.scripts, self._parts.jobs, script)
        for version in self._parts.flows.without_locks():
            if version.lock_job is None or self._parts.jobs.get(UUID(version.lock_job)) is None:
                await self._parts.flow_locks.submit(self._parts.jobs, version, version.created_by)

    def _expect_runs(self) -> None:
        """Has processes started that scripts deployed from the directory will need, as soon as there is what starts them."""
        while self._expected and self._executor is not None:
            script = self._parts.scripts.deployed(SCRIPTS_WORKSPACE, self._expected.pop())
            if script.lock is not None:
                self._executor.expect(script.language.value, script.source)
