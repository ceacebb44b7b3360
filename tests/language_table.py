"""What every language must do, as data: cases, and for each language a script for each case.

A new language needs a :class:`Samples` here, in the style that its users write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

UNICODE: Final = "grüße, 世界 🌍"
NESTED: Final[dict[str, Any]] = {"a": [1, 2.5, None, True, {"b": []}], "ü": "x\ny"}
#: More than a double holds exactly.
BIG: Final = 9007199254740993


@dataclass(frozen=True)
class Case:
    """One run and what it must give. The script is the language's, of the name ``script``."""

    script: str
    arguments: Mapping[str, Any]
    result: Any


#: Scripts by what they do: ``join`` is ``main(b, a="d")`` and gives "<b>-<a>"; ``echo`` is ``main(x)`` and gives ``x``;
#: ``big`` gives the digits of ``x``, whose type holds them; ``stream`` streams; ``date`` gives the year of ``when``.
CASES: Final[dict[str, Case]] = {
    "arguments by name": Case("join", {"a": "1", "b": "2", "more": "3"}, "2-1"),
    "a default": Case("join", {"b": "2"}, "2-d"),
    "null leaves a default": Case("join", {"b": "2", "a": None}, "2-d"),
    "text": Case("echo", {"x": UNICODE}, UNICODE),
    "an empty text": Case("echo", {"x": ""}, ""),
    "a long text": Case("echo", {"x": "ü" * 100_000}, "ü" * 100_000),
    "quotes and the like": Case("echo", {"x": "'\"`$(x)\\%s\t"}, "'\"`$(x)\\%s\t"),
    "null": Case("echo", {"x": None}, None),
    "nothing sent": Case("echo", {}, None),
    "numbers": Case("echo", {"x": [0, -1, 1.5, 1e300]}, [0, -1, 1.5, 1e300]),
    "a big number": Case("echo", {"x": BIG}, BIG),
    "booleans": Case("echo", {"x": [True, False]}, [True, False]),
    "an object": Case("echo", {"x": NESTED}, NESTED),
    "streaming": Case("stream", {}, "ab\nc"),
    "a big number, typed": Case("big", {"x": BIG}, str(BIG)),
    "a date": Case("date", {"when": "2024-02-29T12:30:00Z"}, 2024),
}


@dataclass(frozen=True)
class Samples:
    """One language."""

    language: str
    #: Scripts by their names in :data:`CASES` and in the tests: ``fail`` raises "boom" in a function that main calls;
    #: ``log`` writes ``out UNICODE`` and ``err``; ``exit`` ends with code 3; ``sleep`` says "started" and sleeps for a
    #: minute; ``broken`` cannot be parsed; ``no_main`` has no main; ``environment`` gives the variable WM_WORKSPACE.
    scripts: Mapping[str, str]
    #: Cases that make no sense in the language, and why.
    without: Mapping[str, str] = field(default_factory=dict)
    #: The program that must be there.
    program: str = ""
    #: The ``name`` of the error of ``fail``; "" if all that is told is the exit code.
    error: str = ""
    #: What the stack of the error names.
    place: str = ""
    #: Its name, if scripts of one language are run in several ways.
    title: str = ""
    #: Whether the program is in none of the registries that tests install from.
    is_rare: bool = False

    @property
    def name(self) -> str:
        """For the names of tests and scripts."""
        return self.title or self.language


_TEXT_ONLY: Final = "arguments are texts"
_UNTYPED: Final = dict.fromkeys(
    ("null", "nothing sent", "numbers", "a big number", "booleans", "an object"), _TEXT_ONLY
)

_TYPESCRIPT: Final = {
    "join": "export function main(b: string, a = 'd') {\n  return `${b}-${a}`;\n}",
    "echo": "export function main(x: any) {\n  return x;\n}",
    "big": "export function main(x: bigint) {\n  return x;\n}",
    "stream": "export async function* main() {\n  yield 'a';\n  yield 'b\\n';\n  yield 'c';\n}",
    "date": "export function main(when: Date) {\n  return when.getUTCFullYear();\n}",
    "fail": "function inner() {\n  throw new RangeError('boom');\n}\n\nexport function main() {\n  inner();\n}",
    "log": f"export function main() {{\n  console.log('out {UNICODE}');\n  console.error('err');\n}}",
    "exit": "export function main() {\n  process.exit(3);\n}",
    "sleep": "export async function main() {\n  console.log('started');\n"
    "  await new Promise((resolve) => setTimeout(resolve, 60000));\n}",
    "broken": "export function main( {",
    "no_main": "export const x = 1;",
    "environment": "export function main() {\n  return process.env.WM_WORKSPACE;\n}",
}
_DOUBLES: Final = {
    "null leaves a default": "null is a value, undefined is none",
    "a big number": "numbers are doubles; a parameter of the type bigint holds it",
}

