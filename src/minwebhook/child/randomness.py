"""Random numbers of a forked process: none is to repeat what another process with the same memory gives.

``secrets``, ``uuid4`` and ``os.urandom`` ask the kernel, and ``random`` renews itself behind a fork; others do not. The
seed of ``hash()`` cannot be renewed: it is that of the fork server, new at each of its starts.
"""

from __future__ import annotations

import os
import sys


def renew() -> None:
    """Gives modules that keep a state of their own, and were imported before the fork, a new one."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()  # from the kernel
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(int.from_bytes(os.urandom(7)))
