"""What a script can see, reach and call."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from minwebhook.runtimes.programs import find_programs
from minwebhook.sandbox.plan import LOOKUP_PATHS
from tests.sandbox.conftest import CONTAINED, start
from tests.server import Client, Server


def probe(client: Client, code: str, language: str = "python3", **args: Any) -> Any:
    """The result of a preview."""
    answer = client.preview(code, args, language=language)
    assert answer.status == 200
    return answer.json()


def test_identity(client: Client) -> None:
    code = (
        "import os\n"
        "def main():\n"
        "    return [os.getpid(), os.getresuid(), os.getresgid(), os.getgroups(), os.getcwd()]\n"
    )
    pid, uids, gids, groups, cwd = probe(client, code)
    assert (pid, cwd) == (1, "/tmp")
    assert len(set(uids)) == 1
    assert uids == gids
    if os.geteuid() == 0:
        assert uids[0] >= 1_879_000_000
        assert groups == []
    else:
        assert uids[0] == 1000


def test_no_capabilities_and_no_new_privileges(client: Client) -> None:
    lines = probe(client, "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status > result.out", language="bash")
    status = dict(line.split(":\t") for line in lines.splitlines())
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[name], 16) == 0


HIDDEN = [
    "/etc/shadow",
    "/etc/passwd",
    "/root/.bashrc",
    "/home",
    "/var/lib",
    "/var/log",
    "/run",
    "/boot",
    "/srv",
    "/mnt",
    "/sys/kernel",
    "/opt",
    "/.old",
    "/dev/mem",
    "/dev/kmsg",
    "/dev/sda",
    "/dev/vda",
    "/dev/kvm",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/fuse",
]


#: What scripts need besides the directories of the system: the interpreter and the programs, wherever they are installed.
NEEDED = [path for path in (sys.base_prefix, *find_programs().visible) if Path(path).exists()]


def steps(folder: str) -> set[str]:
    """What is seen in ``folder`` of the ways to what is needed."""
    start = folder.rstrip("/") + "/"
    return {path.removeprefix(start).split("/")[0] for path in NEEDED if path.startswith(start)}


@pytest.mark.parametrize("path", [path for path in HIDDEN if steps(path)])
def test_what_leads_to_programs_holds_nothing_else(client: Client, path: str) -> None:
    code = "import os\ndef main(path):\n    return os.listdir(path)"
    assert set(probe(client, code, path=path)) == steps(path)


@pytest.mark.parametrize("path", [path for path in HIDDEN if not steps(path)])
def test_paths_that_are_not_there(client: Client, path: str) -> None:
    code = "import os\ndef main(path):\n    return os.path.lexists(path)"
    assert probe(client, code, path=path) is False


def test_nothing_of_the_server_is_there(client: Client, server: Server) -> None:
    mark = server.data / "minwebhook.db"
    assert mark.exists()
    code = (
        "import os\n"
        "def main(paths, mark):\n"
        "    seen = [path for path in paths if os.path.exists(path)]\n"
        "    for top in os.listdir('/'):\n"
        "        if top in ('proc', 'usr', 'lib', 'lib64', 'bin', 'sbin'):\n"
        "            continue\n"
        "        for folder, folders, files in os.walk('/' + top):\n"
        "            if mark in files:\n"
        "                seen.append(folder)\n"
        "    return seen\n"
    )
    paths = [str(mark), str(server.data), str(server.log_file), str(Path(__file__).resolve())]
    assert probe(client, code, paths=paths, mark=mark.name) == []


def test_the_root_holds_only_what_is_planned(client: Client) -> None:
    code = (
        "import os\n"
        "def main():\n"
        "    tops = ('/', '/dev', '/etc', '/var', '/runtimes')\n"
        "    return {top: os.listdir(top) if os.path.exists(top) else [] for top in tops}\n"
    )
    seen = {top: set(names) for top, names in probe(client, code).items()}
    system = {"usr", "bin", "sbin", "lib", "lib32", "lib64", "etc", "dev", "tmp", "proc", "var", "runtimes"}
    assert seen["/"] <= system | steps("/")
    assert seen["/dev"] <= {"null", "zero", "full", "random", "urandom", "shm", "fd", "stdin", "stdout", "stderr"}
    assert seen["/etc"] <= {path.split("/")[2] for path in LOOKUP_PATHS} | steps("/etc")
    assert seen["/var"] == {"tmp"} | steps("/var")
    assert seen["/runtimes"] <= {"bun", "deno", "nodejs", "javascript", "code_cache"}


@pytest.mark.parametrize("path", ["/x", "/etc/x", "/usr/x", "/dev/x", "/bin/x", "/var/x", "/usr/lib/x", "/proc/x"])
def test_nothing_but_tmp_can_be_written(client: Client, path: str) -> None:
    code = (
        "def main(path):\n    try:\n        open(path, 'w')\n    except OSError as error:\n        return error.errno\n"
    )
    assert probe(client, code, path=path) in (1, 2, 13, 30)  # EPERM, ENOENT, EACCES, EROFS


def test_the_interpreter_and_programs_cannot_be_changed(client: Client) -> None:
    code = (
        "import os, sys\n"
        "def main():\n"
        "    out = []\n"
        "    for path in (sys.executable or '/usr/bin/env', os.__file__, '/usr/bin/env', '/bin/sh'):\n"
        "        for change in (lambda: open(path, 'r+b'), lambda: os.chmod(path, 0o777), lambda: os.unlink(path)):\n"
        "            try:\n"
        "                change()\n"
        "                out.append(path)\n"
        "            except OSError:\n"
        "                pass\n"
        "    return out\n"
    )
    assert probe(client, CONTAINED + code) == []


def test_no_other_process_is_visible(client: Client, server: Server) -> None:
    pids = probe(client, "ls /proc 2>/dev/null | grep -E '^[0-9]+$' | tr '\\n' ' ' > result.out", language="bash")
    assert len(pids.split()) <= 8  # bash itself, its subshells, and what runs the pipeline
    assert all(int(pid) < 100 for pid in pids.split())
    code = (
        "import os\n"
        "def main(server_pid):\n"
        "    reached = []\n"
        "    for pid in [*range(2, 500), server_pid]:\n"
        "        try:\n"
        "            os.kill(pid, 0)\n"
        "            reached.append(pid)\n"
        "        except OSError:\n"
        "            pass\n"
        "    names = [name for name in os.listdir('/proc') if name.isdigit()] if os.path.isdir('/proc') else []\n"
        "    return [reached, [name for name in names if name != '1']]\n"
    )
    assert probe(client, code, server_pid=server.pid)[0] == []


def test_a_bash_job_sees_only_itself_in_proc(client: Client) -> None:
    lines = probe(client, "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' > result.out", language="bash")
    assert "minwebhook serve" not in lines
    assert "listen" not in lines


def test_the_environment_holds_only_our_names(client: Client) -> None:
    names = probe(client, "import os\ndef main():\n    return sorted(os.environ)")
    allowed = {"BASE_URL", "BASE_INTERNAL_URL", "PATH", "HOME", "LANG", "TZ"}
    assert {name for name in names if not name.startswith("WM_")} <= allowed
    # Also what the kernel keeps of the first environment of the process, where that can be read at all.
    code = "{ tr '\\0' '\\n' < /proc/1/environ; } 2>/dev/null || true; echo end"
    job_id = client.post("/jobs/run/preview", {"content": code, "language": "bash"}).text
    client.ended(job_id)
    assert client.logs(job_id).splitlines()[1:] == ["end"]


def test_open_descriptors_are_the_three_and_the_socket(client: Client) -> None:
    code = (
        "import os\n"
        "def main():\n"
        "    out = []\n"
        "    for fd in range(256):\n"
        "        try:\n"
        "            os.fstat(fd)\n"
        "            out.append(fd)\n"
        "        except OSError:\n"
        "            pass\n"
        "    return out\n"
    )
    assert probe(client, code) == [0, 1, 2, 3]
    fds = probe(client, "echo /proc/self/fd/* > result.out", language="bash").split()
    assert {fd.rpartition("/")[2] for fd in fds} <= {"0", "1", "2", "3", "255"}
    links = probe(
        client, "for f in /proc/$$/fd/*; do readlink $f; done > /tmp/l; cat /tmp/l > result.out", language="bash"
    )
    assert "socket:" not in links


@pytest.mark.parametrize("language", ["python3", "bash"])
def test_the_next_job_sees_nothing_of_the_former(client: Client, language: str) -> None:
    code = {
        "python3": (
            "import os\n"
            "def main(mark):\n"
            "    seen = sorted(os.listdir('/tmp')) + sorted(os.listdir('/dev/shm'))\n"
            "    for name in (mark, '.hidden-' + mark):\n"
            "        open('/tmp/' + name, 'w').write(mark)\n"
            "    os.mkdir('/tmp/locked'); open('/tmp/locked/x', 'w'); os.chmod('/tmp/locked', 0)\n"
            "    return seen\n"
        ),
        "bash": 'mark="$1"\nls -A /tmp /dev/shm/ > result.out\ntouch /tmp/$mark /tmp/.hidden-$mark; mkdir -m 0 /tmp/locked',
    }[language]
    for n in range(12):
        seen = json.dumps(probe(client, code, language, mark=f"mark{n}"))
        assert "mark" not in seen
        assert "locked" not in seen


#: Each must fail. Run in a contained process only.
REFUSED = {
    "mount": "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)",
    "bind mount": "libc.mount(b'/', b'/tmp', None, 4096, None)",
    "remount": "libc.mount(b'none', b'/', None, 32 | 4096, None)",
    "umount": "libc.umount2(b'/usr', 2)",
    "umount tmp": "libc.umount2(b'/tmp', 2)",
    "pivot_root": "libc.syscall(155 if x86 else 41, b'/tmp', b'/tmp')",
    "chroot": "libc.chroot(b'/tmp')",
    "unshare user": "libc.unshare(0x10000000)",
    "unshare mount": "libc.unshare(0x00020000)",
    "unshare pid": "libc.unshare(0x20000000)",
    "unshare net": "libc.unshare(0x40000000)",
    "unshare all": "libc.unshare(0x7E020000)",
    "setns": "libc.setns(os.open('/', os.O_RDONLY), 0)",
    "ptrace": "libc.ptrace(16, os.getppid() or 1, None, None)",
    "ptrace traceme": "libc.ptrace(0, 0, None, None)",
    "setuid": "libc.setuid(0)",
    "setgid": "libc.setgid(0)",
    "setresuid": "libc.setresuid(0, 0, 0)",
    "setgroups": "libc.setgroups(1, ctypes.byref(ctypes.c_uint(0)))",
    "clone new user": "libc.syscall(56 if x86 else 220, 0x10000000 | 17, 0, 0, 0, 0)",
    "keyctl": "libc.syscall(250 if x86 else 219, 0, -3, 0)",
    "bpf": "libc.syscall(321 if x86 else 280, 0, 0, 0)",
    "io_uring": "libc.syscall(425, 1, ctypes.create_string_buffer(120))",
    "userfaultfd": "libc.syscall(323 if x86 else 282, 1)",
    "perf": "libc.syscall(298 if x86 else 241, 0, 0, -1, -1, 0)",
    "shmget": "libc.shmget(0, 4096, 0o1600)",
    "msgget": "libc.msgget(0, 0o1600)",
    "semget": "libc.semget(0, 1, 0o1600)",
    "mknod": "libc.mknod(b'/tmp/disk', 0o60600, 0x801)",
    "sethostname": "libc.sethostname(b'x', 1)",
    "settimeofday": "libc.settimeofday(ctypes.create_string_buffer(16), None)",
    "reboot with wrong magic": "libc.syscall(169 if x86 else 142, 0, 0, 0, 0)",
    "personality": "libc.personality(0x0040000)",
    "process_vm_readv": "libc.syscall(310 if x86 else 270, 1, 0, 0, 0, 0, 0)",
    "open_by_handle_at": "libc.syscall(304 if x86 else 265, -100, ctypes.create_string_buffer(16), 0)",
    "more memory": "libc.setrlimit(9, ctypes.byref((ctypes.c_ulong * 2)(1 << 40, 1 << 40)))",
    "better priority": "libc.setpriority(0, 0, -5)",
    "raw socket": "libc.socket(2, 3, 1)",
    "packet socket": "libc.socket(17, 3, 0x300)",
    "vsock": "libc.socket(40, 1, 0)",
    "kernel crypto": "libc.socket(38, 5, 0)",
    "netfilter": "libc.socket(16, 3, 12)",
    "bluetooth": "libc.socket(31, 3, 1)",
}


@pytest.mark.parametrize("name", REFUSED)
def test_calls_that_must_be_refused(client: Client, name: str) -> None:
    code = (
        CONTAINED
        + "import ctypes, platform\n"
        + "x86 = platform.machine() == 'x86_64'\n"
        + "libc = ctypes.CDLL(None, use_errno=True)\n"
        + "def main():\n"
        + f"    result = {REFUSED[name]}\n"
        + "    return [result, ctypes.get_errno()]\n"
    )
    result, errno = probe(client, code)
    assert result == -1, "the call was allowed"
    assert errno in (1, 13, 22, 38, 93, 94, 97), os.strerror(errno)  # EPERM, EACCES, EINVAL, ENOSYS, unsupported


def test_programs_with_set_uid_gain_nothing(client: Client) -> None:
    code = 'for p in /usr/bin/su /usr/bin/passwd /bin/su /usr/bin/mount; do [ -u "$p" ] && echo "$p"; done; true'
    found = probe(client, code + "\nid -u; cat /proc/self/status | grep NoNewPrivs", language="bash")
    assert found.split()[-1] == "1"


def test_network_host_reaches_the_server_and_not_the_link_layer(client: Client, server: Server) -> None:
    code = (
        "import os, socket, urllib.parse\n"
        "def main():\n"
        "    parts = urllib.parse.urlsplit(os.environ['BASE_INTERNAL_URL'])\n"
        "    with socket.create_connection((parts.hostname, parts.port), 5) as connection:\n"
        "        connection.sendall(b'GET /api/version HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
        "        return connection.recv(100).decode().split()[1]\n"
    )
    assert probe(client, code) == "200"
    resolved = probe(client, "import socket\ndef main():\n    return socket.getaddrinfo('localhost', 80)[0][4][0]")
    assert resolved in ("127.0.0.1", "::1")


def test_network_none(rung: str, tmp_path: Path) -> None:
    server = start(rung, tmp_path / "data", "--sandbox-network", "none")
    try:
        client = server.client()
        code = (
            "import socket\n"
            "def main():\n"
            "    out = {}\n"
            "    for name, family in (('inet', 2), ('inet6', 10), ('netlink', 16), ('packet', 17), ('unix', 1)):\n"
            "        try:\n"
            "            socket.socket(family, socket.SOCK_RAW if family in (16, 17) else socket.SOCK_STREAM).close()\n"
            "            out[name] = 0\n"
            "        except OSError as error:\n"
            "            out[name] = error.errno\n"
            "    return out\n"
        )
        assert probe(client, code) == {"inet": 0, "inet6": 0, "netlink": 1, "packet": 1, "unix": 0}
        interfaces = probe(client, "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' > result.out", language="bash")
        assert interfaces.split() in ([], ["lo"])
        reached = probe(client, "(echo > /dev/tcp/127.0.0.1/80) 2>&1 && echo open || echo closed", language="bash")
        assert reached == "closed"
    finally:
        server.close()


def test_no_view_of_proc_is_left_to_other_jobs(rung: str, tmp_path: Path) -> None:
    """A bash process mounts a /proc; jobs whose place was made from its place must not look through it.

    Places are made when a language is first used, so this needs a server that has run nothing yet.
    """
    look = (
        "import os\n"
        "def main():\n"
        "    return [open(f'/proc/{pid}/cmdline').read() for pid in os.listdir('/proc') if pid.isdigit()]\n"
    )
    server = start(rung, tmp_path / "data")
    try:
        client = server.client()
        seen = [client.preview(look).json()]
        body = {"content": "sh -c 'sleep 60; :' --password=hunter2", "language": "bash", "args": {}}
        client.running(client.post("/jobs/run/preview", body).text)
        seen += [client.preview(look).json() for _ in range(8)]
    finally:
        server.close()
    assert all(isinstance(lines, list) for lines in seen)
    assert not any("hunter2" in line or "noprofile" in line for lines in seen for line in lines)
