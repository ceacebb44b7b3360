"""``minwebhook openapi``: prints the description of the API, as the server answers it at ``/api/openapi.json``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from minwebhook.api import yaml
from minwebhook.api.operations import api_document


def add_parser(commands: Any) -> None:
    """Adds the command; ``commands`` is what ``add_subparsers`` gave."""
    parser = commands.add_parser("openapi", help="print the OpenAPI document of the API")
    parser.add_argument("--yaml", action="store_true", help="Print YAML instead of JSON.")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the document."""
    document = api_document()
    print(yaml.dumps(document) if options.yaml else json.dumps(document, indent=2) + "\n", end="")
    return 0
