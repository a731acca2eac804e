"""`s3-upload`."""

from __future__ import annotations

import base64
import binascii
import io
import mimetypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, BinaryIO, Literal
from urllib.parse import quote, urlsplit

from pydantic import AliasChoices, ConfigDict, field_validator, model_validator

from flow8_modules import Component, Context, Effect, Fault, Field, Input, Output, errors, module
from flow8_modules.integrations.s3.client import s3
from flow8_modules.integrations.s3.names import PUBLIC_ACLS, Acl, check_bucket, check_key, check_metadata
from flow8_modules.integrations.s3.put import Stored, Target, store

_TYPES = mimetypes.MimeTypes()  # the built-in table: the system's differs from host to host
_TYPES_PATTERN = r"^[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}( *;[\x20-\x7e]{1,200})?$"
_ACL_NOT_TAKEN = "AccessControlListNotSupported"


class Upload(Input):
    """What to store, and where."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "bucket": "flow8-artifacts",
                    "key": "invoices/2026-04/invoice-001.pdf",
                    "file_path": "/tmp/invoice.pdf",  # noqa: S108 - inside the workspace
                    "acl": "private",
                }
            ]
        }
    )

    bucket: str | None = Field(
        None, description="Bucket; the component's own, if none is given.", examples=["flow8-artifacts"]
    )
    key: str = Field(description="Key of the object.", examples=["invoices/2026-04/invoice-001.pdf"])
    file_path: str | None = Field(
        None,
        validation_alias=AliasChoices("file_path", "filePath"),
        description="File of the play's workspace to store; its root is written / or left out.",
        examples=["/tmp/invoice.pdf"],  # noqa: S108
    )
    content: str | None = Field(
        None, description="Text to store, in place of a file, in UTF-8.", examples=["id;sum\n1;20\n"]
    )
    content_base64: str | None = Field(
        None,
        validation_alias=AliasChoices("content_base64", "contentBase64"),
        description="Bytes to store, in place of a file, in base64.",
        examples=["aW52b2ljZQ=="],
    )
    content_type: str | None = Field(
        None,
        validation_alias=AliasChoices("content_type", "contentType"),
        pattern=_TYPES_PATTERN,
        description="Media type; told from the key's ending, if none is given.",
        examples=["application/pdf"],
    )
    acl: Acl | None = Field(
        None,
        description="Canned ACL; public ones only where the component says allow_public_acl.",
        examples=["private"],
    )
    metadata: dict[str, str] = Field(
        default_factory=dict,  # a `default` would be copied deeply for each call
        json_schema_extra={"default": {}},
        description="Metadata of the object.",
        examples=[{"invoice": "001"}],
    )
    server_side_encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = Field(
        None,
        validation_alias=AliasChoices("server_side_encryption", "serverSideEncryption"),
        description="How S3 encrypts the object; as the bucket says, if nothing is given.",
        examples=["AES256"],
    )
    kms_key_id: str | None = Field(
        None,
        validation_alias=AliasChoices("kms_key_id", "kmsKeyId"),
        pattern=r"^[A-Za-z0-9:/_-]{1,2048}$",
        description="Key of AWS KMS, for aws:kms and aws:kms:dsse.",
        examples=["1234abcd-12ab-34cd-56ef-1234567890ab"],
    )
    if_absent: bool = Field(
        False,
        validation_alias=AliasChoices("if_absent", "ifAbsent"),
        description="Store only where no object has the key; one of the same content counts as stored.",
        examples=[True],
    )

    @field_validator("bucket")
    @classmethod
    def _is_a_bucket(cls, bucket: str | None) -> str | None:
        if bucket is not None:
            check_bucket(bucket)
        return bucket

    @field_validator("key")
    @classmethod
    def _is_a_key(cls, key: str) -> str:
        check_key(key)
        return key

    @field_validator("metadata")
    @classmethod
    def _is_metadata(cls, metadata: dict[str, str]) -> dict[str, str]:
        check_metadata(metadata)
        return metadata

    @field_validator("content_base64")
    @classmethod
    def _is_base64(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                raise Fault("is not base64") from None
        return text

    @model_validator(mode="after")
    def _fits_together(self) -> Upload:
        if [self.file_path, self.content, self.content_base64].count(None) != 2:
            raise Fault("give exactly one of file_path, content and content_base64", field="file_path")
        if self.kms_key_id and self.server_side_encryption not in ("aws:kms", "aws:kms:dsse"):
            raise Fault("needs server_side_encryption aws:kms or aws:kms:dsse", field="kms_key_id")
        return self


class Uploaded(Output):
    """The object as S3 knows it."""

    bucket: str = Field(description="Bucket of the object.", examples=["flow8-artifacts"])
    key: str = Field(description="Key of the object.", examples=["invoices/2026-04/invoice-001.pdf"])
    etag: str = Field(description="Entity tag, without its quotes.", examples=["5d41402abc4b2a76b9719d911017c592"])
    size: int = Field(description="Size in bytes.", examples=[48213])
    version_id: str | None = Field(
        description="Version, in a bucket that keeps versions.", examples=["3HL4kqtJlcpXroDTDmJ"]
    )
    url: str = Field(
        description="Address of the object; reading it takes permission.",
        examples=["https://flow8-artifacts.s3.eu-central-1.amazonaws.com/invoices/2026-04/invoice-001.pdf"],
    )
    existed: bool = Field(description="With if_absent: the same content lay there already.", examples=[False])


@module("s3-upload", needs=Component("storage", provider="s3"), effect=Effect.REPEATABLE)
def s3_upload(inputs: Upload, ctx: Context) -> Uploaded:
    """Store a file or a text in S3, or in anything that speaks S3.

    Large files go up part by part. A repeated call leaves the same object.
    """
    config = ctx.component("storage")
    bucket = _bucket(inputs, config)
    if inputs.acl in PUBLIC_ACLS and config.get("allow_public_acl") is not True:
        raise errors.ValidationFailed(
            "The object would be public: set allow_public_acl in the component, or choose another acl.",
            path="input_mapping.acl",
        )
    target = _target(inputs, bucket=bucket, checksums=bool(config.get("checksums", not config.get("endpoint"))))
    with _body(inputs, ctx) as body:
        size = body.seek(0, os.SEEK_END)
        body.seek(0)
        stored = _store(ctx, target, body, size=size)
    return Uploaded(
        bucket=bucket,
        key=inputs.key,
        etag=stored.etag,
        size=size,
        version_id=stored.version_id,
        url=_address(ctx, bucket=bucket, key=inputs.key),
        existed=stored.existed,
    )


def _store(ctx: Context, target: Target, body: BinaryIO, *, size: int) -> Stored:
    """Buckets as Amazon makes them today take no ACL at all: `private` is what they are anyway."""
    try:
        return store(ctx, target, body, size=size)
    except errors.ProviderRejected as error:
        if error.provider_code != _ACL_NOT_TAKEN or target.extra.get("ACL") != "private":
            raise
    ctx.log.warning("the bucket takes no ACLs; the object is private by the bucket's own rule", bucket=target.bucket)
    body.seek(0)
    bare = {name: value for name, value in target.extra.items() if name != "ACL"}
    return store(ctx, replace(target, extra=bare), body, size=size)


def _bucket(inputs: Upload, config: Mapping[str, Any]) -> str:
    bucket = inputs.bucket or config.get("bucket")
    if not isinstance(bucket, str) or not bucket:
        raise errors.ValidationFailed(
            "A bucket is required: the component names none either.", path="input_mapping.bucket"
        )
    return bucket


def _target(inputs: Upload, *, bucket: str, checksums: bool) -> Target:
    extra = {
        "ContentType": inputs.content_type or _TYPES.guess_type(inputs.key)[0] or "application/octet-stream",
        "ACL": inputs.acl,
        "ServerSideEncryption": inputs.server_side_encryption,
        "SSEKMSKeyId": inputs.kms_key_id,
    }
    return Target(
        bucket=bucket,
        key=inputs.key,
        metadata=inputs.metadata,
        extra={name: value for name, value in extra.items() if value is not None},
        if_absent=inputs.if_absent,
        checksums=checksums,
    )


@contextmanager
def _body(inputs: Upload, ctx: Context) -> Iterator[BinaryIO]:
    if inputs.file_path is not None:
        with ctx.open_file(inputs.file_path) as file:
            yield file
    elif inputs.content is not None:
        yield io.BytesIO(inputs.content.encode())
    else:
        yield io.BytesIO(base64.b64decode(inputs.content_base64 or ""))


def _address(ctx: Context, *, bucket: str, key: str) -> str:
    """The object's URL: by host name at Amazon, by path elsewhere and where the name has dots (TLS)."""
    with s3(ctx) as api:
        endpoint = urlsplit(api.meta.endpoint_url)
    path = quote(key, safe="/~")
    if ctx.component("storage").get("endpoint") or "." in bucket:
        return f"{endpoint.scheme}://{endpoint.netloc}{endpoint.path.rstrip('/')}/{bucket}/{path}"
    return f"{endpoint.scheme}://{bucket}.{endpoint.netloc}/{path}"
