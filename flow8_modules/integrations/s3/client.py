"""S3 clients from a `storage` component, and what S3's errors mean.

Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. An answer to HEAD has no body, so its code
is the status as text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flow8_modules import Context, Deadline, Rule, Secret, errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from flow8_modules.integrations.s3.transport import S3, Account

SERVICE = "s3"
_REGION_NAME = re.compile(r"[a-z0-9-]{1,40}")


class WriteConflict(errors.Conflict):
    """Another write to the same key is under way: it will be over in a moment."""

    retryable = True


_KEYS = Rule(errors.InvalidCredentials, "S3 does not accept the component's keys: store the right ones.")
_SESSION = Rule(errors.InvalidCredentials, "The component's session token is over: store new temporary keys.")
_CLOCK = Rule(errors.InternalError, "This worker's clock is more than 15 minutes off: its operator has to set it.")
_DENIED = Rule(
    errors.AccessDenied, "S3 does not let the component's keys do that: check the bucket's and the user's policy."
)
_BUCKET = Rule(
    errors.NotFound, "The bucket does not exist: check its name and the component's endpoint.", field="bucket"
)
_KEY = Rule(errors.NotFound, "There is no object of that key.", field="key")
_UPLOAD = Rule(errors.NotFound, "S3 no longer knows the upload: run the step again.")
_EXISTS = Rule(
    errors.Conflict, "Another object has that key already: choose another key, or leave out if_absent.", field="key"
)
_RACE = Rule(WriteConflict, "Another write to that key is under way; the step runs again by itself.", field="key")
_REGION = Rule(
    errors.ProviderRejected, "The bucket lies in another region: set the component's region.", field="bucket"
)
_ACL = Rule(errors.ProviderRejected, "The bucket takes no ACLs: leave out acl.", field="acl")
_LARGE = Rule(errors.ProviderRejected, "The object is too large for S3: at most 5 TiB, and 5 GiB in one request.")
_LACKING = Rule(
    errors.ProviderRejected, "The S3-compatible server lacks a feature that the step asks for: leave it out."
)
_DAMAGED = Rule(errors.ProviderUnavailable, "The object was damaged on its way; the step runs again by itself.")
_SLOW = Rule(errors.RateLimited, "S3 asks to slow down; the step runs again by itself.")
_DOWN = Rule(errors.ProviderUnavailable, "S3 failed; the step runs again by itself.", ambiguous=True)
_REFUSED = Rule(
    errors.ProviderRejected, "S3 refuses the request as it stands: check the step's inputs and the component."
)

ERRORS: Mapping[str, Rule] = {
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity"), _KEYS),
    **dict.fromkeys(("ExpiredToken", "TokenRefreshRequired"), _SESSION),
    "RequestTimeTooSkewed": _CLOCK,
    **dict.fromkeys(("AccessDenied", "AllAccessDisabled", "AccountProblem", "403"), _DENIED),
    "NoSuchBucket": _BUCKET,
    **dict.fromkeys(("NoSuchKey", "404"), _KEY),
    "NoSuchUpload": _UPLOAD,
    **dict.fromkeys(("PreconditionFailed", "412"), _EXISTS),
    **dict.fromkeys(("ConditionalRequestConflict", "OperationAborted"), _RACE),
    **dict.fromkeys(("PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "301"), _REGION),
    "IllegalLocationConstraintException": _REGION,
    "AccessControlListNotSupported": _ACL,
    "EntityTooLarge": _LARGE,
    **dict.fromkeys(("NotImplemented", "MissingContentLength"), _LACKING),
    **dict.fromkeys(("BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", "RequestTimeout"), _DAMAGED),
    **dict.fromkeys(("SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "429"), _SLOW),
}


@contextmanager
def s3(ctx: Context, *, deadline: Deadline | None = None) -> Iterator[S3Client]:
    """botocore's client for the step's `storage` component, for calls until `deadline` (else the step's own). Errors of
    the block come out as those of the tree."""
    from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

    try:
        with _client(ctx).calling(deadline or ctx.deadline) as api:
            yield api
    except ClientError as error:
        raise error_of(error.response) from None
    except ParamValidationError:
        raise errors.ValidationFailed("S3's client does not accept an input.", path="input_mapping") from None
    except BotoCoreError as error:
        raise errors.VendorBadResponse(
            f"S3's answer makes no sense ({type(error).__name__}).", service=SERVICE, ambiguous=True
        ) from None


def error_of(answer: Mapping[str, Any]) -> errors.Flow8Error:
    """What botocore's parsed error answer means."""
    code = str(answer.get("Error", {}).get("Code", ""))[:80]
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    rule = ERRORS.get(code) or (_DOWN if status >= 500 else _REFUSED)
    return rule.raised(service=SERVICE, provider_code=code if code.isascii() and code.isalnum() else str(status))


def _client(ctx: Context) -> S3:
    from flow8_modules.integrations.s3.transport import S3, isolated_session

    account = _account(ctx.component("storage"))
    session = ctx.clients.get(("s3", "session"), isolated_session)
    digest = hashlib.sha256(account.secret_access_key.reveal().encode()).digest()
    token = account.session_token.reveal() if account.session_token else None
    key = ("s3", account.endpoint, account.region, account.access_key_id.reveal(), digest, token, id(ctx.egress))
    return ctx.clients.get(key, lambda: S3(account, session=session, egress=ctx.egress))


def _account(config: Mapping[str, Any]) -> Account:
    """The component's configuration. A key that is missing or empty is refused: botocore would look for another one."""
    from flow8_modules.integrations.s3.transport import Account

    key_id, secret = _secret(config.get("access_key_id")), _secret(config.get("secret_access_key"))
    if not key_id or not secret:
        raise errors.InvalidCredentials(
            "The storage component has no access key: store both parts of it.", service=SERVICE
        )
    region = str(config.get("region") or "us-east-1")
    if not _REGION_NAME.fullmatch(region):
        raise errors.ValidationFailed("The storage component's region is no name of one.", path="config.region")
    return Account(
        region=region,
        endpoint=str(config["endpoint"]) if config.get("endpoint") else None,
        access_key_id=key_id,
        secret_access_key=secret,
        session_token=_secret(config.get("session_token")) or None,
    )


def _secret(value: Any) -> Secret | None:
    if value is None or isinstance(value, Secret):
        return value
    return Secret(str(value))
