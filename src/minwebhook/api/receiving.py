"""From the request of a run to its arguments: the body is read, or streamed to storage, and its signature checked."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio

from minwebhook.api.context import Context, Digest
from minwebhook.http.codecs import CBOR, FORM
from minwebhook.http.multipart import MultipartLimits
from minwebhook.jobs.large_values import LARGE_BYTES
from minwebhook.schemas.validation import TooMuch
from minwebhook.scripts.script import Script
from minwebhook.scripts.signatures import Verification
from minwebhook.storage.uploads import Uploads, receive_form
from minwebhook.times import now_ms
from minwebhook.variables.model import is_path
from minwebhook.webhooks.arguments import Arguments, Layout, form_arguments, get_arguments, post_arguments

#: Bodies of these types above this size are decoded in a thread: their values, or escapes, are looked at one by one.
_SLOW_TYPES: Final = (CBOR, FORM)
MAX_SLOW_IN_LOOP: Final = 8 * 1024
#: Larger bodies are hashed in a thread: above half a millisecond.
MAX_HASH_IN_LOOP: Final = 256 * 1024
#: Larger arguments are not compared with a schema in the loop.
MAX_CHECKED_IN_LOOP: Final = 64 * 1024
_MULTIPART: Final = "multipart/form-data"


async def receive_arguments(context: Context, script: Script | None, layout: Layout) -> Arguments:
    """The arguments of a run of ``script``; None: of a flow. Files of a form are stored, and in ``context.uploads``.

    Raises 401 if the script wants a signature that the request does not have, and whatever is wrong with the body.
    """
    request, query = context.request, context.query
    names = context.services.settings.jobs.include_headers
    content_type = request.headers.get("content-type") or ""
    verification = _begin_verification(context, script)
    if request.method == "GET":
        _finish(verification, b"")
        return get_arguments(request.headers, query, layout=layout, include_headers=names)
    if content_type.startswith(_MULTIPART):
        form = await _receive_form(context, content_type, verification)
        _finish(verification, b"")
        return form_arguments(request.headers, form, query, layout=layout, include_headers=names)
    body = await context.body()
    if (digest := context.body_digest) is not None:
        await trio.to_thread.run_sync(digest.update, body) if len(body) > MAX_HASH_IN_LOOP else digest.update(body)
    _finish(verification, body)

    # Forms hold up nobody in a thread, and their escapes take more memory than a large value may.
    if len(body) > LARGE_BYTES and not content_type.startswith(FORM):
        return await context.services.large.arguments(
            request.headers, body, request.query, layout=layout, include_headers=names
        )

    def work() -> Arguments:
        return post_arguments(request.headers, body, query, layout=layout, include_headers=names)

    if len(body) > MAX_SLOW_IN_LOOP and content_type.startswith(_SLOW_TYPES):
        return await trio.to_thread.run_sync(work)
    return work()


async def check_arguments(context: Context, script: Script, arguments: bytes) -> None:
    """Raises :class:`BadRequest` if the script wants its arguments, JSON text, checked and they do not fit."""
    if not script.validates or script.schema is None:
        return
    if len(arguments) <= MAX_CHECKED_IN_LOOP:
        try:
            script.check_arguments(arguments)
        except TooMuch:
            pass
        else:
            return
    await context.services.large.check(script.schema, arguments)


async def _receive_form(context: Context, content_type: str, verification: Verification | None) -> dict[str, object]:
    services = context.services
    settings = services.settings
    context.uploads = Uploads(services.storages, services.upload_journal, context.workspace)
    return await receive_form(
        context.request.body,
        content_type,
        context.uploads,
        MultipartLimits.of(settings.http, settings.storage.max_upload_bytes),
        now_ms=now_ms,
        on_bytes=_both(verification, context.body_digest),
        with_details=settings.storage.upload_details,
    )


def _both(verification: Verification | None, digest: Digest | None) -> Callable[[bytes], None] | None:
    """Whoever wants the bytes of the body as they come."""
    if verification is None or digest is None:
        only = verification or digest
        return only.update if only is not None else None

    def update(data: bytes) -> None:
        verification.update(data)
        digest.update(data)

    return update


def _begin_verification(context: Context, script: Script | None) -> Verification | None:
    check = None if script is None else script.signature
    if script is None or check is None:
        return None
    secrets = context.services.hook_secrets
    if is_path(check.secret):
        # Whoever deployed the script may read it; whoever calls need not.
        variables = context.services.variables
        variable = variables.find(script.workspace_id, check.secret)
        secrets = {} if variable is None else {check.secret: variables.value(variable).encode()}
    return check.begin(context.request.headers, secrets, time.time())


def _finish(verification: Verification | None, rest: bytes) -> None:
    if verification is not None:
        verification.update(rest)
        verification.finish()
