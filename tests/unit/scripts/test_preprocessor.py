"""The parameters of a preprocessor, cut out of code that may be anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.scripts.preprocessor import preprocessor_parameters


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("def preprocessor(event): pass", ("event",)),
        ("async def preprocessor( event : dict ,other=1 ) -> dict: pass", ("event", "other")),
        ("def preprocessor(a, /, b, *, c=')', **rest): pass", ("a", "b", "c")),
        ("def preprocessor(\n    event,  # a comment with )\n    x=('(', [1]),\n):\n    pass", ("event", "x")),
        ('def preprocessor(a="""\n)""", b=\'\\\')\', c={1: "("}): pass', ("a", "b", "c")),
        ("def preprocessor(): pass", ()),
        ("def preprocessor(**event): pass", ()),
        ("x = 1\n\ndef  preprocessor\t(event: 'x[)]'): pass", ("event",)),
        ("def preprocessors(a): pass", ()),
        ("    def preprocessor(a): pass", ()),
        ("def main(a): pass", ()),
        ("def preprocessor(a", ()),
        ("def preprocessor(a b): pass", ()),
        ("def preprocessor(a=" + "(" * 5000 + ")" * 5000 + "): pass", ()),
        ("def preprocessor(" + "a" * 20_000 + "): pass", ()),
        ("", ()),
    ],
)
def test_parameters(code: str, names: tuple[str, ...]) -> None:
    assert preprocessor_parameters(code) == names


@given(st.text("()[]{}'\"\\#,:=*/ \nabc0"))
def test_any_code_gives_names(text: str) -> None:
    assert all(name.isidentifier() for name in preprocessor_parameters(f"def preprocessor({text}): pass"))
