"""A flag for every setting, and the settings from parsed flags."""

from __future__ import annotations

import argparse

from minwebhook.configuration import CATALOGUE, SettingInfo, load_settings
from minwebhook.settings import Settings


def add_flags(parser: argparse.ArgumentParser) -> None:
    """``--config FILE`` and one flag per setting; secrets have none, as they would show in the process list."""
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings.")
    for info in CATALOGUE.values():
        if info.has_flag:
            _add_flag(parser, info)


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """``--config FILE`` and ``--data``: what commands need that work on the data directory of a server."""
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings.")
    _add_flag(parser, CATALOGUE["data"])


def _add_flag(parser: argparse.ArgumentParser, info: SettingInfo) -> None:
    sentence = info.sentence.replace("%", "%%")
    if info.type is bool:
        parser.add_argument(
            info.flag, dest=info.name, default=None, action=argparse.BooleanOptionalAction, help=sentence
        )
    elif info.type is tuple:
        parser.add_argument(
            info.flag,
            dest=info.name,
            default=None,
            action="append",
            metavar="ADDR" if info.name == "listen" else "VALUE",
            help=sentence + " May be repeated.",
        )
    else:
        parser.add_argument(
            info.flag, dest=info.name, default=None, metavar=info.unit.upper() or "VALUE", help=sentence
        )


def settings_from(options: argparse.Namespace) -> Settings:
    """The settings with the flags that were given. Raises :class:`~minwebhook.errors.SettingsError`."""
    given = {
        name: value
        for name, info in CATALOGUE.items()
        if info.has_flag and (value := getattr(options, name, None)) is not None
    }
    return load_settings(flags=given, config=options.config)
