"""Paths, languages, hashes and the create payload."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import BadRequest
from minwebhook.scripts.model import (
    KNOWN_LANGUAGES,
    MAX_CONTENT_BYTES,
    SETTINGS_FIELDS,
    Language,
    NewScript,
    ScriptKind,
    hash_from_hex,
    hash_to_hex,
    is_script_path,
    parse_script_path,
    script_fingerprint,
    script_hash,
)

BODY: dict[str, Any] = {
    "path": "u/admin/hello",
    "summary": "",
    "description": "",
    "content": "def main(): pass",
    "language": "python3",
}

hashes = st.integers(-(2**63), 2**63 - 1)
segments = st.text("abcXYZ019_-", min_size=1, max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
OTHER_FIELDS = ("parent_hash", "schema", "kind", "tag", "lock", "no_main_func", "has_preprocessor", "auto_parent")


# Hashes


@given(hashes)
def test_a_hash_survives_the_wire(value: int) -> None:
    shown = hash_to_hex(value)
    assert re.fullmatch("[0-9a-f]{16}", shown)
    assert hash_from_hex(shown) == hash_from_hex(shown.upper()) == value


def test_a_hash_is_big_endian_and_more_than_eight_bytes_are_cut() -> None:
    assert hash_to_hex(-1) == "f" * 16
    assert hash_to_hex(1) == "0000000000000001"
    assert hash_from_hex("00000000000000ff" + "abcd") == 255


@pytest.mark.parametrize("value", ["", "f" * 14, "f" * 17, "g" * 16, "ff " * 8, "0x" + "f" * 14, "٣" * 16, 5, None])
def test_what_is_no_hash_is_refused(value: object) -> None:
    with pytest.raises(BadRequest, match="parent_hash must be 16 hex digits"):
        hash_from_hex(value, "parent_hash")


# Paths


@given(st.sampled_from("ufg"), st.lists(segments, min_size=2, max_size=4))
def test_well_formed_paths(letter: str, parts: list[str]) -> None:
    path = "/".join([letter, *parts])
    assert is_script_path(path)
    assert parse_script_path(path) == path
    assert not is_script_path(path + "/")
    assert not is_script_path("x" + path)


@pytest.mark.parametrize(
    "path",
    [
        *("", "u", "u/a", "x/a/b", "u//b", "u/a/", "/u/a/b", "u/a/b.py", "u/a/..", "u/ä/b", "u/a/b\n", "u/a b/c"),
        *("hub/1/a", "u/a/" + "b" * 252, 7, None),
    ],
)
def test_malformed_paths_are_refused(path: object) -> None:
    with pytest.raises(BadRequest, match="path must be u/<user>/<name>"):
        parse_script_path(path)


@given(st.text())
def test_a_path_never_leads_anywhere_else(text: str) -> None:
    if is_script_path(text):
        assert ".." not in text
        assert not text.startswith("/")
        assert text.isascii()


# The payload


def test_the_smallest_payload() -> None:
    new = NewScript.parse(BODY)
    assert (new.path, new.language, new.kind) == ("u/admin/hello", Language.PYTHON3, ScriptKind.SCRIPT)
    assert (new.parent_hash, new.tag, new.schema, new.lock, dict(new.settings)) == (None, None, None, "", {})
    assert NewScript.parse({**BODY, "unknown_to_us": 1, "skip_draft_deletion": True}) == new
    assert NewScript.parse({**BODY, **dict.fromkeys(SETTINGS_FIELDS), **dict.fromkeys(OTHER_FIELDS)}) == new


def test_every_optional_field_is_kept() -> None:
    structured: dict[str, Any] = {
        "envs": ["A=1"],
        "assets": [{"x": 1}],
        "debounce_args_to_accumulate": ["a"],
        "signature": {"secret": "name", "header": "X-Signature"},
        "limits": {"cpu_s": 1.5, "processes": 4},
        "network": "none",
        "allowed_networks": ["10.0.0.0/8"],
        "retry": {"constant": {"attempts": 1, "seconds": 1}},
        "crash_attempts": 1,
    }
    sent: dict[str, Any] = {
        name: structured.get(name, sample)
        for name in SETTINGS_FIELDS
        for sample in (True, 5, "text")
        if _passes(name, sample) or name in structured
    }
    assert sent.keys() == SETTINGS_FIELDS.keys()
    new = NewScript.parse(
        {**BODY, **sent, "parent_hash": "00" * 7 + "05", "schema": {"type": "object"}, "kind": "failure", "tag": "gpu"}
        | {"lock": ["a==1", "b==2"], "auto_parent": True, "preserve_on_behalf_of": True}
    )
    assert new.settings == sent
    assert (new.parent_hash, new.schema, new.kind, new.tag) == (5, {"type": "object"}, ScriptKind.FAILURE, "gpu")
    assert (new.lock, new.auto_parent, new.preserve_on_behalf_of) == ("a==1\nb==2", True, True)
    assert new.is_draft_only


def _passes(name: str, sample: object) -> bool:
    try:
        SETTINGS_FIELDS[name](name, sample)
    except BadRequest:
        return False
    return True


def test_the_other_name_of_the_debounce_key() -> None:
    assert NewScript.parse({**BODY, "custom_debounce_key": "k"}).settings == {"debounce_key": "k"}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"path": None}, "path is missing"),
        ({"path": "hello"}, "path must be"),
        ({"summary": None}, "summary is missing"),
        ({"summary": 1}, "summary must be a string"),
        ({"description": None}, "description is missing"),
        ({"content": None}, "content is missing"),
        ({"content": ["x"]}, "content must be a string"),
        ({"content": "é" * (MAX_CONTENT_BYTES // 2) + "a"}, "content is too large: at most 1048576 bytes"),
        ({"content": "a\0b"}, "content must not contain the character NUL"),
        ({"content": "\ud800"}, "content is not valid Unicode"),
        ({"language": None}, "language is missing"),
        ({"language": 3}, "language must be the name of a language; this version runs python3, bash, "),
        ({"language": "cobol"}, "language must be the name of a language; this version runs python3, bash, "),
        ({"language": "rust"}, "language rust is not run by this version; it runs python3, bash, "),
        ({"parent_hash": "zz"}, "parent_hash must be 16 hex digits"),
        ({"parent_hash": 5}, "parent_hash must be a string"),
        ({"kind": "thing"}, "kind must be one of script, trigger"),
        ({"kind": []}, "kind must be one of script, trigger"),
        ({"schema": []}, "schema must be an object"),
        ({"schema": {"x": "y" * MAX_CONTENT_BYTES}}, "schema is too large"),
        ({"schema": {"x": 2**70}}, "schema cannot be stored"),
        ({"lock": 1}, "lock must be a string"),
        ({"lock": [1]}, "lock[0] must be a string"),
        ({"envs": "A"}, "envs must be an array"),
        ({"timeout": 1.0}, "timeout must be a whole number"),
        ({"timeout": True}, "timeout must be a whole number"),
        ({"timeout": -1}, "timeout must be a whole number from 0 to 2147483647"),
        ({"priority": 40000}, "priority must be a whole number from -32768 to 32767"),
        ({"dedicated_worker": "true"}, "dedicated_worker must be true or false"),
        ({"auto_parent": 1}, "auto_parent must be true or false"),
        ({"assets": {}}, "assets must be an array"),
    ],
)
def test_bad_fields_are_refused_by_name(change: dict[str, Any], text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        NewScript.parse({**BODY, **change})
    assert caught.value.detail.startswith(text)


def test_every_known_language_has_an_answer_of_its_own() -> None:
    for name in KNOWN_LANGUAGES - {language.value for language in Language}:
        with pytest.raises(BadRequest, match=f"language {name} is not run"):
            NewScript.parse({**BODY, "language": name})


@given(
    json_values
    | st.fixed_dictionaries({}, optional=dict.fromkeys([*BODY, *OTHER_FIELDS, *SETTINGS_FIELDS], json_values)).map(
        lambda change: {**BODY, **change}
    )
)
def test_parsing_raises_nothing_but_bad_request(body: object) -> None:
    with contextlib.suppress(BadRequest):
        new = NewScript.parse(body)
        # What is accepted can be hashed, hence encoded and stored.
        assert -(2**63) <= script_hash(new, "demo") < 2**63


@pytest.mark.parametrize(
    ("content", "no_main", "preprocessor"),
    [
        ("def main(): pass", None, None),
        ("import x\n\nasync  def  main (\n a): pass", None, None),
        ("def main(): pass\ndef preprocessor(event): pass", None, True),
        ("def other(): pass", True, None),
        ("  def main(): pass", True, None),
        ("# def main():", True, None),
        ("def mainly(): pass", True, None),
        ("", True, None),
    ],
)
def test_python_entry_points_are_read_off_the_code(
    content: str, no_main: bool | None, preprocessor: bool | None
) -> None:
    new = NewScript.parse({**BODY, "content": content, "no_main_func": not no_main, "has_preprocessor": True})
    assert (new.no_main_func, new.has_preprocessor) == (no_main, preprocessor)


def test_for_bash_the_client_says_what_there_is() -> None:
    bash = {**BODY, "language": "bash"}
    assert NewScript.parse(bash).no_main_func is None
    assert NewScript.parse({**bash, "no_main_func": False}).no_main_func is None
    assert NewScript.parse({**bash, "no_main_func": True, "has_preprocessor": True}).has_preprocessor is True


@pytest.mark.parametrize("language", ["python3", "bash"])
@pytest.mark.parametrize("name", ["no_main_func", "has_preprocessor"])
def test_what_the_client_says_must_be_true_or_false(language: str, name: str) -> None:
    with pytest.raises(BadRequest, match=f"{name} must be true or false"):
        NewScript.parse({**BODY, "language": language, name: {}})


# The hash of a version


def test_the_hash_changes_with_every_field_and_the_workspace() -> None:
    new = NewScript.parse(BODY)
    changes: dict[str, Any] = {
        "path": "u/admin/other",
        "summary": "s",
        "description": "d",
        "content": "c",
        "language": Language.BASH,
        "parent_hash": 1,
        "kind": ScriptKind.TRIGGER,
        "tag": "t",
        "schema": {},
        "lock": "l",
        "no_main_func": True,
        "has_preprocessor": True,
        "settings": {"timeout": 1},
    }
    wishes = {"auto_parent", "preserve_on_behalf_of"}
    assert changes.keys() | wishes == {field.name for field in dataclasses.fields(NewScript)}
    versions = [new, *(dataclasses.replace(new, **{name: value}) for name, value in changes.items())]
    found = {script_hash(version, "demo") for version in versions} | {script_hash(new, "admins")}
    assert len(found) == len(versions) + 1
    wishing = dataclasses.replace(new, auto_parent=True, preserve_on_behalf_of=True)
    assert script_hash(wishing, "demo") == script_hash(new, "demo")


def test_the_hash_is_the_same_everywhere() -> None:
    new = NewScript.parse({**BODY, "schema": {"b": 1, "a": 2}})
    same = NewScript.parse({**BODY, "schema": {"a": 2, "b": 1}})
    assert script_hash(new, "demo") == script_hash(same, "demo")
    assert hash_to_hex(script_hash(NewScript.parse(BODY), "demo")) == "3d94ce61b805e7f0"


def test_the_fingerprint_ignores_the_place_in_history() -> None:
    new = NewScript.parse(BODY)
    later = NewScript.parse({**BODY, "parent_hash": "0" * 16, "deployment_message": "second", "auto_parent": True})
    other = NewScript.parse({**BODY, "summary": "new"})
    assert script_fingerprint(new) == script_fingerprint(later) != script_fingerprint(other)
