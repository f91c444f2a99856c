"""Large objects in several requests: whole at the end or not there at all, and nothing left behind that costs money."""

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART_BYTES = 16 * 1024 * 1024
MULTIPART_BYTES = 4 * PART_BYTES
"""Objects of more bytes are written in parts: a connection that breaks off then costs one of them."""


def put_in_parts(client: "S3Client", bucket: str, key: str, data: bytes, content_type: str) -> None:
    """Write an object part by part; if that fails, the parts that were stored are given up again.

    A process that is killed meanwhile leaves them to ``give_up_unfinished``.
    """
    upload_id = client.create_multipart_upload(Bucket=bucket, Key=key, ContentType=content_type)["UploadId"]
    try:
        parts: list[CompletedPartTypeDef] = []
        for number, start in enumerate(range(0, len(data), PART_BYTES), start=1):
            body = memoryview(data)[start : start + PART_BYTES].tobytes()
            answer = client.upload_part(Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=body)
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts})
    except BaseException:
        with suppress(ClientError, BotoCoreError):
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
        raise


def give_up_unfinished(client: "S3Client", bucket: str, prefix: str) -> int:
    """Abort every upload below a prefix that was begun and not ended; how many there were."""
    unfinished = list(_unfinished(client, bucket, prefix))
    for key, upload_id in unfinished:
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    return len(unfinished)


def _unfinished(client: "S3Client", bucket: str, prefix: str) -> Iterator[tuple[str, str]]:
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
        yield from ((upload["Key"], upload["UploadId"]) for upload in page.get("Uploads", []))
