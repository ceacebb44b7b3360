"""What a flow must give: cases that are run by a server, and how they are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.flows import JSON, py
from tests.server import Client

RETURN: Final = "def main(x=None): return x"
DOUBLE: Final = "def main(n): return n * 2"
RAISE: Final = "def main(x=None): raise ValueError(str(x))"
APPEND: Final = "def main(x, n): return x + [n]"
RAISE_ABOVE_1: Final = "def main(n):\n    if n > 1: raise ValueError(str(n))\n    return n"


@dataclass
class Case:
    """A flow, its arguments, and what is expected of it."""

    name: str
    modules: list[JSON]
    #: The result, or a test of it.
    result: Any
    args: JSON = field(default_factory=dict)
    success: bool = True
    more: JSON = field(default_factory=dict)
    #: What must be in the status of the modules, by id.
    status: dict[str, JSON] = field(default_factory=dict)
    skipped: bool = False


def error(name: str = "", message: str = "") -> Callable[[Any], bool]:
    """Whether a result is an error with this name, and this in its message."""

    def check(result: Any) -> bool:
        found = result["error"]
        return name in ("", found["name"]) and message in found["message"]

    return check


def entry(index: int, check: Callable[[Any], bool], length: int) -> Callable[[Any], bool]:
    """Whether a result is an array of this length with such an entry."""
    return lambda result: isinstance(result, list) and len(result) == length and check(result[index])


def handler(content: str = "def main(e): return {'from failure module': e}") -> JSON:
    return {"failure_module": {"id": "failure", "value": py(content, e="previous_result")}}


def check(client: Client, case: Case) -> None:
    """Runs the flow of a case, which comes with the request."""
    answer = client.post("/jobs/run/preview_flow", {"value": {"modules": case.modules, **case.more}, "args": case.args})
    assert answer.status == 201, answer.text
    job = client.ended(answer.text)
    if callable(case.result):
        assert case.result(job["result"]), job["result"]
    else:
        assert job["result"] == case.result
    assert job["success"] is case.success
    assert job["is_skipped"] is case.skipped
    by_id = {module["id"]: module for module in job["flow_status"]["modules"]}
    for id, members in case.status.items():
        assert members.items() <= by_id[id].items()
