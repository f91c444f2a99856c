import pytest
from botocore import exceptions as boto
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from pipeline.storage.errors import AccessDenied, BucketNotFound, ObjectNotFound, StoreError
from pipeline.storage.s3_client import BOTO_ERRORS, to_store_error

URI = "s3://bucket/key"
ENDPOINT = "http://127.0.0.1:9"


def answer(status: int, code: str, message: str = "") -> ClientError:
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "GetObject")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "kind", "code", "retryable"),
    [
        (answer(404, "NoSuchKey"), ObjectNotFound, "NoSuchKey", False),
        (answer(404, "404"), ObjectNotFound, "NoSuchKey", False),
        (answer(404, "NoSuchBucket"), BucketNotFound, "NoSuchBucket", False),
        (answer(403, "403"), AccessDenied, "AccessDenied", False),
        (answer(403, "SignatureDoesNotMatch"), AccessDenied, "SignatureDoesNotMatch", False),
        (answer(400, "ExpiredToken"), AccessDenied, "ExpiredToken", False),
        (answer(400, "RequestTimeout"), StoreError, "RequestTimeout", True),
        (answer(409, "ConditionalRequestConflict"), StoreError, "ConditionalRequestConflict", True),
        (answer(429, "TooManyRequests"), StoreError, "TooManyRequests", True),
        (answer(503, "503"), StoreError, "HTTP503", True),
        (answer(503, "SlowDown"), StoreError, "SlowDown", True),
        (answer(501, "NotImplemented"), StoreError, "NotImplemented", False),
        (answer(507, "XMinioStorageFull"), StoreError, "XMinioStorageFull", False),
        (answer(400, "EntityTooLarge"), StoreError, "EntityTooLarge", False),
        (boto.ReadTimeoutError(endpoint_url=ENDPOINT), StoreError, "ReadTimeoutError", True),
        (boto.ConnectionClosedError(endpoint_url=ENDPOINT), StoreError, "ConnectionClosedError", True),
        (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), StoreError, "IncompleteReadError", True),
        (boto.SSLError(endpoint_url=ENDPOINT, error=OSError("x")), StoreError, "SSLError", True),
        (boto.NoCredentialsError(), AccessDenied, "NoCredentialsError", False),
        (boto.CredentialRetrievalError(provider="x", error_msg="y"), AccessDenied, "CredentialRetrievalError", True),
        (boto.UnauthorizedSSOTokenError(), AccessDenied, "UnauthorizedSSOTokenError", False),
        (ResponseParserError("x"), StoreError, "NotS3", False),
        (boto.ParamValidationError(report="line 1\nline 2"), StoreError, "ParamValidationError", False),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_errors_are_told_apart_by_code_status_or_type(
    error: Exception, kind: type[StoreError], code: str, retryable: bool
) -> None:
    assert isinstance(error, BOTO_ERRORS)
    result = to_store_error(error, "read", URI, ENDPOINT)
    assert type(result) is kind
    assert result.code == code
    assert result.retryable is retryable
    assert str(result).startswith(f"cannot read {URI}: {code}")
    assert str(result).isprintable()


def test_an_unreachable_endpoint_is_named() -> None:
    error = boto.EndpointConnectionError(endpoint_url=f"{ENDPOINT}/bucket/key?X-Amz-Signature=secret")
    message = str(to_store_error(error, "read", URI, ENDPOINT))
    assert message == (
        f"cannot read {URI}: EndpointConnectionError "
        f"(no connection to {ENDPOINT}; check AWS_ENDPOINT_URL and the network)"
    )


def test_unknown_codes_come_with_the_words_of_the_server_in_short() -> None:
    message = str(to_store_error(answer(400, "Strange", "so strange " * 100), "read", URI, ENDPOINT))
    assert "Strange (so strange" in message
    assert len(message) < 300
