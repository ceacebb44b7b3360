"""The error tree: whose fault it is, which status it gets, and what the caller should do next.

Every error that may leave the process as an HTTP answer is an :class:`ApiError`. Its public text never holds paths of
this machine, SQL or stack traces. One place renders it (``api/dispatch.py``); the class prefixes are the ones official
clients match on (Windmill's error table).
"""

from __future__ import annotations


class MinwebhookError(Exception):
    """Root of all errors raised on purpose by this program."""


class SettingsError(MinwebhookError):
    """A setting is unknown or has a bad value; the text names the key and where it came from. Ends the start."""


class DeployError(MinwebhookError):
    """A file below ``--scripts`` cannot be deployed; the text names the file and the reason. Ends the start."""


class SandboxError(MinwebhookError):
    """The kernel refuses what the sandbox needs; the text says which part and how to allow it."""


class UpkeepError(MinwebhookError):
    """A backup cannot be made, read or put back; the text says why and what to do."""


class PackageError(MinwebhookError):
    """Packages of a script cannot be found or installed; the text says which and why, and holds no credentials."""


class ApiError(MinwebhookError):
    """An error with an HTTP answer: ``status``, class ``prefix``, public ``detail`` and extra response headers."""

    status = 500
    prefix = "Internal: "

    def __init__(self, detail: str, *, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers

    @property
    def text(self) -> str:
        """The ``text/plain`` body: the class prefix and the detail."""
        return f"{self.prefix}{self.detail}"


class BadRequest(ApiError):
    """400: the caller sent something it must change."""

    status = 400
    prefix = "Bad request: "


class NotAuthorized(ApiError):
    """401: the token is missing or does not authenticate."""

    status = 401
    prefix = "Not authorized: "


class MissingToken(NotAuthorized):
    """401 with the bare body ``Unauthorized``: no token was sent at all."""

    prefix = ""

    def __init__(self) -> None:
        super().__init__("Unauthorized", headers=(("WWW-Authenticate", "Bearer"),))


class PermissionDenied(ApiError):
    """403: authenticated, but not allowed."""

    status = 403
    prefix = "Permission denied: "


class AdminRequired(ApiError):
    """403: only an admin may do this; the detail is the caller's username."""

    status = 403
    prefix = "Require Admin privileges for "


class NotFound(ApiError):
    """404: the thing does not exist (or must not be shown to exist)."""

    status = 404
    prefix = "Not found: "


class MethodNotAllowed(ApiError):
    """405 with ``Allow``."""

    status = 405
    prefix = ""

    def __init__(self, allow: tuple[str, ...]) -> None:
        super().__init__(f"method not allowed, use {', '.join(allow)}", headers=(("Allow", ", ".join(allow)),))


class PayloadTooLarge(ApiError):
    """413: the body is over the named limit."""

    status = 413
    prefix = ""


class UnsupportedMediaType(ApiError):
    """415: the body has an encoding or type this endpoint does not read."""

    status = 415
    prefix = ""


class KeyReused(ApiError):
    """422: an idempotency key that belongs to another request."""

    status = 422
    prefix = "Unprocessable: "


class Gone(ApiError):
    """410: it was here, and was deleted for good."""

    status = 410
    prefix = "Gone: "


class UpgradeRequired(ApiError):
    """426: this address speaks WebSocket only, and the request is no handshake for the version we speak."""

    status = 426
    prefix = ""


class ResultError(ApiError):
    """500 without a prefix: what a script returned cannot be sent as it asks (upstream's answer)."""

    prefix = ""


class RangeNotSatisfiable(ApiError):
    """416: no byte of the requested range is in the object; ``Content-Range`` says how large it is."""

    status = 416
    prefix = "Bad request: "

    def __init__(self, size: int) -> None:
        super().__init__(
            f"the range is outside of the object's {size} bytes", headers=(("Content-Range", f"bytes */{size}"),)
        )


class WaitTimeout(ApiError):
    """500 ``timeout after {N}s``: a sync caller waited longer than ``wait_result_timeout_s`` (upstream's answer)."""

    prefix = ""


class Internal(ApiError):
    """500: our fault. The detail must be safe to publish."""


class BadGateway(ApiError):
    """502: a server behind this one does not answer, or refuses what we ask of it."""

    status = 502
    prefix = "Bad gateway: "


class InsufficientStorage(ApiError):
    """507: there is no room left for what the caller sent."""

    status = 507
    prefix = "Insufficient storage: "


class _TryLater(ApiError):
    """With ``Retry-After`` in seconds."""

    def __init__(self, detail: str, *, retry_after_s: int = 1, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail, headers=(("Retry-After", str(retry_after_s)), *headers))


class TooManyRequests(_TryLater):
    """429 with ``Retry-After``: this caller, or this script, has more waiting than it may have."""

    status = 429
    prefix = "Too many requests: "


class Unavailable(_TryLater):
    """503 with ``Retry-After``: the store or the workers cannot take this now."""

    status = 503
    prefix = "Unavailable: "
