"""Gives its one argument back: shows what becomes of a result."""


def main(body: object = None) -> object:
    return body
