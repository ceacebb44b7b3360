"""Wheels for tests: made here, so that no test needs an index for what it is about; and real ones, got by pip."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

_DOWNLOAD_S: Final = 300


def make_wheel(
    directory: Path, name: str, version: str, files: Mapping[str, str], requires: Iterable[str] = ()
) -> Path:
    """A pure Python wheel with these files; the distribution may have any name."""
    directory.mkdir(parents=True, exist_ok=True)
    spelled = name.replace("-", "_")
    info = f"{spelled}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    path = directory / f"{spelled}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in contents.items():
            archive.writestr(inside, text)
        record = "".join(f"{inside},{_digest(text)},{len(text.encode())}\n" for inside, text in contents.items())
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return path


def _digest(text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"


def download(directory: Path, *requirements: str) -> str:
    """Real wheels with all they need, by pip and whatever index it is configured for; "" or why that failed."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(directory)]
    done = subprocess.run([*command, *requirements], capture_output=True, text=True, timeout=_DOWNLOAD_S, check=False)
    return done.stderr.strip() or "pip failed" if done.returncode else ""
