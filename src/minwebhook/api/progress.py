"""``/api/w/{workspace}/job_metrics``: what a job says of its own progress, in percent."""

from __future__ import annotations

from typing import Final

from minwebhook.api.context import Context
from minwebhook.api.fields import Fields
from minwebhook.api.job_access import readable
from minwebhook.errors import BadRequest, NotFound
from minwebhook.http.codecs import json_text
from minwebhook.http.messages import Response
from minwebhook.webhooks.query import parse_uuid

#: As far as a job can be that has not ended.
_MOST: Final = 99


async def get_progress(context: Context) -> Response:
    """What the job said last; null if it said nothing."""
    return Response.json(json_text(readable(context).options.percent))


async def set_progress(context: Context) -> Response:
    """The job has come to this percentage, between 0 and 99; it never goes back. 404 if the job does not run.

    In memory while it runs, on disk with its end: a run that is interrupted begins anew.
    """
    record = readable(context)
    fields = Fields(await context.json())
    percent = fields.get("percent")
    if isinstance(percent, bool) or not isinstance(percent, int):
        raise BadRequest("percent: send a whole number from 0 to 99")
    if (flow_job := fields.text("flow_job_id")) is not None:  # the flow shows its steps' progress anyway
        parse_uuid(flow_job, "flow_job_id")
    jobs = context.services.jobs
    job = jobs.get(record.id)
    if job is None or job.state.is_final:
        raise NotFound(f"job {record.id} does not run")
    percent = max(job.percent or 0, min(percent, _MOST))
    if percent != job.percent:
        job.percent = percent
        jobs.watchers.tell(job.id)
        if job.spec.step_id and job.spec.parent_job is not None:
            jobs.watchers.tell(job.spec.parent_job)
    return Response.json(json_text(percent))
