"""The specs of jobs that wait, in a sixth of the room: those of one script and one caller differ in their arguments only.

A folded spec is read as any other. It is unfolded before the job starts, because a run changes its spec. Pure.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

from minwebhook.jobs.model import JobSpec


class _Folded:
    """The arguments and their mask; whatever else is asked for is that of the template, which many have in common."""

    __slots__ = ("arguments", "mask", "template")

    def __init__(self, template: JobSpec, arguments: bytes, mask: bytes) -> None:
        self.template = template
        self.arguments = arguments
        self.mask = mask

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return getattr(self.template, name)


def folded(template: JobSpec, arguments: bytes, mask: bytes) -> JobSpec:
    """A spec like ``template``, which never changes, with other arguments."""
    return cast(JobSpec, _Folded(template, arguments, mask))


def fold(spec: JobSpec) -> JobSpec:
    """The same in less room, if it can be had."""
    return spec if spec.template is None else folded(spec.template, spec.arguments, spec.mask)


def unfold(spec: JobSpec) -> JobSpec:
    """The same, to be changed."""
    if not isinstance(spec, _Folded):
        return spec
    whole = copy.copy(spec.template)
    whole.arguments, whole.mask = spec.arguments, spec.mask
    return whole


def let_go(spec: JobSpec) -> None:
    """Nothing large is needed any more of the job: something may refer to it for a while."""
    spec.arguments = b""
    if not isinstance(spec, _Folded):
        spec.source = b""
