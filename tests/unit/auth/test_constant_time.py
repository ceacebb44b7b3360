"""Secrets are compared in constant time: read off the code, and seen when it runs."""

from __future__ import annotations

import ast
import hashlib
import hmac
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest

import minwebhook
from minwebhook.auth import tokens
from minwebhook.auth.view_tokens import is_view_token, view_token

ROOT: Final = Path(minwebhook.__file__).parent
#: Where what callers send meets what is secret: all of the packages that deal with either.
FILES: Final = sorted(
    [
        *ROOT.glob("auth/*.py"),
        *ROOT.glob("vault/*.py"),
        ROOT / "flows/signatures.py",
        ROOT / "scripts/signatures.py",
        ROOT / "storage/signing.py",
    ]
    + [ROOT / f"api/{name}.py" for name in ("context", "job_access", "jobs", "login", "tokens", "users")]
)
#: Values that are secret, or are made from what is, by their names.
SECRET: Final = re.compile(r"(?i)(?:^|_)(?:token|secret|password|signature|sig|digest|hash|key|mac|hmac|expected)s?$")
#: Every function in which a secret is compared, and with what.
COMPARED: Final = {
    "auth/tokens.py:same_hash": "compare_digest",
    "auth/store.py:authenticate": "same_hash",
    "auth/store.py:knows": "same_hash",
    "auth/store.py:_load": "same_hash",
    "auth/view_tokens.py:is_view_token": "same_hash",
    "flows/signatures.py:is_approval_signature": "compare_digest",
    "flows/signatures.py:is_approval_token": "compare_digest",
    "scripts/signatures.py:finish": "compare_digest",
    "storage/signing.py:check": "compare_digest",
}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def called(function: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            names.add(node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", ""))
    return names


def name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return node.id if isinstance(node, ast.Name) else ""


def test_nothing_secret_is_compared_with_the_usual_operators() -> None:
    found = []
    for path in FILES:
        for function in functions(path):
            for node in ast.walk(function):
                if not isinstance(node, ast.Compare):
                    continue
                if not any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops):
                    continue
                sides = [node.left, *node.comparators]
                if any(isinstance(side, ast.Constant) for side in sides):
                    continue  # with a text of the program
                if any(SECRET.search(name_of(side)) for side in sides):
                    found.append((str(path.relative_to(ROOT)), function.name, ast.unparse(node)))
    assert found == []


@pytest.mark.parametrize(("place", "comparison"), COMPARED.items(), ids=list(COMPARED))
def test_every_comparison_takes_the_same_time(place: str, comparison: str) -> None:
    file, _, name = place.partition(":")
    [function] = [each for each in functions(ROOT / file) if each.name == name]
    assert comparison in called(function)


def test_comparisons_are_those_that_are_listed() -> None:
    there = {
        f"{path.relative_to(ROOT)}:{function.name}"
        for path in ROOT.rglob("*.py")
        for function in functions(path)
        if called(function) & {"compare_digest", "same_hash"}
    }
    assert there == COMPARED.keys()


def test_what_is_compared_goes_through_compare_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def spy(left: bytes, right: bytes) -> bool:
        seen.append((left, right))
        return real(left, right)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    digest = hashlib.sha256(b"x").hexdigest()
    assert tokens.same_hash(digest, digest) and not tokens.same_hash(digest, "0" * 64)
    job, key = UUID(int=1), "k" * 64
    right = view_token(key, job)
    for wrong in ("", "é", "\udcff", right[:-1], right + "0", right.replace(right[-1], "x")):
        assert not is_view_token(key, wrong, job)
    assert is_view_token(key, right, job)
    assert len(seen) == 9
    assert all(left == right_ for left, right_ in (seen[0], seen[-1]))
