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
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import trio

import minwebhook
from minwebhook.allocator import give_back_freed_memory
from minwebhook.api.context import Services
from minwebhook.api.dispatch import Api
from minwebhook.api.endpoint import Endpoint
from minwebhook.api.health import probe_handler
from minwebhook.api.routes import all_routes
from minwebhook.auth.expiry import TokenExpiry
from minwebhook.chores import clean_storages, delete_expired_variables, remove_old_audits
from minwebhook.configuration import Supervision, load_hook_secrets
from minwebhook.db.copies import FILE_NAME
from minwebhook.db.database import Database
from minwebhook.deployment import Deployment
from minwebhook.flows.javascript import Evaluator
from minwebhook.flows.runner import FlowRunner
from minwebhook.http.forwarded import TrustedProxies
from minwebhook.http.listeners import Listener
from minwebhook.http.routing import Route
from minwebhook.http.server import serve
from minwebhook.jobs.expiry import Expiry
from minwebhook.jobs.record import JobRecord
from minwebhook.jobs.restoring import read_left, restore_jobs
from minwebhook.jobs.upload_expiry import UploadExpiry
from minwebhook.mail.outbox import Outbox
from minwebhook.mail.smtp import Delivery
from minwebhook.observability.redaction import hide
from minwebhook.parts import Parts
from minwebhook.reload import Reload
from minwebhook.runtimes.demand import Room
from minwebhook.runtimes.descriptors import MAX_PROBES
from minwebhook.runtimes.fleet import Fleet
from minwebhook.runtimes.ladder import clear as clear_sandboxes
from minwebhook.runtimes.ladder import start_best, usual_surroundings
from minwebhook.settings import HttpSettings, Settings
from minwebhook.startup import (
    Sockets,
    log_rung,
    open_files_for,
    open_sockets,
    prepare_data_directory,
    relax_collector,
)
from minwebhook.supervision import Notifier
from minwebhook.times import now_ms
from minwebhook.upkeep.half_restored import refuse_half_restored
from minwebhook.vault.columns import refuse_missing_keys
from minwebhook.vault.keys import KeyRing

