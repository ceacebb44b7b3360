"""AWS Signature Version 4 for requests to S3 without a body. Pure; checked against the examples that AWS publishes.

Only for what obstore has no call for (``s3_requests.py``).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

_NO_BODY: Final = hashlib.sha256(b"").hexdigest()
_UNRESERVED: Final = "-_.~"


def canonical_path(path: str) -> str:
    """A path as it is signed and sent: everything escaped but unreserved characters and slashes."""
    return quote(path, safe=f"{_UNRESERVED}/")


def canonical_query(query: Mapping[str, str]) -> str:
    """A query as it is signed and sent: sorted and escaped."""
    pairs = sorted((quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED)) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def signed_headers(
    method: str,
    host: str,
    path: str,
    query: Mapping[str, str],
    *,
    access_key: str,
    secret_key: str,
    session_token: str = "",
    region: str,
    now_s: float,
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The header fields of a request, ``Authorization`` included. ``extra`` fields (lower-case) are signed, too."""
    moment = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": host, "x-amz-content-sha256": _NO_BODY, "x-amz-date": moment, **(extra or {})}
    if session_token:
        headers["x-amz-security-token"] = session_token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in sorted(headers))
    request = "\n".join([method, canonical_path(path), canonical_query(query), lines, names, _NO_BODY])

    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{secret_key}".encode()
    for step in scope.split("/"):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}"
    return {**headers, "authorization": f"{credential},SignedHeaders={names},Signature={signature}"}
