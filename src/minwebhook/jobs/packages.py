"""The packages of jobs: the set that a job runs with, and the jobs that find the lock of a script's version.

A script's version gets its lock once, by a job of the kind ``dependencies`` when it is deployed. A job whose code has no
lock yet (a preview, a version that is being deployed and has no predecessor) finds its packages itself before it runs.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple, Protocol

import orjson

from minwebhook.errors import ApiError, BadRequest, PackageError
from minwebhook.jobs import outcomes
from minwebhook.jobs.imported import ImportedScripts
from minwebhook.jobs.log import JobLog
from minwebhook.jobs.model import DEPENDENCIES, Job, JobSpec, JobState, Outcome
from minwebhook.jobs.submission import surroundings_of
from minwebhook.jobs.table import JobTable
from minwebhook.packages.sets import Content, PackageSets
from minwebhook.sandbox.plan import Network, Surroundings
from minwebhook.scripts.locks import KINDS, lock_of, modules_wanted, texts_of
from minwebhook.scripts.requirements import allows_python, find_requirements
from minwebhook.scripts.script import Script
from minwebhook.scripts.store import ScriptStore

logger = logging.getLogger(__name__)

#: The tag of jobs that find a lock.
_TAG: Final = "dependency"
_NO_IMPORTS: Final[Mapping[str, str]] = {}
#: A lock and its errors are short; this is more than is kept of uv's output.
_MAX_LOG_BYTES: Final = 1024 * 1024
#: Modules that are imported before jobs come, for each set of packages.
_MAX_MODULES: Final = 64


class UnlockedStep(NamedTuple):
    """A script within a flow whose packages have yet to be found."""

    id: str
    language: str
    content: str
    imports: tuple[tuple[str, str], ...]


class Flows(Protocol):
    """What is known of flows here."""

    def unlocked(self, workspace: str, source: Mapping[str, Any]) -> list[UnlockedStep]:
        """The scripts whose packages have yet to be found, of what a lock job is for."""

    async def keep(
        self, workspace: str, source: Mapping[str, Any], locks: Mapping[str, str], error: str | None
    ) -> Mapping[str, Any]:
        """The locks by module, and what went wrong with others; what the job says besides."""


class JobPackages:
    """What jobs need of packages."""

    def __init__(
        self,
        sets: PackageSets,
        scripts: ScriptStore,
        imported: ImportedScripts,
        flows: Flows,
        network: Network,
        python_version: str,
        *,
        preload: bool = True,
    ) -> None:
        """``network`` is that of scripts, ``python_version`` that of their interpreter, in full.

        With ``preload``, packages are imported before jobs come.
        """
        self._preload = preload
        self._sets = sets
        self._scripts = scripts
        self._imported = imported
        self._flows = flows
        self._network = network
        self._python = tuple(int(part) for part in re.findall(r"\d+", python_version)[:3])

    def find(self, spec: JobSpec) -> Surroundings | None:
        """Where a job with packages runs, if they are known to be installed."""
        if spec.lock is None:
            return None
        try:
            directory = self._sets.find(_content(spec.language, spec.lock))
        except BadRequest:  # prepare() says so
            return None
        return None if directory is None else self._surroundings(spec, directory)

    def _surroundings(self, spec: JobSpec, directory: str) -> Surroundings:
        """Those of the script, with packages, and what it imports from them.

        What another script with the same packages imports is none of its business: a module may change others.
        """
        modules = tuple(sorted(spec.modules)[:_MAX_MODULES]) if self._preload else ()
        network = spec.surroundings.network if spec.surroundings else self._network
        return Surroundings(network, directory, modules)

    async def prepare(self, spec: JobSpec) -> Surroundings | None:
        """The same, found and installed if need be; None for the usual ones. Raises :class:`PackageError`."""
        lock = spec.lock
        if lock is None:
            lock = await self._find_lock(spec)
        directory = await self._install(spec.language, lock)
        if spec.lock is None and spec.script_hash is not None:
            await self._scripts.set_lock(spec.workspace, spec.script_hash, lock)
        return None if directory is None else self._surroundings(spec, directory)

    async def run_lock_job(self, job: Job) -> Outcome:
        """Finds a lock, installs it, and gives it to the version that waits for it, if the job is for one; the surroundings of
        the job are then those of its runs."""
        spec = job.spec
        log = job.log = JobLog("", _MAX_LOG_BYTES)
        if not spec.language:
            return await self._run_flow_lock_job(spec, log)
        try:
            lock = await self._find_lock(spec)
            if (directory := await self._install(spec.language, lock)) is not None:
                spec.surroundings = self._surroundings(spec, directory)
        except PackageError as error:
            text = str(error)
            log.write(text.encode() + b"\n")
            if spec.script_hash is not None:
                await self._scripts.set_lock_error(spec.workspace, spec.script_hash, text)
            return outcomes.execution_error(text)
        log.write(lock.encode() + b"\n")
        if spec.script_hash is not None:
            await self._scripts.set_lock(spec.workspace, spec.script_hash, lock)
        result = {"status": "Successful lock file generation", "lock": lock}
        return Outcome(JobState.SUCCESS, orjson.dumps(result))

    async def _run_flow_lock_job(self, spec: JobSpec, log: JobLog) -> Outcome:
        """Finds the locks of all scripts within a flow; one that cannot be found keeps no other from being so."""
        source = orjson.loads(spec.source)
        locks, errors = dict[str, str](), list[str]()
        for step in self._flows.unlocked(spec.workspace, source):
            part = replace(
                spec, language=step.language, source=step.content.encode(), imports=step.imports, script_hash=None
            )
            try:
                lock = await self._find_lock(part)
                await self._install(step.language, lock)
                locks[step.id] = lock
            except PackageError as error:
                errors.append(f"module {step.id}: {error}")
        text = "\n".join(errors)
        more = await self._flows.keep(spec.workspace, source, locks, text or None)
        log.write("\n".join([*errors, *(f"module {id}:\n{lock}" for id, lock in locks.items()), ""]).encode())
        if errors:
            return outcomes.execution_error(text)
        return Outcome(JobState.SUCCESS, orjson.dumps({"status": "Successful lock file generation", **more}))

    async def _install(self, language: str, lock: str) -> str | None:
        """The directory of what a lock says; None if it says nothing. Raises :class:`PackageError`."""
        try:
            content = _content(language, lock)
        except BadRequest as error:
            raise PackageError(error.detail) from None
        return await self._sets.install(content) if content.texts else None

    async def _find_lock(self, spec: JobSpec) -> str:
        """The lock of a job's code and all that it imports; "" if they need no packages. Raises :class:`PackageError`."""
        kind = KINDS.get(spec.language)
        if kind is None:
            return ""
        codes = [spec.source.decode("utf-8", "replace"), *self._imported.sources(spec)]
        try:
            wanted = self._python_wanted(codes) if kind == "python" else modules_wanted(kind, codes)
        except BadRequest as error:
            raise PackageError(error.detail) from None
        if not wanted:
            return ""
        found = await self._sets.resolve(Content(kind, wanted))
        return lock_of(kind, found.texts, self._sets.python_version)

    def _python_wanted(self, codes: list[str]) -> tuple[str, ...]:
        """Each code says itself what it needs. Raises :class:`BadRequest`, also if it needs another Python."""
        found = [find_requirements(code) for code in codes]
        for each in found:
            if each.python and not allows_python(each.python, self._python):
                have = ".".join(str(part) for part in self._python)
                raise BadRequest(f"the script wants Python {each.python}, scripts run on {have} here (setting python)")
        return tuple(sorted({line for each in found for line in each.lines}))


