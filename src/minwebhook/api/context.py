"""What every endpoint is given, and the one place where requests are authenticated and authorized.

The route that matched decides what a request needs: its domain and action, whether a token is required. Authorization
never looks at the raw path.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, Protocol
from uuid import UUID

import orjson

from minwebhook.addresses import address_of, client_name
from minwebhook.api.endpoint import Access, Endpoint, Resource, Role
from minwebhook.api.permissions import check_client, check_path, check_role, check_scopes
from minwebhook.audit.log import AuditLog
from minwebhook.audit.record import EXECUTED, Event
from minwebhook.auth.failures import FailedTokens, FailureLimit
from minwebhook.auth.folders import FolderStore, GroupStore
from minwebhook.auth.job_tokens import JobTokens
from minwebhook.auth.passwords import Passwords
from minwebhook.auth.principal import Principal
from minwebhook.auth.request_limits import RequestLimits
from minwebhook.auth.resets import PasswordResets
from minwebhook.auth.store import AuthStore
from minwebhook.auth.token_store import TokenStore
from minwebhook.auth.users import UserStore
from minwebhook.auth.workspace_keys import WorkspaceKeys
from minwebhook.auth.workspaces import WorkspaceStore
from minwebhook.child import values
from minwebhook.db.database import Database
from minwebhook.errors import BadRequest, MissingToken, NotAuthorized, NotFound, PermissionDenied, UnsupportedMediaType
from minwebhook.flows.approvals import Approvals
from minwebhook.flows.locks import FlowLocks
from minwebhook.flows.runner import FlowRunner
from minwebhook.flows.store import FlowStore
from minwebhook.http.codecs import decode_json, prefers_cbor
from minwebhook.http.deadlines import DeadlineQueue
from minwebhook.http.messages import Params, Request
from minwebhook.http.origin import is_cross_site, may_use_cookie
from minwebhook.http.routing import Route
from minwebhook.jobs.executor import Executor
from minwebhook.jobs.health import Health
from minwebhook.jobs.idempotency import IdempotencyKeys
from minwebhook.jobs.large_values import LargeValues
from minwebhook.jobs.model import JobSpec
from minwebhook.jobs.store import JobStore
from minwebhook.jobs.table import JobTable
from minwebhook.observability.figures import Tally, TrafficFigures
from minwebhook.runtimes.engines import Engines
from minwebhook.runtimes.programs import Programs
from minwebhook.schemas.reader import SchemaReader
from minwebhook.scripts.store import ScriptStore
from minwebhook.settings import Settings
from minwebhook.storage.journal import UploadJournal
from minwebhook.storage.uploads import Uploads
from minwebhook.storage.workspaces import WorkspaceStorages
from minwebhook.times import now_ms
from minwebhook.variables.references import References
from minwebhook.variables.resources import ResourceStore
from minwebhook.variables.store import VariableStore
from minwebhook.webhooks.query import Query, parse_uuid

#: Bytes of a body from someone without a token: reading JSON may take the server's loop 0.2 s for each MB.
MAX_STRANGERS_BODY_BYTES: Final = 256 * 1024


@dataclass(slots=True)
class Services:
    """The parts of the program that endpoints use."""

    settings: Settings
    db: Database
    auth: AuthStore
    tokens: TokenStore
    users: UserStore
    workspaces: WorkspaceStore
    workspace_keys: WorkspaceKeys
    folders: FolderStore
    groups: GroupStore
    passwords: Passwords
    #: By account and by address.
    failed_logins: tuple[FailureLimit, FailureLimit]
    failed_tokens: FailedTokens
    #: Requests for new passwords, by account and by address.
    reset_requests: tuple[FailureLimit, FailureLimit]
    resets: PasswordResets
    request_limits: RequestLimits
    job_tokens: JobTokens
    scripts: ScriptStore
    flows: FlowStore
    flow_locks: FlowLocks
    flow_runner: FlowRunner
    approvals: Approvals
    jobs: JobTable
    idempotency: IdempotencyKeys
    job_store: JobStore
    executor: Executor
    #: Sync callers, each for at most ``wait_result_timeout_s``.
    sync_waits: DeadlineQueue
    #: Streams on which nothing happens.
    heartbeats: DeadlineQueue
    #: The description of the API, encoded.
    #: Made when they are first asked for, which takes some 50 ms: to be called in a thread.
    openapi_json: Callable[[], bytes]
    openapi_yaml: Callable[[], bytes]
    storages: WorkspaceStorages
    upload_journal: UploadJournal
    #: Secrets of senders by name.
    hook_secrets: Mapping[str, bytes]
    #: Answered requests by endpoint (None: no route) and status.
    requests: Tally[tuple[Endpoint | None, int]]
    traffic: TrafficFigures
    health: Health
    #: The route of each endpoint.
    routes: dict[Endpoint, Route[Endpoint]]
    variables: VariableStore
    resources: ResourceStore
    references: References
    #: The public URL of the server.
    base_url: str
    audit: AuditLog
    #: Those that run JavaScript here.
    engines: Engines
    #: Of this machine, those that run scripts.
    programs: Programs
    schemas: SchemaReader
    large: LargeValues
    is_draining: bool = False


class Digest(Protocol):
    """A hash of hashlib's."""

    def update(self, data: bytes, /) -> None:
        """More of what is hashed."""

    def digest(self) -> bytes:
        """The hash of it all."""


