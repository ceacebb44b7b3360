"""What jobs are made of."""

from __future__ import annotations

from minwebhook.jobs.model import copied
from tests.jobs import job_spec


def test_a_copy_has_all_that_a_spec_is_made_of_and_is_another_one() -> None:
    spec = job_spec(path="u/a/b", arguments=b'{"a":1}', step_id="s", flow_path="u/a/f")
    again = copied(spec)
    assert again == spec
    again.path = "u/a/c"
    assert spec.path == "u/a/b"
