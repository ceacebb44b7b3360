"""What job objects show of flows besides their rows: the definition of a deployed one, and where one is that has not begun."""

from __future__ import annotations

from typing import Any

import orjson

from minwebhook.api.context import Context
from minwebhook.errors import ApiError
from minwebhook.flows.level import Level
from minwebhook.flows.model import FlowValue
from minwebhook.flows.reading import read_value
from minwebhook.jobs.model import FLOW, FLOW_PREVIEW
from minwebhook.jobs.record import JobRecord


def add_flow(context: Context, record: JobRecord, shown: dict[str, Any], *, with_code: bool) -> None:
    """Adds ``raw_flow`` and ``flow_status`` to the object of a flow job: clients look at both from the first moment."""
    if record.kind not in (FLOW, FLOW_PREVIEW) or record.options.part is not None:
        return
    if with_code and record.kind == FLOW and record.script_hash is not None:
        version = context.services.flows.version(record.workspace, record.script_hash)
        if version is not None:
            shown["raw_flow"] = orjson.Fragment(version.value)
    if record.flow_status is None and (flow := definition_of(context, record)) is not None:
        level = Level.of(flow, preprocess=record.options.preprocess)
        shown["flow_status"] = orjson.Fragment(level.new_status().to_json())


def definition_of(context: Context, record: JobRecord) -> FlowValue | None:
    """What a whole flow does, deployed or not; None of any other job, or if that is gone."""
    if record.options.part is not None:
        return None
    if record.kind == FLOW:
        version = context.services.flows.version(record.workspace, record.script_hash or 0)
        return None if version is None else version.flow
    try:
        return read_value(orjson.loads(record.raw_code or "null")) if record.kind == FLOW_PREVIEW else None
    except ApiError:  # it says so when it begins
        return None
