"""Records that hang together; which routes are told of."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from minwebhook.api.audited import AUDITED, NOT_AUDITED
from minwebhook.api.routes import all_routes
from minwebhook.audit.record import EXECUTED, NO_HASH, Event, Record, chain, first_break

WORDS = st.text(st.characters(codec="utf-8"), max_size=10)
EVENTS = st.lists(
    st.builds(Event, WORDS, WORDS, WORDS, WORDS | st.none(), WORDS | st.none(), st.integers(0, 2**53),
              st.dictionaries(WORDS, WORDS, max_size=2)),
    min_size=1, max_size=6,
)  # fmt: skip


def records(events: list[Event], first: int = 0, previous: bytes = NO_HASH) -> list[Record]:
    return [Record(*row) for row in chain(events, first, previous)]


@given(EVENTS, EVENTS)
def test_a_chain_that_goes_on_is_whole(some: list[Event], more: list[Event]) -> None:
    begun = records(some)
    whole = begun + records(more, begun[-1].id, begun[-1].hash)
    assert first_break(whole) == (None, len(whole), whole[-1].hash)
    assert whole == records([*some, *more])


@given(EVENTS, st.data())
def test_the_first_record_that_was_changed_is_named(events: list[Event], data: st.DataObject) -> None:
    made = records(events)
    at = data.draw(st.integers(0, len(made) - 1))
    name = data.draw(st.sampled_from([field.name for field in dataclasses.fields(Record)]))
    old = getattr(made[at], name)
    new: Any = old + 1 if isinstance(old, int) else (old or "") + "x" if not isinstance(old, bytes) else bytes(32)
    broken, count, _ = first_break([*made[:at], dataclasses.replace(made[at], **{name: new}), *made[at + 1 :]])
    assert broken is not None and count == at
    assert broken.id == (made[at].id if name != "id" else made[at].id + 1)


@given(EVENTS.filter(lambda events: len(events) > 1), st.data())
def test_a_record_that_was_taken_out_or_moved_is_noticed(events: list[Event], data: st.DataObject) -> None:
    made = records(events)
    at = data.draw(st.integers(0, len(made) - 2))
    broken, count, _ = first_break(made[:at] + made[at + 1 :])
    assert broken is not None and (broken.id, count) == (at + 2, at)
    swapped = [*made[:at], made[at + 1], made[at], *made[at + 2 :]]
    assert first_break(swapped)[1] == at


def test_an_empty_chain_is_whole() -> None:
    assert first_break([]) == (None, 0, NO_HASH)


def test_every_route_that_changes_something_is_told_of_or_says_why_not() -> None:
    changing = {
        route.endpoint.call
        for route in all_routes()
        if route.method in ("POST", "DELETE", "PUT", "PATCH") and route.endpoint.action not in ("read", "run")
    }
    told = AUDITED.keys() | NOT_AUDITED
    assert not {call.__qualname__ for call in changing - told}
    assert not AUDITED.keys() & NOT_AUDITED
    assert {kind for _, kind in AUDITED.values()} <= {"Created", "Updated", "Delete", EXECUTED}
    assert all(route.endpoint.audited == AUDITED.get(route.endpoint.call) for route in all_routes())
