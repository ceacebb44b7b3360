"""``/api/w/{workspace}/jobs/run/batch_rerun_jobs``: running many ended jobs again, with other arguments if that is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from minwebhook.api.context import Context
from minwebhook.api.dead_letters import run_again
from minwebhook.api.job_access import find_readable, parse_ids
from minwebhook.child import values
from minwebhook.errors import ApiError, BadRequest
from minwebhook.flows.expressions import NOT_PLAIN, resolve
from minwebhook.flows.model import InputTransform, Javascript, Static
from minwebhook.flows.reading import read_transforms
from minwebhook.http.codecs import json_text
from minwebhook.http.messages import Response
from minwebhook.jobs.model import FLOW
from minwebhook.jobs.record import JobRecord
from minwebhook.scripts.fields import boolean, json_object
from minwebhook.scripts.model import hash_to_hex
from minwebhook.times import rfc3339

#: Jobs that one request runs again.
MAX_RERUN: Final = 1000


@dataclass(frozen=True, slots=True)
class _Options:
    """What is different for the jobs of one path."""

    inputs: Mapping[str, InputTransform] = field(default_factory=dict)
    use_latest_version: bool = False

    @classmethod
    def parse(cls, name: str, value: Any) -> _Options:
        """``{"input_transforms"?: {name: transform}, "use_latest_version"?: bool}``. Raises :class:`BadRequest`."""
        obj = json_object(name, value)
        latest = obj.get("use_latest_version")
        return cls(
            read_transforms(f"{name}.input_transforms", obj.get("input_transforms") or {}),
            latest is not None and boolean(f"{name}.use_latest_version", latest),
        )

    def arguments(self, record: JobRecord) -> bytes | None:
        """JSON text of the arguments of the new run; None for those of the old one.

        Expressions are paths of ``job``: ``job.input.x``, ``job.id``, ``job.scheduled_at``, ``job.script_path``,
        ``job.script_hash``. Raises :class:`BadRequest` for others.
        """
        if not self.inputs:
            return None
        made: dict[str, Any] = values.loads(record.arguments or b"{}")
        job = {
            "id": str(record.id),
            "scheduled_at": rfc3339(record.scheduled_for_ms),
            "script_path": record.path,
            "script_hash": None if record.script_hash is None else hash_to_hex(record.script_hash),
            "input": dict(made),
        }
        for name, each in self.inputs.items():
            if isinstance(each, Static):
                made[name] = each.value
            elif isinstance(each, Javascript):
                made[name] = resolve(each.expr, {"job": job})
                if made[name] is NOT_PLAIN:
                    raise BadRequest(f"input_transforms.{name}: an expression can be a path like job.input.{name} here")
        return json_text(made)


async def batch_rerun(context: Context) -> Response:
    """Runs ended jobs again: 201 and one line for each, the id of the new job, or ``Error:`` and why there is none.

    Those are on disk when it answers. A job that cannot be run again does not keep the others from it.
    """
    body = json_object("the body", await context.json())
    job_ids = parse_ids(body.get("job_ids"))
    if len(job_ids) > MAX_RERUN:
        raise BadRequest(f"job_ids: send at most {MAX_RERUN}")
    scripts = _by_path(body, "script_options_by_path")
    flows = _by_path(body, "flow_options_by_path")
    lines = []
    for job_id in job_ids:
        try:
            lines.append(await _rerun(context, job_id, scripts, flows))
        except ApiError as error:
            lines.append(f"Error: {' '.join(error.detail.split())}")
    return Response(201, "".join(f"{line}\n" for line in lines).encode(), "text/event-stream")


def _by_path(body: Mapping[str, Any], name: str) -> dict[str, _Options]:
    found = body.get(name)
    options = {} if found is None else json_object(name, found)
    return {path: _Options.parse(f"{name}.{path}", each) for path, each in options.items()}


async def _rerun(context: Context, job_id: UUID, scripts: Mapping[str, _Options], flows: Mapping[str, _Options]) -> str:
    record = find_readable(context, job_id)
    if record is None:
        raise BadRequest(f"job {job_id} was not found")
    if not record.state.is_final:
        raise BadRequest(f"job {job_id} has not ended")
    options = (flows if record.kind == FLOW else scripts).get(record.path or "", _Options())
    arguments = None if record.deleted else options.arguments(record)
    job = await run_again(context, record, use_latest_version=options.use_latest_version, arguments=arguments)
    return str(job.id)
