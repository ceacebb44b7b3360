"""The HTTP API: one file per resource, thin; routes.py is the whole surface on one screen."""
