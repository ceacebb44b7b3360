"""What the command that serves imports: memory that every server has for as long as it runs."""

from __future__ import annotations

import subprocess
import sys

#: Each is imported by the first who asks for what it does.
LATE = {
    "email",
    "minwebhook.api.openapi",
    "minwebhook.schemas.typescript",
    "minwebhook.storage.s3",
    "nacl",
    "obstore",
    "smtplib",
    "tarfile",
}


def test_what_few_need_is_imported_later() -> None:
    program = "import sys, minwebhook.cli.serve, minwebhook.app; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert "minwebhook.jobs.executor" in names
    assert not LATE & set(names)
