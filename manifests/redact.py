"""What may be shown of URIs and of texts that hold some: no credentials, no signatures.

Messages, logs and reports are read by more people than the secrets are meant for. Secrets come in three ways: as user
and password of a URI, in its query (a presigned URL), and as values of environment variables that a library repeats.
"""

import os
import re

HIDDEN = "[hidden]"
MAX_ERROR_CHARACTERS = 2000

SECRET_VARIABLES = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "RAY_AUTH_TOKEN",
)
"""Environment variables whose values are never shown."""

_LEAST_SECRET_CHARACTERS = 8  # a shorter value would hide parts of ordinary words
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/+")
_QUERY = re.compile(r"\?[^?/=]+=.*", re.DOTALL)
_PLAIN_USER = re.compile(r"[^/@]*@")
_USER_WITH_PASSWORD = re.compile(r"[^/@:]*:[^@]*@")  # a secret key of AWS may hold slashes
_URI_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"<>,;()]+")
_SECRET_ARGUMENT = re.compile(
    r"(?i)\b(x-amz-signature|x-amz-credential|x-amz-security-token|signature|sig|awsaccesskeyid|access_token|token|"
    r"secret|password|aws_secret_access_key|aws_session_token)=[^\s&'\"]+"
)


def redact_uri(uri: str) -> str:
    """The URI without user, password and query, which may be credentials or hold a signature.

    Of a path without a scheme only a query of the form ``?name=value`` is left out: a file name may have a ``?``.
    """
    scheme = _SCHEME.match(uri)
    if scheme is None:
        return _QUERY.sub("", uri, count=1)
    rest = uri[scheme.end() :]
    user = _USER_WITH_PASSWORD.match(rest) or _PLAIN_USER.match(rest)
    if user is not None:
        rest = rest[user.end() :]
    return scheme[0] + rest.partition("?")[0]


def redact_text(text: str) -> str:
    """The text with every URI in it made public, and without the values of secret arguments and variables."""
    for name in SECRET_VARIABLES:
        value = os.environ.get(name, "")
        if len(value) >= _LEAST_SECRET_CHARACTERS:
            text = text.replace(value, HIDDEN)
    text = _URI_IN_TEXT.sub(lambda match: redact_uri(match[0]), text)
    return _SECRET_ARGUMENT.sub(lambda match: f"{match[1]}={HIDDEN}", text)


def error_words(error: BaseException) -> str:
    """The message of an error for a failure of a row: one line of at most ``MAX_ERROR_CHARACTERS`` without secrets."""
    try:
        text = " ".join(str(error).split())
    except Exception as broken:  # of somebody else's class
        text = f"its message cannot be shown ({type(broken).__name__})"
    text = redact_text(text).encode("utf-8", "backslashreplace").decode()  # half of a surrogate pair is no text
    return text if len(text) <= MAX_ERROR_CHARACTERS else text[: MAX_ERROR_CHARACTERS - 1] + "…"
