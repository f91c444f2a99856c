"""A boto3 client for S3, and what boto3's errors mean.

boto3 finds endpoint, region and credentials; timeouts and retries are ours. Each error becomes a ``StoreError`` by its
code, status or type, never by its text.
"""

import os
from functools import cache
from typing import TYPE_CHECKING

import botocore.session
from boto3.session import Session
from botocore import exceptions as boto
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader, create_loader
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from pipeline.storage.errors import AccessDenied, BucketNotFound, ObjectNotFound, StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


BOTO_ERRORS = (ClientError, BotoCoreError, ResponseParserError, HTTPError)
"""Everything that boto3 and its HTTP layer raise for requests and bodies."""

BODY_ERRORS = (
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.ChecksumError,
    boto.FlexibleChecksumError,
    HTTPError,
)
"""What reading a response's body raises when the connection breaks; boto3 does not retry these itself."""

NOT_S3_HINT = "{} does not answer like S3; check AWS_ENDPOINT_URL"

_CONNECT_ERRORS = (boto.ConnectionError,)  # no connection at all: DNS, refused, TLS, proxy
_NO_CREDENTIALS_ERRORS = (boto.NoCredentialsError, boto.PartialCredentialsError)
_LOGIN_ERRORS = (boto.SSOError, boto.LoginError, boto.NoAuthTokenError)
_CREDENTIAL_SOURCE_ERRORS = (boto.CredentialRetrievalError, boto.MetadataRetrievalError, boto.TokenRetrievalError)

_RETRYABLE_STATUSES = {429, 500, 502, 503, 504}
_RETRYABLE_CODES = {
    "BandwidthLimitExceeded",
    "ConditionalRequestConflict",
    "InternalError",
    "OperationAborted",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
}
_DENIED_STATUSES = {401, 403}
_DENIED_CODES = {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}  # sent with 400
_HEAD_CODES = {400: "BadRequest", 403: "AccessDenied", 404: "NoSuchKey"}  # answers to HEAD have no body, so no code

_MAX_TEXT_CHARS = 200
_SET_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_HINTS = {
    "AccessDenied": "these credentials may not do this; check the policies of the user and the bucket",
    "EntityTooLarge": "S3 takes at most 5 GiB in one request; write smaller objects",
    "ExpiredToken": "the session credentials have expired; renew them",
    "ExpiredTokenException": "the session credentials have expired; renew them",
    "InvalidAccessKeyId": "the endpoint does not know this access key; check AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL",
    "InvalidToken": "the session token is not valid; check AWS_SESSION_TOKEN",
    "NoSuchBucket": "the bucket does not exist; create it or check the name",
    "NoSuchKey": "the object does not exist",
    "NotImplemented": "the endpoint does not support this; runs need conditional writes (If-None-Match: *)",
    "RequestTimeTooSkewed": "the clock of this machine is wrong; set it",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key; check AWS_SECRET_ACCESS_KEY",
    "SlowDown": "the store is throttling; use fewer workers or wait",
}


def to_store_error(error: Exception, action: str, uri: str, endpoint: str) -> StoreError:
    """The error to raise for one of ``BOTO_ERRORS``; ``endpoint`` is named when it cannot be reached."""
    if isinstance(error, ClientError):
        return _from_answer(error, action, uri)
    code = type(error).__name__
    if isinstance(error, _CONNECT_ERRORS):
        return StoreError(
            action, uri, code, f"no connection to {endpoint}; check AWS_ENDPOINT_URL and the network", True
        )
    if isinstance(error, BODY_ERRORS):
        return StoreError(action, uri, code, f"the connection to {endpoint} broke off", True)
    if isinstance(error, ResponseParserError):
        return StoreError(action, uri, "NotS3", NOT_S3_HINT.format(endpoint))
    if isinstance(error, _NO_CREDENTIALS_ERRORS):
        return AccessDenied(action, uri, code, _SET_CREDENTIALS)
    if isinstance(error, _LOGIN_ERRORS):
        return AccessDenied(action, uri, code, "the login session cannot be used; log in again (aws sso login)")
    if isinstance(error, _CREDENTIAL_SOURCE_ERRORS):
        return AccessDenied(action, uri, code, "the credential provider did not answer", True)
    return StoreError(action, uri, code, str(error)[:_MAX_TEXT_CHARS])


def status_of(error: ClientError) -> int:
    """The HTTP status of an error answer; 0 if unknown."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def code_of(error: ClientError) -> str:
    """The S3 error code of an answer, also for HEAD requests, where only the status is known."""
    code = error.response.get("Error", {}).get("Code", "")
    return _HEAD_CODES.get(status_of(error), f"HTTP{status_of(error)}") if code.isdigit() or not code else code


def _from_answer(error: ClientError, action: str, uri: str) -> StoreError:
    code, status = code_of(error), status_of(error)
    hint = _HINTS.get(code) or error.response.get("Error", {}).get("Message", "")[:_MAX_TEXT_CHARS]
    if code == "NoSuchBucket":
        return BucketNotFound(action, uri, code, hint)
    if code in _DENIED_CODES or status in _DENIED_STATUSES:
        return AccessDenied(action, uri, code, hint)
    if code == "NoSuchKey" or status == 404:
        return ObjectNotFound(action, uri, code, hint)
    return StoreError(
        action, uri, code or f"HTTP{status}", hint, code in _RETRYABLE_CODES or status in _RETRYABLE_STATUSES
    )


MAX_CONNECTIONS = 64
"""Threads that use one client at once; more would wait for a connection."""

READ_TIMEOUT_S = 60.0
_CONNECT_TIMEOUT_S = 10
_DEFAULT_REGION = "us-east-1"


def new_client(uri: str, max_attempts: int, read_timeout_s: float) -> "S3Client":
    """A client with its own session: boto3's default session must not be shared between threads."""
    base = botocore.session.get_session()
    base.register_component("data_loader", _service_models())
    session = Session(botocore_session=base)
    config = Config(
        retries={"mode": "standard", "total_max_attempts": max_attempts},
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=read_timeout_s,
        max_pool_connections=MAX_CONNECTIONS,
        tcp_keepalive=True,
    )
    # boto3 knows AWS_DEFAULT_REGION only; every other AWS tool reads AWS_REGION as well.
    region = os.environ.get("AWS_REGION") or session.region_name or _DEFAULT_REGION
    try:
        return session.client("s3", region_name=region, config=config)
    except ValueError as error:  # an endpoint URL without a scheme, a malformed region
        hint = "the AWS settings cannot be used; check AWS_ENDPOINT_URL (http://host:port) and AWS_REGION"
        raise StoreError("open", uri, "InvalidSettings", hint) from error


@cache
def _service_models() -> Loader:
    """boto3's descriptions of AWS, parsed once per process: otherwise each client costs 0.2 s and 13 MB."""
    return create_loader()
