"""Async runs, what one job shows, logs, labels, and the environment of a job."""

from __future__ import annotations

import re
import uuid
from datetime import datetime

import cbor2
import pytest

from tests.server import Client, Server, eventually

BANNER = re.compile(r"--- PYTHON \(3\.\d+\) CODE EXECUTION ---\n")


def test_an_async_run_is_acknowledged_with_its_bare_id(client: Client) -> None:
    answer = client.post("/jobs/run/p/u/admin/add", {"a": 1})
    assert (answer.status, answer.headers["content-type"]) == (201, "text/plain; charset=utf-8")
    job_id = uuid.UUID(answer.text)
    assert (str(job_id), job_id.version) == (answer.text, 7)
    done = client.ended(answer.text)
    assert done["result"] == 11


def test_a_job_shows_everything_that_clients_read(client: Client) -> None:
    parent = "01890000-0000-7000-8000-000000000001"
    client.deploy("u/admin/speaks", "def main(a):\n    print('hello')\n    return a + 10")
    job_id = client.submit("u/admin/speaks", {"a": 1}, parent_job=parent, tag="special")
    done = client.ended(job_id)
    assert done["logs"].endswith("hello\n")
    script = client.get("/scripts/get/p/u/admin/speaks").json()
    varying = {
        "created_at": "",
        "started_at": "",
        "completed_at": "",
        "duration_ms": 0,
        "self_wait_time_ms": 0,
        "logs": "",
        "cpu_s": 0.0,
        "mem_peak": 0,
    }
    assert done | varying == {
        "type": "CompletedJob",
        "workspace_id": "demo",
        "id": job_id,
        "created_by": "admin",
        "created_at": "",
        "started_at": "",
        "completed_at": "",
        "duration_ms": 0,
        "args": {"a": 1},
        "result": 11,
        "success": True,
        "canceled": False,
        "job_kind": "script",
        "script_path": "u/admin/speaks",
        "script_hash": script["hash"],
        "permissioned_as": "u/admin",
        "is_flow_step": False,
        "is_skipped": False,
        "deleted": False,
        "result_columns": None,
        "email": done["email"],
        "visible_to_owner": True,
        "tag": "special",
        "language": "python3",
        "parent_job": parent,
        "priority": 2,  # a job that a job started goes first
        "self_wait_time_ms": 0,
        "logs": "",
        "cpu_s": 0.0,
        "mem_peak": 0,
    }
    times = [datetime.fromisoformat(done[name]) for name in ("created_at", "started_at", "completed_at")]
    assert times == sorted(times)
    # Once from the table and once from the disk: the answer is the same.
    eventually(lambda: client.job(job_id) == done, "the same job from the disk")


def test_a_silent_job_shows_the_same_log_from_the_table_and_from_the_disk(client: Client) -> None:
    job_id = client.submit("u/admin/add", {"a": 1})
    done, log = client.ended(job_id), client.logs(job_id)
    # Rows of ended jobs are written in order: when a later job's row is there, so is this one's.
    later = client.submit("u/admin/sleep", {"seconds": 0.3})
    client.ended(later)
    assert client.logs(job_id) == log
    assert client.job(job_id).get("logs") == done.get("logs")


def test_single_job_reads(client: Client) -> None:
    job_id = client.submit("u/admin/echo", {"list": [{"x": 7}], "z": 1, "a": 2})
    client.ended(job_id)
    for group in ("jobs", "jobs_u"):
        completed = client.get(f"/{group}/completed/get/{job_id}").json()
        assert "type" not in completed
        assert completed["success"] is True
        result = client.get(f"/{group}/completed/get_result/{job_id}")
        assert result.text == '{"list":[{"x":7}],"z":1,"a":2}'
        maybe = client.get(f"/{group}/completed/get_result_maybe/{job_id}").json()
        assert maybe == {"started": True, "success": True, "completed": True, "result": result.json()}
    for path, value in (("z", 1), ("list.0.x", 7), ("list.9", None), ("no.thing", None), ("list.-1", None)):
        assert client.get(f"/jobs_u/completed/get_result/{job_id}", json_path=path).json() == value
    assert "logs" not in client.get(f"/jobs_u/get/{job_id}", no_logs="true").json()


