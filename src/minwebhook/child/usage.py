"""What the processes of a job used, as the first of them can tell: itself and the descendants that were waited for."""

from __future__ import annotations

import resource


def used() -> tuple[float, int]:
    """Seconds of processor time so far, and the resident memory of the largest process at its peak, in KiB."""
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own[0] + own[1] + others[0] + others[1], max(own[2], others[2])
