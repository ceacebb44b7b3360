"""Requests to S3 that obstore cannot make: lists that stand odd keys, and uploads that were never finished.

obstore gives up on a whole list when one key in it is not of its liking (``a//b``, say, which any other program may
have put into the bucket), folds some keys into others, and knows no call for unfinished uploads. These requests are
few and small, so the standard library makes them, blocking, one connection each. Redirects are not followed.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import unquote_plus, urlsplit
from xml.etree import ElementTree

from minwebhook.errors import BadGateway, BadRequest
from minwebhook.storage.s3_location import S3Location
from minwebhook.storage.sigv4 import canonical_path, canonical_query, signed_headers

#: A thousand keys of the longest kind, escaped, with all that is said of each.
_MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a list; its key may be one that we would not accept."""

    key: str
    size: int
    last_modified_ms: int


@dataclass(frozen=True, slots=True)
class Unfinished:
    """One multipart upload that was begun."""

    key: str
    upload_id: str
    initiated_ms: int


class S3Requests:
    """Makes signed requests to one bucket."""

    def __init__(self, location: S3Location) -> None:
        """Raises :class:`BadRequest` when the certificates to trust are none."""
        self._location = location
        parts = urlsplit(location.base_url)
        self._host = parts.netloc
        self._path = parts.path
        self._tls: ssl.SSLContext | None = None
        if not location.is_plain_http:
            self._tls = ssl.create_default_context()
            if location.ca_pem:
                try:
                    self._tls.load_verify_locations(cadata=location.ca_pem)
                except (ssl.SSLError, ValueError) as error:
                    raise BadRequest("the certificates to trust must be PEM") from error

    def list_objects(self, prefix: str, after: str, limit: int) -> tuple[list[Listed], str | None]:
        """At most ``limit`` objects, and the key to go on after if there are more."""
        query = {"list-type": "2", "encoding-type": "url", "max-keys": str(limit), "prefix": prefix}
        if after:
            query["start-after"] = after
        answer = self._get(query)
        objects = [
            Listed(answer.key_of(entry), int(answer.text(entry, "Size")), answer.time_of(entry, "LastModified"))
            for entry in answer.all("Contents")
        ]
        is_more = answer.text(answer.root, "IsTruncated") == "true" and bool(objects)
        return objects, objects[-1].key if is_more else None

    def list_uploads(self, prefix: str) -> Iterator[list[Unfinished]]:
        """Pages of the uploads that were begun, and neither finished nor aborted."""
        markers: dict[str, str] = {}
        while True:
            # Not escaped: SeaweedFS says that it escapes the keys here, and does not.
            answer = self._get({"uploads": "", "prefix": prefix, **markers})
            yield [
                Unfinished(answer.key_of(entry), answer.text(entry, "UploadId"), answer.time_of(entry, "Initiated"))
                for entry in answer.all("Upload")
            ]
            before = markers
            markers = {
                "key-marker": answer.text(answer.root, "NextKeyMarker"),
                "upload-id-marker": answer.text(answer.root, "NextUploadIdMarker"),
            }
            # A server that gives the same page again would keep us for ever.
            if answer.text(answer.root, "IsTruncated") != "true" or markers == before:
                return

    def abort_upload(self, upload: Unfinished) -> bool:
        """Abort an upload, so that the store throws its parts away; false when it ended by itself meanwhile."""
        status, answer = self._request("DELETE", f"{self._path}/{upload.key}", {"uploadId": upload.upload_id})
        if status not in (200, 204, 404):
            raise _refused(status, answer)
        return status != 404

    def _get(self, query: Mapping[str, str]) -> _Answer:
        status, body = self._request("GET", self._path or "/", query)
        if status != 200:
            raise _refused(status, body)
        return _Answer(_parsed(body))

    def _request(self, method: str, path: str, query: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body of the answer."""
        location = self._location
        headers = signed_headers(
            method,
            self._host,
            path,
            query,
            access_key=location.access_key,
            secret_key=location.secret_key,
            session_token=location.session_token,
            region=location.region,
            now_s=time.time(),
        )
        deadline = time.monotonic() + location.timeout_s
        connection = (
            http.client.HTTPConnection(self._host, timeout=location.timeout_s)
            if self._tls is None
            else http.client.HTTPSConnection(self._host, timeout=location.timeout_s, context=self._tls)
        )
        try:
            connection.request(method, f"{canonical_path(path)}?{canonical_query(query)}", headers=headers)
            response = connection.getresponse()
            body = bytearray()
            while piece := response.read1(64 * 1024):
                body += piece
                if len(body) > _MAX_ANSWER_BYTES:
                    raise BadGateway("the object storage answers with more than it was asked for")
                if time.monotonic() > deadline:
                    raise TimeoutError
            return response.status, bytes(body)
        except (OSError, http.client.HTTPException) as error:
            raise BadGateway("the object storage does not answer") from error
        finally:
            connection.close()


class _Answer:
    """An XML answer, read without regard to its namespace, which not all servers give."""

    def __init__(self, root: ElementTree.Element) -> None:
        self.root = root
        self._is_escaped = self.text(root, "EncodingType") == "url"

    def all(self, name: str) -> Iterator[ElementTree.Element]:
        """The members of this name."""
        return (entry for entry in self.root if _name(entry) == name)

    def text(self, entry: ElementTree.Element, name: str) -> str:
        """The text of a member; empty when it has none."""
        return next((member.text or "" for member in entry if _name(member) == name), "")

    def key_of(self, entry: ElementTree.Element) -> str:
        """The key of an entry."""
        key = self.text(entry, "Key")
        return unquote_plus(key) if self._is_escaped else key

    def time_of(self, entry: ElementTree.Element, name: str) -> int:
        """A time in Unix milliseconds; 0 when there is none."""
        value = self.text(entry, name)
        return round(datetime.fromisoformat(value).timestamp() * 1000) if value else 0


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _parsed(body: bytes) -> ElementTree.Element:
    """The document. One that declares things of its own could make a parser read files or fill the memory."""
    if b"<!" in body:
        raise BadGateway("the object storage does not answer as S3 does")
    try:
        return ElementTree.fromstring(body)  # noqa: S314 (no declarations, see above)
    except (ElementTree.ParseError, ValueError) as error:
        raise BadGateway("the object storage does not answer as S3 does") from error


def _refused(status: int, body: bytes) -> BadGateway:
    try:
        code = _Answer(_parsed(body)).text(_parsed(body), "Code")
    except BadGateway:
        code = ""
    return BadGateway(f"the object storage refuses the request: {code or f'status {status}'}")
