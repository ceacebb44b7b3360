"""What is missing of the rung that was reached has a reason and a cure."""

from __future__ import annotations

import pytest

from minwebhook.child import landlock
from minwebhook.runtimes.ladder import missing_scope
from minwebhook.sandbox.plan import LANDLOCK_SCOPE, LIMITS_OF_GROUPS, RUNGS, USER_NAMESPACE, Missing


@pytest.mark.parametrize("version", range(landlock.SCOPE_VERSION))
def test_an_old_landlock(version: int) -> None:
    (told,) = missing_scope(version)
    assert told.name == LANDLOCK_SCOPE
    assert (f"version {version}" in told.reason) == bool(version)
    assert "6.12" in told.cure


def test_a_landlock_that_has_all() -> None:
    assert missing_scope(landlock.SCOPE_VERSION) == missing_scope(landlock.SCOPE_VERSION + 3) == []


def test_every_layer_has_a_cure() -> None:
    for name in (*RUNGS, USER_NAMESPACE, LANDLOCK_SCOPE, *LIMITS_OF_GROUPS.values()):
        assert Missing(name, "").cure
