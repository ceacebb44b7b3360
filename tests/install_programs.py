"""Installs the programs that tests call, where that can be done: as root on Debian. Elsewhere it says what is missing.

Run by ``make test`` before pytest. Always ends well: a test whose program is missing is skipped by name (in CI it fails).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Final

#: Program -> Debian packages.
PROGRAMS: Final = {
    "bash": "bash",
    "curl": "curl",
    "cc": "gcc libc6-dev",  # with --no-install-recommends the compiler comes without headers
    "openssl": "openssl",
    "perl": "perl",
    "php": "php-cli",
    "ruby": "ruby",
    "go": "golang-go",
    "setsid": "util-linux",
    "nginx": "nginx-light",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
}
_TIMEOUT_S: Final = 600


def missing() -> dict[str, str]:
    """What is not there."""
    return {program: package for program, package in PROGRAMS.items() if shutil.which(program) is None}


def install(packages: list[str]) -> None:
    """Installs Debian packages; what goes wrong is printed."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
    ):
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"{' '.join(command)}: {error}", file=sys.stderr)
            return
        if done.returncode:
            print(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}", file=sys.stderr)


def main() -> int:
    """Installs what is missing if it may, then lists what still is."""
    lacking = missing()
    if lacking and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing for the tests: {' '.join(lacking.values())}", flush=True)
        install(sorted({package for packages in lacking.values() for package in packages.split()}))
    for program, package in missing().items():
        print(f"missing for some tests: {program} (Debian package {package})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
