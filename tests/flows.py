"""OpenFlow in few words, for tests and benchmarks."""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]


def js(expr: str) -> JSON:
    """An expression."""
    return {"type": "javascript", "expr": expr}


def static(value: Any) -> JSON:
    """A value."""
    return {"type": "static", "value": value}


def py(content: str, **inputs: Any) -> JSON:
    """Python code; texts among the inputs are expressions, all else is as it is."""
    transforms = {name: js(each) if isinstance(each, str) else static(each) for name, each in inputs.items()}
    return {"type": "rawscript", "language": "python3", "content": content, "input_transforms": transforms}


def step(id: str, value: JSON, **members: Any) -> JSON:
    """One module."""
    return {"id": id, "value": value, **members}


def forloop(iterator: str | list[Any], *modules: JSON, **members: Any) -> JSON:
    """A loop over what an expression says, or over these."""
    return {
        "type": "forloopflow",
        "iterator": js(iterator) if isinstance(iterator, str) else static(iterator),
        "modules": list(modules),
        "skip_failures": False,
        **members,
    }


def whileloop(*modules: JSON, **members: Any) -> JSON:
    """A loop that something stops."""
    return {"type": "whileloopflow", "modules": list(modules), "skip_failures": False, **members}


def branchone(*branches: tuple[str, list[JSON]], default: list[JSON]) -> JSON:
    """Branches with their predicates."""
    return {
        "type": "branchone",
        "branches": [{"expr": expr, "modules": modules} for expr, modules in branches],
        "default": default,
    }


def branchall(*branches: list[JSON], skip_failure: bool = False, **members: Any) -> JSON:
    """All of these."""
    return {
        "type": "branchall",
        "branches": [{"modules": modules, "skip_failure": skip_failure} for modules in branches],
        **members,
    }


def stop(expr: str, *, skip: bool = False, message: str | None = None) -> JSON:
    """When to stop."""
    return {"expr": expr, "skip_if_stopped": skip, **({} if message is None else {"error_message": message})}


IDENTITY: JSON = {"type": "identity"}
