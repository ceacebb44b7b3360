"""The scopes that this server has routes for, for pages where people choose some. Pure."""

from __future__ import annotations

from typing import Any, Final

import orjson

#: Name, description, and scopes as (action, whether paths can be chosen), of each domain.
_DOMAINS: Final[tuple[tuple[str, str, tuple[tuple[str, bool], ...]], ...]] = (
    (
        "jobs",
        "Jobs",
        (("run", False), ("run:scripts", True), ("run:flows", True), ("read", True), ("write", True), ("cancel", True)),
    ),
    ("scripts", "Scripts", (("read", True), ("write", True))),
    ("flows", "Flows", (("read", True), ("write", True))),
    ("job_helpers", "Files", (("read", False), ("write", False))),
    ("users", "Users and tokens", (("read", False), ("write", False))),
    ("workspaces", "Workspaces", (("read", False), ("write", False))),
)


def _domain(name: str, description: str, actions: tuple[tuple[str, bool], ...]) -> dict[str, Any]:
    scopes = [
        {
            "value": f"{name}:{action}",
            "label": action.replace(":", " ").capitalize(),
            "requires_resource_path": has_path,
        }
        for action, has_path in actions
    ]
    return {"name": name, "description": description, "scopes": scopes}


#: The answer of ``tokens/list/scopes``, as JSON.
CATALOGUE: Final = orjson.dumps([_domain(*each) for each in _DOMAINS])
