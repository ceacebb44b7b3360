"""From a request to its answer: route, authorize, call, and the one place that turns errors into answers and logs."""

from __future__ import annotations

import logging
import time
from uuid import UUID

import orjson

from minwebhook.api.auditing import call_audited
from minwebhook.api.context import Context, Services, authorize
from minwebhook.api.endpoint import Endpoint
from minwebhook.api.security_headers import secure
from minwebhook.auth.principal import Principal
from minwebhook.errors import ApiError, NotFound, Unavailable
from minwebhook.http.messages import Request, Response
from minwebhook.http.routing import Route, Router
from minwebhook.http.transport import Disconnected

logger = logging.getLogger(__name__)

_SERVER_ERROR = 500
#: As which a request is counted whose client left before the answer (nginx's word for it).
_CLIENT_LEFT = 499
_ANY_ORIGIN = ("Access-Control-Allow-Origin", "*")
#: What a preflight is told, whatever it asked (upstream's answer).
_PREFLIGHT = (
    _ANY_ORIGIN,
    ("Access-Control-Allow-Methods", "GET,POST"),
    ("Access-Control-Allow-Headers", "content-type,authorization"),
)


class Api:
    """The handler that the HTTP server calls."""

    def __init__(self, routes: list[Route[Endpoint]], services: Services) -> None:
        self._router: Router[Endpoint] = Router(routes)
        self._services = services
        self._requests = services.requests
        self._logs_access = False
        self.reconfigure()

    def reconfigure(self) -> None:
        """The settings, or the level of the log, have changed."""
        self._logs_access = self._services.settings.server.access_log and logger.isEnabledFor(logging.INFO)

    async def handle(self, request: Request) -> Response:
        """Answers one request; errors made for callers become answers, faults of ours are raised."""
        started = time.perf_counter()
        context: Context | None = None
        endpoint: Endpoint | None = None
        is_nowhere = False
        try:
            if request.method == "OPTIONS":
                response = self._options(request)
            else:
                match = self._router.resolve(request.method, request.path)
                endpoint = match.route.endpoint
                caller = authorize(endpoint, request, match.params, self._services)
                context = Context(request, match.params, self._services, caller, endpoint)
                if endpoint.audited is None:
                    response = await endpoint.call(context)
                else:
                    response = await call_audited(context, endpoint)
        except ApiError as error:
            response = _error_response(error, request)
            is_nowhere = endpoint is None and isinstance(error, NotFound)
        except Exception as error:
            status = _CLIENT_LEFT if isinstance(error, Disconnected) else _SERVER_ERROR
            self._requests.add((endpoint, status), time.perf_counter() - started)
            raise
        finally:
            if context is not None and context.uploads is not None:
                await context.uploads.discard()  # noqa: ASYNC102 - it bounds itself
        if endpoint.cors if endpoint is not None else not is_nowhere and self._has_cors(request.path):
            _allow_any_origin(response)
        secure(
            response,
            is_scripts=endpoint is not None and endpoint.action == "run",
            trusts_scripts=self._services.settings.server.trust_script_pages,
        )
        if context is not None and context.caller is not None and context.caller.requests_per_minute:
            self._tell_limit(response, context.caller)
        took_s = time.perf_counter() - started
        self._requests.add((endpoint, response.status), took_s)
        # That there is too much is not the server's fault, and a line for each would make it more.
        if self._logs_access or (response.status >= _SERVER_ERROR and response.status != Unavailable.status):
            _log(request, response, took_s, context.started_job if context else None)
        return response

    def _tell_limit(self, response: Response, caller: Principal) -> None:
        """How many requests the caller's token may still make, unless the answer tells of another limit."""
        if caller.token_prefix is not None and not any(name == "RateLimit" for name, _ in response.headers):
            limits = self._services.request_limits
            response.headers += limits.fields(caller.token_prefix, caller.requests_per_minute, time.monotonic())

    def _has_cors(self, path: str) -> bool:
        """Whether pages of any origin may read why no endpoint was found."""
        try:
            return any(route.endpoint.cors for route in self._router.at(path))
        except NotFound:
            return False

    def _options(self, request: Request) -> Response:
        """Which methods there are, to whom; and the handshake of CloudEvents senders (webhook spec, section 4)."""
        if request.path == "*":
            return Response(204)
        allow = ("Allow", ", ".join(self._router.allowed(request.path)))
        endpoints = [route.endpoint for route in self._router.at(request.path)]
        if not any(endpoint.cors for endpoint in endpoints):
            return Response(204, headers=(allow,))
        headers = [allow, *_PREFLIGHT]
        origin = request.headers.get("webhook-request-origin")
        if origin and any(endpoint.cors and endpoint.action == "run" for endpoint in endpoints):
            headers += [("Webhook-Allowed-Origin", origin), ("Webhook-Allowed-Rate", "*")]
        return Response(200, headers=tuple(headers))


def _allow_any_origin(response: Response) -> None:
    """Unless the script has said who may read its answer."""
    if not any(name.lower() == "access-control-allow-origin" for name, _ in response.headers):
        response.headers += (_ANY_ORIGIN,)


def _error_response(error: ApiError, request: Request) -> Response:
    """Plain text with the class prefix; a problem document (RFC 9457) for those who accept it."""
    accept = request.headers.get("accept") or ""
    if "application/problem+json" not in accept:
        return Response(error.status, error.text.encode(), "text/plain", error.headers)
    problem = {"type": "about:blank", "title": error.text, "status": error.status, "detail": error.detail}
    return Response(error.status, orjson.dumps(problem), "application/problem+json", error.headers)


def _log(request: Request, response: Response, took_s: float, job_id: UUID | None) -> None:
    logger.log(
        logging.WARNING if response.status >= _SERVER_ERROR else logging.INFO,
        "request",
        extra={
            "request_id": request.request_id,
            "job_id": None if job_id is None else str(job_id),
            "method": request.method,
            "path": f"{request.path}?{request.query}" if request.query else request.path,
            "status": response.status,
            "duration_ms": round(took_s * 1000, 2),
            "client": request.client,
        },
    )
