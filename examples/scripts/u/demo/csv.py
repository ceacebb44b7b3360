"""Answers as it wants: with a status, a content type and headers of its own."""

from typing import Any


def main(rows: list[list[str]] | None = None) -> dict[str, Any]:
    rows = rows or [["Hello", "World"]]
    return {
        "wm_status_code": 201,
        "wm_content_type": "text/csv",
        "wm_headers": {"Content-Disposition": 'attachment; filename="table.csv"'},
        "result": "\n".join(";".join(row) for row in rows),
    }
