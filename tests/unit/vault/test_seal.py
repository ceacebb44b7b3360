"""Keys and sealed texts."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import SettingsError
from minwebhook.vault.keys import FILE_NAME, KeyRing, new_key
from minwebhook.vault.seal import RESOURCE, VARIABLE, SealError, Vault, is_sealed

#: Any key, but always the same: it is part of the names of tests, which must not change from one process to the next.
KEY = "mwk_" + base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
TEXTS = st.text(st.characters(codec="utf-8"))


def vault(*keys: str) -> Vault:
    return Vault(KeyRing.load(Path("/nonexistent"), keys or (KEY,)))


@given(TEXTS)
def test_what_was_sealed_can_be_opened_and_is_not_to_be_seen(plain: str) -> None:
    sealed = vault().seal(VARIABLE, "demo", plain)
    assert is_sealed(sealed)
    assert vault().open(VARIABLE, "demo", sealed) == plain
    assert len(plain) < 4 or plain not in sealed
    assert vault().seal(VARIABLE, "demo", plain) != sealed


@given(st.data())
def test_a_text_that_was_changed_is_refused(data: st.DataObject) -> None:
    sealed = vault().seal(VARIABLE, "demo", "open sesame")
    at = data.draw(st.integers(0, len(sealed) - 1))
    changed = sealed[:at] + data.draw(st.characters(codec="ascii")) + sealed[at + 1 :]
    # The last character of base64 may hold bits that mean nothing.
    if changed != sealed and at < len(sealed) - 2:
        with pytest.raises(SealError):
            vault().open(VARIABLE, "demo", changed)


def test_a_text_is_good_for_its_use_and_workspace_only() -> None:
    sealed = vault().seal(VARIABLE, "demo", "x")
    for purpose, workspace in ((RESOURCE, "demo"), (VARIABLE, "other")):
        with pytest.raises(SealError, match="not sealed here for this use"):
            vault().open(purpose, workspace, sealed)


def test_all_keys_open_and_the_first_one_seals() -> None:
    other = new_key().to_text()
    sealed = vault().seal(VARIABLE, "demo", "x")
    assert vault(other, KEY).open(VARIABLE, "demo", sealed) == "x"
    with pytest.raises(SealError, match="is not there"):
        vault(other).open(VARIABLE, "demo", sealed)
    assert vault(other, KEY).seal(VARIABLE, "demo", "x").split(":")[1] != sealed.split(":")[1]


def test_the_file_is_made_when_it_is_first_needed(tmp_path: Path) -> None:
    ring = KeyRing.load(tmp_path)
    assert not (tmp_path / FILE_NAME).exists()
    sealed = Vault(ring).seal(VARIABLE, "demo", "x")
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert Vault(KeyRing.load(tmp_path)).open(VARIABLE, "demo", sealed) == "x"


@pytest.mark.parametrize("content", ["", "hello\n", "mwk_short\n", KEY[:-1] + "\n", KEY + "\nmore\n"])
def test_a_bad_file_is_refused_and_stays_as_it_is(tmp_path: Path, content: str) -> None:
    file = tmp_path / FILE_NAME
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(SettingsError) as refused:
        KeyRing.load(tmp_path)
    assert file.read_text() == content
    assert KEY[4:-1] not in str(refused.value)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    file.write_text(KEY)
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        KeyRing.load(tmp_path)


def test_keys_do_not_show_when_they_are_printed() -> None:
    key = new_key()
    assert key.to_text() not in repr(key) and repr(key.secret) not in repr(key)
