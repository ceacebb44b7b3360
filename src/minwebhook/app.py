"""The composition root: builds the parts, opens the nurseries in order, drains in reverse order.

::

    services (database flusher, fork server, result saver, job clock, wiping)
      └─ workers (run async jobs)
           └─ HTTP (accept, then connections)

Shutdown goes from the inside out: no more connections, requests in flight get ``grace_s``, then the workers stop (what
still runs is killed; async jobs stay queued on disk), then results are flushed, then the database closes.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import signal
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import trio

import minwebhook
from minwebhook.allocator import give_back_freed_memory
from minwebhook.api import yaml
from minwebhook.api.context import Services
from minwebhook.api.dispatch import Api
from minwebhook.api.health import probe_handler
from minwebhook.api.routes import all_routes
from minwebhook.audit.log import AuditLog
from minwebhook.auth.expiry import TokenExpiry
from minwebhook.auth.failures import FailedTokens, FailureLimit
from minwebhook.auth.folders import FolderStore, GroupStore
from minwebhook.auth.job_tokens import JobTokens
from minwebhook.auth.passwords import Passwords
from minwebhook.auth.request_limits import RequestLimits
from minwebhook.auth.resets import PasswordResets
from minwebhook.auth.store import ADMIN_USERNAME, AuthStore
from minwebhook.auth.token_store import TokenStore
from minwebhook.auth.users import UserStore
from minwebhook.auth.workspace_keys import WorkspaceKeys
from minwebhook.auth.workspaces import WorkspaceStore
from minwebhook.chores import clean_storages, delete_expired_variables, remove_old_audits
from minwebhook.configuration import Supervision, load_hook_secrets
from minwebhook.db.copies import FILE_NAME
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
from minwebhook.http.forwarded import TrustedProxies
from minwebhook.http.listeners import Listener
from minwebhook.http.server import serve
from minwebhook.jobs.built import BuiltPrograms
from minwebhook.jobs.cache import ResultCache
from minwebhook.jobs.executor import Executor
from minwebhook.jobs.expiry import Expiry
from minwebhook.jobs.health import Health
from minwebhook.jobs.idempotency import IdempotencyKeys
from minwebhook.jobs.imported import ImportedScripts
from minwebhook.jobs.limits import LimitRules
from minwebhook.jobs.packages import JobPackages, submit_lock_job
from minwebhook.jobs.pressure import QueueLimits
from minwebhook.jobs.record import JobRecord
from minwebhook.jobs.references import ArgumentReferences
from minwebhook.jobs.restoring import read_left, restore_jobs
from minwebhook.jobs.retention import Retention
from minwebhook.jobs.shared import SharedDirectories
from minwebhook.jobs.store import JobStore
from minwebhook.jobs.table import JobTable
from minwebhook.jobs.upload_expiry import UploadExpiry
from minwebhook.mail.outbox import Outbox
from minwebhook.mail.smtp import Delivery
from minwebhook.observability.figures import Tally, TrafficFigures
from minwebhook.observability.redaction import hide
from minwebhook.packages.sets import PackageSets
from minwebhook.packages.uv import Interpreter
from minwebhook.reload import Reload
from minwebhook.runtimes.demand import Room
from minwebhook.runtimes.descriptors import MAX_PROBES
from minwebhook.runtimes.engines import find_engines
from minwebhook.runtimes.fleet import Fleet
from minwebhook.runtimes.ladder import Reached, start_best, usual_surroundings
from minwebhook.runtimes.ladder import clear as clear_sandboxes
from minwebhook.runtimes.programs import find_programs
from minwebhook.runtimes.reuse import Lifetime, ReusePool
from minwebhook.schemas.reader import SchemaReader
from minwebhook.scripts.directory import deploy_directory
from minwebhook.scripts.store import ScriptStore
from minwebhook.settings import HttpSettings, Settings
from minwebhook.startup import (
    Sockets,
    local_url,
    log_rung,
    open_files_for,
    open_sockets,
    prepare_data_directory,
    relax_collector,
)
from minwebhook.storage.journal import UploadJournal
from minwebhook.storage.workspaces import WorkspaceStorages
from minwebhook.supervision import Notifier
from minwebhook.times import now_ms
from minwebhook.upkeep.half_restored import refuse_half_restored
from minwebhook.variables.references import Reader, References
from minwebhook.variables.resources import ResourceStore
from minwebhook.variables.store import VariableStore
from minwebhook.vault.columns import refuse_missing_keys
from minwebhook.vault.keys import KeyRing
from minwebhook.vault.seal import Vault

logger = logging.getLogger(__name__)

#: Workspace that ``--scripts`` deploys into.
SCRIPTS_WORKSPACE = "demo"

#: What the end of the server takes besides the grace, at most: killing, flushing, closing.
_AFTER_GRACE_S = 15.0

_UNSUPERVISED = Supervision()


async def run(
    settings: Settings, *, read_settings: Callable[[], Settings], supervision: Supervision = _UNSUPERVISED
) -> None:
    """Serves until SIGTERM or SIGINT. Raises :class:`~minwebhook.errors.MinwebhookError` if it cannot start.

    ``read_settings`` reads the settings again, for SIGHUP.
    """
    hook_secrets = load_hook_secrets(settings.server.hook_secrets)
    hide([*settings.secrets_in_use(), *(secret.decode("utf-8", "replace") for secret in hook_secrets.values())])
    relax_collector()
    data = prepare_data_directory(Path(settings.server.data))
    refuse_half_restored(data)
    # Before anything is made that would be left behind by an address that cannot be had. Early clients wait.
    sockets = open_sockets(settings, supervision)
    try:
        database = Database.open(data / FILE_NAME)  # refused while another server uses it
        try:
            clear_sandboxes(data / "sandbox")  # what a killed server left
            keys = KeyRing.load(data, settings.secrets.secret_key)
            database.inspect(lambda connection: refuse_missing_keys(connection, keys))
            await _Program(settings, data, database, keys, sockets, read_settings, Notifier(supervision)).run()
        finally:
            database.close()
            clear_sandboxes(data / "sandbox")
    finally:
        sockets.close()


class _Program:
    """The parts of one running server."""

    def __init__(
        self,
        settings: Settings,
        data: Path,
        database: Database,
        keys: KeyRing,
        sockets: Sockets,
        read_settings: Callable[[], Settings],
        notifier: Notifier,
    ) -> None:
        self._settings = settings
        self._data = data
        self._database = database
        self._sockets = sockets
        self._read_settings = read_settings
        self._notifier = notifier
        self._addresses = [listener.address for listener in sockets.api]
        self._hangup = trio.Event()
        self._executor: Executor | None = None
        #: Paths of scripts that were deployed while there was none.
        self._expected: list[str] = []
        first = next((address for address in self._addresses if address.startswith("http")), "http://localhost")
        self._base_url = settings.server.base_url or first
        self._auth = AuthStore(
            database,
            settings.server.admin_token or None,
            requests_per_minute=settings.auth.token_requests_per_minute,
        )
        self._tokens = TokenStore(database, self._auth, settings.auth.max_token_expiration_days)
        self._job_tokens = JobTokens()
        self._scripts = ScriptStore(database)
        self._imported = ImportedScripts(self._scripts)
        self._flows = FlowStore(database)
        self._flow_locks = FlowLocks(self._flows, self._scripts)
        self._audit = AuditLog(database)
        self._job_store = JobStore(database, audits=settings.jobs.audit_runs)
        self._retention = Retention(self._job_store)
        self._jobs = JobTable(
            self._job_store,
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
        self._idempotency = IdempotencyKeys(
            database,
            header_names=settings.jobs.idempotency_headers,
            ttl_s=settings.jobs.idempotency_ttl_s,
        )
        self._sync_waits = DeadlineQueue(settings.wait_result_s)
        self._heartbeats = DeadlineQueue(settings.heartbeat_s)
        vault = Vault(keys)
        self._workspace_keys = WorkspaceKeys(database, vault)
        self._approvals = Approvals(database)
        self._shared = SharedDirectories(data / "shared", settings.sandbox.job_tmp_bytes)
        self._variables = VariableStore(database, vault)
        self._resources = ResourceStore(database, vault)
        self._references = References(self._variables, self._resources)
        self._storages = WorkspaceStorages(database, settings.storage, data, vault, self._find_resource)
        self._variables.on_change = self._resources.on_change = self._storages.resources_changed
        self._upload_journal = UploadJournal(database)
        self._engines = find_engines(settings.sandbox)
        self._programs = find_programs()
        self._schemas = SchemaReader(timeout_s=settings.schemas.schema_timeout_s, insecure=settings.sandbox.insecure)
        self._hook_secrets = load_hook_secrets(settings.server.hook_secrets)
        self._users = UserStore(database, self._auth)
        self._resets = PasswordResets(database, self._users, self._base_url)
        self._internal_url = next(filter(None, map(local_url, self._addresses)), self._base_url)
        self._shutdown = trio.Event()
        #: Jobs of an earlier run of the server.
        self._left: list[JobRecord] = []
        # Where scripts without a network call: one for each that runs at one time.
        self._inner, self._inner_later = trio.open_memory_channel[Listener](float("inf"))

    async def run(self) -> None:
        """From start to the end of the drain."""
        try:
            await self._run()
        finally:
            self._storages.close()

    async def _run(self) -> None:
        async with trio.open_nursery() as services:
            await services.start(self._database.run)
            await services.start(self._schemas.run)
            services.start_soon(self._listen_for_signals, services.cancel_scope)
            await self._greet()
            await self._storages.seal_plain()
            await self._workspace_keys.complete()
            await self._deploy(self._settings)
            async with trio.open_nursery() as beginning:
                beginning.start_soon(self._read_left)  # while the fork server starts
                zygote, reached = await start_best(
                    services,
                    self._settings.sandbox,
                    self._data / "sandbox",
                    engines=self._engines,
                    programs=self._programs,
                    on_listening=self._inner.send_nowait,
                )
            log_rung(reached)
            self._engines = self._engines.on(reached.rung)
            fleet = Fleet(
                (usual_surroundings(self._settings.sandbox), zygote),
                reached.workshop.make,
                target=self._settings.warm_count,
                max_families=self._settings.sandbox.max_zygotes,
                room=Room(self._settings.more_warm_bytes),
                heavy_idle_s=self._settings.sandbox.heavy_idle_s,
                programs=self._programs,
            )
            services.start_soon(fleet.run)
            services.start_soon(self._jobs.run_clock)
            services.start_soon(self._jobs.run_turns)
            services.start_soon(self._jobs.watchers.run)
            services.start_soon(self._retention.run)
            services.start_soon(Expiry(self._database, self._settings.jobs).run)
            uploads = UploadExpiry(
                self._storages, self._upload_journal, self._jobs, self._job_store, self._settings.storage
            )
            services.start_soon(uploads.run)
            services.start_soon(delete_expired_variables, self._variables)
            outbox = Outbox(self._database, Delivery(self._settings.mail), self._resets.fill)
            self._resets.on_mail = outbox.wake
            has_mail = bool(self._settings.mail.smtp_host)
            if has_mail:
                services.start_soon(outbox.run)
            expiry = TokenExpiry(self._database, sends_mail=has_mail, on_deleted=self._auth.evict, on_mail=outbox.wake)
            services.start_soon(expiry.run)
            services.start_soon(remove_old_audits, self._audit, self._settings.jobs.keep_audit_s)
            services.start_soon(self._sync_waits.run)
            services.start_soon(self._heartbeats.run)
            left = self._upload_journal.unsettled()  # before the first request can add to it
            services.start_soon(clean_storages, self._storages, self._upload_journal, left)
            async with trio.open_nursery() as savers:
                savers.start_soon(self._jobs.run_saver)
                async with trio.open_nursery() as workers:
                    packages = await self._make_packages(fleet, reached)
                    executor = self._make_executor(fleet, reached, packages, has_own_uids=zygote.has_own_uids)
                    workers.start_soon(executor.run, self._settings.worker_count)
                    self._executor = executor
                    self._expect_runs()
                    runner = await self._start_flows(workers)
                    await self._serve(executor, runner, self._make_health(fleet, reached))
                    workers.cancel_scope.cancel(reason="shutdown")
                savers.cancel_scope.cancel(reason="shutdown")
            fleet.stop()
            services.cancel_scope.cancel(reason="shutdown")

    async def _read_left(self) -> None:
        self._left = await read_left(self._job_store)

    async def _start_flows(self, nursery: trio.Nursery) -> FlowRunner:
        """Whoever runs flows; it ends before the database does."""
        settings = self._settings
        evaluator = Evaluator(
            settings.flows, max_value_bytes=settings.jobs.max_result_bytes, insecure=settings.sandbox.insecure
        )
        lookups = LookUps(self._references, self._auth, self._audit, self._jobs)
        specs = StepSpecs(self._scripts, self._flows, self._auth)
        runner = FlowRunner(
            self._jobs,
            self._job_store,
            self._flows,
            specs,
            evaluator,
            ResultCache(self._database),
            look_up=lookups.of,
            messages=self._approvals.messages,
            shared=self._shared,
        )
        self._jobs.driver = runner
        await nursery.start(evaluator.run)
        nursery.start_soon(runner.run)
        nursery.start_soon(self._approvals.run)
        return runner

    async def _serve(self, executor: Executor, runner: FlowRunner, health: Health) -> None:
        restore_jobs(
            self._jobs,
            self._job_store,
            self._scripts,
            now_ms(),
            on_driven=runner.remember,
            ended_flows=runner.ended_runs(now_ms()),
            on_restored=runner.sweep,
            left=self._left,
        )
        self._left = []
        await self._find_locks()
        routes = all_routes()
        services = Services(
            settings=self._settings,
            db=self._database,
            auth=self._auth,
            tokens=self._tokens,
            users=self._users,
            workspaces=WorkspaceStore(self._database, self._auth, self._workspace_keys),
            workspace_keys=self._workspace_keys,
            folders=FolderStore(self._database, self._auth),
            groups=GroupStore(self._database, self._auth),
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
            resets=self._resets,
            request_limits=RequestLimits(),
            job_tokens=self._job_tokens,
            scripts=self._scripts,
            flows=self._flows,
            flow_locks=self._flow_locks,
            flow_runner=runner,
            approvals=self._approvals,
            jobs=self._jobs,
            idempotency=self._idempotency,
            job_store=self._job_store,
            executor=executor,
            sync_waits=self._sync_waits,
            heartbeats=self._heartbeats,
            openapi_json=cache(lambda: orjson.dumps(_api_document())),
            openapi_yaml=cache(lambda: yaml.dumps(_api_document()).encode()),
            storages=self._storages,
            upload_journal=self._upload_journal,
            hook_secrets=self._hook_secrets,
            requests=Tally(),
            traffic=TrafficFigures(),
            health=health,
            routes={route.endpoint: route for route in routes},
            variables=self._variables,
            resources=self._resources,
            references=self._references,
            base_url=self._base_url,
            audit=self._audit,
            engines=self._engines,
            programs=self._programs,
            schemas=self._schemas,
        )
        limits = open_files_for(self._settings)
        api = Api(routes, services)
        reload = Reload(services, api, self._sockets.tls, read_settings=self._read_settings, deploy=self._deploy)
        async with trio.open_nursery() as probes:
            # They are answered until the drain is over, and told that it goes on.
            if self._sockets.probes:
                await probes.start(self._serve_probes, services, limits)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._drain_jobs, services)
                await nursery.start(
                    lambda task_status: serve(
                        self._sockets.api,
                        api.handle,
                        limits,
                        shutdown=self._shutdown,
                        grace_s=lambda: self._settings.server.grace_s,
                        report_error=_report_error,
                        figures=services.traffic,
                        later=self._inner_later,
                        proxies=TrustedProxies.of(
                            self._settings.server.trusted_proxies, self._settings.server.forwarded_field
                        ),
                        task_status=task_status,
                    )
                )
                relax_collector()
                give_back_freed_memory()
                print(f"minwebhook {minwebhook.__version__} listening on {' '.join(self._addresses)}", flush=True)
                self._notifier.ready(self._status)
                probes.start_soon(self._notifier.run_watchdog)
                probes.start_soon(self._reload_on_hangup, reload, services)
            probes.cancel_scope.cancel(reason="shutdown")

    async def _serve_probes(
        self, services: Services, limits: HttpSettings, *, task_status: trio.TaskStatus[tuple[str, ...]]
    ) -> None:
        logger.info("metrics and readiness on %s", " ".join(listener.address for listener in self._sockets.probes))
        await serve(
            self._sockets.probes,
            probe_handler(services),
            dataclasses.replace(limits, max_connections=MAX_PROBES),
            shutdown=trio.Event(),
            grace_s=lambda: 0,
            report_error=_report_error,
            task_status=task_status,
        )

    @property
    def _status(self) -> str:
        return f"listening on {' '.join(self._addresses)}"

    async def _reload_on_hangup(self, reload: Reload, services: Services) -> None:
        """Reloads after each SIGHUP; of several that come meanwhile, once more."""
        while True:
            await self._hangup.wait()
            self._hangup = trio.Event()
            self._notifier.reloading()
            await reload.run()
            self._settings = services.settings
            if not self._shutdown.is_set():
                self._notifier.ready(self._status)

    async def _drain_jobs(self, services: Services) -> None:
        """Async jobs that run when the shutdown begins have the grace, too."""
        await self._shutdown.wait()
        services.is_draining = True
        self._jobs.stop_starting()
        with trio.move_on_after(self._settings.server.grace_s):
            await self._jobs.wait_until_nothing_runs()

    async def _listen_for_signals(self, everything: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    self._hangup.set()
                    continue
                if self._shutdown.is_set():
                    logger.warning("second signal, ending at once")
                    everything.cancel(reason="second signal")
                    return
                logger.info("%s: draining, at most %g s", signal.Signals(number).name, self._settings.server.grace_s)
                self._notifier.stopping(self._settings.server.grace_s + _AFTER_GRACE_S)
                self._shutdown.set()

    async def _greet(self) -> None:
        """First start: workspaces, the admin and its token, which is shown once and never stored in clear."""
        token = await self._auth.bootstrap(now_ms())
        if token is not None:
            print(f"admin token (shown only now, keep it): {token}", file=sys.stderr, flush=True)

    async def _deploy(self, settings: Settings) -> None:
        if not settings.server.scripts:
            return
        root = Path(settings.server.scripts)
        deployed = await deploy_directory(
            self._scripts,
            root,
            SCRIPTS_WORKSPACE,
            ADMIN_USERNAME,
            now_ms(),
            self._engines.check,
            missing=self._programs.missing_after_check,
            read_schema=self._schemas.read_or_none,
        )
        for script in deployed:
            if script.is_new:
                logger.info("deployed %s", script.path)
                self._expected.append(script.path)
        self._expect_runs()

    def _expect_runs(self) -> None:
        """Has processes started that scripts deployed from the directory will need, as soon as there is what starts them."""
        while self._expected and self._executor is not None:
            script = self._scripts.deployed(SCRIPTS_WORKSPACE, self._expected.pop())
            if script.lock is not None:
                self._executor.expect(script.language.value, script.source)

    async def _make_packages(self, fleet: Fleet, reached: Reached) -> JobPackages:
        version = fleet.python_version
        sets = PackageSets(
            self._settings.packages,
            self._data / "packages",
            Interpreter(reached.workshop.interpreter.binary, version.rpartition(".")[0]),
            fleet.packages_in_use,
            self._engines.installed,
        )
        await sets.sweep()
        return JobPackages(
            sets,
            self._scripts,
            self._imported,
            self._flow_locks,
            usual_surroundings(self._settings.sandbox).network,
            version,
            preload=self._settings.packages.package_preload,
        )

    def _make_health(self, fleet: Fleet, reached: Reached) -> Health:
        return Health(
            self._database,
            self._jobs,
            fleet,
            reached,
            data=self._data,
            min_free_disk_bytes=self._settings.server.min_free_disk_bytes,
        )

    def _make_executor(self, fleet: Fleet, reached: Reached, packages: JobPackages, *, has_own_uids: bool) -> Executor:
        settings = self._settings
        limits = LimitRules(
            settings.jobs,
            settings.sandbox,
            reached.rung,
            has_own_uids=has_own_uids,
            group_limits=reached.workshop.group_limits,
        )
        return Executor(
            self._jobs,
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
            base_url=self._base_url,
            tokens=self._job_tokens,
            cache=ResultCache(self._database),
            packages=packages,
            engines=self._engines,
            imported=self._imported,
            shared=self._shared,
            built=BuiltPrograms(self._data / "built"),
            references=ArgumentReferences(self._references, self._auth, self._audit),
            internal_url=self._internal_url,
        )

    def _find_resource(self, workspace: str, path: str) -> object:
        """The value of a resource that the configuration of a storage names: an admin's, who may read all."""
        reader = Reader(workspace, lambda domain, path: True)
        try:
            return self._references.resolve(f"$res:{path}", reader)
        except NotFound as error:
            raise BadRequest(error.detail) from error

    async def _find_locks(self) -> None:
        """Versions whose packages nobody looks for: deployed from files, or in the moment of a crash."""
        for script in self._scripts.without_lock():
            if script.lock_job is None or self._jobs.get(script.lock_job) is None:
                await submit_lock_job(self._scripts, self._jobs, script)
        for version in self._flows.without_locks():
            if version.lock_job is None or self._jobs.get(UUID(version.lock_job)) is None:
                await self._flow_locks.submit(self._jobs, version, version.created_by)


def _report_error(error: BaseException, request_id: str) -> None:
    logger.error("a request failed", exc_info=error, extra={"request_id": request_id or None})


def _api_document() -> dict[str, Any]:
    """The description of the interface. Its tables are megabytes that most servers never need."""
    from minwebhook.api.operations import api_document  # noqa: PLC0415 - see above

    return api_document()
