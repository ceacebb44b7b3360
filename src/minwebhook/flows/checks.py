"""What is probably wrong with a definition, though it can be deployed: said to whoever deploys it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from minwebhook.flows.expressions import mentioned_steps, parse_plain
from minwebhook.flows.model import (
    BranchOne,
    FlowModule,
    FlowStep,
    FlowValue,
    ForloopFlow,
    InputTransform,
    Javascript,
    ScriptStep,
)


def warnings(flow: FlowValue, exists: Callable[[str, str], bool]) -> list[str]:
    """Sentences that name module and place. ``exists`` says whether there is a ``script`` or ``flow`` at a path."""
    found = list[str]()
    known = {module.id for module in flow.all_modules}
    for module in flow.all_modules:
        for place, expr in _expressions(module):
            for step in sorted((mentioned_steps(expr) or frozenset()) - known):
                found.append(f"module {module.id}: {place} mentions the step {step}, which does not exist")
        value = module.value
        if isinstance(value, BranchOne):
            found += _unreachable(module.id, value)
        elif isinstance(value, FlowStep) and not exists("flow", value.path):
            found.append(f"module {module.id}: there is no flow at {value.path}")
        elif isinstance(value, ScriptStep) and value.hash is None and not exists("script", value.path):
            found.append(f"module {module.id}: there is no script at {value.path}")
    return found


def _unreachable(id: str, value: BranchOne) -> Iterator[str]:
    is_decided = False
    for index, branch in enumerate(value.branches):
        plain = parse_plain(branch.expr.strip())
        constant = getattr(plain, "value", None) if plain is not None else None
        if is_decided or constant is False:
            yield f"module {id}: branch {index} is never reached"
        is_decided |= constant is True
    if is_decided and value.default:
        yield f"module {id}: the default is never reached"


def _expressions(module: FlowModule) -> Iterator[tuple[str, str]]:
    value = module.value
    for name, transform in (module.inputs or {}).items():
        yield from _of(f"input_transforms.{name}", transform)
    if isinstance(value, ForloopFlow):
        yield from _of("iterator", value.iterator)
        yield from _of("parallelism", value.parallelism)
    if isinstance(value, BranchOne):
        for index, branch in enumerate(value.branches):
            yield f"branches[{index}].expr", branch.expr
    yield from _of("sleep", module.sleep)
    yield from _of("timeout", module.timeout)
    for place, stop in (
        ("stop_after_if", module.stop_after_if),
        ("stop_after_all_iters_if", module.stop_after_all_iters_if),
    ):
        if stop is not None:
            yield place, stop.expr
    if module.skip_if is not None:
        yield "skip_if", module.skip_if


def _of(place: str, transform: InputTransform | None) -> Iterator[tuple[str, str]]:
    if isinstance(transform, Javascript):
        yield place, transform.expr
