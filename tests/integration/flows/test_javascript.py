"""Expressions in their own processes: hostile ones fail alone and in time, and the processes can do nothing but compute."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import minwebhook
from minwebhook.errors import NotFound
from minwebhook.flows.expressions import ExpressionError
from minwebhook.flows.javascript import Evaluator
from minwebhook.sandbox.computing import packed_filter
from minwebhook.settings import FlowSettings

MIB = 1 << 20
#: Within which everything is over, on a busy machine.
AT_MOST_S = 20


@asynccontextmanager
async def evaluator(
    limit_s: float = 10.0, processes: int = 2, memory_bytes: int = 32 * MIB
) -> AsyncIterator[Evaluator]:
    settings = FlowSettings(
        expression_timeout_s=limit_s, expression_processes=processes, expression_memory_bytes=memory_bytes
    )
    it = Evaluator(settings, max_value_bytes=MIB, insecure=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(it.run)
        yield it
        nursery.cancel_scope.cancel()


async def failure(it: Evaluator, expression: str, context: dict[str, Any] | None = None) -> ExpressionError:
    with trio.fail_after(AT_MOST_S), pytest.raises(ExpressionError) as caught:
        await it.evaluate(expression, context or {})
    return caught.value


async def test_values_and_processes() -> None:
    async with evaluator() as it:
        context = {"flow_input": {"n": [1, 2], "text": "é€😀\0"}, "results": {"a": 2**60, "b": "\ud800"}}
        assert await it.evaluate("flow_input.n", context) == [1, 2]
        assert it.process_count == 0  # nobody needed JavaScript
        assert await it.evaluate("flow_input.n.map(x => x + 1)", context) == [2, 3]
        assert await it.evaluate("flow_input.text + '!'", context) == "é€😀\0!"
        assert await it.evaluate("results.b + 1", context) == "?1"
        assert await it.evaluate("results['a'] + 0", context) == 1152921504606847000  # what JavaScript makes of it
        assert await it.evaluate("flow_input.n.length == 2", context, is_predicate=True) is True
        assert await it.evaluate("flow_input.n", context, is_predicate=True) is True
        assert it.process_count == 1


async def test_evaluations_share_nothing() -> None:
    async with evaluator() as it:
        await it.evaluate("globalThis.kept = 1, Array.prototype.map = null, Object.prototype.toJSON = () => 6, 1", {})
        assert await it.evaluate("[typeof kept, [1].map(x => x + 1)]", {}) == ["undefined", [2]]
        assert it.process_count == 1


@pytest.mark.parametrize(
    "expression",
    [
        "(() => { while (true) {} })()",
        "/(a+)+$/.test('a'.repeat(40) + 'b')",
        "new Array(1e8).join('x').length",
        "(() => { const a = []; for (;;) a[0] = a.concat(a); })()",
        "(async () => { for (;;) await null })()",
        "JSON.stringify(new Proxy([], { get: (t, n) => (n === 'length' ? 1e15 : 1) }))",
    ],
)
async def test_what_takes_too_long_is_ended(expression: str) -> None:
    async with evaluator(limit_s=0.3, memory_bytes=1024 * MIB) as it:
        error = await failure(it, expression)
        assert error.name == "TimeoutError"
        assert error.message == "not done within 0.3 s (expression_timeout_s)"
        assert it.process_count == 0


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("'x'.repeat(1e9)", "InternalError"),
        ("(() => { const a = []; for (;;) a.push('x'.repeat(1e5) + a.length); })()", "InternalError"),
        ("new Uint8Array(1e10)", "RangeError"),
        ("(function f() { return f() })()", "RangeError"),
        ("JSON.parse('['.repeat(1e6))", "RangeError"),
        ("(() => { let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a })()", "RangeError"),
        ("(() => { let a = []; for (let i = 0; i < 3000; i++) a = [a]; return a })()", "RangeError"),
        ("'x'.repeat(2e6)", "RangeError"),
        ("new Array(1e6).fill('xxxxxx')", "RangeError"),
    ],
)
async def test_what_is_too_large_fails(expression: str, name: str) -> None:
    async with evaluator(limit_s=AT_MOST_S) as it:
        assert (await failure(it, expression)).name == name
        assert await it.evaluate("1 + 1", {}) == 2


async def test_a_slow_expression_delays_nobody() -> None:
    async with evaluator(limit_s=AT_MOST_S, processes=2) as it, trio.open_nursery() as nursery:
        await it.evaluate("1 + 1", {})
        nursery.start_soon(it.evaluate, "(() => { while (true) {} })()", {})
        while it.process_count < 2:
            with trio.fail_after(AT_MOST_S):
                assert await it.evaluate("1 + 1", {}) == 2
        for number in range(20):
            assert await it.evaluate("flow_input + 1", {"flow_input": number}) == number + 1
        nursery.cancel_scope.cancel()  # which ends it at once, long before its limit


async def test_further_expressions_wait() -> None:
    async with evaluator(limit_s=AT_MOST_S, processes=2) as it:
        answers: list[int] = []

        async def one(number: int) -> None:
            answers.append(await it.evaluate("flow_input * 2", {"flow_input": number}))

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(one, number)
        assert sorted(answers) == [2 * number for number in range(100)]
        assert it.process_count <= 2


async def test_a_process_that_was_killed_is_replaced() -> None:
    async with evaluator() as it:
        await it.evaluate("1 + 1", {})
        [child] = _children()
        os.kill(child, 9)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - it was killed
        assert await it.evaluate("1 + 2", {}) == 3
    assert child not in _children()


async def test_all_processes_end() -> None:
    async with evaluator() as it:
        await it.evaluate("1 + 1", {})
        assert _children()
    assert not _children()


async def test_a_process_that_grew_is_replaced() -> None:
    async with evaluator(limit_s=AT_MOST_S, memory_bytes=256 * MIB) as it:
        size = await it.evaluate(
            "(() => { globalThis.a = []; for (let i = 0; i < 1e7; i++) a.push(i); return a.length })()", {}
        )
        assert size == 10**7
        assert it.process_count == 0
        assert await it.evaluate("1 + 1", {}) == 2


async def test_idle_processes_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minwebhook.sandbox.computing._IDLE_S", 0.05)
    async with evaluator() as it:
        await it.evaluate("1 + 1", {})
        with trio.fail_after(AT_MOST_S):
            while it.process_count:  # noqa: ASYNC110 - there is no event for it
                await trio.sleep(0.01)


async def test_look_ups() -> None:
    asked: list[tuple[str, str]] = []

    async def look_up(function: str, argument: str) -> Any:
        asked.append((function, argument))
        await trio.lowlevel.checkpoint()
        if argument == "u/none":
            raise NotFound("variable u/none")
        return {"of": argument}

    async with evaluator() as it:
        assert await it.evaluate("variable('u/a')", {}, look_up=look_up) == {"of": "u/a"}
        assert it.process_count == 0
        assert (
            await it.evaluate("(await resource('u/' + 'b')).of + variable('u/c').of", {}, look_up=look_up) == "u/bu/c"
        )
        assert asked == [("variable", "u/a"), ("resource", "u/b"), ("variable", "u/c")]
        for expression in ("variable('u/none')", "[variable('u/none')]"):
            with pytest.raises(ExpressionError, match="Not found: variable u/none"):
                await it.evaluate(expression, {}, look_up=look_up)
        caught = "(() => { try { return variable('u/none') } catch (e) { return 'instead' } })()"
        assert await it.evaluate(caught, {}, look_up=look_up) == "instead"
        error = await failure(it, "variable('u/a')")
        assert error.message == "variable() cannot be used here"


async def test_an_evaluation_is_told_only_what_it_mentions() -> None:
    class Watched(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            read.add(name)
            return super().__getitem__(name)

    read: set[str] = set()
    context = Watched(flow_input=1, results=Watched(a=1, b=2, c=3), previous_result=5)
    async with evaluator() as it:
        assert await it.evaluate("results.a + flow_input", context) == 2
        assert read == {"results", "a", "flow_input"}
        assert await it.evaluate("Object.keys(results).length", context) == 3


ATTEMPTS = r"""
import _quickjs, ctypes, json, os, socket, sys
sys.path.insert(0, sys.argv[1])
from minwebhook.child import computing, kernel
computing.give_up_everything(64 << 20, sys.argv[2])
PROT_EXEC, libc = 4, ctypes.PyDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
outcomes = {}
for name, attempt in {
    "open": lambda: os.open("/etc/hostname", os.O_RDONLY),
    "list": lambda: os.listdir("/"),
    "write": lambda: os.open("/tmp/x", os.O_CREAT | os.O_WRONLY),
    "socket": lambda: socket.socket(),
    "fork": lambda: os.fork() or os._exit(0),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "kill": lambda: os.kill(os.getppid(), 0),
    "ptrace": lambda: kernel.system_call(101, 16, os.getppid(), 0, 0),
    "setuid": lambda: os.setresuid(0, 0, 0),
    "priority": lambda: os.nice(1),
    "execute": lambda: 1 / (libc.mmap(None, 4096, PROT_EXEC | 3, 0x22, -1, 0) != ctypes.c_void_p(-1).value),
    "send": lambda: socket.socket(fileno=int(sys.argv[3])).sendmsg([b"x"]),
}.items():
    try:
        attempt()
        outcomes[name] = "done"
    except BaseException as error:
        outcomes[name] = type(error).__name__
os.write(int(sys.argv[3]), json.dumps(outcomes).encode())
"""


def test_a_process_can_do_nothing_but_compute() -> None:
    """The parts that the helper is made of, with Python in the place of JavaScript."""
    ours, theirs = socket.socketpair()
    source = str(Path(minwebhook.__file__).parent.parent)
    with ours, theirs:
        code = ["-c", ATTEMPTS, source, packed_filter(insecure=False), str(theirs.fileno())]
        subprocess.run([sys.executable, *code], pass_fds=[theirs.fileno()], timeout=AT_MOST_S, check=False)
        theirs.close()
        outcomes = json.loads(ours.recv(4096))
    assert len(outcomes) == 12
    assert outcomes.pop("execute") == "ZeroDivisionError"
    assert set(outcomes.values()) == {"PermissionError"}


def _children() -> list[int]:
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in found if b"flows.helper" in Path(f"/proc/{pid}/cmdline").read_bytes()]
