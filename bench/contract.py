"""What the webhook contract costs for one call: arguments out of a body of 1 KiB, an answer out of a result of 1 KiB.

    make bench-contract

Pure functions in one thread; sockets, the token, the job table and the script are not part of it. The two together have
a budget of 40 µs for a plain JSON body, look at the medians. Not collected by the suite, which asserts no speed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, Protocol

import cbor2
import pytest

from minwebhook.http.messages import Headers, Response
from minwebhook.webhooks.arguments import Arguments, Layout, post_arguments
from minwebhook.webhooks.query import Query
from minwebhook.webhooks.responses import Result, sync_response

#: Like the notification of some event: short texts, numbers, lists, little nesting.
_VALUE: Final[dict[str, Any]] = {
    "id": "evt_1PqXyZ2eZvKYlo2C",
    "type": "order.created",
    "created": 1_735_689_600,
    "livemode": False,
    "customer": {"id": 4711, "name": "Ada Lovelace", "email": "ada@example.com", "tags": ["new", "eu", None]},
    "items": [{"sku": f"A-{number:05}", "quantity": number, "price": 9.95 + number} for number in range(15)],
    "note": "x" * 139,
}
_JSON: Final = json.dumps(_VALUE, separators=(",", ":")).encode()
_CBOR: Final = cbor2.dumps({**_VALUE, "note": b"x" * 300})
_COMPOSITE: Final = json.dumps(
    {"wm_status_code": 201, "wm_headers": {"Location": "/orders/4711"}, "result": _VALUE}, separators=(",", ":")
).encode()

_OTHERS: Final = [
    ("host", "example.com"),
    ("user-agent", "bench/1.0"),
    ("accept", "*/*"),
    ("authorization", "Bearer 0123456789abcdef0123456789abcdef"),
    ("content-length", str(len(_JSON))),
    ("x-hub-signature-256", "sha256=38b37563fec99543ee8930436d6d57bb59044a95167384440dd32d3797610d7c"),
]
JSON_HEADERS: Final = Headers([*_OTHERS, ("content-type", "application/json")])
CBOR_HEADERS: Final = Headers([*_OTHERS, ("content-type", "application/cbor")])


class Benchmark(Protocol):
    """The fixture of pytest-benchmark, as far as it is used here."""

    def __call__(self, function: Callable[[], Any]) -> Any:
        """Calls it many times and gives what one call gave."""


@pytest.mark.parametrize(
    ("headers", "body", "query", "layout"),
    [
        pytest.param(JSON_HEADERS, _JSON, "", Layout.PLAIN, id="json"),
        pytest.param(
            JSON_HEADERS, _JSON, "raw=true&include_header=X-Hub-Signature-256", Layout.PLAIN, id="json-raw-and-header"
        ),
        pytest.param(JSON_HEADERS, _JSON, "", Layout.EVENT, id="json-event"),
        pytest.param(CBOR_HEADERS, _CBOR, "", Layout.PLAIN, id="cbor"),
    ],
)
def test_arguments(benchmark: Benchmark, headers: Headers, body: bytes, query: str, layout: Layout) -> None:
    made: Arguments = benchmark(lambda: post_arguments(headers, body, Query(query), layout=layout))
    assert len(made.text) > 1000


@pytest.mark.parametrize(
    ("text", "as_cbor"),
    [
        pytest.param(_JSON, False, id="plain"),
        pytest.param(_COMPOSITE, False, id="composite"),
        pytest.param(_JSON, True, id="plain-as-cbor"),
    ],
)
def test_response(benchmark: Benchmark, text: bytes, as_cbor: bool) -> None:
    made: Response = benchmark(lambda: sync_response(Result(text, True), failure_status=200, as_cbor=as_cbor))
    assert len(made.body) > 500


def test_both(benchmark: Benchmark) -> None:
    """Arguments of a plain JSON body, and the same as a plain result."""

    def call() -> Response:
        made = post_arguments(JSON_HEADERS, _JSON, Query(""))
        return sync_response(Result(made.text, True), failure_status=200)

    assert benchmark(call).body == _JSON
