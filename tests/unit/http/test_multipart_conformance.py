"""The cases of ``multipart-form-data-conformance``: an outside opinion on what bodies mean.

Its own text calls it early and unverified, so where we differ, the table below says how and why.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import multipart_form_data_conformance
import pytest

from minwebhook.errors import BadRequest
from minwebhook.http.multipart import Field, FileData, FileStart, MultipartReader, boundary

#: Name, filename, Content-Type and bytes of each part; None for a body that is refused.
Parts = list[tuple[str, str | None, str | None, bytes]] | None

#: By case: what we read instead, and why.
DEVIATIONS: dict[str, tuple[Parts, str]] = {
    "061-lf-only-lenient": (None, "only CRLF ends a line, as in request heads; the case allows it"),
    "062-mixed-endings": (None, "only CRLF ends a line, as in request heads; the case allows it"),
    "081-missing-content-type": (
        [("file", None, None, b"text content")],
        "a filename alone makes no file (Windmill's rule): it is a text field, and those have no filename",
    ),
    "085-header-folding": (None, "folded header lines are refused, as in request heads; to the case they are optional"),
    "086-parameter-ordering": (
        [("file", None, None, b"content")],
        "a filename alone makes no file, as in 081; the name is found, which is what the case is about",
    ),
    "208-duplicate-headers": (None, "two names for one part are no question to leave to luck; the case allows it"),
}

CASES = sorted(path.parent for path in multipart_form_data_conformance.get_tests_dir().glob("*/*/test.json"))


def expected_parts(case: Path, description: dict[str, Any]) -> Parts:
    if not description["expected"]["valid"]:
        return None
    return [
        # RFC 6266 §4.3: a receiver that knows both forms takes the extended one
        (part["name"], part.get("filename_star") or part["filename"], part["content_type"], expected_data(case, part))
        for part in description["expected"]["parts"]
    ]


def expected_data(case: Path, part: dict[str, Any]) -> bytes:
    if "body_text" in part:
        return str(part["body_text"]).encode()
    if "body_base64" in part:
        return base64.b64decode(part["body_base64"])
    # The case with a checksum has one part, whose size is given too.
    raw = (case / "input.raw").read_bytes()
    start = raw.index(b"\r\n\r\n") + 4
    data = raw[start : start + part["body_size"]]
    assert hashlib.sha256(data).hexdigest() == part["body_sha256"]
    return data


def read(content_type: str, raw: bytes, piece_bytes: int) -> Parts:
    parts: list[tuple[str, str | None, str | None, bytes]] = []
    try:
        reader = MultipartReader(boundary(content_type))
        for at in range(0, len(raw), piece_bytes):
            for event in reader.feed(raw[at : at + piece_bytes]):
                match event:
                    case Field(name, value):
                        parts.append((name, None, None, value.encode()))
                    case FileStart(name, filename, part_type):
                        parts.append((name, filename, part_type, b""))
                    case FileData(data):
                        parts[-1] = (*parts[-1][:3], parts[-1][3] + data)
        reader.finish()
    except BadRequest:
        return None
    return parts


def test_the_suite_is_whole() -> None:
    assert len(CASES) == 58
    assert {case.name for case in CASES} >= DEVIATIONS.keys()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_conformance(case: Path) -> None:
    description = json.loads((case / "test.json").read_text(encoding="utf-8"))
    content_type = json.loads((case / "headers.json").read_text(encoding="utf-8"))["content-type"]
    raw = (case / "input.raw").read_bytes()
    expected = expected_parts(case, description)
    if case.name in DEVIATIONS:
        ours, reason = DEVIATIONS[case.name]
        assert ours != expected, f"no longer a deviation: {reason}"
        expected = ours
    for piece_bytes in (len(raw), 7, 1):
        assert read(content_type, raw, piece_bytes) == expected
