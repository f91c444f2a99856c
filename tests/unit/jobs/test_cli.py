"""The command line as far as it goes without a model."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from tests.support.command import REPOSITORY
from tests.support.in_process import check_one_line, command

HEAVY = ("torch", "torch._dynamo", "sympy", "ray", "diffusers", "transformers", "pyarrow", "boto3", "numpy")


def imported_after(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has imported after running some code."""
    program = f"import json, sys\n{code}\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return set(json.loads(ended.stdout.splitlines()[-1]))


def test_help_imports_nothing_heavy() -> None:
    assert imported_after("import jobs.cli\ntry: jobs.cli.app(['run', '--help'])\nexcept SystemExit: pass") == set()


def test_verify_starts_without_torch_ray_and_boto3() -> None:
    assert imported_after("import jobs.cli\ntry: jobs.cli.app(['verify', '--help'])\nexcept SystemExit: pass") == set()
    assert imported_after("import jobs.tools.verify") <= {"pyarrow", "numpy"}


def test_wrong_specs_are_told_without_torch_and_ray() -> None:
    code = "import jobs.cli\ntry: jobs.cli.app(['run', 'm', '--set', 'limt=3'])\nexcept SystemExit: pass"
    assert imported_after(code) <= {"pyarrow", "numpy"}


def test_the_driver_of_ray_workers_does_not_import_torch() -> None:
    assert "torch" not in imported_after("import jobs.run.run, pipeline.driver.ray_pool")


def test_a_checkpoint_is_checked_without_torch() -> None:
    code = "from jobs.spec.resolve import check_model; check_model(Path('dimoo_core/builtin'), None)"
    assert "torch" not in imported_after(f"from pathlib import Path; {code}")


def test_loading_a_model_imports_neither_the_compiler_of_torch_nor_diffusers() -> None:
    code = "from dimoo_core.checkpoint.load import load_model; load_model(Path('dimoo_core/builtin'))"
    assert imported_after(f"from pathlib import Path; {code}") == {"torch", "transformers", "numpy"}


def test_the_version_is_that_of_the_distribution() -> None:
    ended = CliRunner().invoke(app, ["--version"])
    assert (ended.exit_code, ended.stdout) == (0, f"dimoo-batch {importlib.metadata.version('dimoo-batch')}\n")


@pytest.mark.parametrize(("before", "after"), [(None, "PASSIVE"), ("active", "active")])
def test_threads_that_wait_do_not_spin_unless_they_are_told_to(
    before: str | None, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", before or "")
    if before is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    CliRunner().invoke(app, ["models", "--help"])
    assert os.environ["OMP_WAIT_POLICY"] == after


def test_help_names_every_flag_and_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    shown = command("--help").stdout
    for word in ("--output", "--model", "--workers", "--spec", "--set", "--limit", "Exit status: 0 all rows done"):
        assert word in shown


def test_help_tells_defaults_and_leaves_examples_on_their_lines() -> None:
    shown = CliRunner().invoke(app, ["retry", "--help"]).stdout
    assert "(default: timeout, oom, engine, store, crash)" in " ".join(shown.split())
    assert "    dimoo-batch retry s3://data/captions --class timeout --set failures.row_timeout_s=600\n" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("m.parquet", "--set", "limt=3"), "unknown key 'limt', did you mean 'limit'"),
        (("m.parquet", "--set", "limit"), "--set needs key=value, got 'limit'"),
        (("m.parquet", "--limit", "0"), "limit must be at least 1, got 0"),
        (("m.parquet", "--spec", "none.yaml"), "cannot read the spec none.yaml"),
        (("no-such.parquet",), "no manifest at no-such.parquet"),
        (("no-such-folder/",), "no manifest at no-such-folder/"),
        (("https://example.org/m.parquet",), "'https://example.org/m.parquet' cannot be opened, allowed: a local path"),
        (("m.parquet", "--set", "text_to_image.width=100"), "text_to_image.width must be a multiple of 16"),
    ],
)
def test_wrong_input_ends_with_2_and_one_line(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = command(*arguments)
    assert result.exit_code == 2
    check_one_line(result.stderr, words)
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_flag_ends_with_2() -> None:
    result = command("m.parquet", "--wrokers", "2")
    assert result.exit_code == 2
    assert "--workers" in result.stderr
