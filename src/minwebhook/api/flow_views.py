"""What job objects show of flows besides their rows: the definition of a deployed one, and where one is that has not begun."""

from __future__ import annotations

from typing import Any

import orjson

from minwebhook.api.context import Context
from minwebhook.errors import ApiError
from minwebhook.flows.level import Level
from minwebhook.flows.reading import read_value
from minwebhook.jobs.model import FLOW, FLOW_PREVIEW
from minwebhook.jobs.record import JobRecord


def add_flow(context: Context, record: JobRecord, shown: dict[str, Any], *, with_code: bool) -> None:
    """Adds ``raw_flow`` and ``flow_status`` to the object of a flow job: clients look at both from the first moment."""
    if record.kind not in (FLOW, FLOW_PREVIEW) or record.options.part is not None:
        return
    version = None
    if record.kind == FLOW and record.script_hash is not None:
        version = context.services.flows.version(record.workspace, record.script_hash)
    if with_code and version is not None:
        shown["raw_flow"] = orjson.Fragment(version.value)
    if record.flow_status is None:
        try:
            flow = version.flow if version is not None else read_value(orjson.loads(record.raw_code or "null"))
        except ApiError:  # it will say so when it begins
            return
        level = Level.of(flow, preprocess=record.options.preprocess)
        shown["flow_status"] = orjson.Fragment(level.new_status().to_json())
