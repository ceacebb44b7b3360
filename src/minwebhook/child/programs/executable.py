"""Any executable: a script that says by its first line (``#!``) which program runs it. Windmill has no such language.

It reads its arguments as JSON from standard input; its result is what it writes to ``result.json``, else its last line.
"""

from __future__ import annotations

import re
from typing import Final

from minwebhook.child.programs.program import Program

#: The program, and the name that ``env`` looks for; ``env`` may have options and variables in front of it.
_FIRST_LINE: Final = re.compile(
    r"#![ \t]*(?P<program>/\S*)(?:[ \t]+(?:(?:-\S*|\w+=\S*)[ \t]+)*(?P<name>[^\s=-][^\s=]*))?"
)


def program_of(line: str) -> str:
    """What the first line of a script names: the path of a program, or a name on the PATH; "" for nothing."""
    match = _FIRST_LINE.match(line)
    if match is None:
        return ""
    is_env = match["program"].endswith("/env") and match["name"]
    return str(match["name"] if is_env else match["program"])


EXECUTABLE: Final = Program(
    language="exec",
    title="executable",
    extension="",
    names=(),
    install="begin the script with #! and the path of a program that is there",
)
