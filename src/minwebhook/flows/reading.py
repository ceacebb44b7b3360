"""From the JSON of an OpenFlow ``value`` to :class:`~minwebhook.flows.model.FlowValue`: strictly, with errors that name the
module and the field. Pure.

Members that nobody knows are not errors, clients send what newer servers know; of a known one the value must be right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from minwebhook.errors import BadRequest
from minwebhook.flows import model
from minwebhook.flows.model import (
    FAILURE_ID,
    PREPROCESSOR_ID,
    Ai,
    Branch,
    BranchAll,
    BranchOne,
    FlowModule,
    FlowStep,
    FlowValue,
    ForloopFlow,
    Identity,
    InputTransform,
    Javascript,
    Mock,
    RawScript,
    Retry,
    ScriptStep,
    Static,
    StopAfterIf,
    Suspend,
    WhileloopFlow,
)
from minwebhook.jobs.model import Concurrency
from minwebhook.scripts.fields import Check, array, boolean, integer, json_object, text
from minwebhook.scripts.locks import first_lock, needed_lock
from minwebhook.scripts.model import hash_from_hex, parse_language

#: Modules of one flow, and lists of modules inside each other.
MAX_MODULES: Final = 2000
MAX_DEPTH: Final = 24
MAX_ATTEMPTS: Final = 10_000
#: A year.
MAX_SECONDS: Final = 366 * 24 * 3600

_COUNT: Final = integer(0, MAX_ATTEMPTS)
_SECONDS: Final = integer(0, MAX_SECONDS)
_TRANSFORMS: Final = "static, javascript or ai"


def read_value(value: Any, name: str = "value", scripts: dict[str, Any] | None = None) -> FlowValue:
    """A flow's ``value``. Raises :class:`BadRequest`.

    ``scripts`` gets the objects of the scripts within it, by the ids of their modules.
    """
    obj = json_object(name, value)
    reader = _Reader({} if scripts is None else scripts)
    failure, preprocessor = obj.get("failure_module"), obj.get("preprocessor_module")
    flow = FlowValue(
        modules=reader.modules(_Fields(name, obj).needed("modules", _anything), f"{name}.modules", 0),
        failure_module=None if failure is None else reader.module(failure, f"{name}.failure_module", 0, FAILURE_ID),
        preprocessor_module=None
        if preprocessor is None
        else reader.module(preprocessor, f"{name}.preprocessor_module", 0, PREPROCESSOR_ID),
        **_flow_settings(_Fields(name, obj)),
    )
    if flow.early_return is not None and all(module.id != flow.early_return for module in flow.modules):
        raise BadRequest(f"{name}.early_return: there is no step {flow.early_return!r}")
    _check_ids(flow)
    if flow.same_worker:
        for module in flow.all_modules:
            if isinstance(module.value, ForloopFlow) and module.value.parallel:
                raise BadRequest(f"module {module.id}: a parallel loop is not possible in a flow with same_worker")
    return flow


def _flow_settings(fields: _Fields) -> dict[str, Any]:
    for unused in ("debounce_key",):
        fields.get(unused, text)
    fields.get("cache_ignore_s3_path", boolean)
    fields.get("chat_input_enabled", boolean)
    return {
        "same_worker": bool(fields.get("same_worker", boolean)),
        "skip_expr": fields.get("skip_expr", text) or None,
        "cache_ttl_s": fields.get("cache_ttl", _SECONDS) or None,
        "flow_env": fields.get("flow_env", json_object) or {},
        "priority": fields.get("priority", integer(-(2**15), 2**15 - 1)),
        "early_return": fields.get("early_return", text) or None,
        "concurrency": _concurrency(fields, "concurrency_key"),
    }


def _concurrency(fields: _Fields, key_member: str) -> Concurrency | None:
    limit = fields.get("concurrent_limit", integer(0, 2**31 - 1))
    key = fields.get(key_member, text) or ""
    window_s = fields.get("concurrency_time_window_s", _SECONDS) or 0
    return Concurrency(key, limit, 1000 * window_s) if limit else None


def _check_ids(flow: FlowValue) -> None:
    """Results are found by the ids of steps, so that no two may be the same."""
    seen = set[str]()
    for module in flow.all_modules:
        if module.id in seen:
            raise BadRequest(f"module {module.id}: id is that of another module")
        seen.add(module.id)


class _Fields:
    """The members of one object."""

    def __init__(self, name: str, obj: Any) -> None:
        if not isinstance(obj, dict):
            raise BadRequest(f"{name} must be an object")
        self.name = name
        self._obj: Mapping[str, Any] = obj

    def get(self, member: str, check: Check) -> Any:
        """A member, checked; None if it is not there, or null."""
        value = self._obj.get(member)
        return None if value is None else check(f"{self.name}.{member}", value)

    def needed(self, member: str, check: Check) -> Any:
        """A member that must be there."""
        value = self.get(member, check)
        if value is None:
            raise BadRequest(f"{self.name}.{member} is missing")
        return value

    def raw(self, member: str) -> Any:
        """A member as it is."""
        return self._obj.get(member)


class _Reader:
    """Reads modules and counts them: ids are made for those that have none."""

    def __init__(self, scripts: dict[str, Any]) -> None:
        self._count = 0
        self._scripts = scripts

    def modules(self, value: Any, name: str, depth: int) -> tuple[FlowModule, ...]:
        if not isinstance(value, list):
            raise BadRequest(f"{name} must be an array")
        if depth > MAX_DEPTH:
            raise BadRequest(f"{name}: modules are nested more than {MAX_DEPTH} deep")
        return tuple(self.module(each, f"{name}[{index}]", depth) for index, each in enumerate(value))

    def module(self, value: Any, name: str, depth: int, default_id: str = "") -> FlowModule:
        self._count += 1
        if self._count > MAX_MODULES:
            raise BadRequest(f"{name}: a flow has at most {MAX_MODULES} modules")
        fields = _Fields(name, value)
        id = fields.get("id", _module_id) or default_id or f"step_{self._count}"
        if not default_id and id in (FAILURE_ID, PREPROCESSOR_ID):
            raise BadRequest(f"{name}.id: {id} is the name of another kind of module")
        fields = _Fields(f"module {id}: {name.rpartition(': ')[2]}", value)
        fields.get("cache_ignore_s3_path", boolean)
        skip = fields.get("skip_if", _object)
        inner = _Fields(f"{fields.name}.value", fields.needed("value", _object))
        if inner.raw("type") == "rawscript":
            self._scripts[id] = fields.raw("value")
        return FlowModule(
            id=id,
            value=self._value(inner, depth),
            summary=fields.get("summary", text) or "",
            stop_after_if=fields.get("stop_after_if", _stop),
            stop_after_all_iters_if=fields.get("stop_after_all_iters_if", _stop),
            skip_if=None if skip is None else _Fields(f"{fields.name}.skip_if", skip).needed("expr", text),
            suspend=fields.get("suspend", _suspend),
            sleep=fields.get("sleep", _transform),
            retry=fields.get("retry", _retry),
            cache_ttl_s=fields.get("cache_ttl", _SECONDS) or None,
            timeout=fields.get("timeout", _number_or_transform),
            mock=fields.get("mock", _mock),
            priority=fields.get("priority", integer(-(2**15), 2**15 - 1)),
            delete_after_use=bool(fields.get("delete_after_use", boolean)),
            apply_preprocessor=bool(fields.get("apply_preprocessor", boolean)),
            continue_on_error=bool(fields.get("continue_on_error", boolean)),
            pass_flow_input_directly=bool(
                fields.get("pass_flow_input_directly", boolean) or inner.get("pass_flow_input_directly", boolean)
            ),
        )

    def _value(self, fields: _Fields, depth: int) -> model.ModuleValue:
        kind = fields.needed("type", text)
        read = _VALUES.get(kind)
        if read is None:
            raise BadRequest(f"{fields.name}.type: {kind!r} is not run here; send one of {', '.join(_VALUES)}")
        return read(self, fields, depth + 1)


def _anything(name: str, value: Any) -> Any:
    return value


def _object(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        raise BadRequest(f"{name} must be an object")
    return value


def _module_id(name: str, value: Any) -> str:
    id = text(name, value)
    if not id or len(id) > 100 or any(char in id for char in "/ \"'\\") or not id.isprintable():
        raise BadRequest(f"{name} must be a short word without blanks, slashes and quotes")
    return id


def _seconds(name: str, value: Any) -> float:
    """Seconds, also parts of one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_SECONDS:
        raise BadRequest(f"{name} must be a number of seconds from 0 to {MAX_SECONDS}")
    return value


