"""Objects in an S3 bucket, through obstore (the extra ``minwebhook[s3]``, imported when the first bucket is opened).

obstore is used by its blocking calls. Rules of this file, each for something that was measured (docs/decisions/storage.md):

- A writer is ended by ``close`` or by an exception in its ``with``; one that is merely dropped would leave an upload
  pending on the server, and paid for.
- Keys are always given, and the environment is hidden while a store is made: obstore would take ``AWS_*`` variables
  over what it is told, and look for keys at the address of a metadata service.
- A request is given up after ``timeout_s`` without an answer; the whole download has no such limit, its reader may be
  slow.
- Lists and unfinished uploads are asked for by requests of our own (``s3_requests.py``).
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from minwebhook.errors import BadGateway, NotFound, RangeNotSatisfiable, SettingsError
from minwebhook.storage.backend import Bytes
from minwebhook.storage.keys import ObjectKey, is_key
from minwebhook.storage.model import ByteRange, ListedObject, ObjectHeaders, ObjectInfo, Page
from minwebhook.storage.s3_location import S3Location
from minwebhook.storage.s3_requests import S3Requests

if TYPE_CHECKING:
    from obstore import Attributes, GetOptions, GetResult, WritableFile
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Store

#: What is handed to a thread at once. It is copied there while the interpreter waits, so it is little, and of a size for
#: which the C library keeps memory (allocator.py).
PIECE_BYTES: Final = 1024 * 1024

#: The smallest part that S3 takes; objects below it are stored by one request. Up to ``PART_REQUESTS + 1`` are in memory,
#: and 10 000 are the most of one object (48 GiB).
PART_BYTES: Final = 5 * 1024 * 1024
PART_REQUESTS: Final = 2

#: What a download reads at once, at least.
CHUNK_BYTES: Final = 1024 * 1024

#: Requests that fail because of the server or the line are repeated so often, for ``timeout_s`` at most.
MAX_RETRIES: Final = 3
CONNECT_TIMEOUT_S: Final = 10.0

_CODE: Final = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_STATUS: Final = re.compile(r"status code: ([0-9]{3})")
_HIDDEN_VARIABLES: Final = re.compile(r"AWS_.*|(HTTP|HTTPS|ALL|NO)_PROXY", re.IGNORECASE)
_environment_lock = threading.Lock()


class S3Backend:
    """The objects of a bucket, or of the part below the location's prefix."""

    piece_bytes = PIECE_BYTES

    def __init__(self, location: S3Location) -> None:
        """Does not ask the server yet. Raises :class:`SettingsError` when obstore is not installed."""
        self._prefix = location.prefix
        self._requests = S3Requests(location)
        self._store = _make_store(location)

    def open_sink(self, key: ObjectKey, headers: ObjectHeaders) -> _Sink:
        """Begin an object; nothing is sent before its first piece."""
        return _Sink(self, key, self.path(key), headers)

    def open_source(self, key: ObjectKey, wanted: ByteRange | None) -> _Source:
        """Ask for an object; its body comes as it is read."""
        if wanted is not None and wanted.first is None:
            # Not all servers know "the last n bytes"; some give the whole object instead.
            start, stop = wanted.within(self.head(key).size)
            wanted = ByteRange(start, stop - 1)
        try:
            with _errors_of(key):
                return _Source(key, self._get(key, wanted))
        except BadGateway as error:
            # Which the store answers to an empty object and any range, too; it does not say how large the object is.
            if wanted is None or "416" not in _STATUS.findall(str(error.__cause__)):
                raise
            raise RangeNotSatisfiable(self.head(key).size) from error

    def head(self, key: ObjectKey) -> ObjectInfo:
        """Ask for what is known of an object."""
        import obstore  # noqa: PLC0415

        with _errors_of(key):
            # obstore.head would leave the content type out.
            return _info(key, obstore.get(self._store, self.path(key), options={"head": True}))

    def delete(self, key: ObjectKey) -> None:
        """Ask to delete; S3 does not tell whether there was an object."""
        import obstore  # noqa: PLC0415

        with suppress(NotFound), _errors_of(key):
            obstore.delete(self._store, self.path(key))

    def abandon(self, key: ObjectKey) -> None:
        """Abort what is pending under this very key, then delete the object."""
        for page in self._requests.list_uploads(self.path(key)):
            for upload in page:
                if upload.key == self.path(key):
                    self._requests.abort_upload(upload)
        self.delete(key)

    def list(self, prefix: str, after: str, limit: int) -> Page:
        """One page of the bucket, without the keys that are none of ours."""
        marker = self._prefix + after if after else ""
        objects, more = self._requests.list_objects(self._prefix + prefix, marker, limit)
        start = len(self._prefix)
        return Page(
            tuple(
                ListedObject(ObjectKey(found.key[start:]), found.size, found.last_modified_ms)
                for found in objects
                if is_key(found.key[start:])
            ),
            more[start:] if more else None,
        )

    def copy(self, source: ObjectKey, target: ObjectKey) -> ObjectInfo:
        """Copy inside the store, which S3 does for objects up to 5 GiB."""
        import obstore  # noqa: PLC0415

        with _errors_of(source):
            obstore.copy(self._store, self.path(source), self.path(target))
        return self.head(target)

    def move(self, source: ObjectKey, target: ObjectKey) -> ObjectInfo:
        """Copy, then delete. S3 cannot rename: if the second step fails, both objects are there."""
        info = self.copy(source, target)
        self.delete(source)
        return info

    def sign(self, key: ObjectKey, expires_in_s: int) -> str:
        """A URL of the store, counted from now."""
        import obstore  # noqa: PLC0415

        with _errors_of(key):
            return obstore.sign(self._store, "GET", self.path(key), timedelta(seconds=expires_in_s))

    def sweep(self, before_ms: int) -> Iterator[int]:
        """Abort uploads below our prefix that were begun before ``before_ms``, also those of other programs there."""
        for page in self._requests.list_uploads(self._prefix):
            for upload in page:
                if upload.initiated_ms < before_ms:
                    yield int(self._requests.abort_upload(upload))

    def close(self) -> None:
        """Nothing is held; obstore closes its connections with the store."""

    def path(self, key: ObjectKey) -> str:
        """The key in the bucket."""
        return self._prefix + key

    @property
    def store(self) -> S3Store:
        """obstore's side."""
        return self._store

    def _get(self, key: ObjectKey, wanted: ByteRange | None) -> GetResult:
        import obstore  # noqa: PLC0415

        if wanted is None or wanted.first is None:
            return obstore.get(self._store, self.path(key))
        options: GetOptions = {"range": {"offset": wanted.first}}
        if wanted.last is not None:
            options = {"range": (wanted.first, wanted.last + 1)}
        return obstore.get(self._store, self.path(key), options=options)


