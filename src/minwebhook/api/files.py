"""``/api/w/{workspace}/job_helpers`` and ``s3_proxy``: objects of the workspace's storages."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Final

import orjson
import trio

from minwebhook.api.context import Context
from minwebhook.api.file_previews import MAX_PREVIEW_BYTES, preview
from minwebhook.errors import ApiError, BadRequest, NotFound, PayloadTooLarge
from minwebhook.http.conditional import is_not_modified, wanted_range
from minwebhook.http.messages import Response, SendChunk
from minwebhook.storage.keys import ObjectKey, extension_of, parse_key, upload_key
from minwebhook.storage.model import MAX_PAGE, ByteRange, ObjectHeaders
from minwebhook.storage.objects import MAX_SIGNED_S, ObjectStorage
from minwebhook.storage.uploads import next_number
from minwebhook.times import now_ms, rfc3339

#: What ``s3_proxy`` addresses call the primary storage.
_PRIMARY: Final = "_default_"
_DEFAULT_EXPIRY_S: Final = 12 * 3600
#: Objects that one call signs.
MAX_SIGNED: Final = 1000
_NOTHING: Final = b"null"


async def upload(context: Context) -> Response:
    """Stores the body, of any size, under ``file_key`` or a key of its own: ``{"file_key"}``."""
    query = context.query
    storage = await _storage(context)
    name = query.get("file_key")
    extension = query.get("file_extension")
    key = parse_key(name) if name else upload_key(now_ms(), next_number(), f"x.{extension_of(extension)}")
    headers = ObjectHeaders(
        query.get("content_type") or ObjectHeaders().content_type, query.get("content_disposition") or None
    )
    limit = context.services.settings.storage.max_upload_bytes
    size = 0
    async with storage.put(key, headers) as target:
        while data := await context.request.body.read_chunk():
            size += len(data)
            if 0 < limit < size:
                raise PayloadTooLarge(f"The file is larger than {limit} bytes (max_upload_bytes)")
            await target.write(data)
        await target.commit()
    return Response.json(orjson.dumps({"file_key": key}))


async def download(context: Context) -> Response:
    """The bytes of an object, or a range of them; 304 for those who have it."""
    return await _serve(context, await _storage(context), _key(context, "file_key"))


async def download_signed(context: Context) -> Response:
    """The same for bearers of a signed address, without a token."""
    name = context.params["storage"]
    secondary = None if name == _PRIMARY else name
    key = parse_key(context.params["key"])
    storage = await _find(context, secondary)
    storage.signer.check(key, context.query.get("exp") or "", context.query.get("sig") or "", time.time())
    return await _serve(context, storage, key)


async def list_files(context: Context) -> Response:
    """One page of keys: ``{"windmill_large_files", "next_marker", "restricted_access"}``."""
    query = context.query
    max_keys = query.number("max_keys", low=1)
    page = await (await _storage(context)).list(
        prefix=query.get("prefix") or "",
        marker=query.get("marker") or "",
        max_keys=min(max_keys or MAX_PAGE, MAX_PAGE),
    )
    shown = {
        "windmill_large_files": [{"s3": item.key} for item in page.objects],
        "next_marker": page.next_marker,
        "restricted_access": False,
    }
    return Response.json(orjson.dumps(shown))


async def metadata(context: Context) -> Response:
    """Type, size and time of an object."""
    info = await (await _storage(context)).head(_key(context, "file_key"))
    shown = {
        "mime_type": info.headers.content_type,
        "size_in_bytes": info.size,
        "last_modified": rfc3339(info.last_modified_ms),
        "expires": None,
        "version_id": None,
    }
    return Response.json(orjson.dumps(shown))


async def load_preview(context: Context) -> Response:
    """The beginning, or a piece, of a text or CSV object: ``{"content", "content_type", "msg"}``."""
    query = context.query
    key = _key(context, "file_key")
    first = query.number("read_bytes_from", high=2**53) or 0
    length = query.number("read_bytes_length", low=1)
    if length is None or length > MAX_PREVIEW_BYTES:
        raise BadRequest(f"read_bytes_length: send a number of bytes from 1 to {MAX_PREVIEW_BYTES}")
    separator = query.get("csv_separator") or ","
    if len(separator) != 1 or not (separator.isprintable() or separator == "\t") or separator == '"':
        raise BadRequest("csv_separator: send one character")
    storage = await _storage(context)
    info = await storage.head(key)
    data = b""
    if first < info.size:
        async with storage.get(key, ByteRange(first, first + length - 1)) as source:
            pieces = []
            while piece := await source.read_chunk():
                pieces.append(piece)
            data = b"".join(pieces)
    shown = partial(preview, key, data, separator=separator, has_header=query.flag("csv_has_header", default=True))
    return Response.json(orjson.dumps(await trio.to_thread.run_sync(shown)))


async def delete(context: Context) -> Response:
    """Removes an object; one that is not there is no error."""
    key = _key(context, "file_key")
    context.audited_resource = str(key)
    await (await _storage(context)).delete(key)
    return Response.json(_NOTHING)


async def move(context: Context) -> Response:
    """Gives an object another key, over whatever has it."""
    source, target = _key(context, "src_file_key"), _key(context, "dest_file_key")
    context.audited_resource = str(source)
    await (await _storage(context)).move(source, target)
    return Response.json(_NOTHING)


async def test_connection(context: Context) -> Response:
    """Whether the storage answers; 404 if there is none."""
    try:
        storage = await _storage(context)
    except BadRequest as error:
        raise NotFound(error.detail) from None
    await storage.list(max_keys=1)
    return Response.json(_NOTHING)


async def old_name(context: Context) -> Response:
    """The names that very old clients call."""
    raise BadRequest("this endpoint has gone: update the client, or call upload_s3_file and download_s3_file")


async def sign(context: Context) -> Response:
    """``{"s3_objects"}`` → the same objects with ``presigned``, which opens ``s3_proxy`` addresses without a token."""
    body = await context.json()
    objects = body.get("s3_objects") if isinstance(body, dict) else None
    if not isinstance(objects, list) or len(objects) > MAX_SIGNED:
        raise BadRequest(f's3_objects: send {{"s3_objects": [{{"s3": KEY}}]}} with at most {MAX_SIGNED} objects')
    expiry_s = body.get("expiry_secs")
    if expiry_s is None:
        expiry_s = _DEFAULT_EXPIRY_S
    if isinstance(expiry_s, bool) or not isinstance(expiry_s, int) or not 1 <= expiry_s <= MAX_SIGNED_S:
        raise BadRequest(f"expiry_secs: send seconds from 1 to {MAX_SIGNED_S}")
    expires_at_s = int(time.time()) + expiry_s
    return Response.json(orjson.dumps([await _signed(context, each, expires_at_s) for each in objects]))


async def _signed(context: Context, shown: Any, expires_at_s: int) -> dict[str, Any]:
    if not isinstance(shown, dict):
        raise BadRequest('s3_objects: send objects {"s3": KEY, "storage"?: NAME}')
    key = parse_key(shown.get("s3"), "s3_objects.s3")
    storage = shown.get("storage")
    if storage is not None and not isinstance(storage, str):
        raise BadRequest("s3_objects.storage: send the name of a secondary storage, or leave it out")
    signer = (await _find(context, storage or None)).signer
    # Members that are null are left out: clients build addresses of what they get.
    kept = {name: value for name, value in shown.items() if value is not None}
    return {**kept, "presigned": signer.sign(key, expires_at_s)}


async def _serve(context: Context, storage: ObjectStorage, key: ObjectKey) -> Response:
    headers = context.request.headers
    info = await storage.head(key)
    fields: tuple[tuple[str, str], ...] = (("ETag", info.etag), ("Accept-Ranges", "bytes"))
    if info.headers.content_disposition is not None:
        fields += (("Content-Disposition", info.headers.content_disposition),)
    if is_not_modified(headers, info.etag):
        return Response(304, headers=fields)
    # A range is for GET alone (RFC 9110 §14.2).
    wanted = None if context.request.method == "HEAD" else wanted_range(headers, info.etag)
    span = ByteRange(*wanted) if wanted is not None and info.size else None
    start, stop = (0, info.size) if span is None else span.within(info.size)
    if span is not None:
        fields += (("Content-Range", f"bytes {start}-{stop - 1}/{info.size}"),)

    async def send(send_piece: SendChunk) -> None:
        async with storage.get(key, ByteRange(start, stop - 1) if start < stop else None) as source:
            if source.info.etag != info.etag:
                raise ApiError("the object was replaced while it was being sent")
            while piece := await source.read_chunk():
                await send_piece(piece)

    # What others stored must not become a page of this origin.
    fields += (("Content-Security-Policy", "sandbox"), ("X-Content-Type-Options", "nosniff"))
    return Response(
        200 if span is None else 206, b"", info.headers.content_type, fields, stream=send, stream_bytes=stop - start
    )


def _key(context: Context, name: str) -> ObjectKey:
    return parse_key(context.query.get(name), name)


async def _storage(context: Context) -> ObjectStorage:
    """The storage of the request. Raises :class:`BadRequest` if there is none."""
    if context.query.get("s3_resource_path"):
        raise BadRequest(
            "s3_resource_path: there are no resources here; configure a secondary storage and send its name"
        )
    return await _find(context, context.query.get("storage") or None)


async def _find(context: Context, name: str | None) -> ObjectStorage:
    storage = await context.services.storages.find(context.workspace, name)
    if storage is None:
        raise BadRequest("this workspace has no storage: configure one with edit_large_file_storage_config")
    return storage
