"""A webhook for GitHub's push events that believes only what GitHub has signed.

Payload URL: .../jobs/run_wait_result/p/f/github/push?raw=true&include_header=X-Hub-Signature-256&token=...
Content type: application/json. ``raw=true`` adds the exact text of the body as ``raw_string``, ``include_header`` adds the
header as ``x_hub_signature_256``; the members of the body (``ref``, ``repository``, ...) are arguments as usual.
"""

import hashlib
import hmac
import os
from typing import Any

# FOR THE DEMO ONLY. Deploy the script with "envs": ["GITHUB_WEBHOOK_SECRET=..."] to give it a secret of its own.
DEMO_SECRET = "demo-secret-that-everybody-knows"  # noqa: S105


def main(raw_string: str, x_hub_signature_256: str = "", ref: str = "", commits: list[Any] | None = None) -> str:
    secret = os.environ.get("GITHUB_WEBHOOK_SECRET", DEMO_SECRET)
    expected = "sha256=" + hmac.new(secret.encode(), raw_string.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, x_hub_signature_256):
        raise PermissionError("the signature does not fit the body")
    return f"{len(commits or [])} commits on {ref.removeprefix('refs/heads/')}"
