"""Prepares the benchmark: the peers' own virtual environment, Debian's webhook, and the load client.

What is there already is left alone, so it can be run again at any time. As root on Debian the missing Debian packages
are installed; otherwise they are named. Ends with status 1 only when the load client could not be built: the benchmark
leaves missing peers out.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import loadclient
from bench.paths import BARE_VENV, LOAD_BINARY, LOAD_SOURCE, PEER_REQUIREMENTS, PEER_VENV

INSTALL_TIMEOUT_S: Final = 600.0

#: Program → the Debian packages that bring it.
DEBIAN_PACKAGES: Final = {"webhook": ("webhook",), "cc": ("gcc", "libc6-dev")}


def digest(*parts: bytes) -> str:
    """A name for what a thing was made of; a thing with the same name need not be made again."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def install_debian_packages() -> list[str]:
    """Install what is missing, where that is possible; one line for each program that is still missing."""
    missing = [program for program in DEBIAN_PACKAGES if shutil.which(program) is None]
    packages = [package for program in missing for package in DEBIAN_PACKAGES[program]]
    if packages and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        print(f"installing Debian packages: {' '.join(packages)}", flush=True)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            ["apt-get", "-q", "update"],
            ["apt-get", "-q", "install", "-y", "--no-install-recommends", *packages],
        ):
            try:
                subprocess.run(command, env=environment, check=True, timeout=INSTALL_TIMEOUT_S)
            except (OSError, subprocess.SubprocessError) as error:
                print(f"{' '.join(command[:3])} failed: {error}")
                break
    return [
        f"{program} (Debian packages: {' '.join(DEBIAN_PACKAGES[program])})"
        for program in missing
        if shutil.which(program) is None
    ]


def install_python_peers() -> list[str]:
    """Fill the peers' environment, unless it holds exactly these requirements; a line when that fails."""
    made_of = digest(PEER_REQUIREMENTS.read_bytes(), sys.version.encode())
    stamp = PEER_VENV / "made-of"
    if stamp.exists() and stamp.read_text() == made_of:
        return []
    print(f"installing the Python peers into {PEER_VENV}", flush=True)
    venv.create(PEER_VENV, with_pip=True, clear=True)
    command = [str(PEER_VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        subprocess.run([*command, "-r", str(PEER_REQUIREMENTS)], check=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.SubprocessError as error:
        return [f"the Python peers ({error})"]
    stamp.write_text(made_of)
    return []


def make_bare_environment() -> None:
    """An environment without packages around the real interpreter, for webhook's Python script."""
    stamp = BARE_VENV / "made-of"
    made_of = digest(sys.version.encode())
    if stamp.exists() and stamp.read_text() == made_of:
        return
    venv.create(BARE_VENV, symlinks=True, clear=True)
    stamp.write_text(made_of)


def build_load_client() -> list[str]:
    """Compile the load client, unless the binary is of this very source; a line when that fails."""
    made_of = digest(LOAD_SOURCE.read_bytes())
    stamp = LOAD_BINARY.with_suffix(".made-of")
    if LOAD_BINARY.exists() and stamp.exists() and stamp.read_text() == made_of:
        return []
    try:
        loadclient.build(LOAD_BINARY)
    except loadclient.LoadError as error:
        return [f"the load client ({error})"]
    stamp.write_text(made_of)
    return []


def main() -> int:
    """Prepare everything; say what is missing."""
    missing = install_debian_packages() + install_python_peers()
    make_bare_environment()
    no_client = build_load_client()
    for line in missing + no_client:
        print(f"missing: {line}")
    if no_client:
        return 1
    print("the benchmark is ready" + (", without what is missing" if missing else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
