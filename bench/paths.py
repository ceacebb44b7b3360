"""Where the benchmark keeps its parts. Everything that is built or measured is ignored by git."""

from __future__ import annotations

from pathlib import Path
from typing import Final

BENCH: Final = Path(__file__).resolve().parent

#: The peers' jobs, and what pip installs for them.
PEER_SOURCES: Final = BENCH / "peers"
PEER_REQUIREMENTS: Final = PEER_SOURCES / "requirements.txt"

#: Built by setup_peers.py.
PEERS: Final = BENCH / ".peers"
PEER_VENV: Final = PEERS / "venv"
#: An environment without any package, for the interpreter that webhook starts per call.
BARE_VENV: Final = PEERS / "bare"
LOAD_SOURCE: Final = BENCH / "load.c"
LOAD_BINARY: Final = PEERS / "load"

RESULTS: Final = BENCH / "results"
