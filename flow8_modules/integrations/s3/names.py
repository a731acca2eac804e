"""What a bucket, a key, an ACL and metadata may look like (Amazon S3 user guide), checked before any call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from flow8_modules import Fault

Acl = Literal[
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
]
PUBLIC_ACLS = frozenset({"public-read", "public-read-write", "authenticated-read"})
OWN_METADATA = "flow8-"
MAX_KEY_BYTES = 1024
MAX_METADATA_BYTES = 2048

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
_RESERVED = re.compile(r"(xn--|sthree-|amzn-s3-demo-).*|.*(-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_METADATA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_METADATA_VALUE = re.compile(r"[\x20-\x7e]*")


def check_bucket(name: str) -> None:
    """Raises `Fault`: no ARNs, no addresses, no upper case, no names that S3 reserves."""
    if not _BUCKET.fullmatch(name) or _ADDRESS.fullmatch(name) or _RESERVED.fullmatch(name) or ".." in name:
        raise Fault("is not the name of a bucket: 3 to 63 small letters, digits, dots and hyphens")


def check_key(key: str) -> None:
    """Raises `Fault`: path-style URLs of keys with ".." would lead out of the bucket."""
    if not key or len(key.encode()) > MAX_KEY_BYTES:
        raise Fault(f"should have 1 to {MAX_KEY_BYTES} bytes")
    if _CONTROL.search(key):
        raise Fault("holds control characters")
    if key.startswith("/"):
        raise Fault("should not begin with a slash")
    if any(part in (".", "..") for part in key.split("/")):
        raise Fault('should have no "." and no ".." between slashes')


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raises `Fault`: names are header names, values ASCII, at most 2 KB in all."""
    if sum(len(name) + len(value) for name, value in metadata.items()) > MAX_METADATA_BYTES - 100:  # ours go along
        raise Fault(f"should have less than {MAX_METADATA_BYTES - 100} bytes in all")
    for name, value in metadata.items():
        if not _METADATA_NAME.fullmatch(name) or name.lower().startswith(OWN_METADATA):
            raise Fault(f'should have names of letters, digits, "-", "_" and ".", not beginning with {OWN_METADATA}')
        if not _METADATA_VALUE.fullmatch(value) or value != value.strip():
            raise Fault("should have values of printable ASCII, without spaces at their ends")
