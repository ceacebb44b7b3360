"""Runs a Python script: one job, or many for a dedicated worker.

A waiting child warms itself up by running dummy jobs through the very code that will run the real one, so that the page
faults of a fresh process are paid before the job arrives. The rules of ``main``'s arguments and result are Windmill's
(spec: scripts, Python).
"""

from __future__ import annotations

import base64
import datetime
import gc
import json
import marshal
import os
import re
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any, Final

from minwebhook.child import limits, values, wire, workspace
from minwebhook.child.environment import USUAL_VARIABLES, Environment
from minwebhook.child.transfer import read_frame, wait, write_all
from minwebhook.child.usage import used
from minwebhook.child.variables import USUAL

_FUNCTION_CALL: Final = "<function call>"  # what clients record for a default they cannot evaluate
_CO_VARKEYWORDS: Final = 0x08
_DATE_FORMATS: Final = ("%d-%m-%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d")
#: A type's name as text, alone or optional in one of the usual spellings.
_ANNOTATION_TEXT: Final = re.compile(
    r"""['"]?(?:(?:typing\.)?Optional\[(?:datetime\.)?(\w+)\]|(?:None\s*\|\s*)?(?:datetime\.)?(\w+)(?:\s*\|\s*None)?)['"]?"""
)
_NUL_ESCAPE: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
#: Iterables that are results and not streams.
_CONTAINERS: Final = (str, bytes, bytearray, memoryview, dict, list, tuple, set, frozenset, range)
_STREAM_MARK: Final = "WM_STREAM: "

#: A dummy job as like a real one as can be: what it touches, the real one finds mapped.
_WARM_UP_SOURCE: Final = b"""
import json

LIMIT = 10

class Item:
    def __init__(self, name):
        self.name = name

def helper(value, *, factor=2):
    return [value] * factor

def main(a: int = 0, b: str = "", when: str | None = None, **rest):
    items = [Item(str(number)) for number in range(LIMIT)]
    return {"a": a, "b": b, "rest": rest, "items": [item.name for item in items], "twice": helper(a)}
"""
_WARM_UP_ARGUMENTS: Final = b'{"a": [1, 2.5, "x", null, true], "b": "text", "e": {"f": "g", "h": [{"i": 1}, {"i": 2}]}}'
_WARM_UP_JOB: Final = wire.pack_job(
    wire.pack_header("warm/up", {name: value or "0123456789" * 4 for name, value in USUAL.items()}, stays=False),
    _WARM_UP_SOURCE,
    marshal.dumps(compile(_WARM_UP_SOURCE, "warm.py", "exec", dont_inherit=True)),
    _WARM_UP_ARGUMENTS,
)
_FIRST_WARM_UPS: Final = 32
#: Of this process, once it is laid out.
_ENVIRONMENT: Final = Environment()


class _ModuleFailed(Exception):
    """The script failed before ``main`` could be called: a syntax error, an import, module-level code."""


def prepare() -> None:
    """What can be done once for all children, before they are forked: every page not touched later is one shared."""
    # Descriptors 1 and 2 become the job's log in the child; the objects on top of them stay. The interpreter runs with -u:
    # nothing is buffered, so logs are live, in order, and nothing is lost when the process is killed.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    _ENVIRONMENT.lay_out()
    # So often that the interpreter has specialized the code, which its children would else do, each for itself.
    for _ in range(_FIRST_WARM_UPS):
        _warm_up()


def serve(fd: int, home: str) -> None:
    """Warms up, says ready, and runs jobs from socket ``fd``: one, or, when the job says that the process stays, many.

    ``home`` is the directory of its own that a job has, and is in.
    """
    _warm_up()
    # A script may need the collector, which the fork server runs without; what is there already is not garbage.
    gc.freeze()
    gc.enable()
    session = _Session(fd)
    if home != USUAL["HOME"]:
        os.environ.update(HOME=home, TMPDIR=home)
    session.send(wire.READY, b"")
    while session.run_one():
        pass


def _warm_up() -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, _WARM_UP_JOB)
    _Session(read_end, write_end).run_one(wait_for_end=False)
    del sys.modules["warm.up"]
    _SOURCES.clear()
    _ENVIRONMENT.set(USUAL_VARIABLES)
    os.close(read_end)
    os.close(write_end)


