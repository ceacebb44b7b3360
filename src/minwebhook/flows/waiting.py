"""What one level of a flow does while it waits for approvals: who is heard, and how the waiting ends. Pure.

:class:`~minwebhook.flows.engine.Engine` says when it begins, and goes on behind it.
"""

from __future__ import annotations

from typing import Any

import orjson

from minwebhook.flows import events
from minwebhook.flows.events import Disapproved, Resumed
from minwebhook.flows.machine import Machine
from minwebhook.flows.model import FlowModule, Static
from minwebhook.flows.results import error_result
from minwebhook.flows.status import State


class Waiting(Machine):
    """A level that may wait between two of its modules."""

    __slots__ = ()

    def _after_waiting(self) -> None:
        """The next module is to be entered."""
        raise NotImplementedError

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
            self._refused("SuspendedDisapproved", f"Disapproved by {message.approver or 'unknown'}")
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

    def _refused(self, name: str, text: str) -> None:
        before = self.level.modules[self.status.step - 1]
        error = error_result(name, text)
        if before.suspend is not None and before.suspend.continue_on_disapprove_timeout:
            self.approvals = [*self.approvals, (orjson.loads(error), "anonymous")]
            self._resumed()
            return
        self.status.approval_conditions = None
        self.status.modules[self.status.step].state = State.FAILURE
        self._finish(False, error)

    def _resumed(self) -> None:
        self.status.approval_conditions = None
        self.status.modules[self.status.step].state = State.WAITING
        self._after_waiting()
