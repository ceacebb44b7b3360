"""All probes, the scripts that run them in each language, and how what was seen is judged.

Most probes are Python functions. In a job of Python they run in its own process; a job of any other language starts the
Python interpreter, so that they run in the sandbox as that language's processes find it. A few are scripts of bash, or of
the engines of JavaScript.
"""

from __future__ import annotations

import base64
import dataclasses
import inspect
import json
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from minwebhook.sandbox.probes import (
    bash,
    channel,
    files,
    inside,
    javascript,
    network,
    privileges,
    processes,
    resources,
    state,
    surface,
)
from minwebhook.sandbox.probes.inside import BROKEN, HELD, NOT_APPLICABLE, THROUGH, Facts, Outcome, Terms

_MODULES: Final[dict[str, ModuleType]] = {
    "files": files,
    "processes": processes,
    "privileges": privileges,
    "kernel": surface,
    "network": network,
    "state": state,
    "resources": resources,
    "channel": channel,
}

#: Loads the modules that come as text and calls one function of the last, or many of all, each in a process of its own.
_LOADER: Final = """
import json, os, sys, types

def main(modules, function, facts):
    for name, text in modules.items():
        module = sys.modules[name] = types.ModuleType(name)
        exec(compile(text, name, "exec"), module.__dict__)
    facts = sys.modules["minwebhook.sandbox.probes.inside"].Facts(**facts)
    if isinstance(function, str):
        return getattr(sys.modules[name], function)(facts)
    return {each: apart(getattr(sys.modules[name], each), facts) for each, name in function.items()}

def apart(function, facts):
    outcome = "outcome.json"  # a pipe would be a descriptor that probes find
    if not (pid := os.fork()):
        try:
            value = function(facts)
        except BaseException as error:
            value = repr(error)
        with open(outcome, "w") as file:
            json.dump(value, file)
        os._exit(0)
    os.waitpid(pid, 0)
    try:
        with open(outcome) as file:
            return json.load(file)
    finally:
        os.unlink(outcome)
"""
#: The same for an interpreter that was started by a job of another language.
_PROGRAM: Final = (
    "import json\n"
    "arguments = json.load(open('args.json'))\n"
    f"exec({_LOADER!r})\n"
    "value = main(*(arguments[name] for name in ('modules', 'function', 'facts')))\n"
    "json.dump(value, open('result.json', 'w'))\n"
)

#: The same in the languages of JavaScript, whose jobs have no args.json and result.json.
_JAVASCRIPT: Final = f"""
import {{ execFileSync }} from "node:child_process";
import fs from "node:fs";

export function main({{ ...given }}) {{
  fs.writeFileSync("args.json", JSON.stringify(given));
  execFileSync(given.python, ["-I", "-S", "-c", {json.dumps(_PROGRAM)}], {{ stdio: "inherit" }});
  return JSON.parse(fs.readFileSync("result.json", "utf8"));
}}
"""
#: What a job of any other language has the interpreter run, with its arguments in args.json; on one line, in no quotes.
_COMMAND: Final = f"import base64; exec(base64.b64decode({base64.b64encode(_PROGRAM.encode()).decode()!r}))".replace(
    "'", '"'
)