class _Session:
    """The jobs of one child, all of the same script."""

    def __init__(self, fd: int, out_fd: int | None = None) -> None:
        """Jobs come from ``fd``; what is said of them goes to ``out_fd``, or there, too."""
        self._fd = fd
        self._out_fd = fd if out_fd is None else out_fd
        self._job = wire.NO_JOB
        self._functions: Functions | None = None
        #: Processor time that was used before the job.
        self._cpu_s, _ = used()

    def run_one(self, *, wait_for_end: bool = True) -> bool:
        """Runs the next job. True if another one may come."""
        self._job, payload = read_frame(self._fd)
        packed_header, source, compiled, arguments_json, mask, imported = wire.unpack_job(payload)
        header = wire.unpack_header(packed_header)
        _ENVIRONMENT.set(header.variables)
        try:
            if header.limits:
                limits.apply(header.limits, stays=header.stays)
            arguments = values.loads(arguments_json)
            if mask:
                arguments = values.restore(arguments, values.loads(mask))
            if self._functions is None:
                if imported:
                    workspace.offer(values.loads(imported), _SOURCES)
                self._functions = Functions(self._load(header.path, source, compiled))
            entry = self._functions.find("preprocessor" if header.is_preprocessor else "main")
            if header.preprocess:
                arguments = self._functions.preprocess(arguments)
                self._send_value(wire.ARGUMENTS, *encode_result(arguments))
            result = entry.result(arguments, is_preprocessed=header.preprocess)
            kind, answer = wire.RESULT, encode_result(result)
        except _ModuleFailed as failure:
            self._exit_by(failure.__cause__)
        except BaseException as error:
            kind, answer = wire.ERROR, encode_error(error)
        _flush()
        self._send_value(kind, *answer, usage=self._usage())
        if header.stays:
            return True
        if wait_for_end:
            # The server ends this process after the answer is out: ending is work that nobody should wait for.
            wait(self._fd)
        return False

    def _load(self, path: str, source: bytes, compiled: bytes) -> types.ModuleType:
        name = module_name(path)
        file_name = f"{path or 'main'}.py"
        module = types.ModuleType(name)
        module.__file__ = file_name
        module.__package__ = name.rpartition(".")[0]
        sys.modules[name] = module
        _SOURCES[file_name] = source
        try:
            if compiled:
                code = marshal.loads(compiled)  # noqa: S302 - made by this very function for this very script
            else:
                code = compile(source, file_name, "exec", dont_inherit=True)
                self.send(wire.CODE, marshal.dumps(code))
            exec(code, module.__dict__)  # noqa: S102 - the purpose of this process
        except BaseException as error:
            raise _ModuleFailed from error
        return module

    def _exit_by(self, error: BaseException | None) -> None:
        """Ends like an interpreter whose script failed at import: traceback on stderr, exit code 1. Never returns."""
        code = 1
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
            if isinstance(error.code, str):
                print(error.code, file=sys.stderr)
        elif error is not None:
            _fill_line_cache()
            shown = traceback.TracebackException.from_exception(error)
            _leave_own_frames(shown)
            shown.print(file=sys.stderr)
        _flush()
        os._exit(code & 0xFF)

    def _usage(self) -> bytes:
        """The frame that says what the job used; the next one counts from here."""
        before = self._cpu_s
        self._cpu_s, peak_kib = used()
        return wire.frame(wire.USAGE, wire.pack_usage(self._cpu_s - before, peak_kib), self._job)

    def _send_value(self, kind: bytes, text: bytes, mask: bytes, usage: bytes = b"") -> None:
        """One value as JSON text, behind its mask if it has one, and behind the frame ``usage``."""
        if mask:
            self.send(wire.MASK, mask)
        write_all(self._out_fd, usage + wire.frame(kind, text, self._job))

    def send(self, kind: bytes, payload: bytes) -> None:
        """Writes one frame whole."""
        write_all(self._out_fd, wire.frame(kind, payload, self._job))


#: Sources by file name, for tracebacks only.
_SOURCES: Final[dict[str, bytes]] = {}
#: Of stacks: what scripts are called by, and by way of.
_OURS: Final = os.path.dirname(__file__) + os.sep  # noqa: PTH120 - pathlib is dear to import
_LIBRARY: Final = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120
_INSTALLED: Final = os.path.join(_LIBRARY, "site-packages", "")  # noqa: PTH118
_IMPORTLIB: Final = "<frozen importlib"


def _frames(stack: traceback.StackSummary) -> traceback.StackSummary:
    """Those of the script and of what it calls: none of ours, nor of what stands between (json, asyncio)."""
    kept = [each for each in stack if not each.filename.startswith(_OURS)]
    while kept and _is_of_python(kept[0].filename):
        del kept[0]
    return traceback.StackSummary.from_list([each for each in kept if not each.filename.startswith(_IMPORTLIB)])


