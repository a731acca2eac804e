"""Keys and tokens of an issuer, good and forged: made of RSA itself, so that nothing is shared with what verifies."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

HASHES = {"RS256": hashes.SHA256(), "RS384": hashes.SHA384(), "RS512": hashes.SHA512()}


@dataclass(frozen=True)
class Key:
    """One RSA key; `kid` is what it is called."""

    private: rsa.RSAPrivateKey
    kid: str

    def jwk(self, **more: Any) -> dict[str, Any]:
        """How a key set lists it; None takes a member away."""
        numbers = self.private.public_key().public_numbers()
        listed = {"kty": "RSA", "use": "sig", "kid": self.kid, "n": _number(numbers.n), "e": _number(numbers.e)}
        return {name: value for name, value in (listed | more).items() if value is not None}

    def pem(self) -> bytes:
        """The public half."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(serialization.Encoding.PEM, form)

    def token(self, claims: Any, *, alg: str = "RS256", **header: Any) -> str:
        """A signed token; None takes a member of the header away."""
        whole = {"typ": "JWT", "alg": alg, "kid": self.kid} | header
        signed = f"{part({name: value for name, value in whole.items() if value is not None})}.{part(claims)}"
        return f"{signed}.{encoded(self.private.sign(signed.encode(), padding.PKCS1v15(), HASHES[alg]))}"

    def shared(self, claims: Any, secret: bytes) -> str:
        """The same claims under HS256 with what everybody knows."""
        signed = f"{part({'typ': 'JWT', 'alg': 'HS256', 'kid': self.kid})}.{part(claims)}"
        return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


@cache
def key(kid: str, bits: int = 2048) -> Key:
    """The key of this name; made once."""
    return Key(rsa.generate_private_key(public_exponent=65537, key_size=bits), kid)


def part(value: Any) -> str:
    """A part of a token."""
    return encoded(value if isinstance(value, bytes) else json.dumps(value).encode())


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(value: int) -> str:
    return encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))
