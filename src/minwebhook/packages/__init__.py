"""Packages that scripts import: found and installed by uv, once for all scripts that need the same ones."""
