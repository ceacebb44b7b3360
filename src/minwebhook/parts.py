"""What a server is made of: its stores and rules, which need no running process, and what is built on those that do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from minwebhook.api import yaml
from minwebhook.api.context import Services
from minwebhook.api.endpoint import Endpoint
from minwebhook.audit.log import AuditLog
from minwebhook.auth.failures import FailedTokens, FailureLimit
from minwebhook.auth.folders import FolderStore, GroupStore
from minwebhook.auth.job_tokens import JobTokens
from minwebhook.auth.passwords import Passwords
from minwebhook.auth.request_limits import RequestLimits
from minwebhook.auth.resets import PasswordResets
from minwebhook.auth.store import AuthStore
from minwebhook.auth.token_store import TokenStore
from minwebhook.auth.users import UserStore
from minwebhook.auth.workspace_keys import WorkspaceKeys
from minwebhook.auth.workspaces import WorkspaceStore
from minwebhook.configuration import load_hook_secrets
from minwebhook.db.database import Database
from minwebhook.errors import BadRequest, NotFound
from minwebhook.flows.approvals import Approvals
from minwebhook.flows.javascript import Evaluator
from minwebhook.flows.locks import FlowLocks
from minwebhook.flows.lookups import LookUps
from minwebhook.flows.runner import FlowRunner
from minwebhook.flows.specs import StepSpecs
from minwebhook.flows.store import FlowStore
from minwebhook.http.deadlines import DeadlineQueue
from minwebhook.http.routing import Route
from minwebhook.jobs.built import BuiltPrograms
from minwebhook.jobs.cache import ResultCache
from minwebhook.jobs.executor import Executor
from minwebhook.jobs.health import Health
from minwebhook.jobs.idempotency import IdempotencyKeys
from minwebhook.jobs.imported import ImportedScripts
from minwebhook.jobs.large_values import LargeValues
from minwebhook.jobs.limits import LimitRules
from minwebhook.jobs.packages import JobPackages
from minwebhook.jobs.pressure import QueueLimits
from minwebhook.jobs.references import ArgumentReferences
from minwebhook.jobs.retention import Retention
from minwebhook.jobs.shared import SharedDirectories
from minwebhook.jobs.store import JobStore
from minwebhook.jobs.table import JobTable
from minwebhook.observability.figures import Tally, TrafficFigures
from minwebhook.packages.sets import PackageSets
from minwebhook.packages.uv import Interpreter
from minwebhook.runtimes.code_cache import CodeCache
from minwebhook.runtimes.engines import find_engines
from minwebhook.runtimes.fleet import Fleet
from minwebhook.runtimes.ladder import JAVASCRIPT, Reached, usual_surroundings
from minwebhook.runtimes.programs import find_programs
from minwebhook.runtimes.reuse import Lifetime, ReusePool
from minwebhook.schemas.reader import SchemaReader
from minwebhook.scripts.store import ScriptStore
from minwebhook.settings import Settings
from minwebhook.storage.journal import UploadJournal
from minwebhook.storage.workspaces import WorkspaceStorages
from minwebhook.variables.references import Reader, References
from minwebhook.variables.resources import ResourceStore
from minwebhook.variables.store import VariableStore
from minwebhook.vault.keys import KeyRing
from minwebhook.vault.seal import Vault


class Parts:
    """The parts of one server that are there before anything runs; the methods build those that come later.

    ``addresses`` are those that it listens on.
    """

    def __init__(
        self, settings: Settings, data: Path, database: Database, keys: KeyRing, addresses: Sequence[str]
    ) -> None:
        self._settings = settings
        self._data = data
        self._database = database
        first = next((address for address in addresses if address.startswith("http")), "http://localhost")
        self.base_url = settings.server.base_url or first
        self.auth = AuthStore(
            database,
            settings.server.admin_token or None,
            requests_per_minute=settings.auth.token_requests_per_minute,
        )
        self.tokens = TokenStore(database, self.auth, settings.auth.max_token_expiration_days)
        self.job_tokens = JobTokens()
        self.scripts = ScriptStore(database)
        self.imported = ImportedScripts(self.scripts)
        self.flows = FlowStore(database)
        self.flow_locks = FlowLocks(self.flows, self.scripts)
        self.audit = AuditLog(database)
        self.job_store = JobStore(database, audits=settings.jobs.audit_runs)
        self.retention = Retention(self.job_store)
        self.jobs = JobTable(
            self.job_store,
            limits=QueueLimits(
                settings.jobs.max_queued_jobs,
                settings.jobs.max_queued_jobs_per_workspace,
                settings.jobs.max_queued_jobs_per_script,
                settings.jobs.max_queued_jobs_per_token,
            ),
            slots=settings.worker_count,
            max_sync_wait_s=settings.jobs.max_sync_wait_s or math.inf,
            crash_attempts=settings.jobs.crash_attempts,
        )
        self.idempotency = IdempotencyKeys(
            database,
            header_names=settings.jobs.idempotency_headers,
            ttl_s=settings.jobs.idempotency_ttl_s,
        )
        self.sync_waits = DeadlineQueue(settings.wait_result_s)
        self.heartbeats = DeadlineQueue(settings.heartbeat_s)
        vault = Vault(keys)
        self.workspace_keys = WorkspaceKeys(database, vault)
        self.approvals = Approvals(database)
        self.shared = SharedDirectories(data / "shared", settings.sandbox.job_tmp_bytes)
        self.variables = VariableStore(database, vault)
        self.resources = ResourceStore(database, vault)
        self.references = References(self.variables, self.resources)
        self.storages = WorkspaceStorages(database, settings.storage, data, vault, self._find_resource)
        self.variables.on_change = self.resources.on_change = self.storages.resources_changed
        self.upload_journal = UploadJournal(database)
        self.engines = find_engines(settings.sandbox)
        self.programs = find_programs()
        self.schemas = SchemaReader(timeout_s=settings.schemas.schema_timeout_s, insecure=settings.sandbox.insecure)
        self.large = LargeValues(insecure=settings.sandbox.insecure)
        self.hook_secrets = load_hook_secrets(settings.server.hook_secrets)
        self.users = UserStore(database, self.auth)
        self.resets = PasswordResets(database, self.users, self.base_url)
        self.internal_url = next(filter(None, map(local_url, addresses)), self.base_url)

    def close(self) -> None:
        """Ends what the stores keep open."""
        self.storages.close()

    def code_cache(self) -> CodeCache | None:
        """That of deno, if it is here."""
        if "deno" not in self.engines.paths:
            return None
        cache = CodeCache(self.engines.paths["deno"], JAVASCRIPT, self._data / "engines")
        cache.lay_out()
        return cache

    def flow_runner(self, evaluator: Evaluator) -> FlowRunner:
        """Who runs flows; the job table tells it of each job that it drives."""
        runner = FlowRunner(
            self.jobs,
            self.job_store,
            self.flows,
            StepSpecs(self.scripts, self.flows, self.auth),
            evaluator,
            ResultCache(self._database),
            look_up=LookUps(self.references, self.auth, self.audit, self.jobs).of,
            messages=self.approvals.messages,
            shared=self.shared,
            max_result_bytes=max(self._settings.jobs.max_result_bytes, self._settings.sandbox.job_max_result_bytes),
        )
        self.jobs.driver = runner
        return runner

    async def job_packages(self, fleet: Fleet, reached: Reached) -> JobPackages:
        """Who finds and makes the packages of scripts; what nobody uses any more is removed first."""
        version = fleet.python_version
        sets = PackageSets(
            self._settings.packages,
            self._data / "packages",
            Interpreter(reached.workshop.interpreter.binary, version.rpartition(".")[0]),
            fleet.packages_in_use,
            self.engines.installed,
        )
        await sets.sweep()
        return JobPackages(
            sets,
            self.scripts,
            self.imported,
            self.flow_locks,
            usual_surroundings(self._settings.sandbox).network,
            version,
            preload=self._settings.packages.package_preload,
        )

    def health(self, fleet: Fleet, reached: Reached) -> Health:
        """Who knows how the server is."""
        return Health(
            self._database,
            self.jobs,
            fleet,
            reached,
            data=self._data,
            min_free_disk_bytes=self._settings.server.min_free_disk_bytes,
        )

    def executor(self, fleet: Fleet, reached: Reached, packages: JobPackages, *, has_own_uids: bool) -> Executor:
        """Who runs jobs."""
        settings = self._settings
        limits = LimitRules(
            settings.jobs,
            settings.sandbox,
            reached.rung,
            has_own_uids=has_own_uids,
            group_limits=reached.workshop.group_limits,
        )
        return Executor(
            self.jobs,
            fleet,
            ReusePool(
                4 * settings.worker_count,
                Lifetime(
                    settings.jobs.dedicated_max_jobs,
                    settings.jobs.dedicated_max_s,
                    settings.jobs.dedicated_max_memory_bytes,
                ),
            ),
            settings.jobs,
            limits,
            base_url=self.base_url,
            tokens=self.job_tokens,
            cache=ResultCache(self._database),
            packages=packages,
            engines=self.engines,
            imported=self.imported,
            shared=self.shared,
            built=BuiltPrograms(self._data / "built"),
            references=ArgumentReferences(self.references, self.auth, self.audit),
            internal_url=self.internal_url,
            large=self.large,
        )

    def services(
        self, routes: Sequence[Route[Endpoint]], executor: Executor, runner: FlowRunner, health: Health
    ) -> Services:
        """What endpoints get to see."""
        return Services(
            settings=self._settings,
            db=self._database,
            auth=self.auth,
            tokens=self.tokens,
            users=self.users,
            workspaces=WorkspaceStore(self._database, self.auth, self.workspace_keys),
            workspace_keys=self.workspace_keys,
            folders=FolderStore(self._database, self.auth),
            groups=GroupStore(self._database, self.auth),
            passwords=Passwords(),
            failed_logins=(
                FailureLimit(self._settings.auth.failed_logins_per_account),
                FailureLimit(self._settings.auth.failed_logins_per_address),
            ),
            failed_tokens=FailedTokens(
                self._settings.auth.failed_tokens_per_address, self._settings.auth.failed_tokens_per_prefix
            ),
            reset_requests=(
                FailureLimit(self._settings.auth.failed_logins_per_account),
                FailureLimit(self._settings.auth.failed_logins_per_address),
            ),
            resets=self.resets,
            request_limits=RequestLimits(),
            job_tokens=self.job_tokens,
            scripts=self.scripts,
            flows=self.flows,
            flow_locks=self.flow_locks,
            flow_runner=runner,
            approvals=self.approvals,
            jobs=self.jobs,
            idempotency=self.idempotency,
            job_store=self.job_store,
            executor=executor,
            sync_waits=self.sync_waits,
            heartbeats=self.heartbeats,
            openapi_json=cache(lambda: orjson.dumps(_api_document())),
            openapi_yaml=cache(lambda: yaml.dumps(_api_document()).encode()),
            storages=self.storages,
            upload_journal=self.upload_journal,
            hook_secrets=self.hook_secrets,
            requests=Tally(),
            traffic=TrafficFigures(),
            health=health,
            routes={route.endpoint: route for route in routes},
            variables=self.variables,
            resources=self.resources,
            references=self.references,
            base_url=self.base_url,
            audit=self.audit,
            engines=self.engines,
            programs=self.programs,
            schemas=self.schemas,
            large=self.large,
        )

    def _find_resource(self, workspace: str, path: str) -> object:
        """The value of a resource that the configuration of a storage names: an admin's, who may read all."""
        reader = Reader(workspace, lambda domain, path: True)
        try:
            return self.references.resolve(f"$res:{path}", reader)
        except NotFound as error:
            raise BadRequest(error.detail) from error


def local_url(address: str) -> str:
    """Where scripts on this machine reach a listener; "" if they cannot."""
    if not address.startswith("http://"):
        return ""
    return address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _api_document() -> dict[str, Any]:
    """The description of the interface. Its tables are megabytes that most servers never need."""
    from minwebhook.api.operations import api_document  # noqa: PLC0415 - see above

    return api_document()
