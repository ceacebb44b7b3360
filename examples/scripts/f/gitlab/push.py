"""A webhook for GitLab's push events that wants GitLab's secret token.

The URL to enter at GitLab:
.../jobs/run_wait_result/p/f/gitlab/push?raw=true&include_header=X-Gitlab-Token&token=...

``include_header`` gives the header as ``x_gitlab_token``. It proves who sends and says nothing about the body: use https.
"""

import hmac
import json
from typing import Any

# FOR THE DEMO ONLY: change it to the secret token that you enter at GitLab, a long random text.
DEMO_SECRET = "demo-secret-that-everybody-knows"


def main(raw_string: str = "", x_gitlab_token: str = "") -> Any:
    # str(): if the header is missing, a member of the body may have its name, and be of any type.
    if not hmac.compare_digest(DEMO_SECRET.encode(), str(x_gitlab_token).encode()):
        return {"wm_status_code": 401, "result": "the secret token is another one"}
    event = json.loads(raw_string)
    branch = event["ref"].removeprefix("refs/heads/")
    return f"{event['total_commits_count']} commits on {branch} of {event['project']['path_with_namespace']}"
