"""The environment of a job: the names that scripts and the official clients read, all present even when empty. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from minwebhook.child import wire
from minwebhook.child.variables import USUAL
from minwebhook.jobs.model import Job, JobSpec
from minwebhook.times import rfc3339

#: Names that no script may set for itself: see changing_variables.
_CHANGING: Final = frozenset(
    {"WM_TOKEN", "WM_JOB_ID", "WM_ROOT_JOB_ID", "WM_SCHEDULED_FOR", "WM_OBJECT_PATH"}
    | {"WM_FLOW_JOB_ID", "WM_ROOT_FLOW_JOB_ID", "WM_FLOW_PATH", "WM_FLOW_STEP_ID", "WM_STATE_PATH"}
)
#: What ``variables/list_contextual`` tells: an example and a sentence. Each may be an argument, ``$`` and its name.
CONTEXTUAL: Final[Mapping[str, tuple[str, str]]] = {
    "WM_WORKSPACE": ("demo", "The id of the workspace."),
    "WM_TOKEN": ("mwj_…", "A token with the rights of the job's user, as long as the job runs."),
    "WM_EMAIL": ("alice@example.com", "The e-mail address of the job's user."),
    "WM_USERNAME": ("alice", "The name of the job's user."),
    "WM_BASE_URL": ("http://localhost:8000", "The public URL of the server."),
    "BASE_INTERNAL_URL": ("http://localhost:8000", "Where jobs reach the server."),
    "WM_JOB_ID": ("017e0ad5-f499-73b6-5488-92a61c5196dd", "The id of the job."),
    "WM_JOB_PATH": ("u/alice/report", "The path of the script, or empty."),
    "WM_ROOT_JOB_ID": ("017e0ad5-f499-73b6-5488-92a61c5196dd", "The id of the job that began it all."),
    "WM_FLOW_JOB_ID": ("", "The id of the flow; empty without one."),
    "WM_ROOT_FLOW_JOB_ID": ("", "The id of the outermost flow; empty without one."),
    "WM_FLOW_PATH": ("", "The path of the flow; empty without one."),
    "WM_FLOW_STEP_ID": ("", "The step of the flow; empty without one."),
    "WM_SCHEDULE_PATH": ("", "The path of the schedule; empty without one."),
    "WM_SCHEDULED_FOR": ("2026-01-31T12:00:00Z", "When the job was due."),
    "WM_PERMISSIONED_AS": ("u/alice", "Whose rights the job has."),
    "WM_STATE_PATH": ("u/alice/report/user", "The path of the resource that holds the state of the script."),
    "WM_OBJECT_PATH": ("u_alice_report/manual/1767225600000_017e0ad5", "A path for the objects of this job alone."),
    "WM_WORKER_GROUP": ("default", "The group of the worker."),
    "WM_RUNNABLE_ID": ("00000000000000ff", "The hash of the script, or empty."),
    "WM_END_USER_EMAIL": ("", "Empty."),
}
#: Languages whose declared types change no argument.
_PLAIN: Final = frozenset({"bunnative", "nativets"})
#: Headers kept, of some 1 KiB each.
_MAX_KEPT: Final = 1024


def lasting_variables(spec: JobSpec, *, base_url: str, internal_url: str) -> dict[str, str]:
    """Name to value, of what is the same for all runs of one script version by one caller.

    Nothing of the server's own environment is passed on.
    """
    own = dict(entry.split("=", 1) for entry in spec.environment)  # the script's, checked when it was deployed
    return {
        **{name: value for name, value in {**USUAL, **own}.items() if name not in _CHANGING},
        "WM_WORKSPACE": spec.workspace,
        "WM_EMAIL": spec.email,
        "WM_USERNAME": spec.username,
        "WM_BASE_URL": base_url,
        "BASE_URL": base_url,
        "BASE_INTERNAL_URL": internal_url,
        "WM_JOB_PATH": spec.path,
        "WM_PERMISSIONED_AS": spec.permissioned_as,
        "WM_RUNNABLE_ID": "" if spec.script_hash is None else f"{spec.script_hash & (1 << 64) - 1:016x}",
    }


def changing_variables(job: Job, *, token: str) -> dict[str, str]:
    """What each run has of its own. ``token`` acts for the job's user."""
    spec = job.spec
    job_id = job.id_text
    root_job = spec.root_job or spec.parent_job
    place, step = (spec.flow_path, f"{spec.step_id}/") if spec.step_id else (spec.path, "")
    state = f"{spec.step_id}_user" if step else "user"
    return {
        "WM_TOKEN": token,
        "WM_JOB_ID": job_id,
        "WM_ROOT_JOB_ID": job_id if root_job is None else str(root_job),
        "WM_SCHEDULED_FOR": _second(job.scheduled_for_ms // 1000),
        "WM_OBJECT_PATH": f"{place.replace('/', '_')}/manual/{step}{job.created_at_ms}_{job_id}",
        "WM_STATE_PATH": f"{place}/{state}" if place else f"u/{spec.username}/tmp_state",
        # A process that stays may have run a step before.
        "WM_FLOW_JOB_ID": str(spec.parent_job) if spec.step_id else "",
        "WM_ROOT_FLOW_JOB_ID": str(spec.root_job) if spec.step_id else "",
        "WM_FLOW_PATH": spec.flow_path,
        "WM_FLOW_STEP_ID": spec.step_id,
    }


class JobHeaders:
    """The headers of JOB frames (child/wire.py). What lasts is made once for a script version and a caller."""

    def __init__(self, *, base_url: str, internal_url: str) -> None:
        self._base_url = base_url
        self._internal_url = internal_url
        self._kept: dict[tuple[Any, ...], bytes] = {}

    def lasting(self, spec: JobSpec, *, stays: bool, limits: str = "", api_url: str = "") -> bytes:
        """A header with the lasting variables and the ``limits``: the same object again as long as it is kept.

        ``api_url`` is where the script reaches the server, if that is not the address for everyone.
        """
        key = (
            spec.script_hash, spec.path, spec.email, spec.username, spec.permissioned_as, spec.workspace,
            spec.environment, spec.preprocess, spec.is_preprocessor, stays, spec.language,
            limits, api_url,
        )  # fmt: skip
        header = self._kept.get(key)
        if header is None:
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            variables = lasting_variables(spec, base_url=self._base_url, internal_url=api_url or self._internal_url)
            header = wire.pack_header(
                _code_path(spec),
                variables,
                stays=stays,
                preprocess=spec.preprocess,
                is_preprocessor=spec.is_preprocessor,
                plain=spec.language in _PLAIN,
                limits=limits,
            )
            self._kept[key] = header
        return header

    def contextual(self, job: Job, *, token: str, api_url: str = "") -> Mapping[str, str]:
        """The values of the contextual variables of a job."""
        lasting = lasting_variables(job.spec, base_url=self._base_url, internal_url=api_url or self._internal_url)
        known = {**lasting, **changing_variables(job, token=token)}
        return {name: known[name] for name in CONTEXTUAL}

    @staticmethod
    def changing(spec: JobSpec, *, stays: bool) -> bytes:
        """A header without variables, for a process that has the lasting ones and its limits."""
        return _bare_header(stays, spec.preprocess, spec.is_preprocessor, spec.language in _PLAIN)


def _code_path(spec: JobSpec) -> str:
    """Where the script is, for what it imports: one within a flow, however deep, is below the flow's path."""
    is_within = spec.step_id and spec.script_hash is None and spec.flow_path
    return f"{spec.flow_path}/{spec.step_id}" if is_within else spec.path


@lru_cache(maxsize=16)  # all there are
def _bare_header(stays: bool, preprocess: bool, is_preprocessor: bool, plain: bool) -> bytes:
    return wire.pack_header("", {}, stays=stays, preprocess=preprocess, is_preprocessor=is_preprocessor, plain=plain)


@lru_cache(maxsize=8)  # many jobs share a second
def _second(seconds: int) -> str:
    """RFC 3339 in UTC, second precision."""
    return rfc3339(seconds * 1000)[:19] + "Z"
