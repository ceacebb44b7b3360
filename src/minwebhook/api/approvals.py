"""``/api/w/{workspace}/jobs*/resume*``, ``…/cancel/…``, ``…/flow/*``: letting waiting flows go on, or ending them.

Whoever has a signature may speak for one job and number; whoever has the token of the page for approvals for its flow; others by
their rights on the flow. A step may want a login besides (``approval_conditions``): see
:func:`~minwebhook.flows.approvals.check_approver`.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

import orjson

from minwebhook.api.context import Context, is_by_cookie
from minwebhook.api.job_access import find, may_read, readable
from minwebhook.auth.principal import Principal
from minwebhook.auth.rights import may_write
from minwebhook.child import values
from minwebhook.errors import BadRequest, NotAuthorized, NotFound, PermissionDenied
from minwebhook.flows.approvals import Message, Place, check_approver, find_place, find_waiting
from minwebhook.flows.live import LiveFlow
from minwebhook.flows.signatures import (
    MAX_RESUME_ID,
    approval_signature,
    approval_token,
    is_approval_signature,
    is_approval_token,
    number_of,
)
from minwebhook.http.codecs import decode_json, json_text
from minwebhook.http.messages import Response
from minwebhook.http.origin import is_cross_site
from minwebhook.jobs.environment import CONTEXTUAL
from minwebhook.jobs.record import JobRecord
from minwebhook.times import rfc3339
from minwebhook.variables.references import holds_references
from minwebhook.webhooks.arguments import decode_any_payload

_MAX_APPROVER_CHARACTERS: Final = 255
#: Bytes of what is sent to a flow that waits.
MAX_PAYLOAD_BYTES: Final = 1024 * 1024


async def job_signature(context: Context) -> Response:
    """The signature for a job and a number, and perhaps the name of who is to use it: as text."""
    record, resume_id, approver = readable(context), _resume_id(context), _approver(context)
    key = _key(context)
    return Response.text(approval_signature(key, record.id, resume_id, approver))


async def resume_urls(context: Context) -> Response:
    """The URLs that resume the flow of a job, end it, and show a page for both.

    With ``flow_level=true`` they are for the flow, and count for the first of its steps that waits.
    """
    record, resume_id, approver = readable(context), _resume_id(context), _approver(context)
    flow_id = _flow_id(record) or record.id
    job_id = flow_id if context.query.flag("flow_level") else record.id
    key = _key(context)
    base, workspace = context.services.base_url.rstrip("/"), context.workspace
    end = f"{job_id}/{resume_id}/{approval_signature(key, job_id, resume_id, approver)}"
    if approver:
        end += f"?approver={quote(approver, safe='')}"
    shown = {
        "approvalPage": f"{base}/approve/{workspace}/{flow_id}?token={approval_token(key, flow_id)}",
        "cancel": f"{base}/api/w/{workspace}/jobs_u/cancel/{end}",
        "resume": f"{base}/api/w/{workspace}/jobs_u/resume/{end}",
    }
    return Response.json(orjson.dumps(shown))


async def resume(context: Context) -> Response:
    """Lets the flow of a job go on; the steps behind see what is sent as ``resume``. No token is needed, but the signature."""
    return await _speak_signed(context, is_approved=True)


async def cancel(context: Context) -> Response:
    """Ends the flow of a job that waits: disapproves. No token is needed, but the signature."""
    return await _speak_signed(context, is_approved=False)


async def get_flow(context: Context) -> Response:
    """The flow of a job, and who has approved so far. No token is needed, but the signature."""
    job_id, _, _ = signed(context)
    record = job_of(context, job_id)
    flow = flow_record(context, record)
    approvers = context.services.approvals.approvers(flow.id, job_id)
    return Response.json(orjson.dumps({"job": flow.to_json(), "approvers": approvers}))


async def resume_flow(context: Context) -> Response:
    """Lets a flow go on that waits; for those who may change it."""
    record = flow_record(context, readable(context))
    flow = _waiting_flow(context, record)
    if not _has_rights(context.principal, flow):
        raise PermissionDenied("only who may change the flow, or has started it, may resume it without a signature")
    return await speak(context, flow, flow.job.id, await _payload(context), is_approved=True)


async def resume_suspended(context: Context) -> Response:
    """Lets a flow go on that waits, or ends it (``approved`` false): with the token of its page, or a login."""
    body = await context.json(exact=True)
    if not isinstance(body, dict):
        raise BadRequest("send a JSON object with payload, approval_token and approved")
    is_approved = body.get("approved", True)
    if not isinstance(is_approved, bool):
        raise BadRequest("approved: send true or false")
    record = admitted(context, body.get("approval_token"))
    flow = _waiting_flow(context, record)
    return await speak(context, flow, flow.job.id, json_text(body.get("payload")), is_approved=is_approved)


async def approval_info(context: Context) -> Response:
    """What a page for approvals shows of a flow: its form, and whether the caller may approve."""
    record = admitted(context, context.query.get("token"))
    runner = context.services.flow_runner
    flow = runner.find(record.id)
    flow = None if flow is None else find_waiting(flow, runner)
    if flow is None or flow.engine.suspended is None:
        shown: dict[str, Any] = {"is_waiting": False, "can_approve": False, "approvers": []}
    else:
        shown = _waiting_info(context, flow, find_place(flow, flow.job.id))
    shown |= {"flow_id": str(record.id), "flow_path": record.path, "workspace_id": context.workspace}
    return Response.json(orjson.dumps(shown))


def _waiting_info(context: Context, flow: LiveFlow, place: Place) -> dict[str, Any]:
    waiting, module = flow.engine.suspended, place.module
    assert waiting is not None and waiting.job is not None and module is not None  # noqa: S101 - it waits
    suspend = module.suspend
    assert suspend is not None  # noqa: S101 - or it would not wait
    conditions = place.conditions or {}
    said = orjson.loads(flow.engine.previous_result())
    said = said if isinstance(said, dict) else {}
    until_ms = flow.job.suspend_until_ms
    return {
        "is_waiting": True,
        "job_id": str(waiting.job),
        "step_id": module.id,
        "summary": module.summary,
        "required_events": waiting.count,
        "until": rfc3339(until_ms) if until_ms is not None else None,
        "form_schema": (suspend.resume_form or {}).get("schema"),
        "description": said.get("description"),
        "default_args": said.get("default_args"),
        "enums": said.get("enums"),
        "hide_cancel": suspend.hide_cancel,
        "user_auth_required": bool(conditions),
        "user_groups_required": conditions.get("user_groups_required", []),
        "self_approval_disabled": conditions.get("self_approval_disabled", False),
        "can_approve": can_approve(context, place),
        "approvers": context.services.approvals.approvers(flow.job.id, waiting.job),
    }


def can_approve(context: Context, place: Place) -> bool:
    caller = _caller(context)
    try:
        check_approver(place, caller, _groups(context, caller))
    except (NotAuthorized, PermissionDenied):
        return False
    return True


# --- who speaks ---------------------------------------------------------------------------------------------------------


async def _speak_signed(context: Context, *, is_approved: bool) -> Response:
    job_id, resume_id, approver = signed(context)  # before the body, which might be anybody's
    payload = await _payload(context)
    flow = live_flow(context, flow_record(context, job_of(context, job_id)))
    return await speak(context, flow, job_id, payload, is_approved=is_approved, resume_id=resume_id, approver=approver)


async def speak(
    context: Context,
    flow: LiveFlow,
    job_id: UUID,
    payload: bytes,
    *,
    is_approved: bool,
    resume_id: int | None = None,
    approver: str | None = None,
) -> Response:
    """Stores the message: 201 and an empty answer. Without a number a speaker has one word for each step that waits."""
    _check_texts(payload, approver)
    place, caller = find_place(flow, job_id), _caller(context)
    check_approver(place, caller, _groups(context, caller))
    if caller is not None and (approver is None or place.conditions is not None):
        approver = caller.username
    waiting = flow.engine.suspended
    if resume_id is None:
        resume_id = number_of(approver or "")
        if place.is_waiting and waiting is not None and waiting.job is not None:
            job_id = waiting.job
    context.audited_resource = flow.job.spec.path or str(flow.job.id)
    message = Message(context.workspace, flow.job.id, job_id, resume_id, is_approved, payload, approver)
    await context.services.approvals.send(message, context.services.flow_runner)
    return Response(201)


def _check_texts(payload: bytes, approver: str | None) -> None:
    """The steps behind run for whoever started the flow: nobody else names what they read. Raises :class:`BadRequest`."""
    said = [values.loads(payload) if b"$" in payload or b"\\u" in payload else None, approver]
    if holds_references(said, CONTEXTUAL):
        raise BadRequest(
            "texts that name variables and resources ($var:, $res:, …) cannot be sent to a flow that waits"
        )


def signed(context: Context) -> tuple[UUID, int, str | None]:
    """Job, number and name that the URL is signed for. Raises :class:`PermissionDenied` if it is not."""
    job_id, resume_id, approver = context.job_id(), _resume_id(context), _approver(context)
    key = _key(context)
    if not is_approval_signature(key, context.params["signature"], job_id, resume_id, approver):
        raise PermissionDenied("Invalid signature")
    return job_id, resume_id, approver


def admitted(context: Context, token: Any) -> JobRecord:
    """The flow of the route, if the caller may have to do with its approvals at all.

    Yes with its token, with rights on it, or as one of those whom it asks. Raises :class:`NotAuthorized` and
    :class:`PermissionDenied`.
    """
    caller = _caller(context)
    if not token and caller is None:
        raise NotAuthorized("log in, or open the page with the URL that was sent to you")
    record = flow_record(context, job_of(context, context.job_id()))
    if token:
        key = _key(context)
        if not is_approval_token(key, str(token), record.id):
            raise NotAuthorized("the token is not for this flow")
        return record
    if may_read(context, record):  # may change it, where the endpoint changes something
        return record
    flow = context.services.flow_runner.find(record.id)
    if flow is not None and caller is not None and caller.scopes is None:
        conditions = find_waiting(flow, context.services.flow_runner).engine.status.approval_conditions or {}
        if not _groups(context, caller).isdisjoint(map(str, conditions.get("user_groups_required", ()))):
            return record
    raise PermissionDenied("you have no rights on this flow; open the page with the URL that was sent to you")


def _has_rights(caller: Principal, flow: LiveFlow) -> bool:
    spec = flow.job.spec
    return caller.is_admin or spec.permissioned_as == caller.permissioned_as or may_write(caller, spec.path)


def _key(context: Context) -> str:
    """What signs in the workspace; with another key no signature counts any more."""
    key = context.services.workspace_keys.find(context.workspace)
    if key is None:
        raise NotFound(f"workspace {context.workspace} has no key to sign with")
    return key


def _caller(context: Context) -> Principal | None:
    """Who speaks. The cookie of a browser says nothing where a page of another site may have sent it."""
    request, base_url = context.request, context.services.settings.server.base_url
    is_doubtful = context.caller is not None and is_by_cookie(request) and is_cross_site(request, base_url)
    return None if is_doubtful else context.caller


def _groups(context: Context, caller: Principal | None) -> frozenset[str]:
    if caller is None:
        return frozenset()
    return frozenset(context.services.auth.rights(context.workspace, caller.username).groups)


# --- what is spoken of --------------------------------------------------------------------------------------------------


def job_of(context: Context, job_id: UUID) -> JobRecord:
    record = find(context, job_id)
    if record is None:
        raise NotFound(f"Job not found at name {job_id}")
    return record


def flow_record(context: Context, record: JobRecord) -> JobRecord:
    """The flow that a job is a step of, or is. Raises :class:`BadRequest` for all other jobs."""
    if record.is_flow:
        return record
    flow_id = _flow_id(record)
    flow = find(context, flow_id) if flow_id is not None else None
    if flow is None or not flow.is_flow:
        raise BadRequest(f"job {record.id} is no step of a flow: nothing waits for it")
    return flow


def _flow_id(record: JobRecord) -> UUID | None:
    """The flow that a job is a step of. Who starts a job may name any job as its parent, but not give it a step."""
    return record.parent_job if record.step_id else None


def live_flow(context: Context, record: JobRecord) -> LiveFlow:
    flow = context.services.flow_runner.find(record.id)
    if flow is None or flow.job.state.is_final:
        raise BadRequest(f"flow {record.id} has ended, or has not begun: it does not wait")
    return flow


def _waiting_flow(context: Context, record: JobRecord) -> LiveFlow:
    """The flow, or the part of it that waits."""
    return find_waiting(live_flow(context, record), context.services.flow_runner)


def _resume_id(context: Context) -> int:
    text = context.params["resume_id"]
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= MAX_RESUME_ID):
        raise BadRequest(f"resume_id: send a whole number up to {MAX_RESUME_ID}, not {text[:40]!r}")
    return int(text)


def _approver(context: Context) -> str | None:
    name = context.query.get("approver") or None
    if name is not None and len(name) > _MAX_APPROVER_CHARACTERS:
        raise BadRequest(f"approver: send at most {_MAX_APPROVER_CHARACTERS} characters")
    return name


async def _payload(context: Context) -> bytes:
    """The body as JSON, or the query parameter ``payload`` of a GET; null if there is none."""
    if context.request.method == "GET":
        sent = context.query.get("payload")
        return b"null" if not sent else decode_any_payload(sent)[0]
    body = await context.body(most=MAX_PAYLOAD_BYTES)
    if not body.strip():
        return b"null"
    decode_json(body)
    return values.dumps(values.loads(body)).encode()
