"""What expressions look up: variables, resources and the state that users keep in a flow, with the rights of its user."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from minwebhook.audit.log import AuditLog
from minwebhook.audit.record import EXECUTED, Event
from minwebhook.auth.store import AuthStore
from minwebhook.flows.javascript import LookUp
from minwebhook.jobs.model import Job
from minwebhook.jobs.references import reader_of
from minwebhook.jobs.table import JobTable
from minwebhook.times import now_ms
from minwebhook.variables.references import References


class LookUps:
    """Makes them for jobs."""

    def __init__(self, references: References, auth: AuthStore, audit: AuditLog, table: JobTable) -> None:
        self._references = references
        self._auth = auth
        self._audit = audit
        self._table = table

    def of(self, job: Job) -> LookUp:
        """Those of a flow job."""

        async def look_up(function: str, name: str) -> Any:
            """Raises :class:`NotFound` for what is not there, or not for this user."""
            if function == "flow_user_state":
                return self._user_state(job, name)
            spec = job.spec
            principal = replace(self._auth.principal_of(spec.email, spec.workspace), scopes=spec.code_scopes)
            reader = reader_of(principal, spec.workspace)
            prefix = "$var:" if function == "variable" else "$res:"
            value = self._references.resolve(prefix + name, reader)
            known = {"job_id": str(job.id)}
            for path in sorted(reader.secrets_read):
                self._audit.post(
                    Event(
                        "variables.decrypt_secret", EXECUTED, principal.username, spec.workspace, path, now_ms(), known
                    )
                )
            return value

        return look_up

    def _user_state(self, job: Job, key: str) -> Any:
        root = self._table.get(job.spec.root_job) if job.spec.root_job is not None else job
        if root is not None and _whose(root) != _whose(job):  # whoever started it may have named any job
            return None
        flow = (root or job).flow
        return None if flow is None else orjson.loads(flow.status_text()).get("user_states", {}).get(key)


def _whose(job: Job) -> tuple[str, str]:
    return job.spec.workspace, job.spec.permissioned_as
