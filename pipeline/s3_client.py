"""A boto3 client for S3: endpoint, region and credentials are found by boto3, timeouts and retries are ours."""

import os
from functools import cache
from typing import TYPE_CHECKING

import botocore.session
from boto3.session import Session
from botocore.config import Config
from botocore.loaders import Loader, create_loader

from pipeline.store_errors import StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

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
    """boto3's descriptions of AWS, parsed once a process: otherwise each client costs 0.2 s and 13 MB."""
    return create_loader()
