"""Any executable: a script that says by its first line (``#!``) which program runs it. Windmill has no such language.

It reads its arguments as JSON from standard input; its result is what it writes to ``result.json``, else its last line.
"""

from __future__ import annotations

from typing import Final

from minwebhook.child.programs.program import Program

EXECUTABLE: Final = Program(
    language="exec",
    title="executable",
    extension="",
    names=(),
    install="begin the script with #! and the path of a program that is there",
)
