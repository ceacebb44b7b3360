"""The limits that scripts ask for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import BadRequest
from minwebhook.scripts.limits import LEAST, Limits, limits
from minwebhook.scripts.model import NewScript

SCRIPT = {"path": "u/a/b", "summary": "", "description": "", "content": "def main(): ...", "language": "python3"}


def test_they_are_settings_of_the_script() -> None:
    asked = {"cpu_s": 1.5, "tmp_bytes": 1 << 21, "processes": None}
    new = NewScript.parse({**SCRIPT, "limits": asked, "network": "none"})
    assert new.settings == {"limits": {"cpu_s": 1.5, "tmp_bytes": 1 << 21}, "network": "none"}
    assert Limits(**new.settings["limits"]).cpu_s == 1.5
    assert set(LEAST) == set(Limits._fields)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "limits must be an object"),
        ({"cpu": 1}, "limits.cpu is no limit; there are cpu_s, memory_bytes,"),
        ({"cpu_s": 0}, "limits.cpu_s must be a number of at least 0.01"),
        ({"cpu_s": True}, "limits.cpu_s must be a number"),
        ({"cpu_s": "1"}, "limits.cpu_s must be a number"),
        ({"cpu_s": float("nan")}, "limits.cpu_s must be a number"),
        ({"processes": 1.5}, "limits.processes must be a whole number of at least 1"),
        ({"memory_bytes": 1000}, "limits.memory_bytes must be a whole number"),
        ({"file_bytes": -1}, "limits.file_bytes must be a whole number of at least 0"),
        ({"log_bytes": 2**60}, "limits.log_bytes must be a whole number"),
    ],
)
def test_what_is_no_limit_is_refused(value: Any, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        limits("limits", value)
    assert message in refused.value.detail


@pytest.mark.parametrize("value", ["", "internet", True, {}, ["none"]])
def test_networks(value: Any) -> None:
    with pytest.raises(BadRequest, match="network must be host or none"):
        NewScript.parse({**SCRIPT, "network": value})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(list(LEAST)), inner),
    max_leaves=10,
)


@given(JSON)
def test_anything_is_either_taken_or_refused(value: Any) -> None:
    try:
        taken = limits("limits", value)
    except BadRequest:
        return
    assert all(number >= LEAST[name] for name, number in taken.items())
