"""The bodies that make and change variables and resources; texts that may hold references."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.auth.principal import Principal
from minwebhook.auth.rights import may_read, may_write
from minwebhook.errors import BadRequest
from minwebhook.paths import Paths
from minwebhook.variables.model import (
    NewResource,
    NewResourceType,
    NewVariable,
    ResourceChange,
    VariableChange,
    is_path,
)
from minwebhook.variables.references import may_hold_references

VARIABLE = {"path": "u/a/b", "value": "v", "is_secret": True}
RESOURCE = {"path": "f/a/b/c", "value": {"a": 1}, "resource_type": "any"}


@pytest.mark.parametrize("path", ["u/a/b", "u/a@example.com/tmp_state", "f/a_b/c-d/e", "g/all/x", "u/a/" + "b" * 251])
def test_paths(path: str) -> None:
    assert is_path(path)


@pytest.mark.parametrize(
    "path", ["", "u/a", "u//b", "/u/a/b", "u/a/b/", "x/a/b", "u/a/../b", "u/a/b\n", "f/a@b/c", "u/a/" + "b" * 252]
)
def test_texts_that_are_no_paths(path: str) -> None:
    assert not is_path(path)


@pytest.mark.parametrize(
    "change",
    [{"path": "a"}, {"path": None}, {"value": None}, {"value": 1}, {"value": "\0"}, {"value": "\ud800"}, {"is_secret": 1},
     {"is_secret": None}, {"account": True}, {"account": 1 << 63}, {"expires_at": "soon"}, {"expires_at": 1}, {"description": 1},
     {"value": "x" * (1 << 20) + "x"}, {"is_oauth": "yes"}],
)  # fmt: skip
def test_bad_variables_are_refused_without_their_value(change: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refused:
        NewVariable.parse({**VARIABLE, **change})
    assert len(refused.value.detail) < 300


@pytest.mark.parametrize(
    "change", [{"resource_type": "a b"}, {"resource_type": None}, {"path": 1}, {"value": "\ud800"}]
)
def test_bad_resources_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        NewResource.parse({**RESOURCE, **change})


@pytest.mark.parametrize("body", [None, [], "x", 1])
def test_bodies_are_objects(body: object) -> None:
    for parse in (
        NewVariable.parse,
        VariableChange.parse,
        NewResource.parse,
        ResourceChange.parse,
        NewResourceType.parse,
    ):
        with pytest.raises(BadRequest, match="must be a JSON object"):
            parse(body)


def test_values_do_not_show_when_they_are_printed() -> None:
    assert "v" not in repr(NewVariable.parse({**VARIABLE, "path": "u/a/b", "value": "vvv"})).split("value")[0][20:40]
    assert "canary" not in repr(NewVariable.parse({**VARIABLE, "value": "canary"}))
    assert "canary" not in repr(NewResource.parse({**RESOURCE, "value": "canary"}))
    assert "canary" not in repr(VariableChange.parse({"value": "canary"}))


def test_a_change_tells_null_from_nothing() -> None:
    assert ResourceChange.parse({"value": None}).value == "null"
    assert ResourceChange.parse({}).value is None


@given(
    st.recursive(st.text() | st.integers(), lambda items: st.lists(items) | st.dictionaries(st.text(), items)),
    st.booleans(),
)
def test_no_reference_is_overlooked(value: Any, ascii_only: bool) -> None:
    def has(part: Any) -> bool:
        if isinstance(part, dict):
            return any(map(has, part.values()))
        return any(map(has, part)) if isinstance(part, list) else isinstance(part, str) and part.startswith("$")

    text = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert may_hold_references(text) or not has(value)
    assert may_hold_references(text.replace(b'"$', b'"\\u0024')) or not has(value)


def test_rights_on_paths() -> None:
    own = Paths(("u/alice/*", "f/team/*"))
    alice = Principal("a@x", "alice", False, False, "alice", "demo", None, readable=own, writable=own)
    admin = Principal("b@x", "bob", True, False, "bob", "demo", None)
    for may in (may_read, may_write):
        assert may(alice, "u/alice/x") and may(alice, "f/team/x") and may(admin, "u/alice/x")
        assert not may(alice, "u/bob/x") and not may(alice, "u/alice2/x") and not may(alice, "u/alic/x")
