"""Hooks and filters: functions of a user's own, blocklists, shortest texts."""

import platform
import re
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from dimoo_core.errors import ConfigError
from jobs.export.export import ExportRequest, RowFilter
from jobs.export.rows import FinishedRow
from jobs.text import WordFilter
from pipeline.rows.hooks import HookFailed, hook_digest, load_hook
from pipeline.rows.row_hooks import ImageFile
from tests.unit.jobs.manifest.test_build import _in_folder, build, column, write

__all__ = ["_in_folder"]

HOOKS = """
def shout(cells):
    return {**cells, "prompt": cells["prompt"].upper()}

def without_cats(cells):
    return None if "cat" in cells["prompt"] else cells

def fails(cells):
    raise KeyError("no such thing")

def number(cells):
    return 7

def length(row):
    return len(row.words) / 10

def short_name(row):
    row.cells["text"] = row.cells["text"][:3]
    return row
"""


@pytest.fixture(autouse=True)
def _hooks(_in_folder: None, monkeypatch: pytest.MonkeyPatch) -> None:
    write("my_hooks.py", HOOKS)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_hooks", raising=False)


def row(text: str) -> FinishedRow:
    return FinishedRow({"row": 3, "prompt": "what?", "text": text}, ImageFile(b"", ".png"), None)


def row_filter(**options: object) -> RowFilter:
    return RowFilter(ExportRequest(output="o", format="files", target="t", **options))  # type: ignore[arg-type]


def test_hooks_change_rows_and_leave_them_out() -> None:
    source = write("p.txt", "a cat\na dog\n")
    hooks = ("--hook", "my_hooks:without_cats", "--hook", "my_hooks:shout")
    report = build(source, "--task", "text_to_image", *hooks)
    assert column("prompt") == ["A DOG"]
    assert report["filtered"] == 1


def test_prompts_with_blocked_words_and_short_ones_are_left_out() -> None:
    write("blocked.txt", "# names\nGun\nred   car\n\n")
    source = write("p.txt", "a gun\na shotgun shell\nthe red\tcar drives\nboat\na red boat\n")
    report = build(source, "--task", "text_to_image", "--blocklist", "blocked.txt", "--min-words", "2")
    assert column("prompt") == ["a shotgun shell", "a red boat"]
    assert report["filtered"] == 3


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ("my_hooks:fails", "p.txt, line 1: hook 'my_hooks:fails' raised KeyError: 'no such thing'"),
        ("my_hooks:number", "hook 'my_hooks:number' must return a dict or None, got int"),
    ],
)
def test_a_hook_that_fails_ends_the_build_with_its_row(hook: str, words: str) -> None:
    source = write("p.txt", "a cat\n")
    assert words in build(source, "--task", "text_to_image", "--hook", hook, exit_code=1)["message"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my_hooks:none", "cannot be imported: AttributeError: module 'my_hooks' has no attribute 'none'"),
        ("no_such_module:f", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("nothing", "neither module:function nor ./file.py:function nor an entry point of dimoo_batch.hooks"),
        ("my_hooks:HOOKS.x", "cannot be imported"),
    ],
)
def test_a_hook_that_is_not_there_is_named(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_hook(name)


@pytest.mark.parametrize("is_absolute", [False, True])
def test_a_hook_may_be_named_by_its_file_whose_module_is_loaded_once(is_absolute: bool) -> None:
    write("jobs/my hook-1.py", HOOKS + "\ncalled = []\n")  # no name that a module could have
    path = f"{Path.cwd()}/jobs/my hook-1.py" if is_absolute else "./jobs/my hook-1.py"
    assert load_hook(f"{path}:shout")({"prompt": "a"}) == {"prompt": "A"}
    load_hook(f"{path}:called.append")(1)
    assert load_hook("jobs/my hook-1.py:called.count")(1) == 1
    digest = hook_digest(f"{path}:shout")
    write("jobs/my hook-1.py", HOOKS)
    assert hook_digest(f"{path}:shout") != digest


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "./none.py:f",
            rf"there is no file .*/none\.py on {re.escape(platform.node())}; every machine with workers needs it$",
        ),
        (
            "jobs.mine:f",
            r"No module named 'jobs\.mine'; 'jobs' is a package of dimoo-batch here: give the file of yours "
            r"by its path, as in \./jobs/mine\.py:f$",
        ),
        ("manifests:f", r"has no attribute 'f'; 'manifests' is a package .* by its path, as in \./manifests\.py:f$"),
        (
            "./mine.py:f",
            r"No module named 'jobs\.theirs'; 'jobs' is a package of dimoo-batch here: give yours another name$",
        ),
        ("./exits.py:f", r"cannot be imported: SystemExit: 3$"),
        ("./number.py:f", r"cannot be imported: ValueError: invalid literal for int"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_told_in_one_line(name: str, words: str) -> None:
    write("mine.py", "from jobs.theirs import f\n")
    write("exits.py", "raise SystemExit(3)\n")
    write("number.py", "int('x')\n")
    with pytest.raises(ConfigError, match=words) as caught:
        load_hook(name)
    assert len(str(caught.value).splitlines()) == 1


def test_installed_packages_name_hooks_by_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    write("my_package-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    write("my_package-1.0.dist-info/entry_points.txt", "[dimoo_batch.hooks]\nloud = my_hooks:shout\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    assert load_hook("loud")({"prompt": "a"}) == {"prompt": "A"}


def test_scores_are_kept_and_low_ones_left_out() -> None:
    scored = row_filter(score="my_hooks:length", min_score=0.5)
    assert scored.extended(pa.schema([("row", pa.int64())])).names == ["row", "score"]
    passed = scored.passed(row("a long answer"))
    assert passed is not None
    assert passed.cells["score"] == 1.3
    assert scored.passed(row("no")) is None
    assert scored.num_refused == 1


def test_answers_are_filtered_and_changed_after_a_run() -> None:
    changed = row_filter(hooks=("my_hooks:short_name",), min_words=1).passed(row("a long answer"))
    assert changed is not None
    assert changed.words == "a l"
    assert row_filter(min_words=4).passed(row("a long answer")) is None


def test_wrong_scores_and_options_are_told() -> None:
    with pytest.raises(HookFailed, match="row 3: hook 'my_hooks:shout' raised"):
        row_filter(score="my_hooks:shout").passed(row("a"))
    with pytest.raises(ConfigError, match="--min-score needs --score"):
        row_filter(min_score=1.0)
    with pytest.raises(ConfigError, match="cannot read the blocklist"):
        WordFilter(Path("none.txt"), 0)
