"""minwebhook: Windmill-compatible webhooks in one standalone process."""

__version__ = "0.1.0"