def _transform(name: str, value: Any) -> InputTransform:
    fields = _Fields(name, value)
    kind = fields.needed("type", text)
    if kind == "static":
        return Static(fields.raw("value"))
    if kind == "javascript":
        return Javascript(fields.needed("expr", text))
    if kind == "ai":
        return Ai()
    raise BadRequest(f"{name}.type must be {_TRANSFORMS}, not {kind!r}")


def _number_or_transform(name: str, value: Any) -> InputTransform:
    return Static(_seconds(name, value)) if not isinstance(value, dict) else _transform(name, value)


def _transforms(fields: _Fields) -> dict[str, InputTransform]:
    member = "input_transforms" if fields.raw("input_transforms") is not None else "input_transform"
    return read_transforms(f"{fields.name}.{member}", fields.get(member, _object) or {})


def read_transforms(name: str, value: Any) -> dict[str, InputTransform]:
    """What arguments are made of, by their names. Raises :class:`BadRequest`."""
    return {key: _transform(f"{name}.{key}", each) for key, each in json_object(name, value).items()}


def _stop(name: str, value: Any) -> StopAfterIf:
    fields = _Fields(name, value)
    return StopAfterIf(
        fields.needed("expr", text),
        fields.needed("skip_if_stopped", boolean),
        fields.get("error_message", text),
    )


