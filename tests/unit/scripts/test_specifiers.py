"""What TypeScript imports, and locks of it. Pure."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import BadRequest
from minwebhook.scripts.locks import first_lock, lock_of, modules_wanted, needed_lock, texts_of
from minwebhook.scripts.module_locks import npm_dependencies
from minwebhook.scripts.specifiers import (
    MAX_SCANNED,
    deno_requirements,
    imported_specifiers,
    named_apart,
    npm_requirements,
)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import a from 'x';import{b}from\"y\";import * as c from 'z'", ["x", "y", "z"]),
        ("import 'x'; export * from 'y'; export { a as b, } from 'z'", ["x", "y", "z"]),
        ("import a, {\n  b, // from 'no'\n  c as d /* from 'no' */\n} from\n'x'", ["x"]),
        ("await import('x'); require(\"y\"); import z = require('z'); import('w', { with: {} })", ["x", "y", "z", "w"]),
        ("import type { A } from 'no'; export type { B } from 'no'; import type C from 'no'", []),
        ("import type from 'x'; import type, { A } from 'y'; import { type B, c } from 'z'", ["x", "y", "z"]),
        ("// import 'no'\n/* import 'no' */ 'import \"no\"'; \"import 'no'\"; `import 'no'`", []),
        ("const a = `${ `${ await import('x') }` } import 'no'`; import 'y'", ["x", "y"]),
        ("const a = `${ { b: '}' }.b } import 'no'`; import 'y'", ["y"]),
        ("const a = /'/; import 'x'; const b = c / d; import 'y'; f(/[/']`/g); import 'z'", ["x", "y", "z"]),
        ("x.import('no'); x.require('no'); import.meta.url; $import('no'); importer('no'); import(a)", []),
        ("export const from = 'no'; export function main() { return 'no' }; export default 'no'", []),
        ("import { 'a-b' as c } from 'x'", ["x"]),
        ("import {", []),
        ("import", []),
    ],
)
def test_what_is_imported(code: str, found: list[str]) -> None:
    assert list(imported_specifiers(code)) == found


@given(st.text(alphabet="import from'\"`${}/*\\\n(a;,", max_size=300))
def test_any_text_is_looked_through(text: str) -> None:
    assert all(specifier in text for specifier in imported_specifiers(text))


@pytest.mark.parametrize(
    "piece", ["import {", "`${", "import //\n", "/[[[", "import a/*", "import \t ", "export *", "`"]
)
def test_looking_takes_its_time_in_proportion(piece: str) -> None:
    """None of these takes minutes; the test would be stopped."""
    assert imported_specifiers("import " + piece * (MAX_SCANNED // len(piece))) == ()


@pytest.mark.parametrize(
    ("specifier", "requirement"),
    [
        ("lodash", "lodash@latest"),
        ("lodash/fp", "lodash@latest"),
        ("npm:lodash@4.17.21/fp.js", "lodash@4.17.21"),
        ("@scope/name@^1 || ~2/x", "@scope/name@^1 || ~2"),
        ("@scope/name", "@scope/name@latest"),
        ("node:fs", None),
        ("fs/promises", None),
        ("bun:sqlite", None),
        ("./x.ts", None),
        ("/f/x/y.ts", None),
    ],
)
def test_packages_of_npm(specifier: str, requirement: str | None) -> None:
    assert npm_requirements(f"import '{specifier}'") == (() if requirement is None else (requirement,))


@pytest.mark.parametrize("specifier", ["https://x/y.ts", "jsr:@a/b", "a@file:b", "a@git+ssh:x", "@/x", "..x", "a b"])
def test_what_is_no_package_of_npm(specifier: str) -> None:
    if specifier.startswith("."):
        assert npm_requirements(f"import '{specifier}'") == ()
        return
    with pytest.raises(BadRequest, match="send the name of a package of npm"):
        npm_requirements(f"import '{specifier}'")


def test_modules_of_deno() -> None:
    good = [
        "npm:lodash@4/fp",
        "npm:@a/b",
        "jsr:@std/encoding@1/base64",
        "https://deno.land/x/a@1/mod.ts",
        "http://a/b?c=d",
    ]
    code = "".join(f"import '{each}';" for each in [*good, "node:fs", "./x.ts", "/f/a/b.ts"])
    assert deno_requirements(code) == tuple(sorted(good))
    for bad in ("lodash", "@std/x", "npm:a b", "fs", "npm:../x"):
        with pytest.raises(BadRequest, match="deno takes npm:name"):
            deno_requirements(f"import '{bad}'")


def test_a_script_and_its_imports_may_have_several_versions_of_a_package() -> None:
    assert modules_wanted("npm", ["import 'a'; import 'b@1'", "import 'a@2'; import 'b@1'"]) == ("a@2", "b@1")
    several = modules_wanted(
        "npm", ["import 'a@^2'; import 'a'", "import '@s/c@1'; import '@s/c@1 || 2'", "import 'a@1'"]
    )
    assert several == ("@s/c--1~20~7c~7c~202@npm:@s/c@1 || 2", "@s/c@1", "a--1@npm:a@1", "a@^2")
    assert npm_dependencies(several) == {
        "@s/c--1~20~7c~7c~202": "npm:@s/c@1 || 2",
        "@s/c": "1",
        "a--1": "npm:a@1",
        "a": "^2",
    }
    assert modules_wanted("deno", ["import 'npm:a@1'", "import 'npm:a@2'"]) == ("npm:a@1", "npm:a@2")


@given(st.tuples(*(st.text(alphabet="01.^~<>=|*+ _-x", min_size=1, max_size=5) for _ in range(2))))
def test_two_ranges_never_have_one_name(ranges: tuple[str, str]) -> None:
    first, second = (named_apart("a", each) for each in ranges)
    assert (first == second) is (ranges[0] == ranges[1])


@pytest.mark.parametrize("language", ["bun", "bunnative", "nativets", "deno"])
def test_first_locks(language: str) -> None:
    assert first_lock(language, "import fs from 'node:fs'; import './x.ts'; export const main = () => 1") == ""
    assert first_lock(language, "import 'npm:a@1'") is None
    assert first_lock(language, "import 'data:,x'; import 'a:b'") is None
    assert first_lock("bash", "import 'npm:a@1'") == ""


_ENTRY = [
    "inner@1.5.0",
    "https://elsewhere/x.tgz",
    {"dependencies": {"a": "1"}, "bin": "../../x", "os": "linux"},
    "sha512-x=",
]


def bun_lock(packages: object, wanted: object = None) -> str:
    head = {"dependencies": wanted or {"inner": "^1"}, "trustedDependencies": ["inner"], "scripts": {"install": "evil"}}
    return f"{orjson.dumps(head).decode()}\n//bun.lock\n{orjson.dumps({'packages': packages}).decode()}"


def test_of_a_lock_of_bun_only_names_versions_and_checksums_are_kept() -> None:
    text = bun_lock({"inner": _ENTRY}).replace('"sha512-x="]', '"sha512-x=",],')
    wanted, file = texts_of("bun", text)
    assert wanted == "inner@^1"
    shown = orjson.loads(file)
    assert shown["packages"] == {"inner": ["inner@1.5.0", "", {"dependencies": {"a": "1"}, "os": "linux"}, "sha512-x="]}
    assert shown["workspaces"] == {"": {"dependencies": {"inner": "^1"}}}
    assert texts_of("bun", lock_of("npm", (wanted, file), "")) == (wanted, file)


@pytest.mark.parametrize(
    ("packages", "wanted"),
    [
        ({"inner": ["inner@file:/etc", "", {}, ""]}, None),
        ({"inner": ["inner@github:a/b", {}, "x"]}, None),
        ({"inner": ["../x@1.0.0", "", {}, ""]}, None),
        ({"../inner": ["inner@1.0.0", "", {}, ""]}, None),
        ({"a/../../b": ["inner@1.0.0", "", {}, ""]}, None),
        ({"inner": ["inner@1.0.0", "", {}, "sha512-x y"]}, None),
        ({"inner": "inner@1.0.0"}, None),
        ([], None),
        ({}, {"inner": "file:/etc"}),
        ({}, {"inner": "npm:inner@file:/etc"}),
        ({}, {"inner": "npm:../inner@1"}),
        ({}, {"inner": "https://x/y.tgz"}),
        ({}, {"../inner": "1"}),
        ({}, {"inner": 1}),
        ({}, ["inner"]),
    ],
)
def test_a_lock_of_bun_that_is_refused(packages: object, wanted: object) -> None:
    with pytest.raises(BadRequest, match="the lock"):
        texts_of("bun", bun_lock(packages, wanted))


def test_locks_that_ask_for_nothing_and_those_of_others() -> None:
    assert needed_lock("bun", '{"dependencies": {}}\n//bun.lock\n<empty>') == ""
    assert needed_lock("deno", '{"imports": []}\n//deno.lock\n{}') == ""
    assert needed_lock("bun", None) is None
    with pytest.raises(BadRequest, match="earlier format"):
        texts_of("bun", "{}\n//bun.lockb\nAAAA")
    with pytest.raises(BadRequest, match="pins none of them"):
        texts_of("bun", '{"dependencies": {"a": "1"}}\n//bun.lock\n<empty>')
    for language, text in (("bun", "x"), ("deno", "{}"), ("deno", '{"imports": ["lodash"]}\n//deno.lock\n{}')):
        with pytest.raises(BadRequest, match="the lock"):
            texts_of(language, text)


def test_of_a_lock_of_deno_addresses_of_packages_are_left_out() -> None:
    about = {"integrity": "sha512-x", "tarball": "https://elsewhere/x.tgz"}
    found = {"version": "5", "npm": {"a@1.0.0": about}, "workspace": {"links": {}}, "remote": {"https://x/y.ts": "1"}}
    text = f'{{"imports": ["npm:a@1"]}}\n//deno.lock\n{orjson.dumps(found).decode()}'
    wanted, file = texts_of("deno", text)
    assert wanted == "npm:a@1"
    assert orjson.loads(file) == {
        "version": "5",
        "npm": {"a@1.0.0": {"integrity": "sha512-x"}},
        "remote": {"https://x/y.ts": "1"},
    }


def deno_lock(**found: object) -> str:
    return f'{{"imports": ["npm:a@1"]}}\n//deno.lock\n{orjson.dumps(found).decode()}'


@pytest.mark.parametrize("part", ["npm", "jsr"])
@pytest.mark.parametrize(
    "key",
    (
        *("../../../uv/secret@1.0.0", "../x@data", "x@../../../uv/secret/data", "x@1.0.0/../../y", "/etc@1.0.0"),
        *("x@1.0.0_../../y@1.0.0", "@a/../../b@1.0.0", "@../a@1.0.0", "..@1.0.0"),
        *("a\0b@1.0.0", "a@1.0.0\0", "a@*", "a", ""),
    ),
)
def test_names_in_a_lock_of_deno_that_would_lead_elsewhere_are_refused(part: str, key: str) -> None:
    with pytest.raises(BadRequest, match=f"in {part} is no package") as caught:
        texts_of("deno", deno_lock(**{part: {key: {}}}))
    assert repr(key) in str(caught.value)


@pytest.mark.parametrize(
    "found",
    [
        {"npm": {"a@1.0.0": {"optionalDependencies": ["../../../uv/secret@1.0.0"]}}},
        {"npm": {"a@1.0.0": {"dependencies": {"b": "1.0.0"}}}},
        {"specifiers": {"npm:../../x@1": "1.0.0"}},
        {"specifiers": {"npm:a@1": "../1.0.0"}},
        {"remote": {"file:///etc/passwd": "00"}},
        {"redirects": {"../x": "https://a.test/x.ts"}},
        {"remote": []},
        {"jsr": {"@a/b@1.0.0": "x"}},
    ],
)
def test_other_parts_of_a_lock_of_deno_that_are_refused(found: dict[str, object]) -> None:
    with pytest.raises(BadRequest, match="the lock"):
        texts_of("deno", deno_lock(**found))


def test_names_in_a_lock_of_deno_as_deno_writes_them() -> None:
    found = {
        "specifiers": {"npm:@team/a@^1.0": "1.0.0_@team+peer@2.0.0-rc.1__deep@1.0.0", "jsr:@team/jay@1": "1.2.0"},
        "jsr": {"@team/jay@1.2.0": {"integrity": "00", "dependencies": ["jsr:@std/x@^1.0.1", "npm:a@1"]}},
        "npm": {
            "@team/a@1.0.0_@team+peer@2.0.0-rc.1__deep@1.0.0": {
                "integrity": "sha512-x=",
                "dependencies": ["b", "c@1.0.0", "d@npm:@other/d@1.0.0"],
                "optionalPeers": ["@types/e@>=1 <3"],
                "os": ["!win32"],
                "bin": True,
            }
        },
        "redirects": {"https://a.test/x": "https://a.test/x.ts"},
        "remote": {"https://a.test/x.ts?a=1": "00"},
    }
    assert orjson.loads(texts_of("deno", deno_lock(**found))[-1]) == found


@given(st.sampled_from(["bun", "deno"]), st.text(max_size=200), st.sampled_from(["bun", "deno"]), st.text(max_size=200))
def test_any_text_is_a_lock_or_refused(language: str, head: str, kind: str, tail: str) -> None:
    for lock in (head, f"{head}\n//{kind}.lock\n{tail}", f'{{"dependencies":{{"a":"1"}}}}\n//{kind}.lock\n{tail}'):
        try:
            texts_of(language, lock)
        except BadRequest:
            continue
