"""The languages that are run by a program found on the machine: a file for each, and one (:mod:`running`) that runs them.

A new language is a file here, its line in :data:`PROGRAMS` and in ``Language`` of ``scripts/model.py``, and its rows in
``tests/integration/languages``.
"""

from __future__ import annotations

from typing import Final

from minwebhook.child.programs.executable import EXECUTABLE
from minwebhook.child.programs.go import GO
from minwebhook.child.programs.perl import PERL
from minwebhook.child.programs.php import PHP
from minwebhook.child.programs.powershell import POWERSHELL
from minwebhook.child.programs.program import Program
from minwebhook.child.programs.ruby import RUBY

PROGRAMS: Final[dict[str, Program]] = {each.language: each for each in (EXECUTABLE, GO, PERL, PHP, POWERSHELL, RUBY)}
