"""Small libraries in C that a server of a test is started with (LD_PRELOAD): they see or change some of its calls."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).resolve().parent / "preload"


def compiled(name: str, folder: Path) -> Path:
    """The library of ``tests/preload/{name}.c``, made in ``folder`` by ``cc``."""
    target = folder / f"{name}.so"
    subprocess.run(
        ["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", target, SOURCES / f"{name}.c", "-ldl", "-pthread"],
        check=True,
        timeout=60,
    )
    return target
