"""Whole runs against a real S3 server: manifest, images and output there, the same bytes as on a disk."""

from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.fs
import pytest

import pipeline.worker.worker
from dimoo_core.checkpoint.load import Model
from tests.support.fault_proxy import running_fault_proxy
from tests.support.in_process import check_one_line, command, run_here
from tests.support.manifest_rows import encoded, image_row, mixed_rows, picture, text_row, write_manifest, write_photos
from tests.support.run_output import RunOutput
from tests.support.s3_server import Keys, S3Server

pytestmark = pytest.mark.usefixtures("loaded_once")


def upload(server: S3Server, bucket: str, folder: Path, prefix: str) -> str:
    """Put the files below a folder under a prefix; returns its URI."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(folder).as_posix()}"
            server.client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    return f"s3://{bucket}/{prefix}/"


@pytest.fixture
def manifest_uri(s3_env: S3Server, s3_bucket: str, tmp_path: Path) -> str:
    """``mixed_rows`` in two files beside the photos that they name."""
    write_photos(tmp_path / "manifest")
    write_manifest(tmp_path / "manifest" / "a.parquet", mixed_rows()[:5])
    write_manifest(tmp_path / "manifest" / "b.parquet", mixed_rows()[5:])
    return upload(s3_env, s3_bucket, tmp_path / "manifest", "manifest")


def call(manifest: object, output: object, model: Path, *more: object) -> Any:
    return command(manifest, "-o", output, "--model", model, "--workers", 0, "--set", "text_to_image.steps=2", *more)


def test_a_run_from_s3_to_s3_gives_what_a_local_run_gives(
    manifest_uri: str, mixed_results: dict[str, str], s3_env: S3Server, s3_bucket: str, tiny_checkpoint: Path
) -> None:
    summary = run_here(manifest_uri, f"s3://{s3_bucket}/out/run 1", tiny_checkpoint, pipeline={"segment_rows": 2})
    assert (summary.done, summary.output) == (len(mixed_results), f"s3://{s3_bucket}/out/run 1")
    output = RunOutput(summary.output)
    output.check_complete(mixed_results)
    assert output.results() == mixed_results

    listed = s3_env.client.list_objects_v2(Bucket=s3_bucket, Prefix="out/")["Contents"]
    assert {entry["Key"].removeprefix("out/run 1/").partition("/")[0] for entry in listed} == {
        "run.json",
        "images",
        "parts",
        "_epochs",
        "_SUCCESS",
    }
    head = s3_env.client.head_object(Bucket=s3_bucket, Key="out/run 1/" + output.by_id()["wide"]["output"])
    assert head["ContentType"] == "image/png"

    again = run_here(manifest_uri, f"s3://{s3_bucket}/out/run 1", tiny_checkpoint, pipeline={"segment_rows": 2})
    assert (again.done, again.resumed) == (summary.done, summary.rows)


def test_other_programs_read_the_parts_as_one_dataset(
    manifest_uri: str, mixed_results: dict[str, str], s3_env: S3Server, s3_bucket: str, tiny_checkpoint: Path
) -> None:
    run_here(manifest_uri, f"s3://{s3_bucket}/out", tiny_checkpoint, pipeline={"segment_rows": 2})
    files = pyarrow.fs.S3FileSystem(
        endpoint_override=s3_env.endpoint,
        access_key=s3_env.access_key,
        secret_key=s3_env.secret_key,
        region="us-east-1",
    )
    table = ds.dataset(f"{s3_bucket}/out/parts", filesystem=files, format="parquet").to_table()
    assert sorted(table.column("id").to_pylist()) == sorted(mixed_results)
    assert sorted(table.column("row").to_pylist()) == list(range(len(mixed_results)))
    for row in table.to_pylist():
        if row["output"]:
            with files.open_input_stream(f"{s3_bucket}/out/{row['output']}") as file:
                assert len(file.read()) == row["bytes"]


def test_images_may_lie_in_another_bucket_and_missing_ones_are_row_failures(
    s3_env: S3Server, s3_bucket: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    other = s3_env.make_bucket(s3_bucket + "-photos")
    s3_env.client.put_object(Bucket=other, Key="a b.png", Body=encoded(picture(0)))
    rows = [
        text_row("there", f"s3://{other}/a b.png"),
        text_row("gone", f"s3://{other}/gone.png"),
        text_row("no bucket", f"s3://{s3_bucket}-none/a.png"),
        text_row("beside", "photos/gone.png"),
    ]
    uri = upload(s3_env, s3_bucket, write_manifest(tmp_path / "manifest" / "a.parquet", rows).parent, "manifest")
    summary = run_here(uri + "a.parquet", f"s3://{s3_bucket}/out", tiny_checkpoint)
    assert summary.exit_code == 3
    output = RunOutput(summary.output)
    output.check_complete(row["id"] for row in rows)
    assert list(output.by_id()) == ["there"]
    failures = output.failed_by_id()
    assert {failure["stage"] for failure in failures.values()} == {"fetch"}
    assert failures["gone"]["message"] == f"cannot read s3://{other}/gone.png: NoSuchKey (the object does not exist)"
    assert failures["no bucket"]["error_type"] == "BucketNotFound"
    assert f"s3://{s3_bucket}/manifest/photos/gone.png" in failures["beside"]["message"]


def test_wrong_credentials_are_wrong_input(
    manifest_uri: str, s3_env: S3Server, s3_bucket: str, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Keys(s3_env.access_key, "not-the-secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", wrong.secret_key)
    result = call(manifest_uri, f"s3://{s3_bucket}/out", tiny_checkpoint)
    assert result.exit_code == 2
    check_one_line(result.stderr, manifest_uri, "SignatureDoesNotMatch", "check AWS_SECRET_ACCESS_KEY")
    assert "not-the-secret" not in result.stderr


def test_a_missing_bucket_or_manifest_is_wrong_input(manifest_uri: str, s3_bucket: str, tiny_checkpoint: Path) -> None:
    for manifest, output, words in (
        (f"s3://{s3_bucket}-none/manifest/", f"s3://{s3_bucket}/out", "NoSuchBucket"),
        (f"s3://{s3_bucket}-none/manifest/a.parquet", f"s3://{s3_bucket}/out", "NoSuchBucket"),
        (manifest_uri, f"s3://{s3_bucket}-none/out", "NoSuchBucket"),
        (f"s3://{s3_bucket}/manifest/c.parquet", f"s3://{s3_bucket}/out", "no manifest at"),
        (f"s3://{s3_bucket}/other/", f"s3://{s3_bucket}/out", "no manifest at"),
    ):
        result = call(manifest, output, tiny_checkpoint)
        assert result.exit_code == 2, manifest
        check_one_line(result.stderr, words)
        assert result.stdout == ""


def test_an_output_that_cannot_be_written_is_wrong_input_before_the_model_is_loaded(
    manifest_uri: str, s3_env: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_env.env(s3_env.read_only).items():
        monkeypatch.setenv(name, value)
    result = call(manifest_uri, f"s3://{s3_bucket}/out", Path("no-such-model"))
    assert result.exit_code == 2
    check_one_line(result.stderr, f"s3://{s3_bucket}/out/", "AccessDenied", "check the policies")


def test_a_store_that_cannot_be_reached_is_no_wrong_input(
    tiny_checkpoint: Path, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    result = call("s3://bucket/manifest/", "s3://bucket/out", tiny_checkpoint)
    assert result.exit_code == 1
    check_one_line(result.stderr, "s3://bucket/manifest", "no connection to http://127.0.0.1:9")


def test_throttling_and_broken_answers_slow_a_run_and_fail_no_row(
    manifest_uri: str,
    mixed_results: dict[str, str],
    s3_env: S3Server,
    s3_bucket: str,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running_fault_proxy(s3_env.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        load_model = pipeline.worker.worker.load_model

        def spoil_and_load(*args: Any, **options: Any) -> Model:
            proxy.answer("PUT", 503, "SlowDown", times=2)
            proxy.answer("GET", 500, "InternalError", times=2)
            proxy.lose_answers("PUT", times=3)
            proxy.cut_bodies("GET", 10)
            return load_model(*args, **options)

        monkeypatch.setattr("pipeline.worker.worker.load_model", spoil_and_load)
        summary = run_here(manifest_uri, f"s3://{s3_bucket}/out", tiny_checkpoint, pipeline={"segment_rows": 2})
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_env.endpoint)
    assert (summary.done, summary.failed) == (len(mixed_results), 0)
    output = RunOutput(summary.output)
    output.check_complete(mixed_results)
    assert output.results() == mixed_results


def test_ids_of_any_kind_become_keys_that_s3_takes(
    s3_env: S3Server, s3_bucket: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    ids = ["../up", "a/b", "ü " * 200, "%2F", "?x#y", ".tmp-1", "'\"<>&", "\\"]
    uri = upload(
        s3_env,
        s3_bucket,
        write_manifest(tmp_path / "manifest" / "a.parquet", [image_row(row_id) for row_id in ids]).parent,
        "manifest",
    )
    summary = run_here(uri, f"s3://{s3_bucket}/out", tiny_checkpoint)
    RunOutput(summary.output).check_complete(ids)