def _suspend(name: str, value: Any) -> Suspend:
    fields = _Fields(name, value)
    timeout_s = fields.get("timeout", _seconds)
    return Suspend(
        required_events=fields.get("required_events", integer(0, MAX_ATTEMPTS)) or 0,
        timeout_s=model.DEFAULT_SUSPEND_TIMEOUT_S if timeout_s is None else timeout_s,
        resume_form=fields.get("resume_form", json_object),
        user_auth_required=bool(fields.get("user_auth_required", boolean)),
        user_groups_required=fields.get("user_groups_required", _transform),
        self_approval_disabled=bool(fields.get("self_approval_disabled", boolean)),
        hide_cancel=bool(fields.get("hide_cancel", boolean)),
        continue_on_disapprove_timeout=bool(fields.get("continue_on_disapprove_timeout", boolean)),
    )


def _retry(name: str, value: Any) -> Retry:
    fields = _Fields(name, value)
    constant = _Fields(f"{name}.constant", fields.get("constant", _object) or {})
    exponential = _Fields(f"{name}.exponential", fields.get("exponential", _object) or {})
    only = fields.get("retry_if", _object)
    retry = Retry(
        constant.get("attempts", _COUNT) or 0,
        constant.get("seconds", _seconds) or 0,
        exponential.get("attempts", _COUNT) or 0,
        1 if (multiplier := exponential.get("multiplier", _seconds)) is None else multiplier,
        exponential.get("seconds", _seconds) or 0,
        exponential.get("random_factor", integer(0, 100)) or 0,
        None if only is None else _Fields(f"{name}.retry_if", only).needed("expr", text),
    )
    if retry.exponential_attempts and not retry.exponential_s:
        raise BadRequest(f"{name}.exponential.seconds must be more than 0, or all pauses would be none")
    return retry