def test_parts_of_any_result(client: Client) -> None:
    client.deploy(
        "u/admin/deep", "def main():\n    d = 2**100\n    for _ in range(300):\n        d = [d]\n    return {'d': d}\n"
    )
    job_id = client.submit("u/admin/deep")
    client.ended(job_id)
    for path, value in (("d", "[" * 300 + str(2**100) + "]" * 300), ("d.0." + "9" * 5000, "null")):
        assert client.get(f"/jobs_u/completed/get_result/{job_id}", json_path=path).text == value


def test_a_failed_job_shows_its_error_and_get_result_is_200(client: Client) -> None:
    job_id = client.post("/jobs/run/preview", {"content": "def main():\n    1/0", "language": "python3"}).text
    done = client.ended(job_id)
    assert (done["success"], done["job_kind"], done["raw_code"]) == (False, "preview", "def main():\n    1/0")
    assert done["result"]["error"]["name"] == "ZeroDivisionError"
    assert client.get(f"/jobs_u/completed/get_result/{job_id}").json() == done["result"]
    assert client.get(f"/jobs_u/completed/get_result_maybe/{job_id}").json()["success"] is False
    assert "raw_code" not in client.get(f"/jobs_u/get/{job_id}", no_code="true").json()


def test_while_it_runs(client: Client) -> None:
    job_id = client.submit("u/admin/sleep")
    client.running(job_id)
    shown = client.job(job_id)
    assert (shown["type"], shown["running"], shown["same_worker"]) == ("QueuedJob", True, False)
    assert shown["script_entrypoint_override"] is None
    eventually(lambda: client.logs(job_id).endswith("started\n"), "the log of a running job")
    assert client.get(f"/jobs_u/completed/get/{job_id}").status == 404
    unknown = {"started": None, "success": None, "completed": False, "result": None}
    assert client.get(f"/jobs_u/completed/get_result_maybe/{job_id}").json() == unknown
    maybe = client.get(f"/jobs_u/completed/get_result_maybe/{job_id}", get_started="true").json()
    assert maybe == {**unknown, "started": True}
    assert client.post(f"/jobs_u/queue/cancel/{job_id}").status == 200
    nobody = client.get(f"/jobs_u/completed/get_result_maybe/{uuid.UUID(int=1)}", get_started="true").json()
    assert nobody == {**unknown, "started": False}


@pytest.mark.parametrize("path", ["get", "completed/get", "completed/get_result_maybe", "get_logs"])
def test_a_bad_flag_is_refused_whatever_the_state_of_the_job(client: Client, path: str) -> None:
    flag = {"get_logs": "remove_ansi_warnings", "completed/get_result_maybe": "get_started"}.get(path, "no_logs")
    job_id = client.submit("u/admin/add", {"a": 1})
    client.ended(job_id)
    answer = client.call("GET", f"/jobs_u/{path}/{job_id}", query={flag: "1"})
    assert (answer.status, answer.text) == (400, f"Bad request: {flag}: send true or false, not '1'")


def test_large_arguments_and_results_have_endpoints_of_their_own(client: Client) -> None:
    job_id = client.submit("u/admin/echo", {"a": "x" * 100_000})
    done = client.ended(job_id)
    assert (done["args"], done["result"]) == ({"reason": "WINDMILL_TOO_BIG"}, "WINDMILL_TOO_BIG")
    assert client.get(f"/jobs_u/completed/get_result/{job_id}").json() == {"a": "x" * 100_000}