logger = logging.getLogger(__name__)

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
    """One running server: its parts, in the order in which they begin and end."""

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
        self._parts = Parts(settings, data, database, keys, self._addresses)
        self._deployment = Deployment(self._parts)
        self._hangup = trio.Event()
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
            self._parts.close()

    async def _run(self) -> None:
        async with trio.open_nursery() as services:
            await services.start(self._database.run)
            await services.start(self._parts.schemas.run)
            await services.start(self._parts.large.run)
            services.start_soon(self._listen_for_signals, services.cancel_scope)
            await self._greet()
            await self._parts.storages.seal_plain()
            await self._parts.workspace_keys.complete()
            await self._deployment.deploy(self._settings)
            code_cache = self._parts.code_cache()
            async with trio.open_nursery() as beginning:
                beginning.start_soon(self._read_left)  # while the fork server starts
                zygote, reached = await start_best(
                    services,
                    self._settings.sandbox,
                    self._data / "sandbox",
                    engines=self._parts.engines,
                    programs=self._parts.programs,
                    on_listening=self._inner.send_nowait,
                    code_cache=str(code_cache.place) if code_cache is not None else "",
                )
            log_rung(reached)
            self._parts.engines = self._parts.engines.on(reached.rung)
            fleet = Fleet(
                (usual_surroundings(self._settings.sandbox), zygote),
                reached.workshop.make,
                target=self._settings.warm_count,
                max_families=self._settings.sandbox.max_zygotes,
                room=Room(self._settings.more_warm_bytes),
                heavy_idle_s=self._settings.sandbox.heavy_idle_s,
                programs=self._parts.programs,
                afterwards={"deno": code_cache.make} if code_cache is not None else {},
            )
            services.start_soon(fleet.run)
            services.start_soon(self._parts.jobs.run_clock)
            services.start_soon(self._parts.jobs.run_turns)
            services.start_soon(self._parts.jobs.watchers.run)
            self._start_chores(services)
            async with trio.open_nursery() as savers:
                savers.start_soon(self._parts.jobs.run_saver)
                async with trio.open_nursery() as workers:
                    packages = await self._parts.job_packages(fleet, reached)
                    executor = self._parts.executor(fleet, reached, packages, has_own_uids=zygote.has_own_uids)
                    workers.start_soon(executor.run, self._settings.worker_count)
                    self._deployment.expect_on(executor)
                    runner = await self._start_flows(workers)
                    self._restore_jobs(runner)
                    await self._deployment.find_locks()
                    health = self._parts.health(fleet, reached)
                    routes = all_routes()
                    await self._serve(routes, self._parts.services(routes, executor, runner, health))
                    workers.cancel_scope.cancel(reason="shutdown")
                savers.cancel_scope.cancel(reason="shutdown")
            fleet.stop()
            services.cancel_scope.cancel(reason="shutdown")

    def _start_chores(self, nursery: trio.Nursery) -> None:
        """What is done now and then, beside everything else."""
        parts = self._parts
        nursery.start_soon(parts.retention.run)
        nursery.start_soon(Expiry(self._database, self._settings.jobs).run)
        uploads = UploadExpiry(
            parts.storages, parts.upload_journal, parts.jobs, parts.job_store, self._settings.storage
        )
        nursery.start_soon(uploads.run)
        nursery.start_soon(delete_expired_variables, parts.variables)
        outbox = Outbox(self._database, Delivery(self._settings.mail), parts.resets.fill)
        parts.resets.on_mail = outbox.wake
        has_mail = bool(self._settings.mail.smtp_host)
        if has_mail:
            nursery.start_soon(outbox.run)
        expiry = TokenExpiry(self._database, sends_mail=has_mail, on_deleted=parts.auth.evict, on_mail=outbox.wake)
        nursery.start_soon(expiry.run)
        nursery.start_soon(remove_old_audits, parts.audit, self._settings.jobs.keep_audit_s)
        nursery.start_soon(parts.sync_waits.run)
        nursery.start_soon(parts.heartbeats.run)
        left = parts.upload_journal.unsettled()  # before the first request can add to it
        nursery.start_soon(clean_storages, parts.storages, parts.upload_journal, left)

    async def _read_left(self) -> None:
        self._left = await read_left(self._parts.job_store)

    def _restore_jobs(self, runner: FlowRunner) -> None:
        restore_jobs(
            self._parts.jobs,
            self._parts.job_store,
            self._parts.scripts,
            now_ms(),
            on_driven=runner.remember,
            ended_flows=runner.ended_runs(now_ms()),
            on_restored=runner.sweep,
            left=self._left,
        )
        self._left = []

    async def _start_flows(self, nursery: trio.Nursery) -> FlowRunner:
        """Whoever runs flows; it ends before the database does."""
        settings = self._settings
        evaluator = Evaluator(
            settings.flows, max_value_bytes=settings.jobs.max_result_bytes, insecure=settings.sandbox.insecure
        )
        runner = self._parts.flow_runner(evaluator)
        await nursery.start(evaluator.run)
        nursery.start_soon(runner.run)
        nursery.start_soon(self._parts.approvals.run)
        return runner

    async def _serve(self, routes: list[Route[Endpoint]], services: Services) -> None:
        limits = open_files_for(self._settings)
        api = Api(routes, services)
        reload = Reload(
            services, api, self._sockets.tls, read_settings=self._read_settings, deploy=self._deployment.deploy
        )
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
        self._parts.jobs.stop_starting()
        with trio.move_on_after(self._settings.server.grace_s):
            await self._parts.jobs.wait_until_nothing_runs()

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
        token = await self._parts.auth.bootstrap(now_ms())
        if token is not None:
            print(f"admin token (shown only now, keep it): {token}", file=sys.stderr, flush=True)


def _report_error(error: BaseException, request_id: str) -> None:
    logger.error("a request failed", exc_info=error, extra={"request_id": request_id or None})
