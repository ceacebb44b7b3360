"""Triggers another webhook with the standard library alone: waiting for its result, not waiting for it, and as a stream.

The environment says where the server is, and holds a token with the rights of whoever started this job. From outside, put
the server's address and a token of your own there.
"""

import json
import os
import time
import urllib.request
from http.client import HTTPResponse
from typing import Any

JOBS = f"{os.environ['BASE_INTERNAL_URL']}/api/w/{os.environ['WM_WORKSPACE']}"
HEADERS = {"Authorization": f"Bearer {os.environ['WM_TOKEN']}", "Content-Type": "application/json"}


def call(path: str, arguments: dict[str, Any] | None = None) -> HTTPResponse:
    body = None if arguments is None else json.dumps(arguments).encode()
    answer: HTTPResponse = urllib.request.urlopen(urllib.request.Request(f"{JOBS}/{path}", body, HEADERS))
    return answer


def sync(path: str, arguments: dict[str, Any]) -> Any:
    """The answer is the result."""
    return json.load(call(f"jobs/run_wait_result/p/{path}", arguments))


def without_waiting(path: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The answer is the id of a job, which is asked for its result until it has one."""
    job = call(f"jobs/run/p/{path}", arguments).read().decode()
    while not (answer := json.load(call(f"jobs_u/completed/get_result_maybe/{job}")))["completed"]:
        time.sleep(0.1)
    return {"id": job, "result": answer["result"]}


def stream(path: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The answer is a stream of events: pieces of the result while it is made, at last all of it."""
    chunks: list[str] = []
    for line in call(f"jobs/run_and_stream/p/{path}", arguments):
        if not line.startswith(b"data: "):
            continue
        update = json.loads(line.removeprefix(b"data: "))
        if update.get("new_result_stream"):
            chunks.append(update["new_result_stream"])
        if update.get("completed"):
            return {"chunks": chunks, "result": update["only_result"]}
    raise RuntimeError("the stream ended before the job")


def main(how: str = "sync", path: str = "u/demo/hello", args: dict[str, Any] | None = None) -> Any:
    return {"sync": sync, "async": without_waiting, "stream": stream}[how](path, args or {})
