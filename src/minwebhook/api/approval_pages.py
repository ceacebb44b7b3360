"""``/approve/…``: the page on which somebody lets a flow go on, or ends it, as ``jobs_u/resume`` and the like do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from minwebhook.api import approval_html, approvals
from minwebhook.api.approval_html import Question
from minwebhook.api.context import Context
from minwebhook.errors import BadRequest, UnsupportedMediaType
from minwebhook.flows.approvals import Place, find_place, find_waiting
from minwebhook.flows.forms import MAX_FIELDS, Field, fields_of, payload_of
from minwebhook.flows.live import LiveFlow
from minwebhook.flows.model import Suspend
from minwebhook.http.codecs import FORM, json_text
from minwebhook.http.messages import Response
from minwebhook.times import rfc3339

_NOT_WAITING: Final = "Nothing to approve"
_NO_SUSPEND: Final = Suspend(1)
#: Bytes of a form, whose escapes take their time.
_MAX_FORM_BYTES: Final = 256 * 1024


async def show_signed(context: Context) -> Response:
    """The page for a signed URL. No token is needed, but the signature."""
    job_id, _, _ = approvals.signed(context)
    try:
        flow = approvals.live_flow(context, approvals.flow_record(context, approvals.job_of(context, job_id)))
        place = find_place(flow, job_id)
    except BadRequest as error:
        return approval_html.tell(_NOT_WAITING, str(error.detail))
    return _ask(context, flow, place)


async def send_signed(context: Context) -> Response:
    """What was filled in on such a page."""
    job_id, resume_id, approver = approvals.signed(context)
    flow = approvals.live_flow(context, approvals.flow_record(context, approvals.job_of(context, job_id)))
    is_approved, payload = _answer(await _form(context), flow, find_place(flow, job_id))
    await approvals.speak(
        context, flow, job_id, payload, is_approved=is_approved, resume_id=resume_id, approver=approver
    )
    return _thank(is_approved=is_approved)


async def show(context: Context) -> Response:
    """The page for the approval token of a flow, or for who is logged in and may approve."""
    record = approvals.admitted(context, context.query.get("token"))
    try:
        flow = find_waiting(approvals.live_flow(context, record), context.services.flow_runner)
    except BadRequest as error:
        return approval_html.tell(_NOT_WAITING, str(error.detail))
    if flow.engine.suspended is None:
        return approval_html.tell(_NOT_WAITING, "The flow does not wait for anybody now.")
    return _ask(context, flow, find_place(flow, flow.job.id))


async def send(context: Context) -> Response:
    """What was filled in on such a page."""
    record = approvals.admitted(context, context.query.get("token"))
    flow = find_waiting(approvals.live_flow(context, record), context.services.flow_runner)
    is_approved, payload = _answer(await _form(context), flow, find_place(flow, flow.job.id))
    await approvals.speak(context, flow, flow.job.id, payload, is_approved=is_approved)
    return _thank(is_approved=is_approved)


def _thank(*, is_approved: bool) -> Response:
    if is_approved:
        return approval_html.tell("Approved", "Your answer is kept. You may close this page.")
    return approval_html.tell("Refused", "Your answer is kept. You may close this page.")


def _ask(context: Context, flow: LiveFlow, place: Place) -> Response:
    said, suspend = _step(flow, place), _suspend(place)
    module, waiting = place.module, flow.engine.suspended
    description = said.get("description")
    until_ms = flow.job.suspend_until_ms if place.is_waiting else None
    known: list[str] = []
    if place.is_waiting and waiting is not None and waiting.job is not None:
        known = [each["approver"] for each in context.services.approvals.approvers(flow.job.id, waiting.job)]
    hindrance = ""
    if not approvals.can_approve(context, place):
        hindrance = "Log in as somebody who may approve this: it is for users, or groups, only."
    return approval_html.ask(
        Question(
            flow.job.spec.path,
            (module.summary or f"Step {module.id}") if module is not None else "Approval",
            description if isinstance(description, str) else "" if description is None else json_text(description).decode(),
            _fields(said, suspend),
            not suspend.hide_cancel,
            known,
            waiting.count if waiting is not None and place.is_waiting else 0,
            "" if until_ms is None else rfc3339(until_ms),
            hindrance,
        )
    )  # fmt: skip


def _step(flow: LiveFlow, place: Place) -> Mapping[str, Any]:
    """What the step has said of the prompt, once it has ended: ``description``, ``default_args``, ``enums``."""
    said = orjson.loads(flow.engine.previous_result()) if place.is_waiting else None
    return said if isinstance(said, dict) else {}


def _suspend(place: Place) -> Suspend:
    return (place.module.suspend if place.module is not None else None) or _NO_SUSPEND


def _fields(said: Mapping[str, Any], suspend: Suspend) -> list[Field]:
    return fields_of((suspend.resume_form or {}).get("schema"), said.get("default_args"), said.get("enums"))


def _answer(form: Mapping[str, str], flow: LiveFlow, place: Place) -> tuple[bool, bytes]:
    """Whether it approves, and the payload."""
    suspend = _suspend(place)
    action = form.get("action", "resume")
    if action not in ("resume", "cancel"):
        raise BadRequest("action: send resume or cancel")
    if action == "cancel":
        if suspend.hide_cancel:
            raise BadRequest("this step cannot be refused on its page")
        return False, b"null"
    return True, json_text(payload_of(_fields(_step(flow, place), suspend), form))


async def _form(context: Context) -> Mapping[str, str]:
    if not (context.request.headers.get("content-type") or "").startswith(FORM):
        raise UnsupportedMediaType(f"send the form as a browser does: {FORM}")
    body = await context.body(most=_MAX_FORM_BYTES)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS + 10))
    except (UnicodeDecodeError, ValueError):
        raise BadRequest("the form cannot be read") from None
