"""A webhook for Shopify's order topics that believes only what Shopify has signed.

The URL to enter at Shopify:
.../jobs/run_wait_result/p/f/shopify/order?raw=true&include_header=X-Shopify-Hmac-Sha256&token=...

``raw=true`` gives the exact text of the body as ``raw_string``, ``include_header`` the header as ``x_shopify_hmac_sha256``.
Shopify signs no time: a copied delivery stays valid for as long as the secret does.
"""

import base64
import hashlib
import hmac
import json
from typing import Any

# FOR THE DEMO ONLY: change it to the app's client secret.
DEMO_SECRET = "demo-secret-that-everybody-knows"


def main(raw_string: str = "", x_shopify_hmac_sha256: str = "") -> Any:
    # str(): if the header is missing, a member of the body may have its name, and be of any type.
    if not is_signed(raw_string, str(x_shopify_hmac_sha256)):
        return {"wm_status_code": 401, "result": "the signature does not fit the body"}
    order = json.loads(raw_string)  # what was signed; arguments can come from elsewhere
    return {
        "order": order["name"],
        "total": order["total_price"],
        "items": [item["title"] for item in order["line_items"]],
    }


def is_signed(body: str, signature: str) -> bool:
    expected = base64.b64encode(hmac.new(DEMO_SECRET.encode(), body.encode(), hashlib.sha256).digest())
    return hmac.compare_digest(expected, signature.encode())
