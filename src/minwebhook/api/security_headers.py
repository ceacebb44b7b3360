"""What browsers are told about answers, so that none of them can be used against who opens it. Pure.

Everything is what its type says, and nothing else (``nosniff``). Pages of our own are in no frame, and tell other sites nothing
of their address. Pages that scripts answer with, if scripts are not trusted with that, have an origin of their own: what runs
in them cannot call the server with the cookie of whoever opens them; neither do they tell anyone their address, which may hold a
token. What an answer says itself stays as it is; policies of content add up, so theirs and ours both hold (CSP3 §4.2).
"""

from __future__ import annotations

from typing import Final

from minwebhook.http.messages import JSON, TEXT, Response

_NOSNIFF: Final = (("X-Content-Type-Options", "nosniff"),)
#: Types that no browser runs anything in.
_PLAIN: Final = frozenset({JSON, TEXT, "text/plain", "text/event-stream", "application/octet-stream", None})
#: Types that browsers show as pages, in which scripts run.
_PAGES: Final = ("text/html", "application/xhtml+xml", "image/svg+xml", "text/xml", "application/xml", "text/xsl")
_SANDBOX: Final = "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads"
_OWN_POLICY: Final = "frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'"


def secure(response: Response, *, is_scripts: bool, trusts_scripts: bool) -> None:
    """Add what the answer wants. ``is_scripts``: whether a script may have made it; ``trusts_scripts``: its pages, too."""
    if response.content_type in _PLAIN:  # nearly all
        for name, _ in response.headers:
            if name.lower() == "x-content-type-options":
                return
        response.headers += _NOSNIFF
        return
    said = {name.lower() for name, _ in response.headers}
    fields = [] if "x-content-type-options" in said else [*_NOSNIFF]
    if _is_page(response.content_type):
        if is_scripts:
            fields += [] if trusts_scripts else [("Content-Security-Policy", _SANDBOX)]
            fields += [] if "referrer-policy" in said else [("Referrer-Policy", "no-referrer")]
        elif "content-security-policy" not in said:
            fields.append(("Content-Security-Policy", _OWN_POLICY))
        if not is_scripts:
            fields += [] if "x-frame-options" in said else [("X-Frame-Options", "DENY")]
            fields += [] if "referrer-policy" in said else [("Referrer-Policy", "same-origin")]
    response.headers += tuple(fields)


def _is_page(content_type: str | None) -> bool:
    kind = (content_type or "").partition(";")[0].strip().lower()
    return kind in _PAGES or kind.endswith("+xml")
