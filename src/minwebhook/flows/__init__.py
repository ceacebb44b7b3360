"""Flows: OpenFlow documents, and running them step by step (docs/flows.md)."""