def _mock(name: str, value: Any) -> Mock:
    fields = _Fields(name, value)
    return Mock(bool(fields.get("enabled", boolean)), fields.raw("return_value"))


def _rawscript(reader: _Reader, fields: _Fields, depth: int) -> RawScript:
    content = fields.needed("content", text)
    fields.needed("language", text)
    try:
        language = parse_language(fields.raw("language"))
    except BadRequest as error:
        raise BadRequest(f"{fields.name}.{error.detail}") from None
    return RawScript(
        content=content,
        language=language,
        input_transforms=_transforms(fields),
        lock=needed_lock(language.value, fields.get("lock", text) or first_lock(language.value, content)),
        path=fields.get("path", text) or None,
        tag=fields.get("tag", text) or None,
        concurrency=_concurrency(fields, "custom_concurrency_key"),
    )


def _script(reader: _Reader, fields: _Fields, depth: int) -> ScriptStep:
    given = fields.get("hash", text)
    return ScriptStep(
        path=fields.needed("path", text),
        hash=hash_from_hex(given, f"{fields.name}.hash") if given else None,
        input_transforms=_transforms(fields),
        tag_override=fields.get("tag_override", text) or None,
    )


def _flow(reader: _Reader, fields: _Fields, depth: int) -> FlowStep:
    return FlowStep(fields.needed("path", text), _transforms(fields))


def _identity(reader: _Reader, fields: _Fields, depth: int) -> Identity:
    return Identity()


def _forloop(reader: _Reader, fields: _Fields, depth: int) -> ForloopFlow:
    fields.get("squash", boolean)
    return ForloopFlow(
        iterator=fields.needed("iterator", _transform),
        modules=reader.modules(fields.needed("modules", _anything), f"{fields.name}.modules", depth),
        skip_failures=bool(fields.get("skip_failures", boolean)),
        parallel=bool(fields.get("parallel", boolean)),
        parallelism=fields.get("parallelism", _number_or_transform),
    )


def _whileloop(reader: _Reader, fields: _Fields, depth: int) -> WhileloopFlow:
    fields.get("squash", boolean)
    return WhileloopFlow(
        modules=reader.modules(fields.needed("modules", _anything), f"{fields.name}.modules", depth),
        skip_failures=bool(fields.get("skip_failures", boolean)),
    )


def _branches(reader: _Reader, fields: _Fields, depth: int, *, with_expr: bool) -> tuple[Branch, ...]:
    found = []
    for index, each in enumerate(fields.needed("branches", array(_object))):
        branch = _Fields(f"{fields.name}.branches[{index}]", each)
        found.append(
            Branch(
                modules=reader.modules(branch.needed("modules", _anything), f"{branch.name}.modules", depth),
                summary=branch.get("summary", text) or "",
                expr=branch.needed("expr", text) if with_expr else "",
                skip_failure=bool(branch.get("skip_failure", boolean)),
            )
        )
    return tuple(found)


def _branchone(reader: _Reader, fields: _Fields, depth: int) -> BranchOne:
    default = fields.raw("default")
    return BranchOne(
        branches=_branches(reader, fields, depth, with_expr=True),
        default=reader.modules([] if default is None else default, f"{fields.name}.default", depth),
    )


def _branchall(reader: _Reader, fields: _Fields, depth: int) -> BranchAll:
    parallel = fields.get("parallel", boolean)
    return BranchAll(_branches(reader, fields, depth, with_expr=False), True if parallel is None else parallel)


_VALUES: Final[Mapping[str, Callable[[_Reader, _Fields, int], model.ModuleValue]]] = {
    "rawscript": _rawscript,
    "script": _script,
    "flow": _flow,
    "identity": _identity,
    "forloopflow": _forloop,
    "whileloopflow": _whileloop,
    "branchone": _branchone,
    "branchall": _branchall,
}
