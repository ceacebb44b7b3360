"""The functions-framework peer: the job runs inside the server's process, in one of its threads."""

from typing import Any


def echo(request: Any) -> Any:
    """Give back the arguments; ``request`` is Flask's."""
    return request.get_json()
