"""RS256 for id_tokens (RFC 7515, RFC 7518 section 3.3): a key made when it is first needed, and again at each start."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


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

    def sign(self, claims: Mapping[str, Any], *, kid: str | None = None) -> str:
        """A compact JWS of the claims; `kid` says that it is another key's."""
        signed = _signed_part({"typ": "JWT", "alg": "RS256", "kid": kid or self.jwk["kid"]}, claims)
        return f"{signed}.{_encoded(self._key.sign(signed.encode(), padding.PKCS1v15(), SHA256()))}"

    def sign_as_if_shared(self, claims: Mapping[str, Any]) -> str:
        """HS256 with the public key, as PEM, for the secret: what takes in a client that lets the token choose how it
        is checked (RFC 8725 section 2.1)."""
        pem = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        signed = _signed_part({"typ": "JWT", "alg": "HS256", "kid": self.jwk["kid"]}, claims)
        return f"{signed}.{_encoded(hmac.digest(pem, signed.encode(), 'sha256'))}"


def unsigned(claims: Mapping[str, Any]) -> str:
    """`alg: none` (RFC 7519 section 6): anybody can write it."""
    return f"{_signed_part({'typ': 'JWT', 'alg': 'none'}, claims)}."


def _signed_part(header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    return f"{_json(header)}.{_json(claims)}"


def _json(value: Mapping[str, Any]) -> str:
    return _encoded(json.dumps(value, separators=(",", ":")).encode())


def _integer(value: int) -> str:
    return _encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
