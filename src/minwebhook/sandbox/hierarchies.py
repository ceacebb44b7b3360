"""Where this process is in the trees of control groups (man 7 cgroups). Pure: from the text of two files of /proc.

Of version 1 there is a tree for each controller, or for a few; of version 2 there is one for all that are not in one of
version 1. Both may be there at once.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


class Hierarchy(NamedTuple):
    """One tree."""

    #: 1 or 2.
    version: int
    #: Those of version 1; of version 2 the files of a group tell.
    controllers: frozenset[str]
    #: The directory of the group of this process.
    folder: str


def find(memberships: str, mounts: str) -> list[Hierarchy]:
    """The trees that are mounted where this process sees its own group.

    ``memberships`` is /proc/self/cgroup (``ID:CONTROLLERS:PATH``), ``mounts`` is /proc/self/mountinfo (man 5 proc).
    """
    places: dict[tuple[int, frozenset[str]], str] = {}
    for line in memberships.splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        places[2 if number == "0" else 1, frozenset(filter(None, names.split(",")))] = path
    found: list[Hierarchy] = []
    for line in mounts.splitlines():
        fields, _, system = line.partition(" - ")
        described, kind = fields.split(" "), system.split(" ")
        if len(described) < 5 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        version = 2 if kind[0] == "cgroup2" else 1
        options = set(kind[-1].split(","))
        for (of_version, controllers), path in places.items():
            if of_version != version or not controllers <= options:
                continue
            root, mount_point = _plain(described[3]), _plain(described[4])
            below = _below(path, root)
            if below is not None and all(each.controllers != controllers for each in found):
                found.append(Hierarchy(version, controllers, mount_point.rstrip("/") + below))
    return found


def _below(path: str, root: str) -> str | None:
    """The rest of ``path`` behind ``root``; None if it is not there, or outside of what this process may see."""
    if path.startswith("/.."):
        return None
    root = root.rstrip("/")
    if path != root and not path.startswith(f"{root}/"):
        return None
    return path[len(root) :].rstrip("/")


def _plain(text: str) -> str:
    """A path of mountinfo, where blanks are octal."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)
