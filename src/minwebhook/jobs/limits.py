"""Which limits a job has: those of the instance, lowered or, up to the maxima of the instance, raised by its script. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from minwebhook.sandbox.cgroups import UNLIMITED
from minwebhook.sandbox.plan import NAMESPACED, Rung
from minwebhook.scripts.limits import Limits
from minwebhook.settings import JobSettings, SandboxSettings

#: Seconds of processor time after which the kernel ends a single process, behind the limit that the server watches.
_CPU_SPARE_S: Final = 1


#: What a control group's limits follow from.
_OF_GROUPS: Final = frozenset({"memory_bytes", "tmp_bytes", "processes"})


class JobLimits(NamedTuple):
    """What one job may use at most."""

    #: Seconds of processor time of all its processes; 0 = no limit.
    cpu_s: float
    log_bytes: int
    result_bytes: int
    #: Space of its /tmp, if it is not what its sandbox has anyway.
    tmp_bytes: int | None
    #: What its process sets when the job comes (child/limits.py); "" if all is set.
    header: str
    #: Bytes of memory and number of all its processes together, if they are not what its control group has anyway.
    group: tuple[int, int] | None = None


class LimitRules:
    """The defaults and maxima of the instance."""

    def __init__(
        self,
        jobs: JobSettings,
        sandbox: SandboxSettings,
        rung: Rung,
        *,
        has_own_uids: bool,
        group_limits: frozenset[str] = frozenset(),
    ) -> None:
        """``group_limits``: what control groups limit."""
        self._usual = {
            "cpu_s": sandbox.job_cpu_s,
            "memory_bytes": sandbox.job_memory_bytes,
            "processes": sandbox.job_processes,
            "open_files": sandbox.job_open_files,
            "file_bytes": sandbox.job_file_bytes,
            "tmp_bytes": sandbox.job_tmp_bytes,
            "log_bytes": jobs.max_log_bytes,
            "result_bytes": jobs.max_result_bytes,
        }
        most = {
            "cpu_s": sandbox.job_max_cpu_s,
            "memory_bytes": sandbox.job_max_memory_bytes,
            "processes": sandbox.job_max_processes,
            "open_files": sandbox.job_max_open_files,
            "file_bytes": sandbox.job_max_file_bytes,
            "tmp_bytes": sandbox.job_max_tmp_bytes,
            "log_bytes": sandbox.job_max_log_bytes,
            "result_bytes": sandbox.job_max_result_bytes,
        }
        # Without a default, processor time has no limit that a script could exceed.
        self._most = {name: max(most[name], usual) or math.inf for name, usual in self._usual.items()}
        # Where all jobs share a user id, the kernel counts their processes together; a control group counts better.
        self._limits_processes = has_own_uids and "processes" not in group_limits
        self._has_groups = bool(group_limits)
        self._resizes_tmp = rung in NAMESPACED
        #: Whether processes are started with room above the defaults, which a job must then not keep.
        self._is_roomy = any(
            self._most[name] > self._usual[name] for name in ("memory_bytes", "processes", "open_files", "file_bytes")
        )
        #: Those of scripts that ask for nothing.
        self.usual: Final = self.of(Limits())

    def of(self, asked: Limits | None) -> JobLimits:
        """Those of a job whose script asks for these."""
        if asked is None:
            return self.usual
        wanted = {name: value for name, value in asked._asdict().items() if value is not None}
        given = {
            name: min(wanted.get(name, usual) or math.inf, self._most[name]) for name, usual in self._usual.items()
        }
        if wanted.get("file_bytes") == 0:
            given["file_bytes"] = 0  # the one limit whose 0 means 0
        differs = {name for name in given if given[name] != self._usual[name]} - {"cpu_s"}
        rlimits = {}
        if self._is_roomy or differs & {"memory_bytes", "processes", "open_files", "file_bytes"}:
            rlimits = {"AS": "memory_bytes", "NOFILE": "open_files", "FSIZE": "file_bytes"}
            if self._limits_processes:
                rlimits["NPROC"] = "processes"
        parts = [f"{name}={int(given[limit])}" for name, limit in rlimits.items()]
        if given["cpu_s"] < math.inf:
            parts.append(f"CPU={math.ceil(given['cpu_s']) + _CPU_SPARE_S}")
        return JobLimits(
            cpu_s=given["cpu_s"] if given["cpu_s"] < math.inf else 0,
            log_bytes=int(given["log_bytes"]),
            result_bytes=int(given["result_bytes"]),
            tmp_bytes=int(given["tmp_bytes"]) if self._resizes_tmp and "tmp_bytes" in differs else None,
            header=",".join(parts),
            group=self._group(given) if self._has_groups and differs & _OF_GROUPS else None,
        )

    def _group(self, given: Mapping[str, float]) -> tuple[int, int]:
        memory = given["memory_bytes"] + (given["tmp_bytes"] if self._resizes_tmp else 0)  # /tmp is memory, too
        return int(min(memory, UNLIMITED)), int(min(given["processes"], UNLIMITED))
