"""RS256 for id_tokens (RFC 7515, RFC 7518 section 3.3): a key made when it is first needed, and again at each start."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256


class Signer:
    """One RSA key of 2048 bits."""

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @cached_property
    def jwk(self) -> dict[str, str]:
        """The public half (RFC 7517), with a `kid` that follows from it."""
        numbers = self._key.public_key().public_numbers()
        modulus, exponent = _integer(numbers.n), _integer(numbers.e)
        kid = _encoded(hashlib.sha256(modulus.encode()).digest()[:20])
        return {"kty": "RSA", "use": "sig", "kid": kid, "n": modulus, "e": exponent}

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A compact JWS of the claims."""
        header = {"typ": "JWT", "alg": "RS256", "kid": self.jwk["kid"]}
        signed = f"{_json(header)}.{_json(claims)}"
        return f"{signed}.{_encoded(self._key.sign(signed.encode(), padding.PKCS1v15(), SHA256()))}"


def _json(value: Mapping[str, Any]) -> str:
    return _encoded(json.dumps(value, separators=(",", ":")).encode())


def _integer(value: int) -> str:
    return _encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
