"""The Ed25519 verification inside the script for Discord: the vectors of RFC 8032, odd encodings, and PyNaCl's verdict."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from examples.scripts.f.discord import interaction as ed25519

#: RFC 8032, section 7.1: name, public key, message, signature.
VECTORS: Final = [
    (
        "TEST 1",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "TEST 2",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "TEST 3",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "TEST 1024",
        "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
        "08b8b2b733424243760fe426a4b54908632110a66c2f6591eabd3345e3e4eb98"
        "fa6e264bf09efe12ee50f8f54e9f77b1e355f6c50544e23fb1433ddf73be84d8"
        "79de7c0046dc4996d9e773f4bc9efe5738829adb26c81b37c93a1b270b20329d"
        "658675fc6ea534e0810a4432826bf58c941efb65d57a338bbd2e26640f89ffbc"
        "1a858efcb8550ee3a5e1998bd177e93a7363c344fe6b199ee5d02e82d522c4fe"
        "ba15452f80288a821a579116ec6dad2b3b310da903401aa62100ab5d1a36553e"
        "06203b33890cc9b832f79ef80560ccb9a39ce767967ed628c6ad573cb116dbef"
        "efd75499da96bd68a8a97b928a8bbc103b6621fcde2beca1231d206be6cd9ec7"
        "aff6f6c94fcd7204ed3455c68c83f4a41da4af2b74ef5c53f1d8ac70bdcb7ed1"
        "85ce81bd84359d44254d95629e9855a94a7c1958d1f8ada5d0532ed8a5aa3fb2"
        "d17ba70eb6248e594e1a2297acbbb39d502f1a8c6eb6f1ce22b3de1a1f40cc24"
        "554119a831a9aad6079cad88425de6bde1a9187ebb6092cf67bf2b13fd65f270"
        "88d78b7e883c8759d2c4f5c65adb7553878ad575f9fad878e80a0c9ba63bcbcc"
        "2732e69485bbc9c90bfbd62481d9089beccf80cfe2df16a2cf65bd92dd597b07"
        "07e0917af48bbb75fed413d238f5555a7a569d80c3414a8d0859dc65a46128ba"
        "b27af87a71314f318c782b23ebfe808b82b0ce26401d2e22f04d83d1255dc51a"
        "ddd3b75a2b1ae0784504df543af8969be3ea7082ff7fc9888c144da2af58429e"
        "c96031dbcad3dad9af0dcbaaaf268cb8fcffead94f3c7ca495e056a9b47acdb7"
        "51fb73e666c6c655ade8297297d07ad1ba5e43f1bca32301651339e22904cc8c"
        "42f58c30c04aafdb038dda0847dd988dcda6f3bfd15c4b4c4525004aa06eeff8"
        "ca61783aacec57fb3d1f92b0fe2fd1a85f6724517b65e614ad6808d6f6ee34df"
        "f7310fdc82aebfd904b01e1dc54b2927094b2db68d6f903b68401adebf5a7e08"
        "d78ff4ef5d63653a65040cf9bfd4aca7984a74d37145986780fc0b16ac451649"
        "de6188a7dbdf191f64b5fc5e2ab47b57f7f7276cd419c17a3ca8e1b939ae49e4"
        "88acba6b965610b5480109c8b17b80e1b7b750dfc7598d5d5011fd2dcc5600a3"
        "2ef5b52a1ecc820e308aa342721aac0943bf6686b64b2579376504ccc493d97e"
        "6aed3fb0f9cd71a43dd497f01f17c0e2cb3797aa2a2f256656168e6c496afc5f"
        "b93246f6b1116398a346f1a641f3b041e989f7914f90cc2c7fff357876e506b5"
        "0d334ba77c225bc307ba537152f3f1610e4eafe595f6d9d90d11faa933a15ef1"
        "369546868a7f3a45a96768d40fd9d03412c091c6315cf4fde7cb68606937380d"
        "b2eaaa707b4c4185c32eddcdd306705e4dc1ffc872eeee475a64dfac86aba41c"
        "0618983f8741c5ef68d3a101e8a3b8cac60c905c15fc910840b94c00a0b9d0",
        "0aab4c900501b3e24d7cdf4663326a3a87df5e4843b2cbdb67cbf6e460fec350"
        "aa5371b1508f9f4528ecea23c436d94b5e8fcd4f681e30a6ac00a9704a188a03",
    ),
    (
        "TEST SHA(abc)",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
        "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]
KEY, MESSAGE, SIGNATURE = (bytes.fromhex(text) for text in VECTORS[2][1:])
seeds: Final = st.binary(min_size=32, max_size=32)


def nacl_verifies(key: bytes, signature: bytes, message: bytes) -> bool:
    """The verdict of libsodium."""
    try:
        VerifyKey(key).verify(message, signature)
    except BadSignatureError:
        return False
    return True


def number(data: bytes) -> int:
    """Little-endian."""
    return int.from_bytes(data, "little")


def as_bytes(value: int) -> bytes:
    """Little-endian, 32 bytes."""
    return value.to_bytes(32, "little")


@pytest.mark.parametrize(("name", "key", "message", "signature"), VECTORS, ids=lambda value: value[:16])
def test_the_vectors_of_rfc_8032(name: str, key: str, message: str, signature: str) -> None:
    assert ed25519.verify(bytes.fromhex(key), bytes.fromhex(signature), bytes.fromhex(message)), name


@pytest.mark.parametrize("place", range(64))
def test_every_byte_of_a_signature_counts(place: int) -> None:
    changed = SIGNATURE[:place] + bytes([SIGNATURE[place] ^ 1]) + SIGNATURE[place + 1 :]
    assert not ed25519.verify(KEY, changed, MESSAGE)


@pytest.mark.parametrize("times", range(1, 16))
def test_s_must_be_below_the_order(times: int) -> None:
    s = number(SIGNATURE[32:]) + times * ed25519.ORDER  # as a factor of the base point it is the same
    assert not ed25519.verify(KEY, SIGNATURE[:32] + as_bytes(s), MESSAGE)


@pytest.mark.parametrize(
    "signature", [b"", SIGNATURE[:32], SIGNATURE[:63], SIGNATURE + b"\0", 2 * SIGNATURE, bytes(64)]
)
def test_a_signature_of_another_length_is_none(signature: bytes) -> None:
    assert not ed25519.verify(KEY, signature, MESSAGE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        KEY[:31],
        KEY + b"\0",
        as_bytes(ed25519.P),  # y = 0, not reduced
        as_bytes(ed25519.P + 1),  # the neutral element, not reduced
        as_bytes(2**255 - 1),
        as_bytes(1 | 1 << 255),  # x = 0 with the sign of an odd x
        as_bytes(ed25519.P - 1 | 1 << 255),
        as_bytes(2),  # no x belongs to this y
        b"\xff" * 32,
    ],
    ids=bytes.hex,
)
def test_what_is_no_point(data: bytes) -> None:
    with pytest.raises(ValueError, match="no point"):
        ed25519.decode(data)
    with pytest.raises(ValueError, match="no point"):
        ed25519.verify(data, SIGNATURE, MESSAGE)


def test_r_that_is_not_reduced_is_refused() -> None:
    # For R = the neutral element, s = k * secret: whoever has the key can sign so, in two encodings of one point.
    import hashlib

    seed = bytes(range(32))
    scalar = number(hashlib.sha512(seed).digest()[:32]) & ((1 << 254) - 8) | (1 << 254)
    key = SigningKey(seed).verify_key.encode()

    def signature(r: bytes) -> bytes:
        k = number(hashlib.sha512(r + key + MESSAGE).digest())
        return r + as_bytes(k * scalar % ed25519.ORDER)

    assert ed25519.verify(key, signature(as_bytes(1)), MESSAGE)
    assert not ed25519.verify(key, signature(as_bytes(ed25519.P + 1)), MESSAGE)


@given(n=st.integers(0, ed25519.ORDER * 4), m=st.integers(0, ed25519.ORDER - 1))
def test_multiples_add_up(n: int, m: int) -> None:
    base, order = ed25519.BASE, ed25519.ORDER

    def multiple(factor: int) -> bytes:
        return ed25519.encode(ed25519.sum_of_multiples(factor % order, base, 0, base))

    assert ed25519.encode(ed25519.sum_of_multiples(n % order, base, m, base)) == multiple(n + m)
    assert ed25519.encode(ed25519.decode(multiple(n))) == multiple(n)


@given(seed=seeds, message=st.binary(max_size=300))
def test_what_pynacl_signs_is_taken(seed: bytes, message: bytes) -> None:
    key = SigningKey(seed)
    assert ed25519.verify(key.verify_key.encode(), key.sign(message).signature, message)


@given(seed=seeds, message=st.binary(max_size=100), data=st.data())
def test_both_come_to_the_same_verdict(seed: bytes, message: bytes, data: st.DataObject) -> None:
    signing = SigningKey(seed)
    key, signature = signing.verify_key.encode(), signing.sign(message).signature
    place, bit = data.draw(st.integers(0, len(key + signature + message) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(key + signature + message)
    changed[place] ^= 1 << bit
    key, signature, message = bytes(changed[:32]), bytes(changed[32:96]), bytes(changed[96:])
    try:
        verdict = ed25519.verify(key, signature, message)
    except ValueError:
        verdict = False
    assert verdict == nacl_verifies(key, signature, message)
