"""What is read off TypeScript before it runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import BadRequest
from minwebhook.scripts.imports import imported_paths
from minwebhook.scripts.model import Language, NewScript, is_script_path, split_extension
from minwebhook.scripts.typescript import entry_points, is_native, preprocessor_parameters


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("export function main() {}", {"main"}),
        ("export async function main() {}\nexport async function preprocessor(event) {}", {"main", "preprocessor"}),
        ("export const main = async () => 1", {"main"}),
        ("export async function* main() {}", {"main"}),
        ("export default function main() {}", {"main"}),
        ("function a() {}\nexport { a as main, preprocessor };", {"main", "preprocessor"}),
        ("export { main as other }", set()),
        ("function main() {}", set()),
        ("export function mainly() {}", set()),
        ("// export function main() {}", set()),
    ],
)
def test_entry_points(code: str, found: set[str]) -> None:
    assert entry_points(code) == found


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ("", ()),
        ("event", ("event",)),
        ("event: { kind: 'webhook', body: any }, b?: Map<string, number>", ("event", "b")),
        ("wm_trigger: any, // the old (kind\n body: any /* , x */ = { a: ')' }", ("wm_trigger", "body")),
        ("{ wm_trigger, body: b }: any", ("wm_trigger", "body")),
        ("...rest: any[]", ("rest",)),
        ("f: (x: number) => void, y = [1, 2]", ("f", "y")),
    ],
)
def test_parameters_of_a_preprocessor(parameters: str, names: tuple[str, ...]) -> None:
    code = f"import x from 'y';\nexport async function preprocessor({parameters}) {{ return {{}}; }}"
    assert preprocessor_parameters(code) == names


@given(st.text(alphabet="(){}[]<>,'\"`/*\\\n$= abc:.?", max_size=200))
def test_any_text_has_parameters_or_none(text: str) -> None:
    assert isinstance(preprocessor_parameters(f"function preprocessor({text}"), tuple)
    assert isinstance(entry_points(text), set)


def test_marks_and_endings() -> None:
    assert is_native("//native\n")
    assert is_native("\n// native")
    assert not is_native("//natively")
    assert not is_native("let a; //native")
    assert split_extension("u/a/b.ts") == ("u/a/b", Language.BUN)
    assert split_extension("u/a/b.deno.ts") == ("u/a/b", Language.DENO)
    assert split_extension("u/a/b.native.ts") == ("u/a/b", Language.NATIVETS)
    assert split_extension("u/a/b.js") is None


def test_what_a_new_version_is_found_to_be() -> None:
    body = {"path": "u/a/b", "summary": "", "description": "", "language": "bun", "content": "//native\nlet a;"}
    new = NewScript.parse(body)
    assert (new.language, new.no_main_func, new.has_preprocessor) == (Language.BUNNATIVE, True, None)
    body["content"] = "export function main() {}\nexport function preprocessor() {}"
    new = NewScript.parse(body)
    assert (new.language, new.no_main_func, new.has_preprocessor) == (Language.BUN, None, True)
    body["language"] = "typescript"
    with pytest.raises(BadRequest, match="this version runs python3, bash, bun"):
        NewScript.parse(body)


@pytest.mark.parametrize(
    ("code", "paths"),
    [
        ("import { a } from './b.ts';\nimport c from \"../../f/x/c.ts\";", ("u/me/b", "f/x/c")),
        ("export * from '/f/x/y/z.ts'; await import('/u/you/w.deno.ts');", ("f/x/y/z", "u/you/w")),
        ("import 'node:fs'; import x from 'lodash'; import y from 'npm:z'; import '@a/b';", ()),
        ("import './b'; import './b.json'; import '/etc/passwd.ts'; import '../../../../x.ts';", ()),
        ("import\n  type { A }\n  from\n  './b.ts'; import './b.ts'", ("u/me/b",)),
    ],
)
def test_which_scripts_are_imported(code: str, paths: tuple[str, ...]) -> None:
    assert imported_paths(Language.BUN, code, "u/me/script") == tuple((path,) for path in paths)


@given(st.text(max_size=300))
def test_any_text_imports_something_or_nothing(text: str) -> None:
    assert all(is_script_path(path) for (path,) in imported_paths(Language.BUN, f"import '{text}'", "u/me/x"))
