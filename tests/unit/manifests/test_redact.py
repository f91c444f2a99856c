import pytest

from manifests.redact import HIDDEN, redact_text, redact_uri

SECRET = "wJalrXUtnFEMI/K7MDENG+bPx=RfiCY"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (f"s3://AKIA:{SECRET}@bucket/a.png", "s3://bucket/a.png"),
        ("s3://AKIA@bucket/a.png", "s3://bucket/a.png"),
        ("https://bucket/a.png?X-Amz-Signature=ab", "https://bucket/a.png"),
        ("s3://bucket/a@b:c.png", "s3://bucket/a@b:c.png"),
        ("s3://bucket/photos/10:30@home.png", "s3://bucket/photos/10:30@home.png"),
        ("photos/a.png?sig=ab", "photos/a.png"),
        ("photos/what?.png", "photos/what?.png"),
        ("file:///a b/c.png?token=ab", "file:///a b/c.png"),
    ],
)
def test_of_a_uri_neither_user_nor_query_is_shown(uri: str, shown: str) -> None:
    assert redact_uri(uri) == shown


def test_texts_are_shown_without_the_secrets_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("HF_TOKEN", "short")
    text = f"no answer from 'https://me:pw@host/x?Signature=ab' with {SECRET}, short of X-Amz-Signature=cd&x=1"
    assert redact_text(text) == (
        f"no answer from 'https://host/x' with {HIDDEN}, short of X-Amz-Signature={HIDDEN}&x=1"
    )
    assert redact_text("nothing to hide: a=b, s3://bucket/key") == "nothing to hide: a=b, s3://bucket/key"
