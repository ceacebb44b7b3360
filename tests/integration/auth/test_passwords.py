"""Passwords: what is stored, and that hashing them holds up nobody."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import trio

import minwebhook
from minwebhook.auth import passwords as module
from minwebhook.auth.passwords import CONCURRENT, Passwords, parse_password
from minwebhook.errors import BadRequest, TooManyRequests


async def test_a_password_is_known_by_its_hash() -> None:
    passwords = Passwords(memory_bytes=64 * 1024)
    stored = await passwords.hash("correct horse")
    assert stored.startswith("$argon2id$v=19$m=64,t=2,p=1$")
    assert await passwords.hash("correct horse") != stored
    assert await passwords.matches(stored, "correct horse")
    assert not await passwords.matches(stored, "correct horsE")
    assert not await passwords.matches(None, "nobody's password")
    assert not await passwords.matches("not a hash", "x")


async def test_the_loop_goes_on_and_few_are_hashed_at_once() -> None:
    passwords = Passwords(max_waiting=1)
    refused = turns = 0

    async def one() -> None:
        nonlocal refused
        try:
            await passwords.hash("x" * 1000)
        except TooManyRequests:
            refused += 1

    async with trio.open_nursery() as nursery:
        for _ in range(CONCURRENT + 5):
            nursery.start_soon(one)
        while len(nursery.child_tasks) and turns < 10_000_000:
            turns += 1
            await trio.lowlevel.checkpoint()
    assert refused == 4
    assert turns > 20


@pytest.mark.parametrize("value", [None, 1, "", "short", "x" * 1001, "\ud800xxxxxxxx"])
def test_bad_passwords(value: object) -> None:
    with pytest.raises(BadRequest, match="password"):
        parse_password(value)
    assert parse_password("12345678") == "12345678"


def test_no_hash_is_made_outside_of_a_thread() -> None:
    root = Path(minwebhook.__file__).parent
    users = [path for path in root.rglob("*.py") if "nacl.pwhash" in path.read_text(encoding="utf-8")]
    assert [path.name for path in users] == ["passwords.py"]
    # The two functions that hash are given to threads, and called by nobody.
    slow = {"_hash", "_verify"}
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not any(isinstance(call.func, ast.Attribute) and call.func.attr in slow for call in calls)
    given = [ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func) == "trio.to_thread.run_sync"]
    assert sorted(given) == ["self._hash", "self._verify"]