@dataclass(slots=True)
class Context:
    """One request on its way through an endpoint."""

    request: Request
    params: Params
    services: Services
    #: None on public routes, and for callers without a token where it is optional.
    caller: Principal | None
    endpoint: Endpoint
    #: The job that the request started, for the log.
    started_job: UUID | None = None
    #: What the request is about, for the audit log, if its route does not say.
    audited_resource: str | None = None
    #: Files that came with the request, until a job has them.
    uploads: Uploads | None = None
    #: Takes the body as it comes, if somebody wants to know it again.
    body_digest: Digest | None = None
    _query: Query | None = field(default=None)

    @property
    def principal(self) -> Principal:
        """The caller, who must have a token. Raises :class:`MissingToken`."""
        if self.caller is None:
            raise MissingToken
        return self.caller

    def audited_parameters(self) -> dict[str, str]:
        """What else the audit log says of the request: where it is from, and the public beginning of its token."""
        return _said(self.request.client, None if self.caller is None else self.caller.token_prefix)

    def stamped(self, spec: JobSpec) -> JobSpec:
        """``spec``, which says now where the request came from."""
        spec.origin = _origin(self.request.client, None if self.caller is None else self.caller.token_prefix)
        return spec

    def note_secret(self, path: str) -> None:
        """The audit log says that the caller has read the secret variable at ``path``."""
        self.services.audit.post(
            Event(
                "variables.decrypt_secret",
                EXECUTED,
                self.principal.username,
                self.workspace,
                path,
                now_ms(),
                self.audited_parameters(),
            )
        )

    @property
    def job_workspace(self) -> str | None:
        """The workspace of the job whose token the caller has, and which it does not look out of; None for all others."""
        token = find_token(self.request)
        identity = self.services.job_tokens.find(token) if token is not None else None
        return None if identity is None else identity.workspace

    def on_secret(self, value: str) -> None:
        """The caller gets to know a secret. If it is a job, its log hides it."""
        token = find_token(self.request)
        identity = self.services.job_tokens.find(token) if token is not None else None
        if identity is not None:
            identity.on_secret(value)

    def handing_over_uploads(self) -> AbstractContextManager[None]:
        """Around the submission of the job that gets the files of the request."""
        return nullcontext() if self.uploads is None else self.uploads.handing_over()

    @property
    def workspace(self) -> str:
        """The workspace of the route."""
        return self.params["workspace"]

    @property
    def query(self) -> Query:
        """The decoded query parameters."""
        if self._query is None:
            self._query = Query.of(self.request.query)
        return self._query

    @property
    def wants_cbor(self) -> bool:
        """Whether the caller rather has CBOR than JSON."""
        return prefers_cbor(self.request.headers.get("accept"))

    def job_id(self) -> UUID:
        """The ``{id}`` of the route. Raises :class:`BadRequest`."""
        return parse_uuid(self.params["id"], "job id")

    def number(self, name: str, default: int) -> int:
        """A query parameter that is a whole number, not negative. Raises :class:`BadRequest`."""
        text = self.query.get(name)
        return default if text is None else parse_number(text, name)

    async def body(self, *, most: int | None = None) -> bytes:
        """The whole body, within ``max_body_bytes``, and ``most``: little if there is no caller, who might be anybody."""
        if most is None and self.caller is None:
            most = MAX_STRANGERS_BODY_BYTES
        limit = self.services.settings.http.max_body_bytes
        return await self.request.body.read(limit if most is None else min(most, limit))

    async def json(self, *, exact: bool = False) -> Any:
        """The body as JSON, for endpoints that take nothing else. Raises 415, 400 and, for too many values, 413.

        ``exact`` keeps every digit of large integers.
        """
        content_type = self.request.headers.get("content-type") or ""
        if not content_type.startswith("application/json"):
            raise UnsupportedMediaType("send the body as JSON with Content-Type: application/json")
        body = await self.body()
        await self.services.large.check_count(body)
        value = decode_json(body)
        return values.loads(body) if exact else value


