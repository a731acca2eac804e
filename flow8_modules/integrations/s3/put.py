"""Storing one object: in one request where it is small, part by part with the memory of one part where it is not.

botocore's own `upload_fileobj` knows no If-None-Match and holds up to ten parts at once, so the loop is ours.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from flow8_modules import Context, Deadline, errors
from flow8_modules.integrations.s3.client import SERVICE, s3

MIB = 1 << 20
PART = 8 * MIB  # and the largest object that is sent in one request
MAX_PARTS = 9_500  # S3 takes 10,000
ABORT_S = 5.0
DIGEST = "flow8-sha256"


@dataclass(frozen=True)
class Target:
    """Where an object goes and what it carries. `extra` are botocore's arguments (ACL, ContentType, ...)."""

    bucket: str
    key: str
    metadata: Mapping[str, str]
    extra: Mapping[str, Any]
    if_absent: bool
    checksums: bool  # CRC-32 beside the signature: Amazon wants it for locked buckets, other servers may not know it

    @property
    def place(self) -> dict[str, Any]:
        return {"Bucket": self.bucket, "Key": self.key}


@dataclass(frozen=True)
class Stored:
    """What S3 says of the object. `existed`: the same content lay there already, and nothing was written."""

    etag: str
    version_id: str | None
    existed: bool = False


def store(ctx: Context, target: Target, body: BinaryIO, *, size: int) -> Stored:
    """Put `size` bytes of `body`, a seekable file, at the target.

    With `if_absent` an object of the same content counts as stored, and one of another raises `Conflict`. Raises
    `ValidationFailed` where the file changes meanwhile.
    """
    digest = _digest(body) if target.if_absent else None
    extra: dict[str, Any] = {**target.extra, "Metadata": {**target.metadata, **({DIGEST: digest} if digest else {})}}
    if target.checksums:
        extra["ChecksumAlgorithm"] = "CRC32"
    try:
        if size <= PART:
            return _in_one(ctx, target, body, extra, size=size)
        return _in_parts(ctx, target, body, extra, size=size)
    except errors.Conflict as error:
        if digest is None or error.provider_code not in ("PreconditionFailed", "412"):
            raise
        return _same_or(error, ctx, target, size=size, digest=digest)


def _in_one(ctx: Context, target: Target, body: BinaryIO, extra: Mapping[str, Any], *, size: int) -> Stored:
    data = body.read(PART + 1)
    if len(data) != size:
        raise _changed()
    with s3(ctx) as api:
        put = api.put_object(**target.place, Body=data, **extra, **_crc(target, data), **_condition(target))
    return _stored(put)


def _in_parts(ctx: Context, target: Target, body: BinaryIO, extra: Mapping[str, Any], *, size: int) -> Stored:
    with s3(ctx) as api:
        upload = _said(api.create_multipart_upload(**target.place, **extra), "UploadId")
    try:
        parts = _send_parts(ctx, target, body, upload=upload, size=size)
        with s3(ctx) as api:
            done = api.complete_multipart_upload(
                **target.place, UploadId=upload, MultipartUpload={"Parts": parts}, **_condition(target)
            )
    except BaseException:
        _abort(ctx, target, upload)
        raise
    return _stored(done)


def _send_parts(ctx: Context, target: Target, body: BinaryIO, *, upload: str, size: int) -> list[Any]:
    part_size = max(PART, _rounded_up(size / MAX_PARTS))
    parts: list[Any] = []
    sent = 0
    while data := body.read(part_size):
        sent += len(data)
        if sent > size:
            raise _changed()
        number, crc = len(parts) + 1, _crc(target, data)
        with s3(ctx) as api:
            part = api.upload_part(**target.place, UploadId=upload, PartNumber=number, Body=data, **crc)
        parts.append({"PartNumber": number, "ETag": _said(part, "ETag"), **crc})
        ctx.progress(sent, size, "bytes stored")
    if sent != size:
        raise _changed()
    return parts


def _abort(ctx: Context, target: Target, upload: str) -> None:
    """Give the parts back: S3 charges for those of unfinished uploads. Best effort, with a little time of its own."""
    deadline = Deadline.after(ABORT_S, ctx.deadline.clock)
    try:
        with s3(ctx, deadline=deadline) as api:
            api.abort_multipart_upload(**target.place, UploadId=upload)
    except errors.Flow8Error as error:
        ctx.log.warning("an unfinished upload stays behind", bucket=target.bucket, code=error.code)


def _same_or(error: errors.Conflict, ctx: Context, target: Target, *, size: int, digest: str) -> Stored:
    """The object that stands there, where it is the one that was to be stored; else the error."""
    with s3(ctx) as api:
        head = api.head_object(**target.place)
    if head.get("ContentLength") == size and head.get("Metadata", {}).get(DIGEST) == digest:
        return replace(_stored(head), existed=True)
    raise error


def _stored(answer: Mapping[str, Any]) -> Stored:
    return Stored(_said(answer, "ETag").strip('"'), answer.get("VersionId"))


def _said(answer: Mapping[str, Any], name: str) -> str:
    """What an answer must hold, or the error for one that does not: a proxy's page, say."""
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise errors.VendorBadResponse("S3's answer makes no sense.", service=SERVICE, ambiguous=True)
    return value


def _digest(body: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := body.read(MIB):
        digest.update(block)
    body.seek(0)
    return digest.hexdigest()


def _condition(target: Target) -> dict[str, Any]:
    return {"IfNoneMatch": "*"} if target.if_absent else {}


def _crc(target: Target, data: bytes) -> dict[str, Any]:
    if not target.checksums:
        return {}
    return {"ChecksumCRC32": base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()}


def _rounded_up(size: float) -> int:
    return -int(-size // MIB) * MIB


def _changed() -> errors.ValidationFailed:
    return errors.ValidationFailed("The file changed while it was being read.", path="input_mapping.file_path")
