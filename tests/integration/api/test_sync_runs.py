"""Sync runs over real sockets: arguments in, results and error objects out."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.server import Client, Server

ECHO = "/jobs/run_wait_result/p/u/admin/echo"


@dataclass(frozen=True)
class Case:
    """A request to the echo script, and the arguments that the script must have got."""

    name: str
    expected: Any
    body: bytes | None = None
    method: str = "POST"
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def payload(value: Any) -> str:
    """What clients put into ``payload``: base64, percent-encoded."""
    text = base64.b64encode(json.dumps(value).encode()).decode()
    return text.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")


JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PLAIN = {"Content-Type": "text/plain"}

CASES = [
    Case("object", {"a": 1, "b": [None, True]}, b'{"a": 1, "b": [null, true]}', headers=JSON),
    Case("charset", {"a": 1}, b'{"a":1}', headers={"Content-Type": "application/json; charset=utf-8"}),
    Case("array", {"body": [1, 2]}, b"[1,2]", headers=JSON),
    Case("null", {"body": None}, b"null", headers=JSON),
    Case("string", {"body": "x"}, b'"x"', headers=JSON),
    Case("no type, JSON", {"a": 1}, b'{"a":1}'),
    Case("no type, no body", {}, b""),
    Case("no type, no body, raw", {"raw_string": ""}, b"", query="?raw=true"),
    Case("raw", {"a": 1, "raw_string": '{"a":1}'}, b'{"a":1}', query="?raw=true", headers=JSON),
    Case("raw wins over the body", {"raw_string": '{"raw_string":1}'}, b'{"raw_string":1}', query="?raw=true"),
    Case("wrap", {"body": {"a": 1}}, b'{"a":1}', query="?wrap_body=true", headers=JSON),
    Case("wrap wraps once", {"body": [1]}, b"[1]", query="?wrap_body=true", headers=JSON),
    Case("wrap and raw", {"body": {"a": 1}, "raw_string": '{"a":1}'}, b'{"a":1}', query="?wrap_body=true&raw=true"),
    Case("wrap an empty body", {"body": {}}, b"", query="?wrap_body=true"),
    Case("text", {"raw_string": "hello"}, b"hello", headers=PLAIN),
    Case("text and wrap", {"body": {}, "raw_string": "x"}, b"x", query="?wrap_body=true", headers=PLAIN),
    Case("xml", {"raw_string": "<a/>"}, b"<a/>", headers={"Content-Type": "application/xml"}),
    Case("form", {"a": "2", "b": "", "c d": "é"}, b"a=1&b=&a=2&c+d=%C3%A9", headers=FORM),
    Case("bare form key", {"a": ""}, b"a", headers=FORM),
    Case("form, raw", {"a": "1", "raw_string": "a=%31"}, b"a=%31", query="?raw=true", headers=FORM),
    Case("empty form", {}, b"", headers=FORM),
    Case("other type, JSON", {"a": 1, "raw_string": '{"a":1}'}, b'{"a":1}', headers={"Content-Type": "text/csv"}),
    Case("other type, text", {"raw_string": "a;b"}, b"a;b", headers={"Content-Type": "text/csv"}),
    Case(
        "other type, no UTF-8",
        {"raw_string": "�x"},
        b"\xffx",
        headers={"Content-Type": "application/octet-stream"},
    ),
    Case(
        "headers",
        {"x_sign": "abc", "a": 1},
        b'{"a":1,"x_sign":"lost"}',
        query="?include_header=X-Sign,X-Absent",
        headers={"X-Sign": "abc"},
    ),
    Case("header names are not trimmed", {}, b"{}", query="?include_header=%20X-Sign", headers={"X-Sign": "abc"}),
    Case("query", {"q": "2", "a": 1}, b'{"a":1}', query="?include_query=q,absent&q=1&q=2"),
    Case("query wins over the body", {"a": "2"}, b'{"a":1}', query="?include_query=a&a=2"),
    Case(
        "query wins over headers",
        {"a": "query"},
        b"{}",
        query="?include_query=a&include_header=a&a=query",
        headers={"A": "header"},
    ),
    Case("wrapped with extras", {"body": {"a": 1}, "q": "x"}, b'{"a":1}', query="?wrap_body=true&include_query=q&q=x"),
    Case("GET", {}, method="GET"),
    Case("GET with a JSON type and no body", {}, method="GET", headers=JSON),
    Case("GET payload", {"a": [1, "ü"]}, method="GET", query=f"?payload={payload({'a': [1, 'ü']})}"),
    Case("GET payload, URL-safe, no padding", {"a": "??>"}, method="GET", query="?payload=eyJhIjoiPz8-In0"),
    Case("GET raw", {"raw_string": ""}, method="GET", query="?raw=true"),
    Case("GET wrap", {"body": {"a": 1}}, method="GET", query=f"?wrap_body=true&payload={payload({'a': 1})}"),
    Case("GET query", {"q": "a b"}, method="GET", query="?include_query=q&q=a+b"),
    Case("payload on POST is only a parameter", {"a": 1}, b'{"a":1}', query="?payload=%%%"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_request_becomes_these_arguments(client: Client, case: Case) -> None:
    answer = client.call(case.method, ECHO + case.query, case.body, case.headers)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer.text
    assert answer.json() == case.expected


@pytest.mark.parametrize(
    ("query", "body", "headers", "text"),
    [
        ("", b"{", JSON, "Bad request: invalid json: "),
        ("", b"{}x", JSON, "Bad request: invalid json: "),
        ("", b"", JSON, "Bad request: invalid json: EOF while parsing a value at line 1 column 0"),
        ("", b'{"a":"\xff"}', JSON, "Bad request: invalid utf8: "),
        ("", b"\xff", PLAIN, "Bad request: invalid utf8: "),
        ("", b"a=%FF", FORM, "Bad request: invalid urlencoded data: "),
        ("?raw=1", b"{}", JSON, "Bad request: raw: send true or false, not '1'"),
        ("?raw=", b"{}", JSON, "Bad request: raw: send true or false"),
        ("?raw=TRUE", b"{}", JSON, "Bad request: raw: send true or false"),
        ("?wrap_body=yes", b"{}", JSON, "Bad request: wrap_body: send true or false"),
        ("?raw=true&raw=true", b"{}", JSON, "Bad request: raw: give it once"),
        ("?include_query=a&include_query=b", b"{}", JSON, "Bad request: include_query: give it once"),
        ("?job_id=7", b"{}", JSON, "Bad request: job_id: '7' is not a UUID"),
        ("?parent_job=x", b"{}", JSON, "Bad request: parent_job: 'x' is not a UUID"),
        ("?x=%FF", b"{}", JSON, "Bad request: the query is not percent-encoded UTF-8"),
    ],
)
def test_what_a_caller_sent_wrong_is_a_400_that_says_what(
    client: Client, query: str, body: bytes, headers: dict[str, str], text: str
) -> None:
    answer = client.call("POST", ECHO + query, body, headers)
    assert answer.status == 400
    assert answer.text.startswith(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("%21", "Bad request: payload: not base64"),
        ("e30+", "Bad request: payload: "),
        (base64.b64encode(b"[1]").decode(), "Bad request: payload: the JSON inside must be an object"),
        (base64.b64encode(b"{").decode(), "Bad request: payload: invalid json"),
    ],
)
def test_a_bad_payload_is_a_400(client: Client, value: str, text: str) -> None:
    answer = client.call("GET", f"{ECHO}?payload={value}")
    assert answer.status == 400
    assert answer.text.startswith(text)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("return None", "null"),
        ("return 'a\\nü'", '"a\\nü"'),
        ("return {'z': 1, 'a': {'y': [1.0, 2]}}", '{"z":1,"a":{"y":[1.0,2]}}'),
        ("return 12345678901234567890123", "12345678901234567890123"),
        ("return [float('nan'), float('inf'), 'NaN']", '[null,null,"NaN"]'),
        ("return b'\\x00\\xff'", '"AP8="'),
        ("return {'b': b'x', 'deep': [b'x']}", '{"b":"eA==","deep":["eA=="]}'),
        ("return (1, 2)", "[1,2]"),
        ("return {3}", '"{3}"'),
        ("import datetime; return datetime.datetime(2024, 1, 1)", '"2024-01-01 00:00:00"'),
        ("return 'a\\0b'", '"ab"'),
        ("return ''.join(['x'] * 100_000)", '"' + "x" * 100_000 + '"'),
        ("return {'result': 1}", '{"result":1}'),
    ],
)
def test_results_are_sent_as_they_are(client: Client, code: str, expected: str) -> None:
    answer = client.preview(f"def main():\n    {code}\n")
    assert (answer.status, answer.text) == (200, expected)


def test_defaults_missing_null_and_undeclared_arguments(client: Client) -> None:
    assert client.run("u/admin/add", {"a": 1, "b": 2}).json() == 3
    assert client.run("u/admin/add", {"a": 1}).json() == 11
    assert client.run("u/admin/add", {"a": 1, "b": None, "c": "dropped"}).json() == 11
    assert client.run("u/admin/add", {}).error["name"] == "TypeError"  # a is None


def test_conversions_by_annotation(client: Client) -> None:
    code = (
        "import datetime\n"
        "from typing import Optional\n"
        "def main(a: bytes, b: datetime.datetime, c: datetime.date, d: Optional[bytes] = None, e: bytes | None = None):\n"
        "    return [type(x).__name__ + ':' + str(x) for x in (a, b, c, d, e)]\n"
    )
    arguments = {"a": "eA==", "b": "2024-05-06T07:08:09.123Z", "c": "31-12-2024", "d": "eQ==", "e": None}
    assert client.preview(code, arguments).json() == [
        "bytes:b'x'",
        "datetime:2024-05-06 07:08:09.123000+00:00",
        "date:2024-12-31",
        "bytes:b'y'",
        "NoneType:None",
    ]


def test_async_main_is_awaited(client: Client) -> None:
    assert (
        client.preview("import asyncio\nasync def main():\n    await asyncio.sleep(0)\n    return 'done'").json()
        == "done"
    )


def test_a_generator_gives_its_text_and_leaves_the_log_clean(client: Client) -> None:
    answer = client.preview("def main():\n    print('log')\n    yield 'a\\n'\n    yield ''\n    yield 'b'\n")
    assert answer.json() == "a\nb"


# --- failing scripts: the exact error objects -------------------------------------------------------------------------


def test_an_exception(client: Client) -> None:
    client.deploy(
        "u/admin/fails",
        "class Broken(Exception):\n"
        "    def __init__(self, text, code):\n"
        "        super().__init__(text)\n"
        "        self.code = code\n\n"
        "def inner():\n"
        "    raise Broken('no luck', 7)\n\n"
        "def main():\n"
        "    inner()\n",
    )
    answer = client.run("u/admin/fails")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    error = answer.error
    assert (error["message"], error["name"], error["extra"]) == ("no luck", "Broken", {"code": 7})
    assert sorted(error) == ["extra", "message", "name", "stack"]
    lines = [line for line in error["stack"].splitlines() if "^" not in line]
    assert lines == [
        '  File "u/admin/fails.py", line 10, in main',
        "    inner()",
        '  File "u/admin/fails.py", line 7, in inner',
        "    raise Broken('no luck', 7)",
    ]


@pytest.mark.parametrize(
    ("language", "code", "expected"),
    [
        (
            "bash",
            "echo some output; exit 3",
            {
                "message": 'exit code for "bash run": 3, last log lines:\nsome output',
                "name": "ExecutionErr",
                "exit_code": 3,
            },
        ),
        (
            "python3",
            "import sys\nprint('bye')\nsys.exit(4)",
            {
                "message": 'exit code for "python run": 4, last log lines:\nbye',
                "name": "ExecutionErr",
                "exit_code": 4,
            },
        ),
        (
            "python3",
            "import os\ndef main():\n    os._exit(9)",
            {
                "message": 'exit code for "python run": 9, last log lines:\n',
                "name": "ExecutionErr",
                "exit_code": 9,
            },
        ),
        (
            "python3",
            "x = 1",
            {"message": "main function is missing", "name": "ValueError", "stack": ""},
        ),
        ("bash", """echo '{"code": 5}' > result.json; exit 1""", {"code": 5}),
    ],
)
def test_exit_codes_and_missing_functions(client: Client, language: str, code: str, expected: dict[str, Any]) -> None:
    assert client.preview(code, language=language).error == expected


@pytest.mark.parametrize(
    ("code", "tail"),
    [
        ("import json.nothing", "ModuleNotFoundError: No module named 'json.nothing'"),
        ("def main(:", "SyntaxError: invalid syntax"),
        ("1/0", "ZeroDivisionError: division by zero"),
        ("x = '\\ud800'\nprint(1)\nraise ValueError(x)", "ValueError"),
    ],
)
def test_code_that_fails_before_main_ends_like_a_program(client: Client, code: str, tail: str) -> None:
    error = client.preview(code).error
    assert (error["name"], error["exit_code"]) == ("ExecutionErr", 1)
    assert error["message"].startswith('exit code for "python run": 1, last log lines:\n')
    assert error["message"].splitlines()[-1].startswith(tail)


def test_sys_exit_inside_main_is_a_failure_of_that_name(client: Client) -> None:
    error = client.preview("import sys\ndef main():\n    sys.exit(0)").error
    assert (error["name"], error["message"]) == ("SystemExit", "0")


def test_a_script_that_says_it_failed(client: Client) -> None:
    answer = client.preview("def main():\n    return {'wm_failure': 'not today', 'detail': 1}")
    assert answer.json() == {
        "wm_failure": "not today",
        "detail": 1,
        "error": {"name": "ManualFailure", "message": "not today"},
    }


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("""echo '{"a": [1]}' > result.json; echo hi""", {"a": [1]}),
        ("printf 'two\\nlines' > result.out; echo hi", "two\nlines"),
        ("echo first; echo '  last  '; echo", "last"),
        ("true", ""),
        ('a="$1"\nb="${2:-fallback}"\nc="$3"\necho "$a|$b|$c"', 'x y|fallback|[1,"é"]'),
    ],
)
def test_bash_results(client: Client, code: str, result: Any) -> None:
    assert client.preview(code, {"a": "x y", "c": [1, "é"]}, language="bash").json() == result


def test_bash_stops_at_the_first_error_and_arguments_are_no_code(client: Client) -> None:
    assert client.preview("false\necho on", language="bash").error["exit_code"] == 1
    hostile = "'; echo broken out; $(echo x) `echo y` \\"
    assert client.preview('a="$1"\necho "$a"', {"a": hostile}, language="bash").json() == hostile


# --- which version runs -----------------------------------------------------------------------------------------------


def test_by_hash_runs_that_version(client: Client) -> None:
    first = client.deploy("u/admin/versioned", "def main():\n    return 1")
    second = client.deploy("u/admin/versioned", "def main():\n    return 2")
    assert client.run("u/admin/versioned").json() == 2
    assert client.post(f"/jobs/run_wait_result/h/{first}").json() == 1
    assert client.post(f"/jobs/run_wait_result/h/{second}").json() == 2
    job_id = client.post(f"/jobs/run/h/{first}").text
    assert client.ended(job_id)["result"] == 1
    assert client.get(f"/jobs/run_wait_result/h/{first}").status == 405


def test_a_leading_slash_in_the_path_is_taken_off(client: Client) -> None:
    assert client.post("/jobs/run_wait_result/p//u/admin/add", {"a": 1}).json() == 11


def test_failure_status_can_be_422(server: Server, make_server: Any) -> None:
    other = make_server("--sync-failure-status", "422")
    client = other.start()
    answer = client.preview("def main():\n    raise ValueError('x')")
    assert (answer.status, answer.error["name"]) == (422, "ValueError")
    assert client.preview("def main():\n    return 1").status == 200


def test_head_is_a_probe_that_runs_nothing(client: Client) -> None:
    for path in ("/jobs/run/p/u/no/script", "/jobs/run_wait_result/p/u/no/script", "/jobs/run/h/00", ECHO):
        answer = client.call("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")
    assert client.with_token("").call("HEAD", ECHO).status == 401


def test_the_chosen_job_id_is_used_once(client: Client) -> None:
    job_id = "01890000-0000-7000-8000-00000000abcd"
    assert client.run("u/admin/add", {"a": 1}, job_id=job_id).json() == 11
    assert client.ended(job_id)["result"] == 11
    for answer in (
        client.run("u/admin/add", {"a": 1}, job_id=job_id),
        client.post("/jobs/run/p/u/admin/add", {"a": 1}, job_id=job_id),
    ):
        assert answer.status == 400
        assert answer.text.startswith(f"Bad request: a job with id {job_id} exists already")


@pytest.mark.parametrize("path", ["a\0b", "../../etc/passwd", "u/ö/ä", "x" * 5000, "u//", "sys", "json"])
def test_the_path_of_a_preview_is_only_a_name(client: Client, path: str) -> None:
    body = {"content": "def main():\n    return __name__", "language": "python3", "path": path}
    answer = client.post("/jobs/run_wait_result/preview", body)
    assert answer.status < 500
    assert client.run("u/admin/add", {"a": 1}).json() == 11
