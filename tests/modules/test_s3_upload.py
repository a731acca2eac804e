"""`s3-upload` against a real S3 server."""

from __future__ import annotations

import base64
import hashlib
import logging
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from flow8_core import errors
from flow8_core.secret import Secret
from flow8_modules import Context
from flow8_modules.integrations.s3.check import check
from flow8_modules.integrations.s3.put import PART
from flow8_modules.integrations.s3.upload import s3_upload
from flow8_modules.testing import Noted
from tests import environment
from tests.counterparts.s3 import S3Server

Make = Callable[..., Context]
MIB = 1 << 20


@pytest.fixture
def ctx(make: Make, s3: S3Server) -> Context:
    return make(components={"storage": s3.component()})


@cache
def look(s3: S3Server) -> Any:
    """A stock client: making one takes longer than what most tests do with it."""
    return s3.client()


def upload(ctx: Context, **inputs: Any) -> Any:
    return s3_upload(s3_upload.parse({"key": "dir/a.txt", **inputs}), ctx)


def failure(ctx: Context, **inputs: Any) -> errors.Flow8Error:
    with pytest.raises(errors.Flow8Error) as caught:
        upload(ctx, **({"content": "x"} | inputs))
    return caught.value


def stored(s3: S3Server, key: str = "dir/a.txt", bucket: str | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = look(s3).get_object(Bucket=bucket or s3.bucket, Key=key)
    return answer | {"content": answer["Body"].read()}


def unfinished(s3: S3Server) -> int:
    return len(look(s3).list_multipart_uploads(Bucket=s3.bucket).get("Uploads", []))


def test_the_seeds_example_stores_the_file_of_the_workspace(ctx: Context, s3: S3Server, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "invoice.pdf").write_bytes(b"%PDF-1.4 invoice")

    uploaded = upload(
        ctx, bucket=s3.bucket, key="invoices/2026-04/invoice-001.pdf", file_path="/tmp/invoice.pdf", acl="private"
    )

    there = stored(s3, "invoices/2026-04/invoice-001.pdf")
    assert there["content"] == b"%PDF-1.4 invoice"
    assert there["ContentType"] == "application/pdf"
    assert (uploaded.etag, uploaded.size) == (hashlib.md5(b"%PDF-1.4 invoice").hexdigest(), 16)
    assert uploaded.url == f"{s3.endpoint}/{s3.bucket}/invoices/2026-04/invoice-001.pdf"
    assert (uploaded.version_id, uploaded.existed) == (None, False)


@pytest.mark.parametrize(
    ("inputs", "content"),
    [
        ({"content": "id;sum\nü;20\n"}, "id;sum\nü;20\n".encode()),
        ({"content": ""}, b""),
        ({"content_base64": base64.b64encode(b"\x00\xff").decode()}, b"\x00\xff"),
    ],
)
def test_texts_and_bytes_are_stored_too(ctx: Context, s3: S3Server, inputs: dict[str, str], content: bytes) -> None:
    assert upload(ctx, **inputs).size == len(content)
    assert stored(s3)["content"] == content


def test_everything_arrives(ctx: Context, s3: S3Server) -> None:
    upload(
        ctx,
        content="x",
        key="ä ö+&?#%20~.bin",
        contentType="text/csv; charset=utf-8",
        metadata={"invoice": 1},
        server_side_encryption="AES256",
        acl="bucket-owner-full-control",
    )

    there = stored(s3, "ä ö+&?#%20~.bin")
    assert (there["ContentType"], there["Metadata"]) == ("text/csv; charset=utf-8", {"invoice": "1"})
    assert there["ServerSideEncryption"] == "AES256"


def test_the_media_type_is_told_from_the_key_and_not_from_the_machine(ctx: Context, s3: S3Server) -> None:
    for key, kind in (("a.pdf", "application/pdf"), ("a.weird", "application/octet-stream")):
        upload(ctx, content="x", key=key)

        assert stored(s3, key)["ContentType"] == kind


def test_versions_are_told(ctx: Context, s3: S3Server) -> None:
    look(s3).put_bucket_versioning(Bucket=s3.bucket, VersioningConfiguration={"Status": "Enabled"})

    first, second = upload(ctx, content="1"), upload(ctx, content="2")

    assert first.version_id
    assert first.version_id != second.version_id


def test_another_bucket_may_be_named(ctx: Context, s3: S3Server) -> None:
    s3.create_bucket("another-bucket")

    assert upload(ctx, content="x", bucket="another-bucket").bucket == "another-bucket"
    assert stored(s3, bucket="another-bucket")["content"] == b"x"


def test_without_any_bucket_nothing_is_stored(make: Make, s3: S3Server) -> None:
    failed = failure(make(components={"storage": s3.component(bucket=None)}))

    assert (failed.code, failed.path) == ("validation_error", "input_mapping.bucket")


@pytest.mark.parametrize("acl", ["public-read", "public-read-write", "authenticated-read"])
def test_public_objects_need_the_components_word(ctx: Context, make: Make, s3: S3Server, acl: str) -> None:
    failed = failure(ctx, acl=acl)
    upload(make(components={"storage": s3.component(allow_public_acl=True)}), content="x", key="public", acl=acl)

    assert (failed.code, failed.path) == ("validation_error", "input_mapping.acl")
    assert look(s3).list_objects_v2(Bucket=s3.bucket)["KeyCount"] == 1


# Files


def test_a_large_file_goes_up_part_by_part(ctx: Context, s3: S3Server, tmp_path: Path, noted: Noted) -> None:
    content = b"0123456789abcdef" * (MIB // 16) * 17
    (tmp_path / "large.bin").write_bytes(content)

    uploaded = upload(ctx, key="large.bin", file_path="large.bin", metadata={"a": "b"})

    there = stored(s3, "large.bin")
    assert there["content"] == content
    assert there["Metadata"] == {"a": "b"}
    assert (uploaded.size, uploaded.etag) == (17 * MIB, there["ETag"].strip('"'))
    assert uploaded.etag.endswith("-3")
    assert [(done // MIB, total // MIB) for done, total, _ in noted.steps] == [(8, 17), (16, 17), (17, 17)]
    assert unfinished(s3) == 0


@pytest.mark.parametrize("size", [PART, PART + 1])
def test_sizes_around_the_threshold_arrive(ctx: Context, s3: S3Server, tmp_path: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(b"x" * size)

    assert upload(ctx, file_path="a").size == size
    assert len(stored(s3)["content"]) == size


def test_checksums_go_along_where_the_server_knows_them(make: Make, s3: S3Server, tmp_path: Path) -> None:
    ctx = make(components={"storage": s3.component(checksums=True)})
    (tmp_path / "large").write_bytes(b"x" * (PART + 10))
    upload(ctx, key="small", content="hello")
    upload(ctx, key="large", file_path="large")

    head = look(s3).head_object(Bucket=s3.bucket, Key="small", ChecksumMode="ENABLED")
    assert head["ChecksumCRC32"] == "NhCmhg=="
    assert len(stored(s3, "large")["content"]) == PART + 10


def test_a_file_that_shrinks_while_it_is_read_is_not_stored(
    ctx: Context, s3: S3Server, tmp_path: Path, noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "shrinking"
    file.write_bytes(b"x" * (3 * PART))
    seen = noted.steps.append
    monkeypatch.setattr(noted, "progress", lambda *step: (seen(step), file.write_bytes(b"")))
    ctx.progress = noted.progress

    failed = failure(ctx, content=None, file_path="shrinking")

    assert (failed.code, failed.path) == ("validation_error", "input_mapping.file_path")
    assert unfinished(s3) == 0
    assert look(s3).list_objects_v2(Bucket=s3.bucket)["KeyCount"] == 0


@pytest.mark.parametrize("path", ["nothing", "../secret", "/etc/passwd", "folder"])
def test_only_files_of_the_workspace_are_stored(ctx: Context, s3: S3Server, tmp_path: Path, path: str) -> None:
    (tmp_path / "folder").mkdir()

    failed = failure(ctx, content=None, file_path=path)

    assert failed.path == "input_mapping.file_path"
    assert look(s3).list_objects_v2(Bucket=s3.bucket)["KeyCount"] == 0


PROGRAM = """
import resource, sys
from pathlib import Path
from flow8_core.egress import Egress, EgressSettings
from flow8_modules.integrations.s3.upload import s3_upload
from flow8_modules.testing import context
config = {config!r}
ctx = context(Path({folder!r}), egress=Egress(EgressSettings(**{egress!r})), components={{"storage": config}})
def upload(path):
    s3_upload(s3_upload.parse({{"key": path, "file_path": path}}), ctx)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
upload("small")
before = peak()
upload("large")
print(peak() - before)
"""


def test_a_large_file_needs_the_memory_of_a_part(s3: S3Server, tmp_path: Path) -> None:
    for name, size in (("small", PART), ("large", 96 * MIB)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    program = PROGRAM.format(config=s3.component(), folder=str(tmp_path), egress=s3.lab.egress)

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment.clean(), check=True
    )

    assert int(ran.stdout) < 3 * PART // 1024, "KiB above the peak of a single part"


# If-None-Match


@pytest.mark.parametrize("size", [10, PART + 10])
def test_if_absent_stores_once_and_the_same_again_counts_as_stored(
    ctx: Context, s3: S3Server, tmp_path: Path, size: int
) -> None:
    (tmp_path / "a").write_bytes(b"x" * size)
    (tmp_path / "b").write_bytes(b"y" * size)

    first = upload(ctx, file_path="a", if_absent=True)
    again = upload(ctx, file_path="a", if_absent=True)
    with pytest.raises(errors.Conflict) as caught:
        upload(ctx, file_path="b", if_absent=True)

    assert (first.existed, again.existed) == (False, True)
    assert first.etag == again.etag
    assert (caught.value.path, caught.value.retryable) == ("input_mapping.key", False)
    assert stored(s3)["content"] == b"x" * size
    assert unfinished(s3) == 0


def test_if_absent_does_not_take_what_others_stored_for_ours(ctx: Context, s3: S3Server) -> None:
    look(s3).put_object(Bucket=s3.bucket, Key="dir/a.txt", Body=b"x")

    assert failure(ctx, if_absent=True).code == "conflict"


def test_without_if_absent_the_object_is_replaced(ctx: Context, s3: S3Server) -> None:
    upload(ctx, content="old")
    upload(ctx, content="new")

    assert stored(s3)["content"] == b"new"


# Refusals


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"secret_access_key": Secret("wrong" * 8)}, "invalid_credentials"),
        ({"access_key_id": "AKIAIOSFODNN7EXAMPLE"}, "invalid_credentials"),
        ({"bucket": "no-such-bucket"}, "not_found"),
        ({"region": "EU CENTRAL"}, "validation_error"),
    ],
)
def test_a_component_that_is_wrong_is_told(make: Make, s3: S3Server, changes: dict[str, Any], code: str) -> None:
    failed = failure(make(components={"storage": s3.component(**changes)}))

    assert failed.code == code
    assert "wrongwrong" not in failed.message


def test_secrets_may_come_sealed_in_secrets(make: Make, s3: S3Server) -> None:
    keys = {name: Secret(s3.component()[name]) for name in ("access_key_id", "secret_access_key")}

    assert upload(make(components={"storage": s3.component(**keys)}), content="x").size == 1


def test_no_key_is_logged_by_an_upload(ctx: Context, s3: S3Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        upload(ctx, content="x")

    assert s3.secret_access_key not in caplog.text


def test_threads_share_a_client(make: Make, s3: S3Server) -> None:
    contexts = [make(components={"storage": s3.component()}, timeout_s=20 + n) for n in range(8)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: upload(contexts[n], key=f"k{n}", content=str(n)), range(8)))

    assert [stored(s3, f"k{n}")["content"] for n in range(8)] == [str(n).encode() for n in range(8)]


def test_a_component_can_be_checked_without_writing(ctx: Context, make: Make, s3: S3Server) -> None:
    check(ctx)
    for changes, code in (
        ({"bucket": "no-such-bucket"}, "not_found"),
        ({"bucket": ""}, "validation_error"),
        ({"access_key_id": "AKIAIOSFODNN7EXAMPLE"}, "access_denied"),
    ):
        with pytest.raises(errors.Flow8Error) as caught:
            check(make(components={"storage": s3.component(**changes)}))
        assert caught.value.code == code

    assert look(s3).list_objects_v2(Bucket=s3.bucket)["KeyCount"] == 0
