"""Code and pages say the same: settings, routes, links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest

import minwebhook
from minwebhook.api.routes import all_routes
from minwebhook.configuration import CATALOGUE, SettingInfo
from minwebhook.observability.metrics import METRICS
from minwebhook.webhooks.query import CONTROL
from tests.docs.pages import PAGES, ROOT

_LINK: Final = re.compile(r"\[[^\]]+\]\((?P<target>[^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)
_ROUTE: Final = re.compile(r"`[A-Z]+ /")
_PARAMETER: Final = re.compile(r"`([a-z0-9_]+)(?:=[^`]+)?`")


def table_rows(page: Path) -> list[list[str]]:
    """The cells of every table row whose first cell is code."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]


def shown_default(info: SettingInfo) -> str:
    """A default as the page writes it."""
    value: Any = info.default
    if info.secret or value in ("", ()):
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def test_every_setting_is_documented_as_it_is() -> None:
    shown = {row[0]: row[1:] for row in table_rows(ROOT / "docs" / "settings.md")}
    wanted = {
        f"`{info.name}`": [
            info.unit,
            shown_default(info),
            info.sentence + (f" One of {', '.join(f'`{word}`' for word in info.choices)}." if info.choices else ""),
            f"`{info.environment_name}`",
            f"`{info.flag}`" if info.has_flag else "none",
        ]
        for info in CATALOGUE.values()
    }
    assert shown == wanted


def test_what_a_reload_changes_is_documented() -> None:
    section = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").partition("\n## Reloading\n")[2]
    shown = set(re.findall(r"`([a-z_]+)`", section.partition("\n## ")[0])) & CATALOGUE.keys()
    assert shown == {info.name for info in CATALOGUE.values() if info.is_live}


def test_every_route_is_documented_and_no_other() -> None:
    shown = {row[0].strip("`") for row in table_rows(ROOT / "docs" / "api.md") if _ROUTE.match(row[0])}
    assert shown == {f"{route.method} {route.pattern}" for route in all_routes()}


def test_every_metric_is_documented_as_it_is() -> None:
    shown = {
        row[0]: row[1:] for row in table_rows(ROOT / "docs" / "operations.md") if row[0].startswith("`minwebhook_")
    }
    wanted = {
        f"`{info.full_name}`": [info.kind, ", ".join(f"`{label}`" for label in info.labels), info.sentence]
        for info in METRICS
    }
    assert shown == wanted


def test_every_parameter_of_a_run_is_documented_and_no_other() -> None:
    source = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")
    section = source.partition("\n## Parameters of a run\n")[2].partition("\n## ")[0]
    names = [
        name
        for line in section.splitlines()
        if line.startswith("| `")
        for name in _PARAMETER.findall(line.split("|")[1])
    ]
    assert sorted(names) == sorted(CONTROL)


def test_the_addresses_of_the_examples_for_senders_are_those_of_their_page() -> None:
    shown = (ROOT / "docs" / "senders.md").read_text(encoding="utf-8")
    scripts = sorted((ROOT / "examples" / "scripts" / "f").rglob("*.py"))
    assert len(scripts) > 5
    for script in scripts:
        address = re.search(r"^\.\.\.(/jobs/\S+&token=)\.\.\.$", script.read_text(encoding="utf-8"), re.MULTILINE)
        assert address, f"{script.name} does not say how it is called"
        assert f"    https://HOST/api/w/demo{address[1]}TOKEN\n" in shown, script.name
        assert f'$ URL="$W{address[1]}$HOOK"\n' in shown, script.name


def anchors(page: Path) -> set[str]:
    """What headings of a page can be linked by."""
    headings = _HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.is_relative_to(ROOT), target
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def test_files_named_in_the_readme_exist() -> None:
    source = (ROOT / "README.md").read_text(encoding="utf-8")
    names = re.findall(r"`((?:src/minwebhook/)?[a-z_]+(?:/[a-z_]+)*(?:\.py|/))`", source)
    assert names
    for name in names:
        assert any((base / name).exists() for base in (ROOT, ROOT / "src" / "minwebhook")), name


def test_every_decision_is_listed() -> None:
    index = ROOT / "docs" / "decisions" / "README.md"
    listed = set(_LINK.findall(index.read_text(encoding="utf-8")))
    assert listed >= {page.name for page in index.parent.glob("*.md")} - {index.name}


def test_the_changelog_knows_this_version() -> None:
    assert f"\n## {minwebhook.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") < 250