#: How each language runs a probe: the source of a job.
STARTERS: Final[dict[str, str]] = {
    "python3": _LOADER,
    # args.json and result.json are the job's own there.
    "bash": f'python="$1"\n"$python" -I -S - <<\'PROGRAM\'\n{_PROGRAM}PROGRAM\n',
    "bun": _JAVASCRIPT,
    "deno": _JAVASCRIPT,
    "nodejs": "//nodejs\n" + _JAVASCRIPT,
    "exec": (
        '#!/bin/bash\npython=$(sed \'s/.*"python": *"\\([^"]*\\)".*/\\1/\' args.json)\n'
        f"\"$python\" -I -S -c '{_COMMAND}'\n"
    ),
    "go": (
        'import (\n\t"encoding/json"\n\t"os"\n\t"os/exec"\n)\n\n'
        "func main(python string) (interface{}, error) {\n"
        f'\tcommand := exec.Command(python, "-I", "-S", "-c", `{_COMMAND}`)\n'
        "\tcommand.Stdout, command.Stderr = os.Stdout, os.Stderr\n"
        "\tif err := command.Run(); err != nil {\n\t\treturn nil, err\n\t}\n"
        '\ttext, err := os.ReadFile("result.json")\n\treturn json.RawMessage(text), err\n}\n'
    ),
    "perl": (
        "use JSON::PP;\n\nsub main {\n    my ($python) = @_;\n"
        f"    system($python, '-I', '-S', '-c', '{_COMMAND}') == 0 or die 'it failed';\n"
        "    open(my $file, '<', 'result.json') or die $!;\n    return decode_json(join '', <$file>);\n}\n"
    ),
    "php": (
        "<?php\nfunction main($python) {\n"
        f"    passthru(escapeshellarg($python) . ' -I -S -c ' . escapeshellarg('{_COMMAND}') . ' 2>&1');\n"
        "    return json_decode(file_get_contents('result.json'));\n}\n"
    ),
    "powershell": (
        f"param($python)\nSet-Content -Path probe.py -Value @'\n{_PROGRAM}\n'@\n"
        "& $python -I -S probe.py\nif ($LASTEXITCODE) { throw 'it failed' }\n"
    ),
    "ruby": (
        "require 'json'\n\ndef main(python)\n"
        f"  system(python, '-I', '-S', '-c', '{_COMMAND}', exception: true)\n"
        "  JSON.parse(File.read('result.json'))\nend\n"
    ),
}

#: Probes and categories that are not to run beside others: bombs, and what leaves processes behind.
_LOUD: Final = frozenset({"resources", "processes", "js_left_behind"})

#: A job that runs beside the probes and has what they look for: a file, a listener, a secret in memory and environment.
NEIGHBOR: Final = """
import contextlib, os, socket, time

def main(name, canary):
    secret = canary[::-1]
    os.environ["NEIGHBOR"] = secret
    with open(os.environ.get("TMPDIR", "/tmp") + "/" + name, "w") as file:
        file.write(secret)
    with contextlib.suppress(PermissionError):  # on the rung landlock there are no local sockets
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("\\0" + name)
        listener.listen()
    print("ready", flush=True)
    while True:
        time.sleep(1)
"""


_AS_IN_BASH: Final = "as in bash: the same root, namespaces and filter"
#: Languages that the whole corpus is run in. What confines bash confines the programs that run other languages, too.
_WHOLE: Final = ("python3", "bash")
#: What is run in those all the same: reading and writing outside, others' processes and secrets, rights, the network, bombs.
CORE: Final = frozenset(
    {
        *(
            "password_hashes",
            "server_data",
            "files_of_a_running_job",
            "environments_in_proc",
            "writable_mounts",
            "mount",
        ),
        *("write_programs", "see_others", "kill_all", "survivors", "raise_limits", "no_new_privileges", "become_root"),
        *("capabilities", "new_namespaces", "environment", "inherited_memory", "leaked_descriptors", "fork_bomb"),
        *("sockets_of_other_jobs", "tcp", "udp"),
    }
)


