"""Opens a ticket. The preprocessor makes its arguments from the whole request, whatever the sender calls things."""

from typing import Any


def preprocessor(event: dict[str, Any]) -> dict[str, Any]:
    return {
        "title": event["body"]["issue"]["title"],
        "project": event["query"].get("project"),
        "sender": event["headers"].get("x-sender"),
    }


def main(title: str, project: str = "everything", sender: str = "somebody") -> str:
    return f"{sender} says of {project}: {title}"
