"""The page for approvals as HTML: without scripts, and without anything from elsewhere. Pure.

It works in every browser, and its policy allows nothing but its own style and sending its own form. Its address holds a signature
or a token, so it is kept by no cache and told to nobody.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from minwebhook.flows.forms import PREFIX, Field, Kind
from minwebhook.http.messages import Response

_STYLE: Final = (
    ":root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}"
    "body{max-width:40rem;margin:2rem auto;padding:0 1rem}"
    "h1{font-size:1.4rem;overflow-wrap:anywhere}"
    "label{display:block;margin:1rem 0;font-weight:600}"
    "small{display:block;font-weight:400;opacity:.75}"
    "input,select,textarea{box-sizing:border-box;width:100%;font:inherit;padding:.4rem;margin-top:.25rem}"
    "input[type=checkbox]{width:auto;margin-right:.5rem}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere}"
    "button{font:inherit;padding:.5rem 1.25rem;margin:1rem 1rem 0 0;cursor:pointer}"
    "footer{margin-top:2rem;opacity:.75;overflow-wrap:anywhere}"
)
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_FIELDS: Final = (
    (
        "Content-Security-Policy",
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
_TYPES: Final = {Kind.PASSWORD: "password", Kind.INTEGER: "number", Kind.NUMBER: "number", Kind.DATE: "date"}


@dataclass(frozen=True, slots=True)
class Question:
    """What a page asks."""

    #: The path of the flow, and what its step is about.
    flow: str
    step: str
    description: str
    fields: Sequence[Field]
    can_cancel: bool
    #: Names of those who have approved; how many more are needed; until when, as text.
    approvers: Sequence[str] = ()
    missing: int = 0
    until: str = ""
    #: Why the one who looks cannot answer; "" if they can.
    hindrance: str = ""


def ask(question: Question) -> Response:
    """The page with the form."""
    head = f"<h1>{escape(question.step)}</h1>"
    if question.description:
        head += f"<pre>{escape(question.description)}</pre>"
    if question.hindrance:
        body = f"<p>{escape(question.hindrance)}</p>"
    else:
        fields = "".join(map(_field, question.fields))
        buttons = '<button name="action" value="resume">Approve</button>'
        if question.can_cancel:
            buttons += '<button name="action" value="cancel" formnovalidate>Refuse</button>'
        body = f'<form method="post">{fields}{buttons}</form>'
    known = [f"Flow: {question.flow}" if question.flow else ""]
    known.append(f"Approved by: {', '.join(question.approvers)}" if question.approvers else "")
    known.append(f"Approvals that are missing: {question.missing}" if question.missing else "")
    known.append(f"Until: {question.until}" if question.until else "")
    foot = "".join(f"<div>{escape(line)}</div>" for line in known if line)
    return page(question.step, f"{head}{body}<footer>{foot}</footer>")


def tell(title: str, text: str) -> Response:
    """A page that says something."""
    return page(title, f"<h1>{escape(title)}</h1><p>{escape(text)}</p>")


def page(title: str, body: str) -> Response:
    """``body`` is HTML."""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>{body}</main></body></html>"
    )
    return Response(200, text.encode("utf-8", "replace"), "text/html; charset=utf-8", headers=_FIELDS)


def _field(field: Field) -> str:
    name, value = escape(PREFIX + field.name), escape(field.value)
    required = " required" if field.is_required else ""
    note = f"<small>{escape(field.description)}</small>" if field.description else ""
    label = escape(field.label) + (" *" if field.is_required else "")
    if field.kind is Kind.CHECKBOX:
        checked = " checked" if field.value else ""
        return f'<label><input type="checkbox" name="{name}" value="true"{checked}>{label}{note}</label>'
    if field.kind is Kind.CHOICE:
        options = "" if field.is_required and field.value in field.choices else '<option value=""></option>'
        for choice in field.choices:
            selected = " selected" if choice == field.value else ""
            options += f"<option{selected}>{escape(choice)}</option>"
        return f'<label>{label}{note}<select name="{name}"{required}>{options}</select></label>'
    if field.kind is Kind.LONG_TEXT or field.kind is Kind.JSON:
        return f'<label>{label}{note}<textarea name="{name}" rows="6"{required}>\n{value}</textarea></label>'
    kind = _TYPES.get(field.kind, "text")
    step = ' step="any"' if field.kind is Kind.NUMBER else ""
    return f'<label>{label}{note}<input type="{kind}" name="{name}" value="{value}"{step}{required}></label>'


def escape(text: str) -> str:
    """``text`` as it stands in a page."""
    from html import escape as escaped  # noqa: PLC0415 - with its table of names it takes a MiB, and few servers show pages

    return escaped(text)
