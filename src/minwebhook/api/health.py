"""Health for load balancers and people, and metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson
import trio

import minwebhook
from minwebhook.api.context import Context, Services
from minwebhook.api.endpoint import Endpoint
from minwebhook.db.copies import COMPANIONS
from minwebhook.errors import AdminRequired
from minwebhook.http.messages import Request, Response
from minwebhook.http.routing import Route
from minwebhook.jobs.health import State
from minwebhook.observability.metrics import Readings
from minwebhook.times import rfc3339

_STATUS: Final = {"healthy": 1.0, "degraded": 0.5, "unhealthy": 0.0}
#: Upstream groups its workers; there is one group here.
_GROUP: Final = "default"


async def status(context: Context) -> Response:
    """Whether the server can do its work: 200, or 503 when nothing can be stored or it is shutting down.

    ``degraded`` is 200: it works, but not all of it. What was seen is up to five seconds old, with ``force`` one.
    """
    services = context.services
    state = await _look(context)
    name = "unhealthy" if services.is_draining else state.status
    shown: dict[str, Any] = {
        "status": name,
        "checked_at": rfc3339(state.checked_at_ms),
        "database_healthy": not state.store_trouble,
        "workers_alive": services.settings.worker_count if state.is_fork_server_running else 0,
    }
    if services.is_draining:
        shown["draining"] = True
    return Response.json(orjson.dumps(shown), 503 if name == "unhealthy" else 200)


async def ready(context: Context) -> Response:
    """Whether new requests are welcome: 200, or 503 with the reasons why not."""
    return await _ready(context.services)


async def _ready(services: Services) -> Response:
    state = await services.health.look()
    reasons = (["the server is shutting down"] if services.is_draining else []) + state.reasons
    return Response.json(orjson.dumps({"ready": not reasons, "reasons": reasons}), 503 if reasons else 200)


async def detailed(context: Context) -> Response:
    """Everything that was looked at, for whoever has a token. The status is that of ``health/status``."""
    services = context.services
    state = await _look(context)
    name = "unhealthy" if services.is_draining else state.status
    open_readers, idle_readers, max_readers = services.db.reader_counts
    sandbox = services.health.sandbox
    shown = {
        "status": name,
        "checked_at": rfc3339(state.checked_at_ms),
        "version": minwebhook.__version__,
        "reasons": state.reasons,
        "draining": services.is_draining,
        "checks": {
            "database": {
                "healthy": not state.store_trouble,
                "latency_ms": round(state.store_latency_s * 1000, 2),
                "pool": {"size": open_readers, "idle": idle_readers, "max_connections": max_readers},
            },
            "workers": {
                "healthy": state.is_fork_server_running,
                "active_count": services.settings.worker_count,
                "worker_groups": [_GROUP],
                "min_version": minwebhook.__version__,
                "versions": [minwebhook.__version__],
            },
            "queue": {
                "pending_jobs": state.queued,
                "running_jobs": state.running,
                "oldest_pending_s": round(state.oldest_due_s, 3),
            },
            "disk": {"healthy": not state.is_disk_low, "free_bytes": state.disk_free_bytes},
            "sandbox": {
                "rung": sandbox.rung,
                "description": sandbox.description,
                "missing": [{"name": each.name, "reason": each.reason, "cure": each.cure} for each in sandbox.missing],
            },
            "readiness": {"healthy": not (state.reasons or services.is_draining)},
        },
    }
    return Response.json(orjson.dumps(shown), 503 if name == "unhealthy" else 200)


async def metrics(context: Context) -> Response:
    """Figures for Prometheus, in its text format or OpenMetrics; for super admins, or public by ``metrics_public``."""
    services = context.services
    if not services.settings.server.metrics_public and not context.principal.is_super_admin:
        raise AdminRequired(context.principal.username)
    return await _metrics(services, context.request.headers.get("accept") or "")


def probe_handler(services: Services) -> Callable[[Request], Any]:
    """What answers on the addresses of ``metrics_listen``: ``/metrics`` and ``/readyz``, without a token, and no more."""

    async def handle(request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return Response.text("method not allowed, use GET, HEAD", 405, (("Allow", "GET, HEAD"),))
        if request.path == "/metrics":
            return await _metrics(services, request.headers.get("accept") or "")
        if request.path == "/readyz":
            return await _ready(services)
        return Response.text("Not found: /metrics and /readyz are here", 404)

    return handle


async def _look(context: Context) -> State:
    return await context.services.health.look(force=context.query.flag("force"))


async def _metrics(services: Services, accept: str) -> Response:
    state = await services.health.look()
    readings = read(services, state)
    body, content_type = await trio.to_thread.run_sync(_render, readings, accept)
    return Response(200, body, content_type)


def read(services: Services, state: State) -> Readings:
    """All figures as they are now."""
    readings = Readings()
    jobs, db, traffic, fleet = services.jobs, services.db, services.traffic, services.health.fleet
    readings.set("info", 1, minwebhook.__version__, services.health.sandbox.rung)
    readings.set("health", 0.0 if services.is_draining else _STATUS[state.status])
    readings.set("ready", not (state.reasons or services.is_draining))
    routes = services.routes
    for (endpoint, code), (count, seconds) in services.requests.entries.items():
        method, pattern = _names(routes, endpoint)
        readings.set("http_requests", count, method, pattern, str(code))
        readings.set("http_request_seconds", seconds, method, pattern, str(code))
    readings.set("http_connections_accepted", traffic.accepted)
    readings.set("http_connections", traffic.connections)
    readings.set("http_streams", traffic.streams)
    readings.set("http_websockets", traffic.websockets)
    readings.set_all("jobs_ended", {(name,): count for name, count in jobs.figures.by_state.items()})
    readings.set("jobs_queued", jobs.queued_count)
    readings.set("jobs_running", jobs.running_count)
    readings.set("jobs_unsaved", jobs.unsaved_count)
    readings.set("jobs_oldest_due_seconds", state.oldest_due_s)
    readings.set_histogram("job_queue_seconds", jobs.figures.queue_s)
    readings.set_histogram("job_start_seconds", jobs.figures.start_s)
    readings.set_histogram("job_run_seconds", jobs.figures.run_s)
    readings.set("workers", services.settings.worker_count)
    running = [family.zygote.is_running for family in fleet.families]
    readings.set("fork_servers", sum(running), "yes")
    readings.set("fork_servers", len(running) - sum(running), "no")
    for language in fleet.families[0].pools:
        pools = [family.pools[language] for family in fleet.families]
        readings.set("children", sum(pool.ready_count for pool in pools), language, "ready")
        readings.set("children", sum(pool.starting_count for pool in pools), language, "starting")
        readings.set("children", sum(pool.waiting_count for pool in pools), language, "wanted")
    readings.set("dedicated_children", services.executor.dedicated_count)
    readings.set_histogram("db_commit_seconds", db.figures.commits)
    readings.set("db_writes", db.figures.writes)
    readings.set("db_failed_transactions", db.figures.failures)
    readings.set("db_pending_writes", db.pending_count)
    readings.set("db_bytes", _size(services, ""))
    readings.set("db_wal_bytes", _size(services, COMPANIONS[0]))
    readings.set("disk_free_bytes", state.disk_free_bytes)
    return readings


def _names(routes: dict[Endpoint, Route[Endpoint]], endpoint: Endpoint | None) -> tuple[str, str]:
    """Method and template; of what has no route nothing is said, because anybody may make up any number of it."""
    route = routes.get(endpoint) if endpoint is not None else None
    return (route.method, route.pattern) if route is not None else ("", "")


def _size(services: Services, suffix: str) -> int:
    path = services.db.path
    try:
        return path.with_name(path.name + suffix).stat().st_size
    except FileNotFoundError:
        return 0


def _render(readings: Readings, accept: str) -> tuple[bytes, str]:
    from minwebhook.observability.exposition import render  # noqa: PLC0415 - large, and not every server is asked

    return render(readings, accept)
