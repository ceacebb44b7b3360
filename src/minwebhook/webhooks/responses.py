"""From the outcome of a job to the answer of a sync call. Pure."""

from __future__ import annotations

from minwebhook.http.messages import Response


def sync_response(result: bytes, *, is_success: bool, failure_status: int) -> Response:
    """The stored result as it is: its JSON text, with the failure status if the job failed."""
    return Response.json(result, 200 if is_success else failure_status)