def test_output_is_merged_in_the_order_it_came(client: Client) -> None:
    code = (
        "import os, sys\n"
        "def main():\n"
        "    for i in range(5):\n"
        "        print('out', i)\n"
        "        print('err', i, file=sys.stderr)\n"
        "    os.write(1, b'raw\\n\\n\\n')\n"
        "    os.system('echo from a shell')\n"
        "    print('ünï', end='')\n"
        "    sys.stdout.buffer.write(b'\\xff')\n"
    )
    job_id = client.post("/jobs/run/preview", {"content": code, "language": "python3"}).text
    client.ended(job_id)
    expected = "".join(f"out {i}\nerr {i}\n" for i in range(5)) + "raw\nfrom a shell\nünï�"
    banner, log = client.logs(job_id)[: -len(expected)], client.logs(job_id)[-len(expected) :]
    assert BANNER.fullmatch(banner)
    assert log == expected
    hinted = client.get(f"/jobs_u/get_logs/{job_id}")
    assert hinted.headers["content-type"].startswith("text/plain")
    assert hinted.text.startswith("to remove ansi colors")
    assert hinted.text.endswith(banner + log)


def test_bash_output(client: Client) -> None:
    code = "echo one; echo two >&2; echo three"
    job_id = client.post("/jobs/run/preview", {"content": code, "language": "bash"}).text
    client.ended(job_id)
    assert client.logs(job_id) == "--- BASH CODE EXECUTION ---\none\ntwo\nthree\n"


def test_labels_are_sorted_and_listed_once(client: Client) -> None:
    code = "def main():\n    return {'wm_labels': ['b', 'a', 'b'], 'x': 1}"
    job_id = client.post("/jobs/run/preview", {"content": code, "language": "python3"}).text
    assert client.ended(job_id)["labels"] == ["a", "b"]
    code = "def main():\n    return {'wm_labels': ['b', 1]}"
    job_id = client.post("/jobs/run/preview", {"content": code, "language": "python3"}).text
    assert "labels" not in client.ended(job_id)


# --- the environment of a job -----------------------------------------------------------------------------------------

NAMES = {
    "WM_WORKSPACE", "WM_TOKEN", "WM_EMAIL", "WM_USERNAME", "WM_BASE_URL", "WM_JOB_ID", "WM_JOB_PATH", "WM_FLOW_JOB_ID",
    "WM_ROOT_FLOW_JOB_ID", "WM_ROOT_JOB_ID", "WM_FLOW_PATH", "WM_FLOW_STEP_ID", "WM_SCHEDULE_PATH", "WM_SCHEDULED_FOR",
    "WM_PERMISSIONED_AS", "WM_STATE_PATH", "WM_OBJECT_PATH", "WM_WORKER_GROUP", "WM_RUNNABLE_ID", "WM_END_USER_EMAIL",
    "BASE_INTERNAL_URL", "PATH", "HOME", "TZ",
}  # fmt: skip
OTHERS = {"BASE_URL", "LANG"}


