"""What there is to say about a language that a program of the machine runs.

Four ways of running one: a program with a wrapper is started beforehand and waits, so that a job pays for its own work
only (``waits``); it is started for the job (``arguments`` alone); a compiler builds a program, which is kept for further jobs of
the same script, and run (``build``); or the script is the program. All but the first have the arguments as JSON on their
standard input.

A wrapper that waits reads one line from its standard input, a JSON object with ``variables`` (its environment),
``parameters`` (those of ``main``, as :func:`~minwebhook.child.programs.parameters.parameters` gives them) and
``arguments``; no line: it ends. It
then runs the script, the file ``main`` with the language's ending, calls ``main``, and writes to ``result.json`` what that
gave; or, when it failed, the error object, and exits with 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from minwebhook.child.programs.parameters import Parameter

#: Where a build has its files, and the file that it makes, beside that directory.
BUILD: Final = "build"
BUILT: Final = "program"


class Program(NamedTuple):  # dataclasses would bring inspect along into every child
    """One language."""

    #: Its name on the wire.
    language: str
    #: Its name for people.
    title: str
    #: The ending of its files, with the dot; "" if they have none.
    extension: str
    #: Names of the program, as it is looked for on PATH; none if it needs none but the script itself.
    names: tuple[str, ...]
    #: What to do if it is not there.
    install: str
    #: Arguments with which the program ends well if all is there that the wrapper needs.
    check: tuple[str, ...] = ()
    #: The program's arguments.
    arguments: tuple[str, ...] = ()
    #: Whether it is started beforehand, and reads the job from its standard input.
    waits: bool = False
    #: Files and directories of the machine that it reads, where they exist, besides those that all scripts see.
    paths: tuple[str, ...] = ()
    #: Variables of its environment.
    variables: tuple[tuple[str, str], ...] = ()
    #: The parameters of ``main`` in this source.
    parameters: Callable[[str], list[Parameter]] = lambda _: []
    #: The files made of a source, by their names; None for the source alone, as ``main`` with the ending.
    files: Callable[[bytes], dict[str, bytes]] | None = None
    #: Whether it reserves more addresses than it uses memory, so that these cannot be what is bounded.
    reserves_addresses: bool = False
    #: Arguments with which the program builds :data:`BUILT` of the files, which then is run; none if it builds nothing.
    build: tuple[str, ...] = ()
