"""What one level of a flow does while it waits for approvals: who is heard, and how the waiting ends. Pure.

:class:`~minwebhook.flows.engine.Engine` says when it begins, and goes on behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

import orjson

from minwebhook.flows import events
from minwebhook.flows.events import Disapproved, Resumed
from minwebhook.flows.machine import Machine
from minwebhook.flows.model import FlowModule, Static
from minwebhook.flows.results import error_result
from minwebhook.flows.status import State

_TIMED_OUT: Final = error_result("SuspendedTimedOut", "Timed out waiting to be resumed")


class Waiting(Machine):
    """A level that may wait between two of its modules."""

    __slots__ = ()

    def _after_waiting(self) -> None:
        """The next module is to be entered."""
        raise NotImplementedError

    @property
    def waited_for(self) -> UUID | None:
        """After a restart: the job after which the flow has waited, for what the step that runs may ask of its approvals."""
        found = self._waited()
        return None if found is None else self.status.modules[found].job

    def hear_again(self, messages: Iterable[Resumed | Disapproved]) -> None:
        """What was said then: all that came for the job, in its order."""
        found = self._waited()
        suspend = None if found is None else self.level.modules[found].suspend
        if suspend is None:
            return
        known = dict[int, Resumed | Disapproved]()
        for message in messages:
            known.setdefault(message.resume_id, message)
        approvals: list[tuple[Any, str]] = []
        for message in known.values():
            if isinstance(message, Disapproved):
                approvals.append(_without(_disapproved(message)))
                break
            approvals.append((message.payload, message.approver or "anonymous"))
            if len(approvals) == suspend.required_events:
                break
        else:
            approvals.append(_without(_TIMED_OUT))
        self.approvals = approvals

    def _waited(self) -> int | None:
        """The place of the module after which the one that runs has waited."""
        status, ids = self.status, [module.id for module in self.level.modules]
        failed = status.failure_module.parent_module
        step = ids.index(failed) if status.handled and failed in ids else status.step
        if not 0 < step < len(ids) or self.suspended is not None:
            return None
        if status.restarted_from is not None and status.restarted_from.step_id == ids[step]:
            return None
        suspend, before = self.level.modules[step - 1].suspend, status.modules[step - 1]
        has_waited = suspend is not None and suspend.required_events > 0
        return step - 1 if has_waited and before.state is State.SUCCESS and not before.skipped else None

    def _suspend(self, before: FlowModule) -> None:
        suspend = before.suspend
        assert suspend is not None  # noqa: S101 - asked by the caller
        self._messages = None

        def then(groups: Any) -> None:
            if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
                # To wait for anybody instead would let those approve who must not.
                text = f"module {before.id}: user_groups_required must be an array of names of groups"
                self._abort(error_result("BadGroups", text))
                return
            # It does not wait before it is known for whom: nobody else must be heard meanwhile.
            step = self.status.step
            status = self.status.modules[step]
            status.state, status.job = State.SUSPENDED, self.status.modules[step - 1].job
            if suspend.user_auth_required:
                self.status.approval_conditions = {
                    "user_auth_required": True,
                    "user_groups_required": groups,
                    "self_approval_disabled": suspend.self_approval_disabled,
                }
            self._wait(before, suspend)

        wanted = suspend.user_groups_required
        if wanted is None or wanted == Static(None):
            then([])
        else:
            self._value(wanted, "groups", events.TIMING_NAMES, then)

    def _message(self, message: Resumed | Disapproved) -> None:
        waiting = self.suspended
        if self._messages is None:
            self._messages = set()
        if waiting is None or message.resume_id in self._messages:
            return
        self._messages.add(message.resume_id)
        if isinstance(message, Disapproved):
            self._refused(_disapproved(message))
            return
        step = self.status.step
        name = message.approver or "anonymous"
        self.approvals = [*self.approvals, (message.payload, name)]
        module = self.status.modules[step - 1]
        if (message.resume_id, name) not in module.approvers:
            module.approvers = [*module.approvers, (message.resume_id, name)]
        waiting.count -= 1
        if waiting.count <= 0:
            self._resumed()

    def _timed_out(self) -> None:
        self._refused(_TIMED_OUT)

    def _refused(self, error: bytes) -> None:
        before = self.level.modules[self.status.step - 1]
        if before.suspend is not None and before.suspend.continue_on_disapprove_timeout:
            self.approvals = [*self.approvals, _without(error)]
            self._resumed()
            return
        self.status.approval_conditions = None
        self.status.modules[self.status.step].state = State.FAILURE
        self._finish(False, error)

    def _resumed(self) -> None:
        self.status.approval_conditions = None
        self.status.modules[self.status.step].state = State.WAITING
        self._after_waiting()


def _disapproved(message: Disapproved) -> bytes:
    return error_result("SuspendedDisapproved", f"Disapproved by {message.approver or 'unknown'}")


def _without(error: bytes) -> tuple[Any, str]:
    """What stands among the approvals where the flow goes on without enough of them."""
    return orjson.loads(error), "anonymous"
