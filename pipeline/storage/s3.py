"""A store on S3 or a compatible service, through boto3; large objects in several requests, whole or not there at all.

Endpoint, region and credentials are boto3's business: environment, profile, instance role. Importing this module
imports boto3, which takes half a second; ``open_store`` does so only for ``s3://``.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError

from manifests.redact import redact_uri
from pipeline.storage.base import Store
from pipeline.storage.errors import AccessDenied, BucketNotFound, StoreError
from pipeline.storage.s3_client import (
    BODY_ERRORS,
    BOTO_ERRORS,
    MAX_CONNECTIONS,
    NOT_S3_HINT,
    READ_TIMEOUT_S,
    code_of,
    new_client,
    status_of,
    to_store_error,
)
from pipeline.storage.throttle import ConcurrencyLimit, Hedge

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, GetObjectOutputTypeDef


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


_MAX_BODY_ATTEMPTS = 4
_MAX_CONFLICT_ATTEMPTS = 8
_MAX_PAUSE_S = 4.0
_THROTTLED_STATUSES = {429, 503}
_NO_UPLOADS_CODES = {"MethodNotAllowed", "NotImplemented"}


class S3Store(Store):
    """Objects of one bucket under a prefix.

    Requests are repeated up to ``max_attempts`` times. When the service throttles or does not answer in time, all
    threads of this store together have fewer requests in flight, see ``ConcurrencyLimit``. Reads that take unusually
    long are sent a second time, see ``Hedge``.
    """

    def __init__(
        self, bucket: str, prefix: str = "", *, max_attempts: int = 6, read_timeout_s: float = READ_TIMEOUT_S
    ) -> None:
        prefix = prefix.strip("/")
        super().__init__(f"s3://{bucket}/{prefix}".rstrip("/"))
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._is_bucket_seen = False
        self._endpoint = "S3"
        with self._translated("open", ""):
            self._client = new_client(self.uri, max_attempts, read_timeout_s)
        self._concurrency = ConcurrencyLimit(MAX_CONNECTIONS)
        self._hedge: Hedge[bytes] = Hedge(lambda: not self._concurrency.is_slowed)
        self._client.meta.events.register("needs-retry.s3", self._look_at_attempt)
        self._endpoint = redact_uri(self._client.meta.endpoint_url)

    def get(self, key: str) -> bytes:
        """See ``Store.get``."""
        self._check_key("read", key)
        return self._read(key, lambda: self._client.get_object(Bucket=self._bucket, Key=self._prefix + key))

    def get_at_most(self, key: str, max_bytes: int) -> bytes:
        """See ``Store.get_at_most``; one request."""
        self._check_key("read", key)

        def request() -> "GetObjectOutputTypeDef":
            response = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            if response["ContentLength"] > max_bytes:
                response["Body"].close()
            self._check_size(key, response["ContentLength"], max_bytes)
            return response

        return self._read(key, request)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """See ``Store.get_range``."""
        self._check_key("read", key)
        if length == 0:  # a Range header cannot express it
            return b""
        span = f"bytes={start}-{start + length - 1}"
        try:
            return self._read(
                key, lambda: self._client.get_object(Bucket=self._bucket, Key=self._prefix + key, Range=span)
            )
        except StoreError as error:
            if error.code == "InvalidRange":  # starts at or after the end
                return b""
            raise

    def put(self, key: str, data: bytes, *, content_type: str | None = None) -> None:
        """See ``Store.put``; what is large goes in parts."""
        self._check_key("write", key, is_new=True)
        content_type = content_type or "application/octet-stream"
        bucket, full_key = self._bucket, self._prefix + key
        with self._request("write", key):
            if len(data) > MULTIPART_BYTES:
                put_in_parts(self._client, bucket, full_key, data, content_type)
            else:
                self._client.put_object(Bucket=bucket, Key=full_key, Body=data, ContentType=content_type)

    def _create(self, key: str, data: bytes) -> bool:
        """At most 5 GiB: always one request, since not every store decides conditions at the end of several."""
        self._check_key("create", key, is_new=True)
        with self._request("create", key):
            attempt = 0
            while True:
                attempt += 1
                try:
                    self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data, IfNoneMatch="*")
                except ClientError as error:
                    if status_of(error) == 412:
                        return False
                    # Another write of this key is under way; which one wins is not decided yet.
                    is_conflict = status_of(error) == 409 and code_of(error) != "NoSuchBucket"
                    if not is_conflict or attempt == _MAX_CONFLICT_ATTEMPTS:
                        raise
                    _pause(attempt)
                else:
                    return True

    def size(self, key: str) -> int | None:
        """See ``Store.size``."""
        self._check_key("read", key)
        with self._request("read", key):
            try:
                return self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)["ContentLength"]
            except ClientError as error:
                if status_of(error) != 404:
                    raise
                self._check_bucket(key)
                return None

    def list(self, prefix: str = "") -> Iterator[str]:
        """See ``Store.list``."""
        return (key for key, _ in self.list_with_sizes(prefix))

    def list_with_sizes(self, prefix: str = "") -> Iterator[tuple[str, int | None]]:
        """See ``Store.list_with_sizes``; listings have sizes, so that nothing else is asked."""
        if prefix:
            self._check_key("list", prefix)
        with self._translated("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                if "IsTruncated" not in page:  # a web page parses as an empty listing
                    raise StoreError("list", self.uri_of(prefix), "NotS3", NOT_S3_HINT.format(self._endpoint))
                for entry in page.get("Contents", []):
                    if not entry["Key"].endswith("/"):  # a folder, as web consoles make them
                        yield entry["Key"].removeprefix(self._prefix), entry.get("Size")

    def delete(self, key: str) -> None:
        """See ``Store.delete``."""
        self._check_key("delete", key, is_new=True)
        with self._request("delete", key):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def give_up_unfinished(self) -> int:
        """See ``Store.give_up_unfinished``; whoever may not list uploads leaves them to the rules of the bucket."""
        try:
            with self._request("delete", ""):
                return give_up_unfinished(self._client, self._bucket, self._prefix)
        except StoreError as error:
            if isinstance(error, AccessDenied) or error.code in _NO_UPLOADS_CODES:
                return 0
            raise

    def close(self) -> None:
        """See ``Store.close``."""
        self._client.close()

    def _read(self, key: str, request: Callable[[], "GetObjectOutputTypeDef"]) -> bytes:
        def attempt() -> bytes:
            with self._request("read", key):
                return self._download(request)

        return self._hedge.run(attempt)

    def _download(self, request: Callable[[], "GetObjectOutputTypeDef"]) -> bytes:
        """The body of an answer, asked for again when the connection breaks in the middle of it."""
        attempt = 0
        while True:
            attempt += 1
            response = request()
            try:
                with closing(response["Body"]) as body:
                    return body.read()
            except BODY_ERRORS:
                if attempt == _MAX_BODY_ATTEMPTS:
                    raise
                _pause(attempt)

    def _check_bucket(self, key: str) -> None:
        """Distinguish a missing bucket from a missing object, which HEAD does not; asks once."""
        if self._is_bucket_seen:
            return
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if status_of(error) == 404:
                hint = "the bucket does not exist; create it or check the name"
                raise BucketNotFound("read", self.uri_of(key), "NoSuchBucket", hint) from error
            if status_of(error) != 403:  # a bucket that may not be listed does exist
                raise
        self._is_bucket_seen = True

    def _look_at_attempt(
        self, response: tuple[Any, Any] | None = None, caught_exception: Exception | None = None, **_: object
    ) -> None:
        """Called by boto3 after each attempt; whether it is repeated is decided elsewhere."""
        is_throttled = response is not None and response[0].status_code in _THROTTLED_STATUSES
        if is_throttled or isinstance(caught_exception, ReadTimeoutError | ConnectTimeoutError):
            self._concurrency.refused()

    @contextmanager
    def _request(self, action: str, key: str) -> Iterator[None]:
        with self._concurrency.slot(), self._translated(action, key):
            yield

    @contextmanager
    def _translated(self, action: str, key: str) -> Iterator[None]:
        try:
            yield
        except BOTO_ERRORS as error:
            raise to_store_error(error, action, self.uri_of(key), self._endpoint) from error


def _pause(attempt: int) -> None:
    """Wait before the next attempt: longer each time, and not in step with other workers."""
    time.sleep(random.uniform(0, min(_MAX_PAUSE_S, 0.1 * 2**attempt)))
