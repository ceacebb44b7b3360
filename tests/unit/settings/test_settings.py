"""Settings: where values come from, and what is said about bad ones."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.configuration import CATALOGUE, SettingInfo, load_hook_secrets, load_settings
from minwebhook.errors import SettingsError
from minwebhook.settings import Settings

NAMES = list(CATALOGUE)


def value(settings: Settings, name: str) -> Any:
    return getattr(getattr(settings, CATALOGUE[name].topic), name)


def test_without_sources_there_are_the_defaults() -> None:
    settings = load_settings(environment={})
    for name, info in CATALOGUE.items():
        assert value(settings, name) == info.default
        assert settings.origins[name] == "default"


def test_file_environment_and_flag_win_in_this_order(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("workers = 1\ngrace_s = 1\ndata = 'file'\n")
    environment = {"MINWEBHOOK_WORKERS": "2", "MINWEBHOOK_GRACE_S": "2.5", "HOME": "/x"}
    settings = load_settings(flags={"workers": "3"}, environment=environment, config=str(file))
    assert (settings.jobs.workers, settings.server.grace_s, settings.server.data) == (3, 2.5, "file")
    assert settings.origins["workers"] == "flag --workers"
    assert settings.origins["grace_s"] == "environment MINWEBHOOK_GRACE_S"
    assert settings.origins["data"] == f"file {file}"
    assert settings.origins["listen"] == "default"


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_a_name_for_each_source_and_a_sentence(name: str) -> None:
    info = CATALOGUE[name]
    assert info.environment_name == f"MINWEBHOOK_{name.upper()}"
    assert info.flag == "--" + name.replace("_", "-")
    assert info.sentence.endswith((".", ")"))
    assert info.sentence[0].isupper()
    if info.type is float or "_bytes" in name:
        assert info.unit


def bad_values(info: SettingInfo) -> list[object]:
    bad: list[object] = [{}, [1]]
    if info.type is int:
        bad += ["x", "", "1.5", 1.5, True, "1e3", None]
    if info.type is float:
        bad += ["x", "", "nan", float("nan"), True, None]
    if info.type is bool:
        bad += ["yes", "1", 1, None]
    if info.type is str:
        bad += [1, True, None]
    if info.type is tuple:
        bad += [7, None]
        bad += ["", ",", []] if info.default and not info.may_be_empty else []
    if info.low is not None:
        bad += [str(info.low - 1), "-inf" if info.type is float else "-99999999999999999999"]
    if info.choices:
        bad += ["nothing of that", "AUTO" if "auto" in info.choices else "99"]
    return bad


@pytest.mark.parametrize("name", NAMES)
def test_every_bad_value_is_refused_naming_key_and_origin(name: str, tmp_path: Path) -> None:
    info = CATALOGUE[name]
    for bad in bad_values(info):
        with pytest.raises(SettingsError) as refused:
            load_settings(flags={name: bad}, environment={})
        text = str(refused.value)
        assert f" {name} " in text
        assert f"(flag {info.flag})" in text
        assert "expected" in text
        if info.secret:
            assert repr(bad) not in text
            assert "(hidden)" in text


@pytest.mark.parametrize("name", [name for name, info in CATALOGUE.items() if info.low is not None])
def test_the_lowest_value_is_allowed(name: str) -> None:
    info = CATALOGUE[name]
    assert info.low is not None
    assert value(load_settings(flags={name: str(info.low)}, environment={}), name) == info.low


@pytest.mark.parametrize("name", [name for name, info in CATALOGUE.items() if info.choices])
def test_every_choice_is_allowed(name: str) -> None:
    for choice in CATALOGUE[name].choices:
        assert str(value(load_settings(flags={name: choice}, environment={}), name)) == choice


@pytest.mark.parametrize(
    ("alias", "text", "name", "expected"),
    [
        ("TIMEOUT_WAIT_RESULT", "30", "wait_result_timeout_s", 30.0),
        ("INCLUDE_HEADERS", "X-A,X-B", "include_headers", ("X-A", "X-B")),
        ("QUEUE_LIMIT_WAIT_RESULT", "5", "queue_limit_wait_result", 5),
    ],
)
def test_variables_of_windmill_are_read_and_ours_win(alias: str, text: str, name: str, expected: object) -> None:
    settings = load_settings(environment={alias: text})
    assert (value(settings, name), settings.origins[name]) == (expected, f"environment {alias}")
    assert value(load_settings(environment={alias: ""}), name) == CATALOGUE[name].default
    both = load_settings(environment={alias: text, CATALOGUE[name].environment_name: "7"})
    assert value(both, name) != expected
    with pytest.raises(SettingsError, match=alias) if name != "include_headers" else nullcontext():
        load_settings(environment={alias: "x"})


def test_unknown_names_are_refused_with_their_origin(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("nonsense = 1")
    for sources, origin in (
        ({"flags": {"nonsense": 1}}, "flag --nonsense"),
        ({"config": str(file)}, f"file {file}"),
        ({"environment": {"MINWEBHOOK_NONSENSE": "1"}}, "environment MINWEBHOOK_NONSENSE"),
    ):
        arguments: dict[str, Any] = {"environment": {}, **sources}
        with pytest.raises(SettingsError) as refused:
            load_settings(**arguments)
        assert f"unknown setting 'nonsense' ({origin})" in str(refused.value)


@pytest.mark.parametrize("content", [b"x = [", b"\xff", b"= 1"])
def test_files_that_are_no_toml(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "s.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="is not valid TOML"):
        load_settings(config=str(file), environment={})
    with pytest.raises(SettingsError, match="cannot read the settings file"):
        load_settings(config=str(tmp_path), environment={})


def test_lists_from_text_and_from_toml(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("listen = ['a:1', 'unix:/b']")
    assert load_settings(config=str(file), environment={}).server.listen == ("a:1", "unix:/b")
    environment = {"MINWEBHOOK_LISTEN": " a:1 ,, unix:/b "}
    assert load_settings(environment=environment).server.listen == ("a:1", "unix:/b")


@pytest.mark.parametrize("flags", [{"tls_cert": "x"}, {"tls_key": "x"}])
def test_certificate_and_key_go_together(flags: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="tls_cert and tls_key go together"):
        load_settings(flags=flags, environment={})


def test_secrets_have_no_flag() -> None:
    secrets = {name for name, info in CATALOGUE.items() if info.secret}
    assert secrets == {
        "admin_token",
        "package_index",
        "package_npm",
        "package_proxy",
        "s3_secret_key",
        "secret_key",
        "smtp_password",
    }
    assert not any(CATALOGUE[name].has_flag for name in secrets)


def test_settings_do_not_change() -> None:
    settings = load_settings(environment={})
    for topic in ("server", "http", "jobs", "sandbox", "storage"):
        group = getattr(settings, topic)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(group, dataclasses.fields(group)[0].name, 1)


def test_counts_from_the_machine() -> None:
    settings = load_settings(environment={})
    assert settings.worker_count >= 1
    assert settings.warm_count >= 4
    own = load_settings(flags={"workers": "7", "warm_children": "3"}, environment={})
    assert (own.worker_count, own.warm_count) == (7, 3)
    assert (own.more_warm_bytes, own.more_warm_count) == (0, 0)
    large = load_settings(flags={"warm_memory_bytes": str(100 * 2**20)}, environment={})
    assert (large.warm_count, large.more_warm_count) == (4, 33)


@given(
    st.sampled_from(NAMES), st.text() | st.integers() | st.floats() | st.booleans() | st.none() | st.lists(st.text())
)
def test_any_value_is_taken_or_refused_by_name(name: str, raw: object) -> None:
    try:
        load_settings(flags={name: raw}, environment={})
    except SettingsError as error:
        assert name in str(error)


def secrets_file(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return str(path)


def test_secrets_of_senders(tmp_path: Path) -> None:
    assert load_hook_secrets("") == {}
    text = 'github = "é"\ncontacts = { base64 = "AAH/" }\n'
    assert load_hook_secrets(secrets_file(tmp_path / "s", text)) == {
        "github": "é".encode(),
        "contacts": b"\x00\x01\xff",
    }


@pytest.mark.parametrize(
    "text",
    ['a = ""', "a = 1", 'a = ["hidden"]', 'a = { base64 = "hidden!" }', 'a = { base64 = "" }', 'a = { hex = "hidden" }',
     'a = { base64 = "AAAA", hex = "hidden" }', "a = {}"],
)  # fmt: skip
def test_secrets_that_are_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="a must be a text or") as refused:
        load_hook_secrets(secrets_file(tmp_path / "s", text))
    assert "hidden" not in str(refused.value)


def test_a_file_of_secrets_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can be read by others"):
        load_hook_secrets(secrets_file(tmp_path / "s", 'a = "b"', 0o640))
    with pytest.raises(SettingsError, match="not valid TOML"):
        load_hook_secrets(secrets_file(tmp_path / "s", "a = "))
    with pytest.raises(SettingsError, match="cannot read hook_secrets"):
        load_hook_secrets(str(tmp_path / "none"))