SAMPLES: Final[tuple[Samples, ...]] = (
    Samples(
        "python3",
        {
            "join": "def main(b, a='d'):\n    return f'{b}-{a}'",
            "echo": "def main(x):\n    return x",
            "big": "def main(x: int):\n    return str(x)",
            "stream": "def main():\n    yield 'a'\n    yield 'b\\n'\n    yield 'c'",
            "date": "from datetime import datetime\n\ndef main(when: datetime):\n    return when.year",
            "fail": "def inner():\n    raise KeyError('boom')\n\ndef main():\n    inner()",
            "log": f"import sys\n\ndef main():\n    print('out {UNICODE}')\n    print('err', file=sys.stderr)",
            "exit": "import os\n\ndef main():\n    os._exit(3)",
            "sleep": "import time\n\ndef main():\n    print('started')\n    time.sleep(60)",
            "broken": "def main(:",
            "no_main": "x = 1",
            "environment": "import os\n\ndef main():\n    return os.environ['WM_WORKSPACE']",
        },
        error="KeyError",
        place=".py",
    ),
    Samples("bun", _TYPESCRIPT, without=_DOUBLES, error="RangeError", place=".ts:2"),
    Samples("deno", _TYPESCRIPT, without=_DOUBLES, error="RangeError", place=".ts:2"),
    Samples(
        "bun",
        {name: f"//nodejs\n{code}" for name, code in _TYPESCRIPT.items()},
        without=_DOUBLES,
        error="RangeError",
        place=".ts:3",
        title="nodejs",
    ),
    Samples(
        "bash",
        {
            "join": 'b="$1"\na="${2:-d}"\necho "$b-$a"',
            "echo": 'x="$1"\nprintf "%s" "$x" > result.out',
            "big": 'x="$1"\necho "$x"',
            "stream": "echo 'WM_STREAM: a'\necho 'WM_STREAM: b\\n'\necho 'WM_STREAM: c'",
            "date": 'when="$1"\nprintf %s "${when%%-*}" > result.json',
            "fail": "echo boom >&2\nfalse",
            "log": f"echo 'out {UNICODE}'\necho err >&2",
            "exit": "exit 3",
            "sleep": "echo started\nsleep 60",
            "environment": 'echo "$WM_WORKSPACE"',
        },
        without={**_UNTYPED, "an empty text": "without a result.out the result is the last line"},
        program="bash",
    ),
    Samples(
        "exec",
        {
            "join": "#!/usr/bin/env perl\nuse JSON::PP;\nmy $x = decode_json(<STDIN>);\n"
            "print $x->{b}, '-', $x->{a} // 'd', \"\\n\";",
            "echo": "#!/usr/bin/env perl\nuse JSON::PP;\nmy $j = JSON::PP->new->utf8->allow_nonref;\n"
            "my $x = $j->decode(<STDIN>);\nopen(my $f, '>', 'result.json');\nprint {$f} $j->encode($x->{x});",
            "big": "#!/bin/sh\nsed 's/[^0-9]//g'",
            "stream": "#!/bin/sh\necho 'WM_STREAM: a'\nprintf '%s\\n' 'WM_STREAM: b\\n'\necho 'WM_STREAM: c'",
            "date": "#!/bin/sh\nsed 's/.*\"\\(....\\)-.*/\\1/' > result.json",
            "fail": "#!/bin/sh\necho boom >&2\nexit 1",
            "log": f"#!/bin/sh\necho 'out {UNICODE}'\necho err >&2",
            "exit": "#!/bin/sh\nexit 3",
            "sleep": "#!/bin/sh\necho started\nsleep 60",
            "broken": "#!/usr/bin/env perl\nsub main {",
            "environment": '#!/bin/sh\necho "$WM_WORKSPACE"',
        },
        program="perl",
    ),
    Samples(
        "perl",
        {
            "join": "use v5.36;\n\nsub main ($b, $a = 'd') {\n    return \"$b-$a\";\n}",
            "echo": "sub main {\n    my ($x) = @_;\n    return $x;\n}",
            "big": 'sub main {\n    my ($x) = @_;\n    return "$x";\n}',
            "stream": 'sub main {\n    my @chunks = ("a", "b\\n", "c");\n    return sub { shift @chunks };\n}',
            "date": "use Time::Piece;\n\nsub main {\n    my $when = shift;\n"
            "    return Time::Piece->strptime($when, '%Y-%m-%dT%H:%M:%SZ')->year;\n}",
            "fail": "package Boom { sub message { 'boom' } }\n\nsub inner { die bless {}, 'Boom' }\n\nsub main { inner() }",
            "log": f'sub main {{\n    print "out {UNICODE}\\n";\n    print STDERR "err\\n";\n    return undef;\n}}',
            "exit": "sub main { exit 3 }",
            "sleep": 'sub main { print "started\\n"; sleep 60 }',
            "broken": "sub main {",
            "no_main": "my $x = 1;",
            "environment": "sub main { return $ENV{WM_WORKSPACE} }",
        },
        program="perl",
        error="Boom",
        place="main.pl:3",
    ),
    Samples(
        "php",
        {
            "join": "<?php\nfunction main($b, $a = 'd') {\n    return \"$b-$a\";\n}",
            "echo": "<?php\nfunction main($x) {\n    return $x;\n}",
            "big": "<?php\nfunction main(int $x) {\n    return (string) $x;\n}",
            "stream": "<?php\nfunction main() {\n    yield 'a';\n    yield \"b\\n\";\n    yield 'c';\n}",
            "date": "<?php\nfunction main(DateTimeImmutable $when) {\n    return (int) $when->format('Y');\n}",
            "fail": "<?php\nfunction inner() { throw new DomainException('boom'); }\n\nfunction main() {\n    inner();\n}",
            "log": f'<?php\nfunction main() {{\n    echo \'out {UNICODE}\', "\\n";\n    fwrite(STDERR, "err\\n");\n}}',
            "exit": "<?php\nfunction main() { exit(3); }",
            "sleep": '<?php\nfunction main() { echo "started\\n"; sleep(60); }',
            "broken": "<?php\nfunction main( {",
            "no_main": "<?php\n$x = 1;",
            "environment": "<?php\nfunction main() { return getenv('WM_WORKSPACE'); }",
        },
        program="php",
        error="DomainException",
        place="main.php(2)",
    ),
    Samples(
        "ruby",
        {
            "join": "def main(b, a = 'd')\n  \"#{b}-#{a}\"\nend",
            "echo": "def main(x)\n  x\nend",
            "big": "def main(x)\n  x.to_s\nend",
            "stream": 'def main\n  ["a", "b\\n", "c"].each\nend',
            "date": "require 'time'\n\ndef main(when_: nil, **given)\n  Time.parse(given[:when]).year\nend",
            "fail": "def inner\n  raise IOError, 'boom'\nend\n\ndef main\n  inner\nend",
            "log": f"def main\n  puts 'out {UNICODE}'\n  warn 'err'\nend",
            "exit": "def main\n  exit 3\nend",
            "sleep": "def main\n  puts 'started'\n  sleep 60\nend",
            "broken": "def main(",
            "no_main": "x = 1",
            "environment": "def main\n  ENV['WM_WORKSPACE']\nend",
        },
        program="ruby",
        error="IOError",
        place="main.rb:2",
    ),
    Samples(
        "powershell",
        {
            "join": "param($b, $a = 'd')\n\"$b-$a\"",
            "echo": "param($x)\nConvertTo-Json -InputObject $x -Depth 20 -Compress | Set-Content result.json",
            "big": 'param([long] $x)\n"$x"',
            "stream": "'WM_STREAM: a'\n'WM_STREAM: b\\n'\n'WM_STREAM: c'",
            "date": "param([datetime] $when)\n$when.ToUniversalTime().Year | ConvertTo-Json | Set-Content result.json",
            "fail": "function inner { throw [System.IO.IOException]::new('boom') }\n\ninner",
            "log": f"'out {UNICODE}'\n[Console]::Error.WriteLine('err')",
            "exit": "exit 3",
            "sleep": "'started'\nStart-Sleep 60",
            "broken": "function {",
            "environment": "$env:WM_WORKSPACE",
        },
        program="pwsh",
        error="IOException",
        place="main.ps1",
        is_rare=True,
    ),
    Samples(
        "go",
        {
            "join": 'func main(b, a string) string {\n\treturn b + "-" + a\n}',
            "echo": "func main(x interface{}) (interface{}, error) {\n\treturn x, nil\n}",
            "big": 'import "strconv"\n\nfunc main(x int64) string {\n\treturn strconv.FormatInt(x, 10)\n}',
            "stream": 'import "fmt"\n\nfunc main() {\n\tfmt.Print("WM_STREAM: a\\nWM_STREAM: b\\\\n\\nWM_STREAM: c\\n")\n}',
            "date": 'import "time"\n\nfunc main(when time.Time) int {\n\treturn when.Year()\n}',
            "fail": 'import "errors"\n\nfunc main() error {\n\treturn errors.New("boom")\n}',
            "log": f'import (\n\t"fmt"\n\t"os"\n)\n\nfunc main() {{\n\tfmt.Println("out {UNICODE}")\n'
            '\tfmt.Fprintln(os.Stderr, "err")\n}',
            "exit": 'import "os"\n\nfunc main() {\n\tos.Exit(3)\n}',
            "sleep": 'import (\n\t"fmt"\n\t"time"\n)\n\nfunc main() {\n\tfmt.Println("started")\n'
            "\ttime.Sleep(time.Minute)\n}",
            "broken": "func main( {",
            "no_main": "var x = 1",
            "environment": 'import "os"\n\nfunc main() string {\n\treturn os.Getenv("WM_WORKSPACE")\n}',
        },
        without={
            **dict.fromkeys(("a default", "null leaves a default"), "the language has no defaults"),
            "a big number": "interface{} holds floats; a parameter of the type int64 holds it",
        },
        program="go",
    ),
)
