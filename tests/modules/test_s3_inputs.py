"""What `s3-upload` takes, checked before any call."""

from __future__ import annotations

from typing import Any

import pytest

from flow8_core.errors import ValidationFailed
from flow8_modules import Component, Effect
from flow8_modules.integrations.s3.upload import s3_upload

BASE = {"bucket": "flow8-artifacts", "key": "a.txt", "content": "x"}


def problem(**changes: Any) -> tuple[str, str]:
    given = {name: value for name, value in {**BASE, **changes}.items() if value is not ...}
    with pytest.raises(ValidationFailed) as caught:
        s3_upload.parse(given)
    [only] = caught.value.problems
    return only[0].removeprefix("input_mapping."), only[1]


def test_the_seeds_example_runs_as_it_stands() -> None:
    inputs = s3_upload.parse(
        {
            "bucket": "flow8-artifacts",
            "key": "invoices/2026-04/invoice-001.pdf",
            "file_path": "/tmp/invoice.pdf",
            "acl": "private",
        }
    )

    assert inputs.file_path == "/tmp/invoice.pdf"


def test_flow8s_other_spelling_runs_too() -> None:
    inputs = s3_upload.parse({"bucket": "b-1", "key": "k", "content": "x", "contentType": "text/csv", "acl": "private"})

    assert inputs.content_type == "text/csv"


def test_both_spellings_at_once_are_a_fault() -> None:
    assert problem(content_type="text/csv", contentType="text/csv")[0] == "contentType"


@pytest.mark.parametrize("bucket", ["abc", "my.bucket-1", "a" * 63, "0-9", "flow8-artifacts"])
def test_buckets_are_named_as_s3_allows(bucket: str) -> None:
    assert s3_upload.parse({**BASE, "bucket": bucket}).bucket == bucket


@pytest.mark.parametrize(
    "bucket",
    [
        *(
            "",
            "ab",
            "a" * 64,
            "Bucket",
            "my_bucket",
            "-abc",
            "abc-",
            ".abc",
            "abc.",
            "a..b",
            "192.168.1.1",
            "a b",
            "a/b",
        ),
        *("arn:aws:s3:::b", "arn:aws:s3:eu-west-1:123456789012:accesspoint/x", "xn--abc", "sthree-x", "x-s3alias"),
        *("x--x-s3", "x--ol-s3", "x.mrap", "amzn-s3-demo-x", "a\nb", "bücket", "https://b", "../b", "abc\x00"),
    ],
)
def test_what_is_no_bucket_is_refused(bucket: str) -> None:
    assert problem(bucket=bucket)[0] == "bucket"


@pytest.mark.parametrize(
    "key", ["a", "a/b/c.pdf", "ü ä&?#%20+~.txt", "x" * 1024, "a//b", "a..b", "...", ".hidden", "a/"]
)
def test_keys_are_named_as_s3_allows(key: str) -> None:
    assert s3_upload.parse({**BASE, "key": key}).key == key


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "//",
        "../a",
        "a/../b",
        "a/..",
        "./a",
        "a/./b",
        ".",
        "..",
        "x" * 1025,
        "ü" * 513,
        "a\x00",
        "a\nb",
        "\x7f",
    ],
)
def test_what_is_no_key_is_refused(key: str) -> None:
    assert problem(key=key)[0] == "key"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"content": ...}, "file_path"),
        ({"file_path": "a"}, "file_path"),
        ({"content_base64": "eA=="}, "file_path"),
        ({"content": ..., "content_base64": "eA="}, "content_base64"),
        ({"content": ..., "content_base64": "e A="}, "content_base64"),
        ({"content_type": "text"}, "content_type"),
        ({"content_type": "text/plain\r\nX-Evil: 1"}, "content_type"),
        ({"acl": "public"}, "acl"),
        ({"acl": "PRIVATE"}, "acl"),
        ({"metadata": {"a b": "x"}}, "metadata"),
        ({"metadata": {"a": "ü"}}, "metadata"),
        ({"metadata": {"a": " x"}}, "metadata"),
        ({"metadata": {"a": "x\r\ny"}}, "metadata"),
        ({"metadata": {"flow8-sha256": "x"}}, "metadata"),
        ({"metadata": {"a": "x" * 2000}}, "metadata"),
        ({"metadata": ["a"]}, "metadata"),
        ({"metadata": {"a": {"b": 1}}}, "metadata.a"),
        ({"server_side_encryption": "aes256"}, "server_side_encryption"),
        ({"kms_key_id": "k"}, "kms_key_id"),
        ({"kms_key_id": "k", "server_side_encryption": "AES256"}, "kms_key_id"),
        ({"kms_key_id": "k\n", "server_side_encryption": "aws:kms"}, "kms_key_id"),
        ({"if_absent": "perhaps"}, "if_absent"),
    ],
)
def test_limits_are_checked_before_the_call(changes: dict[str, Any], field: str) -> None:
    assert problem(**changes)[0] == field


def test_metadata_may_hold_numbers() -> None:
    assert s3_upload.parse({**BASE, "metadata": {"invoice": 1}}).metadata == {"invoice": "1"}


def test_storing_again_leaves_the_same() -> None:
    inputs = s3_upload.parse(BASE)

    assert s3_upload.effect_of(inputs, {}) == Effect.REPEATABLE
    assert s3_upload.needs_of(inputs) == (Component("storage", provider="s3"),)
