"""A slash command for Slack that believes only what Slack has signed within the last five minutes.

The request URL to enter at Slack:
.../jobs/run_wait_result/p/f/slack/command?raw=true&include_header=X-Slack-Signature,X-Slack-Request-Timestamp&token=...

``raw=true`` gives the exact text of the body, a form, as ``raw_string``; ``include_header`` the headers as
``x_slack_signature`` and ``x_slack_request_timestamp``. Slack shows the answer to whoever typed the command.
"""

import hashlib
import hmac
import time
import urllib.parse
from typing import Any

# FOR THE DEMO ONLY: change it to the app's signing secret ("Basic Information" of the app).
DEMO_SECRET = "demo-secret-that-everybody-knows"
TOLERANCE_S = 300


def main(raw_string: str = "", x_slack_signature: str = "", x_slack_request_timestamp: str = "") -> Any:
    # str(): if the header is missing, a field of the body may have its name.
    timestamp = str(x_slack_request_timestamp)
    if not is_signed(raw_string, timestamp, str(x_slack_signature)):
        return {"wm_status_code": 401, "result": "the signature does not fit the body"}
    if not is_recent(timestamp):
        return {"wm_status_code": 401, "result": "the timestamp is not within five minutes of now"}
    form = dict(urllib.parse.parse_qsl(raw_string, keep_blank_values=True))  # what was signed
    return {"response_type": "ephemeral", "text": f"{form['user_name']}: {form['command']} {form['text']}"}


def is_signed(body: str, timestamp: str, signature: str) -> bool:
    expected = "v0=" + hmac.new(DEMO_SECRET.encode(), f"v0:{timestamp}:{body}".encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode())


def is_recent(timestamp: str) -> bool:
    try:
        return abs(int(time.time()) - int(timestamp)) <= TOLERANCE_S
    except ValueError:
        return False
