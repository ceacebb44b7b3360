"""Where a process is in the trees of control groups, from the two files that tell it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from minwebhook.sandbox.hierarchies import Hierarchy, find

UNIFIED = "25 30 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
HYBRID = """\
31 30 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
34 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
"""
NONE: frozenset[str] = frozenset()


def test_version_2() -> None:
    assert find("0::/system.slice/a.service\n", UNIFIED) == [
        Hierarchy(2, NONE, "/sys/fs/cgroup/system.slice/a.service")
    ]
    assert find("0::/\n", UNIFIED) == [Hierarchy(2, NONE, "/sys/fs/cgroup")]


def test_both_versions() -> None:
    member = "4:memory:/jobs/a\n3:cpu,cpuacct:/\n1:name=systemd:/x\n0::/y\n"
    assert find(member, HYBRID) == [
        Hierarchy(1, frozenset({"memory"}), "/sys/fs/cgroup/memory/jobs/a"),
        Hierarchy(1, frozenset({"cpu", "cpuacct"}), "/sys/fs/cgroup/cpu,cpuacct"),
        Hierarchy(2, NONE, "/sys/fs/cgroup/unified/y"),
        Hierarchy(1, frozenset({"name=systemd"}), "/sys/fs/cgroup/systemd/x"),
    ]


def test_only_a_part_is_mounted() -> None:
    part = "25 30 0:22 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw"
    assert find("0::/docker/abc/x\n", part) == [Hierarchy(2, NONE, "/sys/fs/cgroup/x")]
    assert find("0::/docker/abcd\n", part) == []
    assert find("0::/\n", part) == []
    assert find("0::/../outside\n", UNIFIED) == []


def test_names_with_blanks_and_trees_that_are_mounted_twice() -> None:
    mounts = "25 30 0:22 / /a\\040b rw - cgroup2 x rw\n26 30 0:22 / /again rw - cgroup2 x rw"
    assert find("0::/c:d\n", mounts) == [Hierarchy(2, NONE, "/a b/c:d")]


@given(st.text(), st.text())
def test_any_text_is_read(member: str, mounts: str) -> None:
    find(member, mounts)
    find(member, f"1 2 3 {mounts} - cgroup2 {mounts}")