def _content(language: str, lock: str) -> Content:
    """What is to be installed. Raises :class:`BadRequest`."""
    return Content(KINDS.get(language, "python"), texts_of(language, lock))


def lock_spec(script: Script, email: str) -> JobSpec:
    """The spec of the job that finds the lock of a script's version."""
    spec = code_lock_spec(
        script.workspace_id,
        script.language.value,
        script.source,
        script.path,
        username=script.created_by,
        email=email,
        script_hash=script.hash,
    )
    spec.surroundings = surroundings_of(script)
    return spec


def code_lock_spec(
    workspace: str,
    language: str,
    source: bytes,
    path: str,
    *,
    username: str,
    email: str,
    script_hash: int | None = None,
    imports: Mapping[str, str] = _NO_IMPORTS,
) -> JobSpec:
    """The spec of a job that finds the lock of this code, which is that of a version or came with the request.

    In the latter case ``imports`` are the scripts that it imports, path to hash.
    """
    return JobSpec(
        workspace=workspace,
        kind=DEPENDENCIES,
        language=language,
        source=source,
        arguments=b"{}",
        created_by=username,
        username=username,
        email=email,
        permissioned_as=f"u/{username}",
        path=path,
        script_hash=script_hash,
        imports=tuple(imports.items()),
        tag=_TAG,
        lock=None,
        owner=email,
    )


async def submit_lock_job(scripts: ScriptStore, jobs: JobTable, script: Script, email: str = "") -> None:
    """Has the lock of a version found by a new job. A full queue is no reason to fail: the next start tries again, and so
    does each job of the version."""
    job_id = jobs.new_id()
    await scripts.begin_lock(script.workspace_id, script.hash, job_id)
    try:
        await jobs.submit(lock_spec(script, email), job_id=job_id)
    except ApiError as error:
        logger.warning("the packages of %s are not looked for yet: %s", script.path, error.detail)
