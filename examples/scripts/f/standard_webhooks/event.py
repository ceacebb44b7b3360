"""A webhook for the many senders that follow Standard Webhooks (standardwebhooks.com), signatures of version ``v1``.

The URL to enter at the sender:
.../jobs/run_wait_result/p/f/standard_webhooks/event?raw=true&include_header=webhook-id,webhook-timestamp,webhook-signature&token=...

``raw=true`` gives the exact text of the body as ``raw_string``, ``include_header`` the headers as ``webhook_id``,
``webhook_timestamp`` and ``webhook_signature``: one or more of ``v1,SIGNATURE``, separated by spaces.
"""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

# FOR THE DEMO ONLY: change it to the secret that the sender shows. The key is what the base64 stands for.
DEMO_SECRET = "whsec_ZGVtby1zZWNyZXQtdGhhdC1ldmVyeWJvZHkta25vd3M="
TOLERANCE_S = 300


def main(raw_string: str = "", webhook_id: str = "", webhook_timestamp: str = "", webhook_signature: str = "") -> Any:
    # str(): if a header is missing, a member of the body may have its name, and be of any type.
    message_id, timestamp = str(webhook_id), str(webhook_timestamp)
    if not is_signed(raw_string, message_id, timestamp, str(webhook_signature)):
        return {"wm_status_code": 401, "result": "the signature does not fit the body"}
    if not is_recent(timestamp):
        return {"wm_status_code": 401, "result": "the timestamp is not within five minutes of now"}
    event = json.loads(raw_string)  # what was signed; arguments can come from elsewhere
    # A delivery that is repeated keeps its id.
    return {"id": message_id, "type": event["type"], "data": event["data"]}


def is_signed(body: str, message_id: str, timestamp: str, signatures: str) -> bool:
    if "." in message_id:
        return False  # else "id.time." could end at a later dot, inside of what was the body
    key = base64.b64decode(DEMO_SECRET.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message_id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    expected = b"v1," + base64.b64encode(digest)
    return any(hmac.compare_digest(expected, signature.encode()) for signature in signatures.split(" "))


def is_recent(timestamp: str) -> bool:
    try:
        return abs(int(time.time()) - int(timestamp)) <= TOLERANCE_S
    except ValueError:
        return False
