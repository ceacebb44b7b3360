"""Signature Version 4 against published examples, and where an endpoint may be."""

from __future__ import annotations

from datetime import UTC, datetime

import obstore
import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import MemoryStore

from minwebhook.errors import BadRequest
from minwebhook.storage.keys import is_key
from minwebhook.storage.s3_location import S3Location, endpoint_url
from minwebhook.storage.sigv4 import canonical_path, canonical_query, signed_headers

NOON = datetime(2013, 5, 24, tzinfo=UTC).timestamp()


# The examples in "Signature Calculations for the Authorization Header" of the S3 reference


@pytest.mark.parametrize(
    ("path", "query", "extra", "signature"),
    [
        (
            "/test.txt",
            {},
            {"range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        ("/", {"lifecycle": ""}, {}, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "/",
            {"max-keys": "2", "prefix": "J"},
            {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["object", "lifecycle", "list"],
)
def test_published_examples(path: str, query: dict[str, str], extra: dict[str, str], signature: str) -> None:
    headers = signed_headers(
        "GET",
        "examplebucket.s3.amazonaws.com",
        path,
        query,
        access_key="AKIAIOSFODNN7EXAMPLE",
        secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        region="us-east-1",
        now_s=NOON,
        extra=extra,
    )
    assert headers["authorization"].endswith(f"Signature={signature}")
    assert headers["x-amz-date"] == "20130524T000000Z"


def test_a_session_token_is_signed() -> None:
    headers = signed_headers(
        "GET", "h", "/", {}, access_key="a", secret_key="s", session_token="t", region="r", now_s=0
    )
    assert headers["x-amz-security-token"] == "t"
    assert "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token," in headers["authorization"]


def test_paths_and_queries_are_escaped_as_they_are_signed() -> None:
    assert canonical_path("/b/a b+%/é~") == "/b/a%20b%2B%25/%C3%A9~"
    assert canonical_query({"b": "1 +", "a": "", "a/": "&"}) == "a=&a%2F=%26&b=1%20%2B"


@given(st.text(st.one_of(st.sampled_from("./~%# {}^`"), st.characters(exclude_categories=["Cs"])), max_size=8))
def test_obstore_takes_every_key_as_it_is(value: str) -> None:
    """It has rules of its own for keys; ours are stricter."""
    if not is_key(value):
        return
    store = MemoryStore()
    obstore.put(store, value, b"x")
    assert obstore.head(store, value)["path"] == value


# Endpoints

GOOD = {
    ("", "eu-west-1"): "https://s3.eu-west-1.amazonaws.com",
    ("minio.example", "x"): "https://minio.example",
    ("minio.example:9000", "x"): "https://minio.example:9000",
    ("https://minio.example/", "x"): "https://minio.example",
    ("https://MINIO.example:9000", "x"): "https://minio.example:9000",
    ("10.1.2.3:9000", "x"): "https://10.1.2.3:9000",
    ("https://[fd00::1]:9000", "x"): "https://[fd00::1]:9000",
    ("http://minio.lan:9000", "x"): "http://minio.lan:9000",
    ("http://Minio.lan:9000", "x"): "http://minio.lan:9000",
}


@pytest.mark.parametrize(("given_", "url"), GOOD.items(), ids=str)
def test_good_endpoints(given_: tuple[str, str], url: str) -> None:
    assert endpoint_url(*given_, plain_http_hosts=["Minio.lan:9000"]) == url


def test_port_and_tls_count_when_the_endpoint_does_not_say() -> None:
    assert endpoint_url("minio.lan", port=9000) == "https://minio.lan:9000"
    assert endpoint_url("minio.lan:1", port=9000) == "https://minio.lan:1"
    assert endpoint_url("minio.lan", port=9, use_tls=False, plain_http_hosts=["minio.lan:9"]) == "http://minio.lan:9"
    assert endpoint_url("https://minio.lan", use_tls=False) == "https://minio.lan"
    for port in (0, 65536, -1):
        with pytest.raises(BadRequest, match="port"):
            endpoint_url("minio.lan", port=port)


BAD = [
    *("http://minio.example", "http://minio.lan", "http://minio.lan:9001", "http://127.0.0.1:9000"),
    *("ftp://minio.example", "file:///etc/passwd", "gopher://x", "https://", "https:///x"),
    *("https://user:pass@minio.example", "https://minio.example@169.254.169.254", "https://minio.example/path"),
    *("https://minio.example?x=1", "https://minio.example#x", "minio example", "minio\nexample", "https://minio:x"),
    *("https://169.254.169.254", "169.254.169.254:80", "https://[fe80::1]", "https://[::ffff:169.254.169.254]"),
    *("https://0.0.0.0", "https://[::]", "https://224.0.0.1", "https://[ff02::1]", "https://[fd00:ec2::254]"),
    *("https://2852039166", "https://0xA9FEA9FE", "https://169.254.43518", "https://0251.0376.0251.0376"),
    *("https://169.254.169.254.", "https://0x0", "https://1", "https://[::1", "https://a..b", "https://é.example"),
]


@pytest.mark.parametrize("value", BAD)
def test_bad_endpoints_are_refused(value: str) -> None:
    with pytest.raises(BadRequest, match="endPoint"):
        endpoint_url(value, plain_http_hosts=["minio.lan:9000"])


@given(st.text(max_size=60))
def test_any_text_is_an_endpoint_or_refused(value: str) -> None:
    try:
        url = endpoint_url(value)
    except BadRequest:
        return
    assert url.startswith("https://")
    assert endpoint_url(url) == url


# Locations


def location(**more: str) -> S3Location:
    """A location with some fields of its own."""
    fields = {"bucket": "bucket", "endpoint": "https://s3.example:1", "access_key": "a", "secret_key": "s", **more}
    return S3Location(**fields)  # type: ignore[arg-type]


def test_urls_of_the_bucket() -> None:
    assert location().base_url == "https://s3.example:1/bucket"
    assert (
        S3Location("bucket", "https://s3.example:1", "a", "s", path_style=False).base_url
        == "https://bucket.s3.example:1"
    )


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        *(("bucket", bucket, "bucket") for bucket in ("", "ab", "a/b", "../x", "a..b", "a b", "x" * 64, "-ab", "é12")),
        *(("region", region, "region") for region in ("", "a b", "a/b", "x" * 65)),
        *(("access_key", key, "accessKey") for key in ("", "a b", "a\r\nX: y", "é")),
        *(("secret_key", key, "secretKey") for key in ("", "a b", "\n")),
        ("session_token", "a\nb", "token"),
        ("endpoint", "https://169.254.169.254", "endPoint"),
    ],
)
def test_wrong_fields_are_named(field: str, value: str, name: str) -> None:
    with pytest.raises(BadRequest, match=name):
        location(**{field: value})


def test_secrets_are_not_shown() -> None:
    shown = repr(location(secret_key="hidden1", session_token="hidden2"))
    assert "hidden" not in shown