def _is_of_python(filename: str) -> bool:
    return filename.startswith("<frozen ") or (filename.startswith(_LIBRARY) and not filename.startswith(_INSTALLED))


def _leave_own_frames(shown: traceback.TracebackException) -> None:
    """Leaves the frames of scripts in it, and in what led to it."""
    pending = [shown]
    while pending:
        each = pending.pop()
        each.stack = _frames(each.stack)
        pending += [
            other for other in (each.__cause__, each.__context__, *(each.exceptions or ())) if other is not None
        ]


def _fill_line_cache() -> None:
    import linecache  # noqa: PLC0415 - only a failing script needs it

    for name, source in _SOURCES.items():
        text = source.decode("utf-8", "replace")
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is sys.__stdout__ or stream is sys.__stderr__:
            continue  # unbuffered
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue  # the script closed or replaced it


def module_name(path: str) -> str:
    """The import name of a script path: ``u/bot/my-script`` is ``u.bot.my_script``."""
    parts = workspace.module_parts(path or "tmp")
    parts[-1] = parts[-1].lower()
    return ".".join(parts)


class Functions:
    """The entry points of a script: ``main``, and ``preprocessor`` if it is called."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module
        self._known: dict[str, Function] = {}

    def find(self, name: str) -> Function:
        """One of them. Raises :class:`ValueError` if it is missing."""
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = Function(self._module, name)
        return found

    def preprocess(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """What ``preprocessor`` makes of the request: the arguments of ``main``."""
        made = self.find("preprocessor").call(arguments)
        if not isinstance(made, dict):
            raise TypeError(f"preprocessor must return a dict, the arguments of main, not {type(made).__name__}")
        return made


class Function:
    """A function of a script, and what its signature says about arguments."""

    def __init__(self, module: types.ModuleType, name: str) -> None:
        function: Any = getattr(module, name, None)
        if not callable(function):
            raise ValueError(f"{name} function is missing")
        self._call: Callable[..., Any] = function
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        code = getattr(function, "__code__", None)
        if code is None:  # a callable object: it takes what there is
            self._declared: tuple[str, ...] = ()
            self._takes_others = True
            return
        names = code.co_varnames
        count = code.co_argcount
        self._declared = names[: count + code.co_kwonlyargcount]
        self._positional_only = names[: code.co_posonlyargcount]
        defaults = function.__defaults__ or ()
        self._defaults = {
            **dict(zip(names[count - len(defaults) : count], defaults, strict=True)),
            **(function.__kwdefaults__ or {}),
        }
        self._annotations = getattr(function, "__annotations__", {})
        self._takes_others = bool(code.co_flags & _CO_VARKEYWORDS)

    def call(self, arguments: dict[str, Any], *, converts: bool = True, streams: bool = False) -> Any:
        """Calls the function with the arguments it declares, awaits it if it is async, and gives its result.

        With ``streams``, an async iterable is streamed in the loop in which it was made; the result is None then.
        """
        positional, keywords = self.bind(arguments, converts=converts)
        result = self._call(*positional, **keywords)
        if isinstance(result, types.CoroutineType) or (streams and hasattr(result, "__aiter__")):
            import asyncio  # noqa: PLC0415 - dear, and only async scripts need it

            result = asyncio.run(_settle(result, streams=streams))
        return result

    def result(self, arguments: dict[str, Any], *, is_preprocessed: bool = False) -> Any:
        """What the job gives, or None if that is streamed. What a preprocessor made is passed on as it is."""
        result = self.call(arguments, converts=not is_preprocessed, streams=True)
        if hasattr(result, "__iter__") and not isinstance(result, _CONTAINERS) and not _is_frame(result):
            return _stream(result)
        return result

    def bind(self, arguments: dict[str, Any], *, converts: bool = True) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments of the call.

        Missing or null arguments leave a default in place; without a default they are None. Undeclared ones are
        dropped unless there is ``**kwargs``. With ``converts``, values become bytes, datetime or date where the
        annotation says so.
        """
        keywords: dict[str, Any] = {}
        if self._takes_others:
            keywords = {name: value for name, value in arguments.items() if name not in self._declared}
        positional: list[Any] = []
        for name in self._declared:
            value = arguments.get(name)
            if value is None or value == _FUNCTION_CALL:
                if name in self._defaults and name not in self._positional_only:
                    continue
                value = self._defaults.get(name)
            elif converts and name in self._annotations:
                value = self._converted(name, value)
            if name in self._positional_only:
                positional.append(value)
            else:
                keywords[name] = value
        return positional, keywords

    def _converted(self, name: str, value: Any) -> Any:
        try:
            return convert(value, self._annotations[name])
        except ValueError as error:
            raise ValueError(f"argument {name}: {error}") from None


