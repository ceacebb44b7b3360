"""Secrets at rest: the keys that seal them, sealed texts, and the change of keys."""
