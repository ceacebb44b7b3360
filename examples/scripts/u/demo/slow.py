"""Takes its time: better called asynchronously."""

import time


def main(seconds: float = 1.0) -> str:
    print(f"working for {seconds:g} s")
    time.sleep(seconds)
    return "done"
