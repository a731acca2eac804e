"""Whether a `storage` component works: its bucket answers its keys. Writes nothing."""

from __future__ import annotations

from flow8_modules import Context, errors
from flow8_modules.integrations.s3.client import s3


def check(ctx: Context) -> None:
    """HEAD of the component's bucket (needs s3:ListBucket). Raises the error of the tree that says what to mend."""
    bucket = ctx.component("storage").get("bucket")
    if not bucket:
        raise errors.ValidationFailed("The component names no bucket to look at.", path="config.bucket")
    with s3(ctx) as api:
        try:
            api.head_bucket(Bucket=bucket)
        except api.exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") == "404":  # HEAD has no body that would say which
                raise errors.NotFound(
                    "The bucket does not exist: check its name and endpoint.", path="config.bucket"
                ) from None
            raise
