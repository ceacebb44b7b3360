"""The environment of a job: the names that scripts and the official clients read, all present even when empty. Pure."""

from __future__ import annotations

from functools import lru_cache

from minwebhook.child.variables import USUAL
from minwebhook.jobs.model import Job
from minwebhook.times import rfc3339


def job_environment(job: Job, *, base_url: str, internal_url: str, token: str) -> dict[str, str]:
    """Name to value. Nothing of the server's own environment is passed on; ``token`` acts for the job's user."""
    spec = job.spec
    job_id = str(job.id)
    root_job = str(spec.root_job or spec.parent_job or job.id)
    username = spec.username
    return {
        **USUAL,
        **dict(entry.split("=", 1) for entry in spec.environment),  # the script's own, checked when it was deployed
        "WM_WORKSPACE": spec.workspace,
        "WM_TOKEN": token,
        "WM_EMAIL": spec.email,
        "WM_USERNAME": username,
        "WM_BASE_URL": base_url,
        "BASE_URL": base_url,
        "BASE_INTERNAL_URL": internal_url,
        "WM_JOB_ID": job_id,
        "WM_JOB_PATH": spec.path,
        "WM_ROOT_JOB_ID": root_job,
        "WM_SCHEDULED_FOR": _second(job.scheduled_for_ms // 1000),
        "WM_PERMISSIONED_AS": spec.permissioned_as,
        "WM_STATE_PATH": f"{spec.path}/user" if spec.path else f"u/{username}/tmp_state",
        "WM_OBJECT_PATH": f"{spec.path.replace('/', '_')}/manual/{job.created_at_ms}_{job_id}",
        "WM_RUNNABLE_ID": "" if spec.script_hash is None else f"{spec.script_hash & (1 << 64) - 1:016x}",
    }


@lru_cache(maxsize=8)  # many jobs share a second
def _second(seconds: int) -> str:
    """RFC 3339 in UTC, second precision."""
    return rfc3339(seconds * 1000)[:19] + "Z"
