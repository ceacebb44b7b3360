"""A small S3 server of our own, for what no real one does on demand: to fail, to be slow, to break off, to lie.

It checks what a strict server checks of uploads (the SHA-256 of the body against the signed one) and knows just enough
of the protocol: objects, ranges, multipart uploads, lists. Signatures are not checked; SeaweedFS does that.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import h11
import trio

BUCKET = "test-bucket"
_DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


@dataclass
class Call:
    """One request, its body read."""

    method: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def step(self) -> str:
        """What is asked for, in a word."""
        if "uploads" in self.query:
            return "begin" if self.method == "POST" else "list-uploads"
        if "uploadId" in self.query:
            return {"PUT": "part", "POST": "complete", "DELETE": "abort"}[self.method]
        if "list-type" in self.query:
            return "list"
        return self.method.lower()


@dataclass
class Answer:
    """An answer, and what goes wrong with it."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    #: Seconds before the answer begins.
    delay_s: float = 0
    #: Bytes of the body after which the connection breaks.
    cut_after: int | None = None
    #: Seconds between pieces of the body of 64 KiB.
    pause_s: float = 0


def error(status: int, code: str) -> Answer:
    """An answer as S3 gives it to what it refuses."""
    return Answer(status, f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>no</Message></Error>'.encode())


#: Looks at each request and may answer it in the server's place.
Fault = Callable[[Call], Answer | None]


class FakeS3:
    """The server; ``fault`` may be replaced at any time."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.uploads: dict[str, tuple[str, dict[str, str], dict[int, bytes]]] = {}
        self.calls: list[Call] = []
        self.fault: Fault = lambda call: None
        self.listed_keys: list[str] | None = None
        self.port = 0

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    @property
    def steps(self) -> list[str]:
        """What was asked for so far."""
        return [call.step for call in self.calls]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves until cancelled."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, tcp: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        stream: trio.abc.Stream = tcp if self._tls is None else trio.SSLStream(tcp, self._tls, server_side=True)
        try:
            while True:
                call = await _read(stream, connection)
                if call is None:
                    return
                self.calls.append(call)
                answer = self.fault(call) or self._answer(call)
                if not await _write(stream, connection, answer, is_head=call.method == "HEAD"):
                    return
                connection.start_next_cycle()
        except (trio.BrokenResourceError, h11.RemoteProtocolError, h11.LocalProtocolError):
            return
        finally:
            await trio.aclose_forcefully(stream)

    def _answer(self, call: Call) -> Answer:
        signed = call.headers.get("x-amz-content-sha256", "")
        if len(signed) == 64 and signed != hashlib.sha256(call.body).hexdigest():
            return error(400, "XAmzContentSHA256Mismatch")
        return getattr(self, f"_{call.step.replace('-', '_')}")(call)  # type: ignore[no-any-return]

    def _put(self, call: Call) -> Answer:
        return self._store(call.key, call.body, _kept(call))

    def _store(self, key: str, body: bytes, kept: dict[str, str]) -> Answer:
        tag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        self.objects[key] = (body, {**kept, "etag": tag, "last-modified": _DATE})
        return Answer(headers={"etag": tag})

    def _get(self, call: Call) -> Answer:
        if call.key not in self.objects:
            return error(404, "NoSuchKey")
        body, headers = self.objects[call.key]
        wanted = call.headers.get("range")
        if wanted is None:
            return Answer(200, body, dict(headers))
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last or len(body)) + 1, len(body))
        if start >= len(body):
            return error(416, "InvalidRange")
        return Answer(206, body[start:stop], {**headers, "content-range": f"bytes {start}-{stop - 1}/{len(body)}"})

    _head = _get

    def _delete(self, call: Call) -> Answer:
        self.objects.pop(call.key, None)
        return Answer(204)

    def _begin(self, call: Call) -> Answer:
        upload = f"upload-{len(self.calls)}"
        self.uploads[upload] = (call.key, _kept(call), {})
        return Answer(
            body=f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>".encode()
        )

    def _part(self, call: Call) -> Answer:
        if call.query["uploadId"] not in self.uploads:
            return error(404, "NoSuchUpload")
        self.uploads[call.query["uploadId"]][2][int(call.query["partNumber"])] = call.body
        return Answer(headers={"etag": f'"{hashlib.md5(call.body, usedforsecurity=False).hexdigest()}"'})

    def _complete(self, call: Call) -> Answer:
        if call.query["uploadId"] not in self.uploads:
            return error(404, "NoSuchUpload")
        key, kept, parts = self.uploads.pop(call.query["uploadId"])
        self._store(key, b"".join(parts[number] for number in sorted(parts)), kept)
        return Answer(body=b"<CompleteMultipartUploadResult><ETag>x-2</ETag></CompleteMultipartUploadResult>")

    def _abort(self, call: Call) -> Answer:
        return Answer(204) if self.uploads.pop(call.query["uploadId"], None) else error(404, "NoSuchUpload")

    def _list_uploads(self, call: Call) -> Answer:
        entries = "".join(
            f"<Upload><Key>{key}</Key><UploadId>{name}</UploadId><Initiated>{_now()}</Initiated></Upload>"
            for name, (key, _, _) in self.uploads.items()
            if key.startswith(call.query["prefix"])
        )
        return Answer(body=f"<ListMultipartUploadsResult>{entries}</ListMultipartUploadsResult>".encode())

    def _list(self, call: Call) -> Answer:
        names = sorted(self.objects) if self.listed_keys is None else self.listed_keys
        found = [name for name in names if name.startswith(call.query["prefix"])]
        entries = "".join(
            f"<Contents><Key>{quote(name, safe='/')}</Key><Size>1</Size>"
            "<LastModified>2015-10-21T07:28:00.000Z</LastModified></Contents>"
            for name in found
        )
        head = "<IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>"
        return Answer(body=f"<ListBucketResult>{head}{entries}</ListBucketResult>".encode())


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _kept(call: Call) -> dict[str, str]:
    return {name: call.headers[name] for name in ("content-type", "content-disposition") if name in call.headers}


async def _read(stream: trio.abc.Stream, connection: h11.Connection) -> Call | None:
    """The next request; None at the end of the connection."""
    request: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                await stream.send_all(connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            connection.receive_data(bytes(await stream.receive_some(256 * 1024)))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and request is not None:
            target = urlsplit(request.target.decode())
            key = unquote(target.path).removeprefix(f"/{BUCKET}").removeprefix("/")
            headers = {name.decode(): value.decode() for name, value in request.headers}
            query = dict(parse_qsl(target.query, keep_blank_values=True))
            return Call(request.method.decode(), key, query, headers, bytes(body))
        else:
            return None


async def _write(stream: trio.abc.Stream, connection: h11.Connection, answer: Answer, *, is_head: bool) -> bool:
    """Sends an answer; whether the connection goes on."""
    await trio.sleep(answer.delay_s)
    headers = [*answer.headers.items(), ("content-length", str(len(answer.body)))]
    await stream.send_all(connection.send(h11.Response(status_code=answer.status, headers=headers)) or b"")
    if is_head:
        await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
        return True
    body = answer.body if answer.cut_after is None else answer.body[: answer.cut_after]
    for start in range(0, len(body), 64 * 1024):
        await stream.send_all(connection.send(h11.Data(data=body[start : start + 64 * 1024])) or b"")
        if answer.pause_s:
            await trio.sleep(answer.pause_s)
    if answer.cut_after is not None:
        return False
    await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
    return True
