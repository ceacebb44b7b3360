"""The one reason why a command failed, out of the groups that nurseries wrap it in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from minwebhook.errors import MinwebhookError


@contextlib.contextmanager
def one_reason() -> Iterator[None]:
    """Raises the first of our own errors alone if a group holds nothing else; any other group as it is."""
    try:
        yield
    except BaseExceptionGroup as group:
        reasons, rest = group.split(MinwebhookError)
        if reasons is None or rest is not None:
            raise
        reason: BaseException = reasons
        while isinstance(reason, BaseExceptionGroup):
            reason = reason.exceptions[0]
        raise reason from None