def _said(client: str, token_prefix: str | None) -> dict[str, str]:
    """The client without its port, which says nothing later."""
    address = address_of(client)
    name = client if address is None else client_name(address)
    return {"client": name} if token_prefix is None else {"client": name, "token": token_prefix}


@lru_cache(maxsize=1024)  # few callers make most of the jobs
def _origin(client: str, token_prefix: str | None) -> str:
    return orjson.dumps(_said(client, token_prefix)).decode()


def parse_number(text: str, name: str) -> int:
    """A whole number, not negative. Raises :class:`BadRequest` naming the parameter."""
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise BadRequest(f"{name}: send a whole number, not {text[:40]!r}")
    return int(text)


def authorize(endpoint: Endpoint, request: Request, params: Params, services: Services) -> Principal | None:
    """The caller, if the endpoint may be called by it.

    Raises :class:`MissingToken`, :class:`NotAuthorized`, :class:`PermissionDenied`, and :class:`NotFound` for a workspace.
    """
    workspace = params.get("workspace")
    is_public = endpoint.access is Access.PUBLIC
    token = None if is_public else find_token(request, in_query=not endpoint.has_own_token)
    principal: Principal | None = None
    if token is not None:
        if endpoint.action != "read" and request.headers.get("cookie") is not None:
            _check_origin(endpoint, request, services.settings.server.base_url)
        principal = _principal(token, endpoint, request, workspace, services)
        if principal.networks is not None:
            check_client(principal, request.client)
        if principal.requests_per_minute and principal.token_prefix is not None:
            services.request_limits.take(principal.token_prefix, principal.requests_per_minute, time.monotonic())
        if principal.scopes is not None:
            check_scopes(principal, endpoint)
        if endpoint.role is not Role.MEMBER:
            check_role(principal, endpoint)
        if endpoint.resource is Resource.PATH:
            check_path(principal, endpoint, params["path"])
    elif endpoint.access is Access.TOKEN:
        raise MissingToken
    if workspace is not None and not services.auth.workspace_exists(workspace):
        raise NotFound(f"workspace {workspace} not found")
    return principal


def _check_origin(endpoint: Endpoint, request: Request, base_url: str) -> None:
    """No page of another site runs or changes anything with the cookie of a browser. Raises :class:`PermissionDenied`.

    Runs by POST are let through, as upstream does: browsers do not send our cookie along with those (``SameSite=Lax``).
    """
    if (endpoint.action == "run" and request.method == "POST") or not is_by_cookie(request):
        return
    if is_cross_site(request, base_url) or not may_use_cookie(request, base_url):
        raise PermissionDenied("a page of another site cannot use the cookie for this; send a token of its own")


def _principal(
    token: str, endpoint: Endpoint, request: Request, workspace: str | None, services: Services
) -> Principal:
    """Whom a token stands for. Raises :class:`NotAuthorized`, also where one is optional: a wrong one is never ignored."""
    identity = services.job_tokens.find(token)
    if identity is not None:
        if workspace is not None and workspace != identity.workspace:
            raise NotAuthorized("Unauthorized")
        if endpoint.domain == "users" and endpoint.action == "write":
            raise PermissionDenied("the token of a job cannot make or delete tokens: it would outlive its job")
        principal = services.auth.principal_of(identity.email, workspace)
        return principal if identity.scopes is None else replace(principal, scopes=identity.scopes)
    guesses = services.failed_tokens
    if guesses.is_watching and not services.auth.knows(token):
        guesses.check(request.client, token, time.monotonic())
    try:
        return services.auth.authenticate(token, workspace, now_ms())
    except NotAuthorized:
        guesses.note(request.client, token, time.monotonic())
        raise


def find_token(request: Request, *, in_query: bool = True) -> str | None:
    """The credential: a Bearer field, else the cookie ``token``, else the query parameter. The first one present counts."""
    authorization = request.headers.get("authorization")
    if authorization is not None and authorization.startswith("Bearer "):
        return authorization[7:]
    token = _cookie_token(request)
    if token is not None:
        return token
    return Query(request.query).get("token") if in_query and "token" in request.query else None


def is_by_cookie(request: Request) -> bool:
    """Whether the cookie is the credential: browsers send it whichever page makes the request."""
    authorization = request.headers.get("authorization")
    has_bearer = authorization is not None and authorization.startswith("Bearer ")
    return not has_bearer and _cookie_token(request) is not None


def _cookie_token(request: Request) -> str | None:
    cookie = request.headers.get("cookie")
    if cookie is None or "token" not in cookie:
        return None
    # Not by http.cookies, which takes seconds for a long value with many escapes; tokens have none.
    found = None
    for pair in cookie.split(";"):
        name, _, value = pair.partition("=")
        if name.strip() == "token":
            found = value.strip().strip('"')
    return found or None
