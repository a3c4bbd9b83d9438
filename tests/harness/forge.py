"""Tokens that no honest tool would make: blocks signed by hand over arbitrary protobuf bytes.

The layout is the specification's `schema.proto`; nothing here is shared with the code under test. A `Token` is the outer
message taken apart, so that a test can change one thing and leave every signature around it valid.
"""

import base64
import struct

import biscuit_auth
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
RAW_PRIVATE = (serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))


def read_varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def fields(data):
    """[(number, value)] of a message; varints as int, everything else as bytes."""
    found, at = [], 0
    while at < len(data):
        key, at = read_varint(data, at)
        if key & 7 == 0:
            value, at = read_varint(data, at)
        elif key & 7 == 2:
            length, at = read_varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            raise ValueError(f"wire type {key & 7}")
        found.append((key >> 3, value))
    return found


def message(*pairs):
    """A message from (number, int or bytes or str) pairs."""
    out = b""
    for number, value in pairs:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def decode(text):
    text = text.removeprefix("biscuit:").rstrip("=")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encode(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Token:
    """The outer message, taken apart: `root_key_id`, `blocks` (authority first, each as its bytes), `proof`, and the
    fields that nobody knows."""

    def __init__(self, text=None):
        self.root_key_id, self.blocks, self.proof, self.unknown = None, [], b"", b""
        if text is None:
            return
        authority, rest = [], []
        for number, value in fields(decode(text)):
            if number == 1:
                self.root_key_id = value
            elif number == 2:
                authority.append(value)
            elif number == 3:
                rest.append(value)
            elif number == 4:
                self.proof = value
        self.blocks = authority + rest

    @property
    def text(self):
        return encode(self.bytes)

    @property
    def bytes(self):
        pairs = [(1, self.root_key_id)] if self.root_key_id is not None else []
        pairs += [(2, self.blocks[0])] + [(3, b) for b in self.blocks[1:]] + [(4, self.proof)]
        return message(*pairs) + self.unknown

    @property
    def next_secret(self):
        """The key with which anyone may append, as every unsealed token carries it."""
        ((number, secret),) = fields(self.proof)
        assert number == 1, "the token is sealed"
        return Ed25519PrivateKey.from_private_bytes(secret)

    def sign(self, key, block, next_key=None, algorithm=0):
        """Adds a block signed by `key`, with a fresh next key. Signature version 0, as the specification's section on
        signatures says: the block, the next key's algorithm, the next key."""
        next_key = next_key or Ed25519PrivateKey.generate()
        if algorithm == 0:
            public = next_key.public_key().public_bytes(*RAW)
        else:
            public = next_key.public_key().public_bytes(
                serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
            )
        signature = key.sign(block + struct.pack("<i", algorithm) + public)
        self.blocks.append(message((1, block), (2, message((1, algorithm), (2, public))), (3, signature)))
        if algorithm == 0:
            self.proof = message((1, next_key.private_bytes(*RAW_PRIVATE)))
        else:
            secret = next_key.private_numbers().private_value.to_bytes(32, "big")
            self.proof = message((1, secret))
        return self

    def append(self, block):
        """Appends a block as any holder can."""
        return self.sign(self.next_secret, block)


def root_key(state):
    """The root key of a state folder, for forging what the real minting refuses to make."""
    text = (state / "root.key").read_text().strip()
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(text.removeprefix("ed25519-private/")))


def python_root_key(state):
    """The same, as biscuit-python wants it."""
    return biscuit_auth.PrivateKey((state / "root.key").read_text().strip())


def python_public_key(state):
    return biscuit_auth.PublicKey((state / "root.pub").read_text().strip())


def block_of(source):
    """The protobuf of a block with this Datalog, made by biscuit-python. Its own symbols start after those
    of an empty authority, so it
    is a complete authority block and nothing else."""
    key = biscuit_auth.KeyPair()
    text = biscuit_auth.BiscuitBuilder(source).build(key.private_key).to_base64()
    return dict(fields(Token(text).blocks[0]))[1]


def mint(state, source, key_id=0):
    """A token with any authority block, signed by the state folder's root key."""
    builder = biscuit_auth.BiscuitBuilder(source)
    if key_id is not None:
        builder.set_root_key_id(key_id)
    return builder.build(python_root_key(state)).to_base64()


def append(state, text, source):
    """Appends any Datalog; the public key is only needed because of the library's interface."""
    token = biscuit_auth.Biscuit.from_base64(text, python_public_key(state))
    return token.append(biscuit_auth.BlockBuilder(source)).to_base64()


def append_third_party(state, text, source, key):
    """Appends a block signed by a third party's key pair."""
    token = biscuit_auth.Biscuit.from_base64(text, python_public_key(state))
    block = token.third_party_request().create_block(key.private_key, biscuit_auth.BlockBuilder(source))
    return token.append_third_party(key.public_key, block).to_base64()


def p256_chain(state, block):
    """A token under the Ed25519 root whose next key is a P-256 one, and one more block signed by it."""
    key = ec.generate_private_key(ec.SECP256R1())
    token = Token().sign(root_key(state), block, next_key=key, algorithm=1)
    token.root_key_id = 0

    class Signer:
        @staticmethod
        def sign(data):
            return key.sign(data, ec.ECDSA(hashes.SHA256()))

    return token, Signer
