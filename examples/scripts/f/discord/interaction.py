"""An endpoint for Discord's interactions that believes only what Discord has signed within the last five minutes.

The interactions endpoint URL to enter at Discord:
.../jobs/run_wait_result/p/f/discord/interaction?raw=true&include_header=X-Signature-Ed25519,X-Signature-Timestamp&token=...

``raw=true`` gives the exact text of the body as ``raw_string``, ``include_header`` the headers as ``x_signature_ed25519`` and
``x_signature_timestamp``. Discord tries a PING and wrong signatures before it accepts the URL.
"""

import hashlib
import json
import time
from typing import Any

# FOR THE DEMO ONLY: change it to the public key of the application ("General Information").
DEMO_PUBLIC_KEY = "afce1324d2cb14ce6a6f10c407ccf6c5dda689066074c01124e9e0f7d78259cd"
TOLERANCE_S = 300
PING, COMMAND = 1, 2
PONG, MESSAGE = 1, 4


def main(raw_string: str = "", x_signature_ed25519: str = "", x_signature_timestamp: str = "") -> Any:
    # str(): if a header is missing, a member of the body may have its name, and be of any type.
    timestamp = str(x_signature_timestamp)
    if not is_signed(raw_string, timestamp, str(x_signature_ed25519)):
        return {"wm_status_code": 401, "result": "the signature does not fit the body"}
    if not is_recent(timestamp):
        return {"wm_status_code": 401, "result": "the timestamp is not within five minutes of now"}
    interaction = json.loads(raw_string)  # what was signed; arguments can come from elsewhere
    if interaction["type"] == PING:
        return {"type": PONG}
    if interaction["type"] != COMMAND:
        return {"wm_status_code": 400, "result": "only commands are known here"}
    command = interaction["data"]
    words = [f"/{command['name']}", *(str(option["value"]) for option in command.get("options", []))]
    return {"type": MESSAGE, "data": {"content": " ".join(words), "allowed_mentions": {"parse": []}}}


def is_signed(body: str, timestamp: str, signature: str) -> bool:
    try:
        return verify(bytes.fromhex(DEMO_PUBLIC_KEY), bytes.fromhex(signature), (timestamp + body).encode())
    except ValueError:  # not hexadecimal, or no point of the curve
        return False


def is_recent(timestamp: str) -> bool:
    try:
        return abs(int(time.time()) - int(timestamp)) <= TOLERANCE_S
    except ValueError:
        return False


# --- Ed25519 as in RFC 8032, section 5.1: verification only. All values are public, so its time may depend on them. ---

#: The field's prime, the order of the base point, the curve's constant, a square root of -1.
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)
#: A point in extended coordinates (x = X/Z, y = Y/Z, xy = T/Z): adding needs no division.
Point = tuple[int, int, int, int]
NEUTRAL: Point = (0, 1, 1, 0)


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the owner of the key has signed the message. Raises ValueError if the key is none. Takes some 2 ms."""
    encoded_r, s = signature[:32], int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= ORDER:  # s + ORDER would do as well: one message, two signatures
        return False
    x, y, z, t = decode(public_key)
    k = int.from_bytes(hashlib.sha512(encoded_r + public_key + message).digest(), "little") % ORDER
    return encode(sum_of_multiples(s, BASE, k, (-x, y, z, -t))) == encoded_r  # R = sB - kA


def sum_of_multiples(m: int, p: Point, n: int, q: Point) -> Point:
    """mp + nq, bit by bit from the top, both at once."""
    addends = {(0, 1): q, (1, 0): p, (1, 1): add(p, q)}
    total = NEUTRAL
    for bit in reversed(range(ORDER.bit_length())):
        total = add(total, total)
        bits = (m >> bit & 1, n >> bit & 1)
        if bits in addends:
            total = add(total, addends[bits])
    return total


def add(p: Point, q: Point) -> Point:
    """p + q; the formula holds for all points, also for p = q."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * D * p[3] * q[3] % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def decode(data: bytes) -> Point:
    """The point of 32 bytes: y, and the lowest bit of x on top. Raises ValueError if there is none, or y is not reduced."""
    number = int.from_bytes(data, "little")
    y, lowest_bit = number % 2**255, number >> 255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if len(data) != 32 or y >= P or (x * x - square) % P or (x == 0 and lowest_bit):
        raise ValueError("these bytes are no point of the curve")
    if x % 2 != lowest_bit:
        x = P - x
    return x, y, 1, x * y % P


def encode(point: Point) -> bytes:
    """The 32 bytes of a point."""
    x, y = (coordinate * pow(point[2], -1, P) % P for coordinate in point[:2])
    return (y | (x % 2) << 255).to_bytes(32, "little")


BASE = decode(bytes.fromhex("58" + 31 * "66"))
