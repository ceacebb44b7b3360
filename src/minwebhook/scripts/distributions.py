"""Which distribution gives a module, where their names differ. Pure data.

Modules are written as imported, distributions as normalized names (PEP 503). The longest module that fits counts. What is
missing here can be said by a ``# pin:`` on the import, or by a ``# requirements:`` block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DISTRIBUTIONS: Final[Mapping[str, str]] = {
    "attr": "attrs",
    "azure.identity": "azure-identity",
    "azure.keyvault.secrets": "azure-keyvault-secrets",
    "azure.storage.blob": "azure-storage-blob",
    "bs4": "beautifulsoup4",
    "Crypto": "pycryptodome",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "discord": "discord-py",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "pymupdf",
    "git": "gitpython",
    "google.auth": "google-auth",
    "google.genai": "google-genai",
    "google.generativeai": "google-generativeai",
    "google.oauth2": "google-auth",
    "google.protobuf": "protobuf",
    "googleapiclient": "google-api-python-client",
    "grpc": "grpcio",
    "jose": "python-jose",
    "jwt": "pyjwt",
    "kafka": "kafka-python",
    "ldap": "python-ldap",
    "magic": "python-magic",
    "mpl_toolkits": "matplotlib",
    "MySQLdb": "mysqlclient",
    "nacl": "pynacl",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow",
    "pkg_resources": "setuptools",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "slugify": "python-slugify",
    "snowflake.connector": "snowflake-connector-python",
    "telegram": "python-telegram-bot",
    "umap": "umap-learn",
    "usb": "pyusb",
    "websocket": "websocket-client",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}

#: Modules below which each one comes in a distribution of its own, named by all its parts: ``google.cloud.storage``.
SHARED_ROOTS: Final = ("google.cloud",)


def distribution_of(module: str) -> str | None:
    """The normalized name of the distribution that gives ``module``; None if that cannot be said."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        found = DISTRIBUTIONS.get(".".join(parts[:length]))
        if found is not None:
            return found
    for root in SHARED_ROOTS:
        depth = root.count(".") + 1
        if parts[:depth] == root.split("."):
            return "-".join(parts[: depth + 1]).replace("_", "-").lower() if len(parts) > depth else None
    return parts[0].replace("_", "-").lower()
