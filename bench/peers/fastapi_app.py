"""The FastAPI peer: the job runs inside the server's process, on its event loop."""

from typing import Any

from fastapi import FastAPI  # type: ignore[import-not-found, unused-ignore]

app = FastAPI()


async def echo(body: dict[str, Any]) -> dict[str, Any]:
    """Give back the arguments. ``async def`` is the faster kind: ``def`` would go through a thread."""
    return body


app.add_api_route("/echo", echo, methods=["POST"])
