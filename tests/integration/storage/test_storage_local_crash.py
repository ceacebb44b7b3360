"""A server that is killed in the middle of uploads: the next one finds whole objects and removes the rest."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from minwebhook.storage.keys import ObjectKey
from minwebhook.storage.local import LocalBackend

#: Stores version after version of two objects, each of 3 MiB and of a type of its own, and says when one is begun.
WRITER = """
import sys
from pathlib import Path
from minwebhook.storage.keys import ObjectKey
from minwebhook.storage.local import LocalBackend
from minwebhook.storage.model import ObjectHeaders

backend = LocalBackend.open(Path(sys.argv[1]))
for number in range(1000):
    for key in ("x/a", f"y/{number}/b"):
        sink = backend.open_sink(ObjectKey(key), ObjectHeaders(f"text/v{number}"))
        for part in range(3):
            sink.write(number.to_bytes(4, "big") * (1024 * 1024 // 4))
            print(key, flush=True)
        sink.commit(b"")
"""


def test_kill_at_any_time_leaves_whole_objects(root: Path) -> None:
    for steps in (1, 2, 3, 4, 7, 12, 20):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(root)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(steps):
                assert writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
        left = list((root / ".minwebhook" / "new").iterdir())
        backend = LocalBackend.open(root)
        assert list((root / ".minwebhook" / "new").iterdir()) == []
        sum(backend.sweep(0))
        assert sum(backend.sweep(0)) == 0
        for found in backend.list("", "", 1000).objects:
            check(backend, found.key)
        sidecars = sum(1 for path in (root / ".minwebhook" / "info").rglob("*") if path.is_file())
        assert sidecars == len(backend.list("", "", 1000).objects)
        backend.close()
        if steps == 1:
            assert left, "it was killed in the middle of an upload"


def check(backend: LocalBackend, key: ObjectKey) -> None:
    """Content and type are of one version."""
    source = backend.open_source(key, None)
    try:
        data = b"".join(iter(source.read, b""))
    finally:
        source.close()
    assert data == data[:4] * (3 * 1024 * 1024 // 4)
    assert source.info.size == len(data)
    assert source.info.headers.content_type == f"text/v{int.from_bytes(data[:4], 'big')}"
