"""What a job of a test is asked for, where it does not matter."""

from __future__ import annotations

from typing import Any

from minwebhook.jobs.model import JobSpec


def job_spec(**wanted: Any) -> JobSpec:
    """A preview in bash that does nothing, but for what is ``wanted`` of it."""
    usual: dict[str, Any] = {
        "workspace": "demo",
        "kind": "preview",
        "language": "bash",
        "source": b"",
        "arguments": b"{}",
        "created_by": "a",
        "username": "a",
        "email": "e",
        "permissioned_as": "u/a",
    }
    return JobSpec(**{**usual, **wanted})
