"""Where settings come from: a TOML file, the environment, flags; and what else the environment says.

A setting has one name everywhere: ``max_body_bytes`` in the TOML file, ``MINWEBHOOK_MAX_BODY_BYTES`` in the environment,
``--max-body-bytes`` as a flag. Order: default < file < environment < flag. Some are also read from the environment
variable that Windmill has for them. Unknown keys and bad values end the start (:class:`~minwebhook.errors.SettingsError`).

Nothing else in the program reads ``os.environ``.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import math
import os
import tomllib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_type_hints

from minwebhook.addresses import UNIX, parse_network
from minwebhook.errors import SettingsError
from minwebhook.settings import ServerSettings, Settings

ENVIRONMENT_PREFIX: Final = "MINWEBHOOK_"


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """One row of ``minwebhook settings``."""

    name: str
    topic: str
    type: type
    default: Any
    sentence: str
    low: float | None
    choices: tuple[str, ...]
    secret: bool
    #: Whether there is a command line flag; secrets have none, they would show in the process list.
    has_flag: bool
    #: A second environment variable, the one that Windmill reads; ours wins.
    alias: str
    #: Whether it takes effect when the server reloads its settings.
    is_live: bool
    #: Whether a list that has a default may be empty all the same.
    may_be_empty: bool

    @property
    def environment_name(self) -> str:
        """The environment variable of this setting."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """The command line flag of this setting."""
        return "--" + self.name.replace("_", "-")

    @property
    def unit(self) -> str:
        """The unit, read off the name: ``seconds``, ``bytes``, ``bytes/s`` or nothing."""
        for suffix, unit in (("_bytes_per_s", "bytes/s"), ("_bytes", "bytes"), ("_s", "seconds")):
            if self.name.endswith(suffix):
                return unit
        return ""


_TOPICS: Final = Settings.topics()


def _catalogue() -> dict[str, SettingInfo]:
    infos: dict[str, SettingInfo] = {}
    for topic, group in _TOPICS.items():
        hints = get_type_hints(group)
        for field in dataclasses.fields(group):
            hint = hints[field.name]
            infos[field.name] = SettingInfo(
                name=field.name,
                topic=topic,
                type=tuple if hint == tuple[str, ...] else hint,
                default=field.default,
                sentence=field.metadata["help"],
                low=field.metadata["low"],
                choices=field.metadata["choices"],
                secret=field.metadata.get("secret", False),
                has_flag=field.metadata.get("flag", True),
                alias=field.metadata.get("alias", ""),
                is_live=field.metadata.get("live", False),
                may_be_empty=field.metadata.get("may_be_empty", False),
            )
    return infos


#: Every setting by name, in the order of the dataclasses.
CATALOGUE: Final[Mapping[str, SettingInfo]] = _catalogue()


def load_settings(
    *,
    flags: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    config: str | None = None,
) -> Settings:
    """The settings from their four sources. ``flags`` and the TOML file ``config`` are keyed by setting name.

    Raises :class:`SettingsError` naming the key and its origin.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = dict.fromkeys(CATALOGUE, "default")

    def take(name: str, raw: object, origin: str) -> None:
        info = CATALOGUE.get(name)
        if info is None:
            raise SettingsError(f"unknown setting {name!r} ({origin}); 'minwebhook settings' lists all")
        values[name] = _convert(info, raw, origin)
        origins[name] = origin

    if config is not None:
        for name, raw in _read_toml(config).items():
            take(name, raw, f"file {config}")
    variables = os.environ if environment is None else environment
    for info in CATALOGUE.values():
        if info.alias and variables.get(info.alias):
            take(info.name, variables[info.alias], f"environment {info.alias}")
    for key, raw_text in variables.items():
        if key.startswith(ENVIRONMENT_PREFIX):
            take(key.removeprefix(ENVIRONMENT_PREFIX).lower(), raw_text, f"environment {key}")
    for name, raw in (flags or {}).items():
        take(name, raw, f"flag --{name.replace('_', '-')}")

    groups: dict[str, Any] = {
        topic: group(**{name: value for name, value in values.items() if CATALOGUE[name].topic == topic})
        for topic, group in _TOPICS.items()
    }
    settings = Settings(**groups, origins=origins)
    if bool(settings.server.tls_cert) != bool(settings.server.tls_key):
        raise SettingsError("tls_cert and tls_key go together: give both or none")
    _check_proxies(settings.server)
    return settings


def _check_proxies(server: ServerSettings) -> None:
    for word in server.trusted_proxies:
        try:
            word == UNIX or parse_network(word)
        except ValueError as error:
            raise SettingsError(f"trusted_proxies: {error}; or write {UNIX}") from None
    if server.proxy_listen and not server.trusted_proxies:
        raise SettingsError("proxy_listen: nobody may connect there but trusted_proxies, and there are none")


