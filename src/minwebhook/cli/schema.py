"""``minwebhook schema FILE``: prints the JSON Schema of a script's arguments, as it gets it when it is deployed."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from minwebhook.errors import DeployError
from minwebhook.schemas.model import SchemaError
from minwebhook.schemas.reading import has_signature, read_schema
from minwebhook.scripts.model import Language, marked_language, split_extension


def add_parser(commands: Any) -> None:
    """Adds the command; ``commands`` is what ``add_subparsers`` gave."""
    parser = commands.add_parser("schema", help="print the JSON Schema of the arguments of a script")
    parser.add_argument("file", metavar="FILE", help="The script; - for standard input.")
    parser.add_argument(
        "--language",
        choices=[language.value for language in Language if has_signature(language.value)],
        help="Its language, if the name of the file does not say it.",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the schema. Raises :class:`DeployError` if there is none."""
    known = split_extension(options.file)
    if options.language is None and known is None:
        raise DeployError(f"{options.file}: say which language it is with --language")
    try:
        data = sys.stdin.buffer.read() if options.file == "-" else Path(options.file).read_bytes()
        content = data.decode("utf-8-sig")
        language = (
            Language(options.language) if options.language else marked_language(known[1], content) if known else None
        )
        schema = read_schema(language.value if language else "", content)
    except OSError as error:
        raise DeployError(f"{options.file}: {error.strerror}") from error
    except (UnicodeDecodeError, SchemaError) as error:
        raise DeployError(f"{options.file}: {error}") from error
    print(json.dumps(schema, indent=2, ensure_ascii=False))
    return 0
