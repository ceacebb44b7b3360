"""The JSON of ``edit_large_file_storage_config``: what it means, what is refused, and what of it is shown."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import BadRequest
from minwebhook.storage.config import Directory, Limits, parse_config, parse_edit
from minwebhook.storage.s3_location import S3Location

LIMITS = Limits(storage_root="/srv/objects", plain_http_hosts=("minio.lan:9000",), ca_pem="PEM", timeout_s=7)
RESOURCE = {"bucket": "bucket", "region": "eu-west-1", "endPoint": "", "accessKey": "key", "secretKey": "hidden1"}
S3 = {"type": "S3Storage", "s3_resource": RESOURCE}


def s3(**more: Any) -> dict[str, Any]:
    """An S3 storage whose resource has some members of its own; None leaves one out."""
    resource = {**RESOURCE, **more}
    return {"type": "S3Storage", "s3_resource": {k: v for k, v in resource.items() if v is not None}}


def test_an_s3_resource_is_a_location() -> None:
    assert parse_config(S3, LIMITS).primary == S3Location(
        "bucket", "https://s3.eu-west-1.amazonaws.com", "key", "hidden1", region="eu-west-1", ca_pem="PEM", timeout_s=7
    )
    minio = s3(endPoint="minio.lan", port=9000, useSSL=False, region=None, pathStyle=False, token="hidden2")
    assert parse_config(minio, LIMITS).primary == S3Location(
        *("bucket", "http://minio.lan:9000", "key", "hidden1"),
        session_token="hidden2",
        path_style=False,
        ca_pem="PEM",
        timeout_s=7,
    )


def test_a_directory_is_below_the_operators() -> None:
    config = parse_config({"type": "FilesystemStorage", "root_path": "/srv/objects/team/a b"}, LIMITS)
    assert config.primary == Directory("/srv/objects", ("team", "a b"))


def test_secondary_storages_have_names() -> None:
    other = {"type": "FilesystemStorage", "root_path": "/srv/objects/x", "public_resource": True}
    config = parse_config({**S3, "secondary_storage": {"archive": other, "b-2": s3(bucket="other")}}, LIMITS)
    assert set(config.secondary) == {"archive", "b-2"}
    assert config.secondary["archive"] == Directory("/srv/objects", ("x",))
    assert config.json["secondary_storage"]["archive"] == other


def test_what_is_kept_means_the_same_again() -> None:
    value: Any = {**s3(port=443, token="t"), "public_resource": False, "unknown": 1, "secondary_storage": {"x": S3}}
    config = parse_config(value, LIMITS)
    assert "unknown" not in config.json
    assert parse_config(orjson.loads(orjson.dumps(config.json)), LIMITS) == config


def test_secrets_are_not_shown() -> None:
    value = {**s3(token="hidden2"), "secondary_storage": {"x": s3(secretKey="hidden3")}}
    assert "hidden" not in repr(parse_config(value, LIMITS))


@pytest.mark.parametrize("body", [{}, {"large_file_storage": None}, {"other": 1}])
def test_nothing_takes_the_configuration_away(body: object) -> None:
    assert parse_edit(body, LIMITS) is None


REFUSED: list[tuple[Any, str]] = [
    (1, "large_file_storage must be an object with a type"),
    ([], "large_file_storage must be an object with a type"),
    ({"type": None}, "large_file_storage.type must be S3Storage or"),
    ({"type": "s3storage"}, "large_file_storage.type must be S3Storage or"),
    ({"type": []}, "large_file_storage.type must be S3Storage or"),
    ({"type": {}}, "large_file_storage.type must be S3Storage or"),
    ({"type": "AzureBlobStorage"}, "large_file_storage.type AzureBlobStorage is not supported here"),
    ({"type": "S3AwsOidc", "s3_resource": RESOURCE}, "S3AwsOidc is not supported here"),
    ({"type": "S3Storage"}, "s3_resource must be an S3 resource"),
    ({"type": "S3Storage", "s3_resource_path": "$res:u/a/s3"}, "s3_resource_path: resource u/a/s3 not found"),
    ({"type": "S3Storage", "s3_resource": "$res:u/a/s3"}, "s3_resource must be an S3 resource"),
    ({**S3, "advanced_permissions": []}, "advanced_permissions are not supported"),
    ({**S3, "public_resource": "yes"}, "public_resource must be true or false"),
    (s3(bucket=None), "large_file_storage.s3_resource.bucket must be the name"),
    (s3(bucket="../x"), "s3_resource.bucket must be the name"),
    (s3(bucket=7), "s3_resource.bucket must be a string"),
    (s3(accessKey=""), "s3_resource.accessKey is missing"),
    (s3(secretKey=None), "s3_resource.secretKey is missing"),
    (s3(useSSL="no"), "s3_resource.useSSL must be true or false"),
    (s3(port="443"), "s3_resource.port must be a whole number"),
    (s3(port=True), "s3_resource.port must be a whole number"),
    (s3(port=0), "s3_resource.port must be from 1"),
    (s3(endPoint="http://minio.lan"), "s3_resource.endPoint minio.lan must be reached by https"),
    (s3(endPoint="http://127.0.0.1:8000"), "must be reached by https"),
    (s3(useSSL=False), "must be reached by https"),
    (s3(endPoint="https://169.254.169.254"), "must not be a link-local"),
    *(
        ({"type": "FilesystemStorage", "root_path": path}, "root_path must be")
        for path in (
            None,
            1,
            "",
            "x",
            "/",
            "/etc",
            "/srv/objects",
            "/srv/objects/",
            "/srv/objects2/x",
            "/srv/objects/../x",
        )
    ),
    ({"type": "FilesystemStorage", "root_path": "/srv/objects/a/../../../etc"}, "root_path must be below"),
    ({"type": "FilesystemStorage", "root_path": "/srv/objects/\0"}, "root_path must be an absolute path"),
    ({"type": "FilesystemStorage", "root_path": "/srv/objects/\ud800"}, "root_path is not valid Unicode"),
    ({**S3, "secondary_storage": []}, "secondary_storage must be an object"),
    ({**S3, "secondary_storage": {str(n): S3 for n in range(51)}}, "at most 50"),
    ({**S3, "secondary_storage": {"a/b": S3}}, "secondary_storage: a name has"),
    ({**S3, "secondary_storage": {"": S3}}, "secondary_storage: a name has"),
    ({**S3, "secondary_storage": {"x": {"type": "S3Storage"}}}, "secondary_storage.x.s3_resource must be"),
    ({**S3, "secondary_storage": {"x": s3(bucket="?")}}, "secondary_storage.x.s3_resource.bucket must be"),
]


@pytest.mark.parametrize(("value", "text"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_used_is_refused_by_name(value: Any, text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_edit({"large_file_storage": value}, LIMITS)
    assert text in refused.value.detail
    assert refused.value.detail.startswith("large_file_storage")
    assert "hidden" not in refused.value.detail


@pytest.mark.parametrize("body", [None, [], "x", 1])
def test_the_body_is_an_object(body: object) -> None:
    with pytest.raises(BadRequest, match="the body must be an object"):
        parse_edit(body, LIMITS)


def test_without_a_root_there_are_no_directories() -> None:
    with pytest.raises(BadRequest, match="the setting storage_root does not allow"):
        parse_config({"type": "FilesystemStorage", "root_path": "/srv/objects/x"}, Limits())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
members = st.sampled_from([*RESOURCE, "type", "s3_resource", "root_path", "secondary_storage", "port", "useSSL", "x"])


@given(st.dictionaries(members, json_values | st.just(S3) | st.just(RESOURCE) | st.just("S3Storage"), max_size=6))
def test_any_object_is_a_configuration_or_refused(value: dict[str, Any]) -> None:
    try:
        config = parse_config(value, LIMITS)
    except BadRequest:
        return
    assert parse_config(config.json, LIMITS) == config
