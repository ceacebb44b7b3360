"""``/api/w/{workspace}/jobs/flow/user_states``: what scripts keep in the flow that they are part of, by key."""

from __future__ import annotations

from typing import Any, Final

import orjson

from minwebhook.api.context import Context
from minwebhook.api.job_access import readable
from minwebhook.errors import BadRequest, NotFound, PayloadTooLarge
from minwebhook.flows.status import FlowStatus
from minwebhook.http.codecs import json_text
from minwebhook.http.messages import Response

#: Of one value: states are part of what is shown of the flow, each time.
_MAX_STATE_BYTES: Final = 256 * 1024
_MAX_STATES: Final = 100
_MAX_KEY_CHARACTERS: Final = 255


async def get_user_state(context: Context) -> Response:
    """What was kept under a key; null if nothing was."""
    return Response.json(json_text(_states(context).get(context.params["key"])))


async def set_user_state(context: Context) -> Response:
    """Keeps a value under a key, as long as the flow. 404 if the job is no flow that runs."""
    record, key = readable(context), context.params["key"]
    value = await context.json()
    if len(_encoded(value)) > _MAX_STATE_BYTES:
        raise PayloadTooLarge(f"a state is at most {_MAX_STATE_BYTES} bytes; keep large values in storage")
    if len(key) > _MAX_KEY_CHARACTERS:
        raise BadRequest(f"key: send at most {_MAX_KEY_CHARACTERS} characters")
    flow = context.services.flow_runner.find(record.id)
    if flow is None or flow.job.state.is_final:
        raise NotFound(f"job {record.id} is no flow that runs")
    states = flow.engine.status.user_states
    if key not in states and len(states) >= _MAX_STATES:
        raise BadRequest(f"a flow keeps at most {_MAX_STATES} states")
    await context.services.job_store.keep_user_state(flow.job, key, value, states)
    return Response.text(f"state {key} is kept")


def _states(context: Context) -> dict[str, Any]:
    record = readable(context)
    if record.flow_status is None:
        raise NotFound(f"job {record.id} is no flow")
    return FlowStatus.parse(record.flow_status).user_states


def _encoded(value: Any) -> bytes:
    """As it will be inside of the flow's status. Raises :class:`BadRequest` if it cannot be there."""
    try:
        return orjson.dumps([[[value]]])
    except TypeError:
        raise BadRequest("the value is nested too deeply to be a state") from None