class _Sink:
    """An object on its way: one request if it is small, a multipart upload if it is not."""

    def __init__(self, backend: S3Backend, key: ObjectKey, path: str, headers: ObjectHeaders) -> None:
        self._backend = backend
        self._key = key
        self._path = path
        self._attributes: Attributes = {"Content-Type": headers.content_type}
        if headers.content_disposition is not None:
            self._attributes["Content-Disposition"] = headers.content_disposition
        self._writer: WritableFile | None = None

    def write(self, data: Bytes) -> None:
        """Give a piece to the writer, which waits while ``PART_REQUESTS`` parts are on their way."""
        import obstore  # noqa: PLC0415

        with _errors_of(self._key, is_writing=True):
            if self._writer is None:
                self._writer = obstore.open_writer(
                    self._backend.store,
                    self._path,
                    attributes=self._attributes,
                    buffer_size=PART_BYTES,
                    max_concurrency=PART_REQUESTS,
                )
                self._writer.__enter__()
            # A copy: the writer keeps what it is given and reads it later.
            self._writer.write(bytes(data))

    def commit(self, rest: Bytes) -> ObjectInfo:
        """Finish the upload and ask what has become of it: the entity tag is known to the server alone."""
        import obstore  # noqa: PLC0415

        with _errors_of(self._key, is_writing=True):
            if self._writer is None:
                obstore.put(self._backend.store, self._path, bytes(rest), attributes=self._attributes)
            else:
                self._writer.write(bytes(rest))
                self._writer.close()
                self._writer = None
        return self._backend.head(self._key)

    def discard(self) -> None:
        """Abort the upload the only way that obstore has: an exception inside its ``with``."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        with _errors_of(self._key, is_writing=True):
            try:
                writer.__exit__(InterruptedError, InterruptedError(), None)
            except OSError:
                # After a failed close the writer is closed, and obstore has aborted the upload itself.
                if not writer.closed():
                    raise


class _Source:
    """A download."""

    def __init__(self, key: ObjectKey, result: GetResult) -> None:
        self._key = key
        self.info = _info(key, result)
        self.span = result.range
        self._left = result.range[1] - result.range[0]
        self._stream: Iterator[bytes] | None = iter(result.stream(CHUNK_BYTES))

    def read(self) -> bytes:
        """The next piece; obstore asks again for the rest if the line breaks."""
        if self._stream is None:
            raise RuntimeError("the download is closed")
        with _errors_of(self._key):
            piece = bytes(next(self._stream, b""))
        self._left -= len(piece)
        if not piece and self._left:
            raise BadGateway("the object storage ended before its object did")
        return piece

    def close(self) -> None:
        """Drop the connection, if the body is not read."""
        self._stream = None


@contextmanager
def _errors_of(key: ObjectKey, *, is_writing: bool = False) -> Iterator[None]:
    """What obstore and the server say, in words for the caller, without URLs."""
    from obstore.exceptions import BaseError  # noqa: PLC0415

    try:
        yield
    except (BaseError, OSError) as error:
        text = str(error)
        status, code = _STATUS.search(text), _CODE.search(text)
        word = code[1] if code else f"status {status[1]}" if status else ""
        if isinstance(error, FileNotFoundError) and word != "NoSuchBucket" and not is_writing:
            raise NotFound(f"there is no object {key}") from error
        if word:
            raise BadGateway(f"the object storage refuses the request: {word}") from error
        raise BadGateway("the object storage does not answer") from error


def _info(key: ObjectKey, result: GetResult) -> ObjectInfo:
    meta, attributes = result.meta, result.attributes
    return ObjectInfo(
        key=key,
        size=meta["size"],
        etag=meta["e_tag"] or '""',
        last_modified_ms=round(meta["last_modified"].timestamp() * 1000),
        headers=ObjectHeaders.of_others(attributes.get("Content-Type"), attributes.get("Content-Disposition")),
    )


def _make_store(location: S3Location) -> S3Store:
    try:
        from obstore.store import S3Store  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError(
            "storage in S3 needs the package obstore: install it with pip install 'minwebhook[s3]'"
        ) from error
    timeout = timedelta(seconds=location.timeout_s)
    config: S3Config = {
        "access_key_id": location.access_key,
        "secret_access_key": location.secret_key,
        "region": location.region,
        "endpoint": location.endpoint if location.path_style else location.host_style_endpoint,
        "virtual_hosted_style_request": not location.path_style,
        # The request that deletes many at once is unknown to some stores.
        "disable_bulk_delete": True,
    }
    if location.session_token:
        config["session_token"] = location.session_token
    client: ClientConfig = {
        "allow_http": location.is_plain_http,
        "connect_timeout": timedelta(seconds=min(CONNECT_TIMEOUT_S, location.timeout_s)),
        # Counts anew with every piece that comes; "timeout" is for a whole download, however slow its reader.
        "read_timeout": timeout,
        "timeout": timedelta(days=7),
    }
    if location.ca_pem:
        client["root_certificate"] = location.ca_pem
    retry: RetryConfig = {
        "max_retries": MAX_RETRIES,
        "retry_timeout": timeout,
        "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=2), "base": 2},
    }
    with _hidden_environment():
        return S3Store(location.bucket, config=config, client_options=client, retry_config=retry)


@contextmanager
def _hidden_environment() -> Iterator[None]:
    """Without the variables that would steer obstore past what it is told: keys, endpoints, proxies."""
    with _environment_lock:
        hidden = {name: value for name, value in os.environ.items() if _HIDDEN_VARIABLES.fullmatch(name)}
        for name in hidden:
            del os.environ[name]
        try:
            yield
        finally:
            os.environ.update(hidden)
