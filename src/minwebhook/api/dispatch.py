"""From a request to its answer: route, authorize, call, and the one place that turns errors into answers and logs."""

from __future__ import annotations

import logging
import time

import orjson

from minwebhook.api.context import Context, Endpoint, Services, authorize
from minwebhook.errors import ApiError
from minwebhook.http.messages import Request, Response
from minwebhook.http.routing import Route, Router

logger = logging.getLogger(__name__)

_SERVER_ERROR = 500


class Api:
    """The handler that the HTTP server calls."""

    def __init__(self, routes: list[Route[Endpoint]], services: Services) -> None:
        self._router: Router[Endpoint] = Router(routes)
        self._services = services

    async def handle(self, request: Request) -> Response:
        """Answers one request; client and server errors become answers, faults of ours are raised."""
        started = time.perf_counter()
        try:
            response = await self._answer(request)
        except ApiError as error:
            response = _error_response(error, request)
        if self._services.settings.server.access_log and logger.isEnabledFor(logging.INFO):
            level = logging.WARNING if response.status >= _SERVER_ERROR else logging.INFO
            logger.log(
                level,
                "request",
                extra={
                    "request_id": request.request_id,
                    "method": request.method,
                    "path": f"{request.path}?{request.query}" if request.query else request.path,
                    "status": response.status,
                    "duration_ms": round((time.perf_counter() - started) * 1000, 2),
                    "peer": request.peer,
                },
            )
        return response

    async def _answer(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            if request.path == "*":
                return Response(204)
            return Response(204, headers=(("Allow", ", ".join(self._router.allowed(request.path))),))
        match = self._router.resolve(request.method, request.path)
        endpoint = match.route.endpoint
        caller = authorize(endpoint, request, match.params, self._services)
        return await endpoint.call(Context(request, match.params, self._services, caller))


def _error_response(error: ApiError, request: Request) -> Response:
    """Plain text with the class prefix; a problem document (RFC 9457) for those who accept it."""
    accept = request.headers.get("accept") or ""
    if "application/problem+json" not in accept:
        return Response(error.status, error.text.encode(), "text/plain; charset=utf-8", error.headers)
    problem = {"type": "about:blank", "title": error.text, "status": error.status, "detail": error.detail}
    return Response(error.status, orjson.dumps(problem), "application/problem+json", error.headers)
