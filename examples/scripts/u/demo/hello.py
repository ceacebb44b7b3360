"""Greets. Arguments are the members of the JSON body; the returned value is the answer."""


def main(name: str = "world", excited: bool = False) -> dict[str, str]:
    return {"greeting": f"Hello, {name}{'!' if excited else '.'}"}
