"""A webhook for Stripe's events that believes only what Stripe has signed within the last five minutes.

The endpoint URL to enter at Stripe:
.../jobs/run_wait_result/p/f/stripe/event?raw=true&include_header=Stripe-Signature&token=...

``raw=true`` gives the exact text of the body as ``raw_string``, ``include_header`` the header as ``stripe_signature``:
``t=TIME,v1=SIGNATURE``, with a second ``v1`` while the endpoint's secret is being replaced.
"""

import hashlib
import hmac
import json
import time
from typing import Any

# FOR THE DEMO ONLY: change it to the signing secret that Stripe shows for the endpoint. The prefix is part of the key.
DEMO_SECRET = "whsec_demo-secret-that-everybody-knows"
TOLERANCE_S = 300


def main(raw_string: str = "", stripe_signature: str = "") -> Any:
    # str(): if the header is missing, a member of the body may have its name, and be of any type.
    parts = [part.partition("=") for part in str(stripe_signature).split(",")]
    timestamp = next((value for name, _, value in parts if name == "t"), "")
    if not is_signed(raw_string, timestamp, [value for name, _, value in parts if name == "v1"]):
        return {"wm_status_code": 401, "result": "the signature does not fit the body"}
    if not is_recent(timestamp):
        return {"wm_status_code": 401, "result": "the timestamp is not within five minutes of now"}
    event = json.loads(raw_string)  # what was signed; arguments can come from elsewhere
    return {"id": event["id"], "type": event["type"], "object": event["data"]["object"]}


def is_signed(body: str, timestamp: str, signatures: list[str]) -> bool:
    expected = hmac.new(DEMO_SECRET.encode(), f"{timestamp}.{body}".encode(), hashlib.sha256).hexdigest()
    return any(hmac.compare_digest(expected.encode(), signature.encode()) for signature in signatures)


def is_recent(timestamp: str) -> bool:
    try:
        return abs(int(time.time()) - int(timestamp)) <= TOLERANCE_S
    except ValueError:
        return False
