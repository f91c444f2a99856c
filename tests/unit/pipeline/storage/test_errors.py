import pickle

import pytest

from dimoo_core.errors import DimooError
from pipeline.storage.errors import AccessDenied, BucketNotFound, ObjectNotFound, StoreError


@pytest.mark.parametrize("kind", [StoreError, ObjectNotFound, BucketNotFound, AccessDenied])
def test_errors_survive_pickling(kind: type[StoreError]) -> None:
    error = kind("read", "s3://bucket/key", "SlowDown", "the store is throttling", True)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert isinstance(copy, DimooError)
    assert str(copy) == str(error) == "cannot read s3://bucket/key: SlowDown (the store is throttling)"
    assert (copy.action, copy.uri, copy.code, copy.hint) == (error.action, error.uri, error.code, error.hint)
    assert copy.retryable


def test_messages_are_one_printable_line_whatever_the_key() -> None:
    message = str(StoreError("read", "s3://bucket/a\nb\x1b[31m\udc80", "NoSuchKey"))
    assert message.isprintable()
    assert message == "cannot read s3://bucket/a\\nb\\x1b[31m\\udc80: NoSuchKey"
