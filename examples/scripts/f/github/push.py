"""A webhook for GitHub's push events that believes only what GitHub has signed.

The payload URL to enter at GitHub, content type application/json:
.../jobs/run_wait_result/p/f/github/push?raw=true&include_header=X-Hub-Signature-256&token=...

``raw=true`` gives the exact text of the body as ``raw_string``, ``include_header`` the header as ``x_hub_signature_256``.
GitHub signs no time: a copied delivery stays valid for as long as the secret does.
"""

import hashlib
import hmac
import json
from typing import Any

# FOR THE DEMO ONLY: change it to the secret that you enter at GitHub, a long random text.
DEMO_SECRET = "demo-secret-that-everybody-knows"


def main(raw_string: str = "", x_hub_signature_256: str = "") -> Any:
    # str(): if the header is missing, a member of the body may have its name, and be of any type.
    if not is_signed(raw_string, str(x_hub_signature_256)):
        return {"wm_status_code": 401, "result": "the signature does not fit the body"}
    event = json.loads(raw_string)  # what was signed; arguments can come from elsewhere
    if "commits" not in event:
        return "not a push"  # such as the ping that GitHub sends first
    return f"{len(event['commits'])} commits on {event['ref'].removeprefix('refs/heads/')}"


def is_signed(body: str, signature: str) -> bool:
    expected = "sha256=" + hmac.new(DEMO_SECRET.encode(), body.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode())
