"""``/api/w/{workspace}/jobs/restart/f``: running ended flows again from one of their steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson

from minwebhook.api.context import Context
from minwebhook.api.dead_letters import flow_spec_again
from minwebhook.api.job_access import find_readable, readable_ended
from minwebhook.api.permissions import check_tag
from minwebhook.errors import BadRequest, NotFound
from minwebhook.flows.level import Level, restarted
from minwebhook.flows.model import FlowValue
from minwebhook.flows.reading import read_value
from minwebhook.flows.status import FlowStatus
from minwebhook.http.messages import Response
from minwebhook.jobs.model import DRIVEN_KINDS, FLOW, JobSpec, RestartPoint
from minwebhook.jobs.record import JobRecord
from minwebhook.scripts.fields import integer, text

_COUNT = integer(0, 2**31 - 1)


async def restart_flow(context: Context) -> Response:
    """Runs an ended flow again from one of its steps, or from an iteration or a branch of it, with the results of what was
    before: 201 and the id of the new job."""
    record = readable_ended(context)
    body = await context.json()
    if not isinstance(body, dict):
        raise BadRequest("send an object with step_id, a text")
    if record.kind not in DRIVEN_KINDS or record.flow_status is None:
        raise BadRequest(f"job {record.id} is no flow")
    spec = flow_spec_again(context, record, use_latest_version=False)
    version = body.get("flow_version")
    if version is not None:
        spec = replace(spec, script_hash=_other_version(context, record, version))
    check_tag(context.principal, spec.tag)
    point = _point(body, record.id)
    spec.restarted_from = point if version is None else point._replace(flow_version=spec.script_hash)
    restarted(Level.of(_definition(context, spec)), FlowStatus.parse(record.flow_status), point)
    job = await context.services.jobs.submit(context.stamped(spec))
    context.started_job = job.id
    return Response.text(str(job.id), 201)


def restart_of_preview(context: Context, value: FlowValue, body: Any) -> RestartPoint:
    """Where a flow that comes with a request goes on: ``{"flow_job_id", "step_id", "branch_or_iteration_n"}``.

    Raises :class:`BadRequest`, and :class:`NotFound` for a job that is not there for the caller.
    """
    if not isinstance(body, dict) or not isinstance(body.get("flow_job_id"), str):
        raise BadRequest("restarted_from: send an object with flow_job_id and step_id")
    try:
        job_id = UUID(body["flow_job_id"])
    except ValueError:
        raise BadRequest("restarted_from.flow_job_id: send the id of a job") from None
    record = find_readable(context, job_id)
    if record is None:
        raise NotFound(f"Job {job_id} not found")
    if record.kind not in DRIVEN_KINDS or record.flow_status is None or not record.state.is_final or record.deleted:
        raise BadRequest(f"restarted_from: job {job_id} is no flow that has ended")
    point = _point(body, job_id)
    restarted(Level.of(value), FlowStatus.parse(record.flow_status), point)
    return point


def _point(body: dict[str, Any], job_id: UUID) -> RestartPoint:
    if body.get("step_id") is None:
        raise BadRequest("send step_id, a text")
    count = body.get("branch_or_iteration_n")
    kept = 0 if count is None else _COUNT("branch_or_iteration_n", count)
    return RestartPoint(job_id, text("step_id", body["step_id"]), kept)


def _definition(context: Context, spec: JobSpec) -> FlowValue:
    if spec.kind != FLOW:
        return read_value(orjson.loads(spec.source))
    version = context.services.flows.version(spec.workspace, spec.script_hash or 0)
    assert version is not None  # noqa: S101 - flow_spec_again has looked
    return version.flow


def _other_version(context: Context, record: JobRecord, number: object) -> int:
    """Another version of the same flow."""
    if isinstance(number, bool) or not isinstance(number, int):
        raise BadRequest("flow_version: send the number of a version")
    version = context.services.flows.version(record.workspace, number)
    if version is None or version.path != record.path:
        raise BadRequest(f"flow_version: {record.path} has no version {number}")
    return version.id
