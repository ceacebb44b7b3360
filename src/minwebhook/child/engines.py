"""Becomes bun, deno or node: the process that was forked and confined starts the program in its place.

The program runs ``javascript/run.mjs``, which warms itself up, says ready, and speaks on descriptor 3 as a Python child does.
"""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path
from typing import Any, Final, NoReturn

from minwebhook.child import limits
from minwebhook.child.confine import packages_of
from minwebhook.child.variables import USUAL

#: The file of a set of packages that says what it is, and, as ``environment``, what deno must be told to find it.
NOTE: Final = ".minwebhook.json"
#: What the file is called in which deno keeps what it has compiled, before its version.
CODE_CACHE: Final = "v8_code_cache_v"
RESERVED_BYTES: Final = limits.RESERVED_BYTES
_MEBIBYTE: Final = 1024 * 1024

_ENVIRONMENT: Final = {
    # In the thread that waits for it: handing a file to another one and back takes longer than reading most scripts.
    "bun": {"DO_NOT_TRACK": "1", "BUN_FEATURE_FLAG_DISABLE_ASYNC_TRANSPILER": "1"},
    "deno": {"DENO_NO_UPDATE_CHECK": "1", "DENO_NO_PROMPT": "1", "NO_COLOR": "1"},
    "nodejs": {},
}


#: The runtimes that are started here.
ENGINES: Final = frozenset(_ENVIRONMENT)


def become(engine: str, plan: dict[str, Any], home: str) -> NoReturn:
    """Replaces this process. Raises OSError if the program cannot be started. Descriptor 3 is the job's socket."""
    engines: dict[str, str] = plan["engines"]
    environment = {**USUAL, "HOME": home, "TMPDIR": home, **_ENVIRONMENT[engine]}
    if engine == "deno":
        environment["DENO_DIR"] = f"{home}/.deno"
    if packages := packages_of(plan):
        environment |= _offer(packages, engine, home)
    flags = _FLAGS[engine](plan, home)
    if engine == "deno" and not _copy_code_cache(engines.get("code_cache", ""), home):
        flags.append("--no-code-cache")  # to write it for one process costs more than it gives
    limit_data(plan)
    os.set_inheritable(3, True)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    script = f"{engines['javascript']}/run.mjs"
    os.execve(engines[engine], [engine, *flags, script], environment)  # noqa: S606


def _offer(packages: str, engine: str, home: str) -> dict[str, str]:
    """Puts links to installed packages where the engine looks for them; the variables that it needs besides.

    Only the links are in the job's own directory, so that deno can write there what it found out about modules.
    """
    if engine != "deno":
        Path(home, "node_modules").symlink_to(f"{packages}/node_modules")
        return {}
    Path(home, ".deno").mkdir()
    for name in ("npm", "remote"):
        if Path(packages, "deno", name).is_dir():
            Path(home, ".deno", name).symlink_to(f"{packages}/deno/{name}")
    variables: dict[str, str] = json.loads(Path(packages, NOTE).read_text()).get("environment", {})
    return variables


def _copy_code_cache(place: str, home: str) -> bool:
    """Gives deno its own copy of what it has compiled of itself, if that is there (runtimes/code_cache.py)."""
    try:
        found = [each for each in Path(place).iterdir() if each.name.startswith(CODE_CACHE)] if place else []
        for file in found:
            Path(home, ".deno").mkdir(exist_ok=True)
            Path(home, ".deno", file.name).write_bytes(file.read_bytes())
    except OSError:
        return False  # without namespaces its user may not see it
    return bool(found)


def limit_data(plan: dict[str, Any]) -> None:
    """Bounds the memory. Engines reserve more addresses than there is memory anywhere, so these cannot be what is bounded."""
    soft, hard = (count + RESERVED_BYTES for count in plan["memory_bytes"])
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def limit(pid: int, text: str) -> None:
    """Sets limits of a waiting process (limits.py). The server looks at its processor time, some of which it has used."""
    for name, value in limits.parse(text).items():
        if name == "AS":
            resource.prlimit(pid, resource.RLIMIT_DATA, (value + RESERVED_BYTES, value + RESERVED_BYTES))
        elif name != "CPU":
            resource.prlimit(pid, getattr(resource, f"RLIMIT_{name}"), (value, value))


def _heap(plan: dict[str, Any]) -> str:
    """What V8 may use for objects at most; the limit of a job is the kernel's, and lower."""
    return f"--max-old-space-size={plan['memory_bytes'][1] // _MEBIBYTE}"


def _bun(_plan: dict[str, Any], _home: str) -> list[str]:
    return ["--no-install", "--smol"]


def _node(plan: dict[str, Any], _home: str) -> list[str]:
    return [_heap(plan), "--experimental-transform-types", "--no-warnings=ExperimentalWarning"]


def _deno(plan: dict[str, Any], home: str) -> list[str]:
    """Nothing is granted that the sandbox refuses; what it lets through, the program itself refuses once more."""
    reachable = f"=127.0.0.1:{plan['api_port']}" if plan["network"] == "none" else ""
    packages = packages_of(plan)
    modules = (
        ["--cached-only", "--allow-import", f"--lock={packages}/deno.lock", "--frozen"]
        if packages
        else ["--no-lock", "--no-remote"]
    )
    return [
        "run",
        "--quiet",
        "--no-prompt",
        "--no-check",
        "--no-config",
        *modules,
        f"--v8-flags={_heap(plan)}",
        "--allow-env",
        f"--allow-net{reachable}",
        "--allow-read",
        f"--allow-write={home},/dev/null",
        "--allow-run",
        "--allow-sys",
        "--deny-ffi",
    ]


_FLAGS: Final = {"bun": _bun, "deno": _deno, "nodejs": _node}
