"""Streams its result: each string that ``main`` yields is sent on as it comes."""

import time
from collections.abc import Iterator


def main(words: str = "one two three", pause_s: float = 0.5) -> Iterator[str]:
    for number, word in enumerate(words.split()):
        if number:
            time.sleep(pause_s)
        print("word", number + 1)  # the log
        yield word + " "
