"""What few jobs have comes back from the database as it went in."""

from __future__ import annotations

from typing import Any

import pytest

from minwebhook.auth.scopes import Scopes
from minwebhook.jobs.record import JobOptions


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"authored": ()},  # nothing is the author's, which is not the same as None
        {"authored": ("a", "iter"), "verbatim": True},
        {"imports": (("f/team/base", "0123456789abcdef"),)},
        {"mask": b"[1]", "preprocess": True, "is_preprocessed": True, "cache_ttl_s": 5, "part": ("a", 0, None)},
    ],
)
def test_options_survive_the_database(members: dict[str, Any]) -> None:
    options = JobOptions(**members)
    assert JobOptions.parse(options.to_text()) == options


def test_scopes_survive_the_database() -> None:
    texts = ("jobs:run:flows:f/team/*", "if_jobs:filter_tags:a")
    restored = JobOptions.parse(JobOptions(scopes=Scopes(texts)).to_text()).scopes
    assert restored is not None and restored.texts == texts
