"""The command line, without starting a server."""

from __future__ import annotations

import argparse
import json

import pytest
import yaml

import minwebhook
from minwebhook.api.operations import api_document
from minwebhook.cli.flags import add_flags, settings_from
from minwebhook.cli.main import main
from minwebhook.configuration import CATALOGUE


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the surroundings of the tests say."""
    for info in CATALOGUE.values():
        monkeypatch.delenv(info.environment_name, raising=False)


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return parser.parse_args(arguments)


#: What some settings take, and what they are not taken without.
TEXTS = {
    "sandbox": "none",
    "listen": "x:1",
    "s3_plain_http_hosts": "x:1",
    "tls_cert": "x",
    "tls_key": "x",
    "trusted_proxies": "192.0.2.0/24",
}
PARTNERS = {"tls_cert": "tls_key", "tls_key": "tls_cert", "proxy_listen": "trusted_proxies"}


@pytest.mark.parametrize("name", [name for name, info in CATALOGUE.items() if info.has_flag])
def test_every_setting_has_a_flag(name: str) -> None:
    info = CATALOGUE[name]
    text = TEXTS.get(name)
    if text is None and info.choices:
        text = info.choices[-1]
    if info.type is bool:
        settings = settings_from(parsed(info.flag if not info.default else "--no-" + name.replace("_", "-")))
        assert getattr(getattr(settings, info.topic), name) is not info.default
        return
    text = text or {int: "2000000000", float: str(max(7.5, info.low or 0)), str: "some/text", tuple: "some"}[info.type]
    partner = [CATALOGUE[PARTNERS[name]].flag, TEXTS[PARTNERS[name]]] if name in PARTNERS else []
    settings = settings_from(parsed(info.flag, text, *partner))
    assert settings.origins[name] == f"flag {info.flag}"
    got = getattr(getattr(settings, info.topic), name)
    assert got == ((text,) if info.type is tuple else info.type(text) if not info.choices else got)


def test_flags_may_be_repeated_for_lists() -> None:
    assert settings_from(parsed("--listen", "a:1", "--listen", "b:2")).server.listen == ("a:1", "b:2")


def test_secrets_have_no_flag(capsys: pytest.CaptureFixture[str]) -> None:
    for name, info in CATALOGUE.items():
        if info.secret:
            with pytest.raises(SystemExit):
                main(["serve", "--" + name.replace("_", "-"), "x"])
    capsys.readouterr()


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--version"], ["--help"], ["serve", "--help"], ["settings", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"minwebhook {minwebhook.__version__}\n" in shown
    for info in CATALOGUE.values():
        assert (info.flag in shown) == info.has_flag


def test_the_list_of_settings(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINWEBHOOK_ADMIN_TOKEN", "very-secret")
    assert main(["settings", "--workers", "3"]) == 0
    shown = capsys.readouterr().out
    assert "very-secret" not in shown
    assert "admin_token = (hidden)  (environment MINWEBHOOK_ADMIN_TOKEN)" in shown
    assert "workers = 3  (flag --workers)" in shown
    assert main(["settings", "--json"]) == 0
    output = capsys.readouterr().out
    assert "very-secret" not in output
    assert [row["name"] for row in json.loads(output)] == list(CATALOGUE)


def test_the_description_of_the_api(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["openapi"]) == 0
    assert json.loads(capsys.readouterr().out) == api_document()
    assert main(["openapi", "--yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == api_document()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["settings", "--workers", "x"], "bad value 'x' for workers (flag --workers): expected a whole number"),
        (["serve", "--grace-s", "-1"], "bad value '-1' for grace_s (flag --grace-s): expected at least 0"),
        (["serve", "--config", "/nothing"], "cannot read the settings file /nothing"),
    ],
)
def test_bad_settings_end_with_2(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert text in capsys.readouterr().err