def test_every_name_exists_in_python_and_nothing_else(client: Client, server: Server) -> None:
    script_hash = client.deploy("u/admin/env", "import os\ndef main():\n    return dict(os.environ)")
    job_id = client.submit("u/admin/env")
    done = client.ended(job_id)
    environment = done["result"]
    assert set(environment) == NAMES | OTHERS
    assert {name: environment[name] for name in ("WM_WORKSPACE", "WM_USERNAME", "WM_JOB_ID", "WM_JOB_PATH")} == {
        "WM_WORKSPACE": "demo",
        "WM_USERNAME": "admin",
        "WM_JOB_ID": job_id,
        "WM_JOB_PATH": "u/admin/env",
    }
    assert environment["WM_ROOT_JOB_ID"] == job_id
    assert environment["WM_RUNNABLE_ID"] == script_hash
    assert environment["WM_BASE_URL"] == environment["BASE_INTERNAL_URL"] == server.addresses[0]
    assert environment["WM_STATE_PATH"] == "u/admin/env/user"
    assert re.fullmatch(rf"u_admin_env/manual/\d{{13}}_{job_id}", environment["WM_OBJECT_PATH"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", environment["WM_SCHEDULED_FOR"])
    assert environment["WM_PERMISSIONED_AS"] == "u/admin"


def test_every_name_exists_in_bash(client: Client) -> None:
    names = " ".join(sorted(NAMES))
    code = f'for name in {names}; do [ -n "${{!name+x}}" ] || echo "missing $name"; done; echo done'
    assert client.preview(code, language="bash").json() == "done"
    exported = client.preview("env -0 | tr '\\0\\n' '\\n ' | cut -d= -f1 > result.out", language="bash").json()
    assert set(exported.split()) - {"SHLVL", "_", "PWD", "OLDPWD"} == NAMES | OTHERS


def test_a_preview_without_a_path(client: Client) -> None:
    environment = client.preview("import os\ndef main():\n    return dict(os.environ)").json()
    assert environment["WM_JOB_PATH"] == environment["WM_RUNNABLE_ID"] == ""
    assert environment["WM_STATE_PATH"] == "u/admin/tmp_state"


def test_envs_of_the_script_are_added(client: Client) -> None:
    client.deploy("u/admin/envs", "import os\ndef main():\n    return os.environ['MINE']", envs=["MINE=a=b"])
    assert client.run("u/admin/envs").json() == "a=b"


def test_the_token_of_a_job_works_while_it_runs_and_not_after(client: Client) -> None:
    code = (
        "import os, time, urllib.request\n"
        "def main():\n"
        "    print(os.environ['WM_TOKEN'], flush=True)\n"
        "    time.sleep(60)\n"
    )
    client.deploy("u/admin/lends", code)
    job_id = client.submit("u/admin/lends")
    found = eventually(lambda: re.search(r"^(mwj_\w+)$", client.logs(job_id), re.MULTILINE), "the token")
    assert found is not None
    borrower = client.with_token(found[1])
    assert borrower.run("u/admin/add", {"a": 1}).json() == 11
    assert borrower.with_token(found[1], "admins").get("/jobs/list").status == 401
    client.post(f"/jobs_u/queue/cancel/{job_id}")
    client.ended(job_id)
    eventually(lambda: borrower.get("/jobs/list").status == 401, "the end of the token")


def test_a_script_calls_the_server(client: Client) -> None:
    code = (
        "import os, json, urllib.request\n"
        "def main():\n"
        "    url = os.environ['BASE_INTERNAL_URL'] + '/api/w/demo/jobs/run_wait_result/p/u/admin/add'\n"
        "    headers = {'Authorization': 'Bearer ' + os.environ['WM_TOKEN'], 'Content-Type': 'application/json'}\n"
        "    return json.load(urllib.request.urlopen(urllib.request.Request(url, b'{\"a\": 1}', headers)))\n"
    )
    assert client.preview(code).json() == 11


@pytest.mark.parametrize("language", ["python3", "bash"])
def test_the_working_directory_is_empty_of_others(client: Client, language: str) -> None:
    code = {
        "python3": "import os\ndef main(mark):\n    seen = os.listdir()\n    open('left-' + mark, 'w')\n    return seen",
        "bash": 'mark="$1"\nls -A > result.out; touch "left-$mark"',
    }[language]
    for mark in "abcdef":
        assert "left" not in str(client.preview(code, {"mark": mark}, language=language).json())


def test_a_result_with_byte_strings_later(client: Client) -> None:
    client.deploy("u/admin/bytes", "def main():\n    return {'a': [b'x', 1], 'n': 2 ** 70}")
    path = f"/jobs_u/completed/get_result/{client.submit('u/admin/bytes')}"
    client.ended(path.rpartition("/")[2])
    cbor = {"Accept": "application/cbor"}

    def check() -> None:
        assert cbor2.loads(client.get(path, cbor).body) == {"a": [b"x", 1], "n": 2**70}
        assert client.get(path).json() == {"a": ["eA==", 1], "n": 2**70}
        assert client.get(path, cbor, json_path="a.0").body == cbor2.dumps(b"x")
        assert client.get(path, cbor, json_path="a.1").body == cbor2.dumps(1)
        assert client.get(path, json_path="a.0").json() == "eA=="
        assert client.get(path, cbor, json_path="b.0").body == cbor2.dumps(None)

    check()
    eventually(lambda: client.get("/jobs/list", script_path_exact="u/admin/bytes", success="true").json(), "the row")
    check()
