"""Gives its arguments back: shows what becomes of a request."""


def main(**arguments: object) -> dict[str, object]:
    return arguments
