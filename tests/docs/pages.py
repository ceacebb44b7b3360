"""The pages that tests look at, and the commands in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))
_CONSOLE: Final = re.compile(r"^```console\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT: Final = "$ "


@dataclass(frozen=True)
class Command:
    """A line after a prompt in a ``console`` block, and the output that the page shows below it."""

    page: Path
    line: int
    text: str
    output: str

    @property
    def id(self) -> str:
        """Where it is."""
        return f"{self.page.name}:{self.line}"


def commands_of(page: Path) -> list[Command]:
    """Every command of the page's ``console`` blocks, in order."""
    source = page.read_text(encoding="utf-8")
    found: list[Command] = []
    for block in _CONSOLE.finditer(source):
        first_line = source.count("\n", 0, block.start("text")) + 1
        texts: list[tuple[int, str, list[str]]] = []
        for number, line in enumerate(block["text"].splitlines(), first_line):
            if line.startswith(_PROMPT):
                texts.append((number, line.removeprefix(_PROMPT), []))
            else:
                assert texts, f"{page.name}:{number}: a console block begins with a prompt"
                texts[-1][2].append(line)
        found += [Command(page, number, text, "\n".join(output)) for number, text, output in texts]
    return found
