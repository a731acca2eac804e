"""S3 in the laboratory: moto behind our counting and faults, with every signature checked."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError, HTTPClientError

from tests.counterparts.lab import Lab
from tests.counterparts.s3 import S3Server


def code_of(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    answer: Any = error.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def test_an_object_lands_and_is_counted(lab: Lab, s3: S3Server) -> None:
    client = s3.client()

    client.put_object(Bucket=s3.bucket, Key="a/b.txt", Body=b"hello", ContentType="text/plain")

    assert client.get_object(Bucket=s3.bucket, Key="a/b.txt")["Body"].read() == b"hello"
    effects = lab.effects("s3")
    assert effects["keys"] == {f"{s3.bucket}/a/b.txt": 1}
    assert lab.requests("s3")["operations"] == {"PutObject": 1, "GetObject": 1}


@pytest.mark.parametrize(
    ("access_key_id", "secret_access_key", "code"),
    [
        (None, "wrong" * 8, "SignatureDoesNotMatch"),
        ("AKIAAAAAAAAAAAAAAAAA", None, "InvalidAccessKeyId"),
    ],
)
def test_a_wrong_key_is_refused(
    s3: S3Server, access_key_id: str | None, secret_access_key: str | None, code: str
) -> None:
    client = s3.client(access_key_id=access_key_id, secret_access_key=secret_access_key)

    with pytest.raises(ClientError) as error:
        client.put_object(Bucket=s3.bucket, Key="k", Body=b"x")

    assert code_of(error) == (403, code)


def test_each_test_finds_the_bucket_empty(s3: S3Server) -> None:
    s3.client().put_object(Bucket=s3.bucket, Key="left", Body=b"x")

    s3.lab.reset()

    assert s3.client().list_objects_v2(Bucket=s3.bucket)["KeyCount"] == 0


def test_a_multipart_upload_is_one_effect(lab: Lab, s3: S3Server) -> None:
    client, where = s3.client(), {"Bucket": s3.bucket, "Key": "big"}
    upload = client.create_multipart_upload(**where)["UploadId"]
    part = client.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"x")["ETag"]

    parts = {"Parts": [{"ETag": part, "PartNumber": 1}]}
    client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)

    assert lab.effects("s3")["operations"] == {"CompleteMultipartUpload": 1}
    assert lab.requests("s3")["operations"] == {
        "CreateMultipartUpload": 1,
        "UploadPart": 1,
        "CompleteMultipartUpload": 1,
    }


def test_a_bucket_may_be_added(s3: S3Server) -> None:
    s3.create_bucket("second")

    assert s3.client().put_object(Bucket="second", Key="k", Body=b"x")["ETag"]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"kind": "rate_limited"}, 503, "SlowDown"),
        ({"kind": "error", "error": "AccessDenied"}, 403, "AccessDenied"),
        ({"kind": "error", "error": "InternalError"}, 500, "InternalError"),
    ],
)
def test_s3_refuses_on_demand_in_its_own_words(s3: S3Server, fault: dict[str, Any], status: int, code: str) -> None:
    s3.lab.control("/faults", {"service": "s3", "operation": "PutObject", **fault})

    with pytest.raises(ClientError) as error:
        s3.client().put_object(Bucket=s3.bucket, Key="k", Body=b"x")

    assert code_of(error) == (status, code)
    assert s3.lab.effects("s3")["count"] == 0
    assert s3.client().put_object(Bucket=s3.bucket, Key="k", Body=b"x")


@pytest.mark.parametrize(("kind", "happened"), [("drop_request", 0), ("drop_answer", 1)])
def test_s3_may_hang_up(s3: S3Server, kind: str, happened: int) -> None:
    s3.lab.fault("s3", kind, "PutObject")

    with pytest.raises(HTTPClientError):
        s3.client().put_object(Bucket=s3.bucket, Key="k", Body=b"x")

    assert s3.lab.effects("s3")["count"] == happened


def test_an_answer_may_break_off(s3: S3Server) -> None:
    s3.client().put_object(Bucket=s3.bucket, Key="k", Body=b"0123456789")
    s3.lab.fault("s3", "truncate", "GetObject")

    with pytest.raises(HTTPClientError):
        s3.client().get_object(Bucket=s3.bucket, Key="k")["Body"].read()


def test_an_answer_may_come_byte_by_byte(s3: S3Server) -> None:
    s3.client().put_object(Bucket=s3.bucket, Key="k", Body=b"0123456789")
    s3.lab.fault("s3", "drip", "GetObject", pause_ms=5)
    began = time.monotonic()

    assert s3.client().get_object(Bucket=s3.bucket, Key="k")["Body"].read() == b"0123456789"
    assert time.monotonic() - began > 0.045


def test_the_users_own_identity_can_be_asked_for(s3: S3Server) -> None:
    import boto3
    from botocore.config import Config

    session = boto3.session.Session(s3.access_key_id, s3.secret_access_key, region_name=s3.region)
    client = session.client("sts", endpoint_url=s3.endpoint, config=Config(proxies={}))

    assert client.get_caller_identity()["Arn"].endswith(":user/flow8")


def test_a_component_for_it_is_plain_json(s3: S3Server) -> None:
    assert json.loads(json.dumps(s3.component(bucket="second")))["bucket"] == "second"
