"""References in the arguments of jobs, followed when the job runs, on behalf of its user; its row keeps the references."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

import trio

from minwebhook.audit.log import AuditLog
from minwebhook.audit.record import EXECUTED, Event
from minwebhook.auth.principal import Principal
from minwebhook.auth.rights import may_read
from minwebhook.auth.store import AuthStore
from minwebhook.jobs.model import Job
from minwebhook.times import now_ms
from minwebhook.variables.references import Call, Reader, References, directly

#: Bytes of arguments that are looked through in the loop; larger ones take milliseconds, and a thread.
MAX_IN_LOOP: Final = 64 * 1024

#: Told a value that must not be shown.
OnSecret: TypeAlias = Callable[[str], None]


def reader_of(
    principal: Principal,
    workspace: str,
    *,
    on_secret: OnSecret = lambda value: None,
    contextual: Callable[[], Mapping[str, str]] = dict,
) -> Reader:
    """Follows references with the rights of ``principal``, as far as its token goes."""
    scopes = principal.scopes

    def allowed(domain: str, path: str) -> bool:
        return (scopes is None or scopes.allows(domain, "read", path)) and may_read(principal, path)

    if scopes is None:
        return Reader(workspace, allowed, contextual, on_secret)

    def within_scopes() -> Mapping[str, str]:  # the job's token may do more than the sender's
        return {name: value for name, value in contextual().items() if name != "WM_TOKEN"}

    return Reader(workspace, allowed, within_scopes, on_secret, may_unseal=scopes.allows_all("variables", "read"))


class ArgumentReferences:
    """Replaces references in arguments."""

    def __init__(self, references: References, auth: AuthStore, audit: AuditLog) -> None:
        self._references = references
        self._auth = auth
        self._audit = audit

    async def resolve(self, job: Job, contextual: Callable[[], Mapping[str, str]], on_secret: OnSecret) -> bytes:
        """The arguments of the job with what they name in the place of references.

        Raises :class:`NotAuthorized` if the job's user is gone, and what :class:`References` raises.
        """
        spec = job.spec
        if spec.preprocess or (spec.verbatim and not spec.authored):
            return spec.arguments
        author = self._auth.principal_of(spec.email, spec.workspace)
        senders = reader_of(
            replace(author, scopes=spec.scopes), spec.workspace, on_secret=on_secret, contextual=contextual
        )
        authors = reader_of(author, spec.workspace, on_secret=on_secret, contextual=contextual)
        authored, others = spec.authored or (), None if spec.verbatim else senders

        def work(call: Call = directly) -> bytes:
            return self._references.resolve_arguments(
                spec.arguments, lambda name: authors if name in authored else others, call
            )

        if len(spec.arguments) <= MAX_IN_LOOP:
            text = work()
        else:
            text = await trio.to_thread.run_sync(work, trio.from_thread.run_sync)
        at_ms, known = now_ms(), {"job_id": str(job.id)}
        events = [
            Event("variables.decrypt_secret", EXECUTED, author.username, spec.workspace, path, at_ms, known)
            for path in sorted(senders.secrets_read | authors.secrets_read)
        ]
        if events:
            self._audit.post(*events)
        return text