def convert(value: Any, annotation: Any) -> Any:
    """``value`` as bytes, datetime or date where the annotation asks for it; ``Optional`` is looked through."""
    if annotation is None or not isinstance(value, str):
        return value
    if isinstance(annotation, str):  # as with "from __future__ import annotations"
        match = _ANNOTATION_TEXT.fullmatch(annotation)
        annotation = match and (match[1] or match[2])
    else:
        members = [member for member in getattr(annotation, "__args__", ()) if member is not type(None)]
        if len(members) == 1 and type(None) in annotation.__args__:
            annotation = members[0]
    if annotation in (bytes, "bytes"):
        return base64.b64decode(value, validate=True)
    if annotation in (datetime.datetime, "datetime"):
        return datetime.datetime.fromisoformat(value)
    if annotation in (datetime.date, "date"):
        return _parse_date(value)
    return value


def _parse_date(text: str) -> datetime.date:
    try:
        return datetime.datetime.fromisoformat(text).date()
    except ValueError:
        for form in _DATE_FORMATS:
            try:
                return datetime.datetime.strptime(text, form).date()
            except ValueError:
                continue
        raise


def _is_frame(value: Any) -> bool:
    return type(value).__name__ == "DataFrame"


def _stream(chunks: Any) -> None:
    """Prints each chunk of a generator's text; the server makes the result of them."""
    for chunk in chunks:
        _print_chunk(chunk)


async def _settle(result: Any, *, streams: bool) -> Any:
    """What a coroutine returns; an async iterable that ``streams`` is printed as :func:`_stream` does."""
    if isinstance(result, types.CoroutineType):
        result = await result
    if not streams or not hasattr(result, "__aiter__"):
        return result
    async for chunk in result:
        _print_chunk(chunk)
    return None


def _print_chunk(chunk: Any) -> None:
    if not isinstance(chunk, str):
        raise TypeError(f"a streaming main must yield str, not {type(chunk).__name__}")
    # In one write: print() would make two of it, and wake the server twice.
    sys.stdout.write(_STREAM_MARK + chunk.replace("\n", "\\n") + "\n")
    sys.stdout.flush()


def encode_result(value: Any) -> tuple[bytes, bytes]:
    """A result as compact JSON, and the mask that says where it holds byte strings (values.py); b"" for nowhere.

    What JSON does not know becomes its ``str()``, NaN and infinities become null.
    """
    if _is_frame(value):
        value = value.rows() if hasattr(value, "rows") else value.values.tolist()
    encoder = _Encoder()
    try:
        try:
            text = encoder.encode(value)
        except ValueError as error:
            if "JSON compliant" not in str(error):
                raise
            text = encoder.encode(_without_nan(value))
    except (TypeError, ValueError, RecursionError) as error:
        if _frames(traceback.extract_tb(error.__traceback__)):
            raise  # the script's own, in what makes a text of something
        raise type(error)(f"the result cannot be written as JSON: {error}") from None
    if "\\u0000" in text:
        text = _NUL_ESCAPE.sub(r"\1", text)
    mask = _dump(values.mask_of(value)).encode() if encoder.met_bytes else b""
    return text.encode("utf-8", "replace"), mask


class _Encoder:
    """Notes whether there were byte strings: looking for them in every result would cost more than encoding it."""

    def __init__(self) -> None:
        self.met_bytes = False

    def encode(self, value: Any) -> str:
        return json.dumps(value, default=self._default, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    def _default(self, value: Any) -> str:
        if isinstance(value, values.BYTES):
            self.met_bytes = True
            return values.to_base64(value)
        return str(value)


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _without_nan(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(member) for member in value]
    return value


def encode_error(error: BaseException) -> tuple[bytes, bytes]:
    """The error object of an exception: message, name, stack below this file, and its attributes as ``extra``.

    As :func:`encode_result` gives it.
    """
    try:
        message = str(error)
    except Exception:
        message = "(the exception's text cannot be made)"
    report: dict[str, Any] = {"message": message, "name": type(error).__name__}
    try:
        _fill_line_cache()
        frames = _frames(traceback.extract_tb(error.__traceback__))
        report["stack"] = "\n".join(line.rstrip("\n") for line in frames.format())
        if extra := {key: member for key, member in vars(error).items() if not key.startswith("__")}:
            encode_result(extra)  # what cannot be shown is found out here
            report["extra"] = extra
    except Exception:
        report.setdefault("stack", "")
    return encode_result(report)