@dataclass(frozen=True, slots=True)
class Probe:
    """One attempt to get out."""

    name: str
    category: str
    #: What it tries, a phrase whose subject is the script.
    tries: str
    terms: Terms
    #: The script, if it is one of another language.
    script: str = ""

    def why_not(self, language: str, network: str) -> str:
        """Why it makes no sense for this language and policy; empty if it does."""
        if self.terms.languages and language not in self.terms.languages:
            return f"only in {', '.join(self.terms.languages)}"
        if language in inside.ENGINES and self.category != "javascript":
            return _AS_IN_BASH
        if language not in (*inside.ENGINES, *_WHOLE) and self.name not in CORE:
            return _AS_IN_BASH
        if self.terms.network and network != self.terms.network:
            return f"only with sandbox_network = {self.terms.network}"
        return ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the outside saw of a probe's job."""

    #: What the job gave, if it gave something.
    value: Any = None
    #: Why it gave nothing.
    error: str = ""
    #: What must not have happened: others that ended, processes that are left.
    damage: str = ""
    #: Whether the job was never run; ``error`` says why.
    is_unstarted: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the report."""

    probe: str
    category: str
    language: str
    tries: str
    outcome: str
    evidence: str

    @property
    def is_bad(self) -> bool:
        """Whether it says that the sandbox does not hold, or says nothing."""
        return self.outcome not in (HELD, NOT_APPLICABLE)


def _collect() -> Iterable[Probe]:
    for category, module in _MODULES.items():
        for name, function in vars(module).items():
            terms = getattr(function, "terms", None)
            if isinstance(terms, Terms) and function.__module__ == module.__name__:
                yield Probe(name, category, inspect.getdoc(function) or "", terms)
    for name, (tries, ending, policy, script) in bash.SCRIPTS.items():
        yield Probe(name, "shell", tries, Terms(languages=("bash",), network=policy, ending=ending), script)
    for name, (tries, ending, policy, script) in javascript.SCRIPTS.items():
        yield Probe(
            name, "javascript", tries, Terms(languages=javascript.LANGUAGES, network=policy, ending=ending), script
        )


#: The corpus.
PROBES: Final[tuple[Probe, ...]] = tuple(_collect())


def job(probe: Probe, language: str, facts: Facts, *, first: bool = False) -> tuple[str, dict[str, Any]]:
    """Source and arguments of the job that runs a probe, or its ``first`` part."""
    described = dataclasses.asdict(facts)
    if probe.category == "javascript":
        return javascript.source(language, probe.script), {"facts": described}
    if probe.script:
        return bash.PRELUDE + probe.script, {"facts": described}
    module = _MODULES[probe.category]
    arguments = {
        "modules": {each.__name__: inspect.getsource(each) for each in (inside, module)},
        "function": probe.terms.first if first else probe.name,
        "facts": described,
        "python": facts.python,
    }
    return STARTERS[language], arguments


def is_quiet(probe: Probe) -> bool:
    """Whether it ends nobody, uses up nothing and leaves nothing behind, and so can be one of many that one job runs."""
    terms = probe.terms
    return terms.ending == "report" and not terms.first and probe.category not in _LOUD and probe.name not in _LOUD


def jobs_of_many(probes: Iterable[Probe], language: str, facts: Facts) -> list[tuple[str, dict[str, Any]]]:
    """Sources and arguments of jobs that run all these, which are quiet. They give the outcomes by name."""
    described = dataclasses.asdict(facts)
    functions = {each.name: _MODULES[each.category].__name__ for each in probes if each.category in _MODULES}
    modules = {each.__name__: inspect.getsource(each) for each in (inside, *_MODULES.values())}
    arguments = {"modules": modules, "function": functions, "facts": described, "python": facts.python}
    jobs = [(STARTERS[language], arguments)] if functions else []
    scripts = {each.name: each.script for each in probes if each.category == "javascript"}
    if scripts:
        jobs.append((javascript.source_of_many(language, scripts), {"facts": described}))
    return jobs


def judge(probe: Probe, seen: Seen) -> Outcome:
    """What a probe's job says about the sandbox."""
    if seen.damage:
        return THROUGH, seen.damage
    if seen.is_unstarted:  # what nobody tried was held by nothing
        return BROKEN, seen.error
    value = seen.value
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value):
        return value[0], value[1][:400]
    if probe.terms.ending == "report":
        return BROKEN, seen.error or f"it gave {json.dumps(value)[:200]}"
    if seen.error or probe.terms.ending == "any":
        return HELD, (seen.error or "the job ended").strip().splitlines()[-1][:400]
    return BROKEN, f"it gave {json.dumps(value)[:200]}"


def finding(probe: Probe, language: str, outcome: Outcome) -> Finding:
    """A row of the report."""
    return Finding(probe.name, probe.category, language, probe.tries, *outcome)
