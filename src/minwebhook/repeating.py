"""What is done now and then, beside everything else, for as long as the server runs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

import trio

from minwebhook.errors import ApiError

logger = logging.getLogger(__name__)


async def repeat(
    chore: Callable[[], Awaitable[object]], what: str, *, pause_s: float, after_error_s: float | None = None
) -> NoReturn:
    """Does a chore again and again, with a pause after each time, until cancelled.

    Whatever goes wrong with it is logged (``what`` says what could not be done) and tried again, after ``after_error_s`` if
    that is given: neither the chore nor the server ends by it.
    """
    while True:
        next_s = pause_s
        try:
            await chore()
        except ApiError as error:  # a disk that is full, a database that is locked
            logger.warning("%s: %s", what, error.detail)
            next_s = pause_s if after_error_s is None else after_error_s
        except Exception:
            logger.exception("%s", what)
            next_s = pause_s if after_error_s is None else after_error_s
        await trio.sleep(next_s)