@dataclass(frozen=True, slots=True)
class Supervision:
    """What a service manager wants of this process, by the environment variables of systemd."""

    notify_socket: str = ""
    #: Seconds within which it wants a sign of life; 0 if it does not.
    watchdog_s: float = 0.0
    #: How many listening sockets it passed, and their names.
    listen_count: int = 0
    listen_names: tuple[str, ...] = ()


def load_supervision(pid: int, environment: MutableMapping[str, str] | None = None) -> Supervision:
    """What is meant for the process ``pid``; the variables are taken away, so that nobody takes them to be theirs."""
    variables = os.environ if environment is None else environment
    names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
    notify, watchdog_us, watchdog_pid, fds, listen_pid, fd_names = (variables.pop(name, "") for name in names)
    is_watched = watchdog_us.isdecimal() and watchdog_pid in ("", str(pid))
    has_sockets = fds.isdecimal() and listen_pid == str(pid)
    return Supervision(
        notify,
        int(watchdog_us) / 1_000_000 if is_watched else 0.0,
        int(fds) if has_sockets else 0,
        tuple(fd_names.split(":")) if has_sockets and fd_names else (),
    )


def merge_live(running: Settings, wanted: Settings) -> tuple[Settings, list[str], list[str]]:
    """The settings after a reload: ``wanted`` where that may change while the server runs, else ``running``.

    Also the names of those that changed, and of those that would have.
    """
    changed: list[str] = []
    refused: list[str] = []
    groups: dict[str, Any] = {}
    origins = dict(running.origins)
    for topic in _TOPICS:
        before, after = getattr(running, topic), getattr(wanted, topic)
        live: dict[str, Any] = {}
        for field in dataclasses.fields(before):
            if getattr(before, field.name) == getattr(after, field.name):
                continue
            if CATALOGUE[field.name].is_live:
                live[field.name] = getattr(after, field.name)
                origins[field.name] = wanted.origins[field.name]
                changed.append(field.name)
            else:
                refused.append(field.name)
        groups[topic] = dataclasses.replace(before, **live)
    return Settings(**groups, origins=origins), changed, refused


def load_hook_secrets(path: str) -> dict[str, bytes]:
    """The secrets of senders by name; none without a file. Raises :class:`SettingsError`, never with a secret in it."""
    if not path:
        return {}
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        raise SettingsError(f"cannot read hook_secrets {path}: {error.strerror}") from error
    if mode & 0o077:
        raise SettingsError(f"hook_secrets {path} can be read by others than its owner: chmod 600 {path}")
    return {name: _hook_secret(value, f"hook_secrets {path}: {name}") for name, value in _read_toml(path).items()}


def _hook_secret(value: object, name: str) -> bytes:
    """A text as it is, or ``{base64 = "..."}``."""
    secret = b""
    if isinstance(value, str):
        secret = value.encode()
    elif isinstance(value, dict) and list(value) == ["base64"] and isinstance(value["base64"], str):
        with contextlib.suppress(ValueError):
            secret = base64.b64decode(value["base64"], validate=True)
    if not secret:
        raise SettingsError(f'{name} must be a text or {{base64 = "..."}}, and not empty')
    return secret


def _read_toml(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} is not valid TOML: {error}") from error


def _convert(info: SettingInfo, raw: object, origin: str) -> Any:
    """``raw`` as the setting's type; text is parsed, TOML values are taken as they are when the type fits."""

    def refuse(expected: str) -> SettingsError:
        shown = "(hidden)" if info.secret else repr(raw)
        return SettingsError(f"bad value {shown} for {info.name} ({origin}): expected {expected}")

    value: Any = raw
    if info.type is tuple:
        if isinstance(raw, str):
            value = tuple(part for part in (piece.strip() for piece in raw.split(",")) if part)
        elif isinstance(raw, list | tuple) and all(isinstance(part, str) for part in raw):
            value = tuple(raw)
        else:
            raise refuse("a list of texts")
        if not value and info.default and not info.may_be_empty:
            raise refuse("at least one entry")
    elif info.type is bool:
        if isinstance(raw, str) and raw.lower() in ("true", "false"):
            value = raw.lower() == "true"
        elif not isinstance(raw, bool):
            raise refuse("true or false")
    elif info.type in (int, float):
        try:
            if isinstance(raw, bool) or not isinstance(raw, str | int | float):
                raise ValueError
            value = info.type(raw)
            if info.type is int and not isinstance(raw, str) and value != raw:
                raise ValueError
        except (ValueError, OverflowError):
            raise refuse("a whole number" if info.type is int else "a number") from None
        if math.isnan(value) or (info.low is not None and value < info.low):
            raise refuse(f"at least {info.low:g}" if info.low is not None else "a number")
    elif not isinstance(raw, str):
        raise refuse("a text")
    if info.choices and str(value) not in info.choices:
        raise refuse("one of " + ", ".join(info.choices))
    return value
