"""Records from the prompt sets of public benchmarks, in the files in which these are published.

Each record names its benchmark in ``benchmark`` and its item in ``benchmark_item``: the path, without an ending, at
which that benchmark's evaluator looks for the item's image (of GenEval the number of its folder). What else the
evaluator reads is in ``benchmark_metadata``. ``dimoo-batch export --to benchmark`` needs no more than these.
"""

from collections.abc import Iterator, Mapping

from jobs.manifest.readers import json_object, json_objects, read_csv, read_parquet
from jobs.manifest.record import OpenFile, Record, open_text
from manifests.errors import ManifestError

_ONEIG_FOLDERS = {
    "Anime_Stylization": "anime",
    "Portrait": "human",
    "General_Object": "object",
    "Text_Rendering": "text",
    "Knowledge_Reasoning": "reasoning",
    "Multilingualism": "multilingualism",
}
_EDIT_TASKS = {
    "add": "edit_add",
    "subject-add": "edit_add",
    "remove": "edit_remove",
    "subject-remove": "edit_remove",
    "replace": "edit_replace",
    "subject-replace": "edit_replace",
    "background": "edit_background",
    "background_change": "edit_background",
    "text_change": "edit_text_transfer",
}
"""Kinds of edits of ImgEdit and GEdit that the model has a task of its own for; all others are ``edit``."""


def read_geneval(uri: str, open_file: OpenFile) -> Iterator[Record]:
    """GenEval's ``evaluation_metadata.jsonl``: a line is one prompt with what its image must show."""
    for index, (where, line, cells) in enumerate(json_objects(uri, open_file)):
        prompt, tag = _needed(where, cells, "prompt"), _needed(where, cells, "tag")
        yield _image(where, "geneval", f"{index:05d}", prompt, {"benchmark_class": tag, "benchmark_metadata": line})


def read_dpg(uri: str, open_file: OpenFile) -> Iterator[Record]:
    """DPG-Bench's ``dpg_bench.csv``, or a file of its folder ``prompts`` that is named after its item.

    A line of the table is one question, and those of an item follow each other.
    """
    if not uri.lower().endswith(".csv"):
        with open_text(uri, open_file) as text:
            yield _image(uri, "dpg-bench", uri.rpartition("/")[2].removesuffix(".txt"), text.read().strip())
        return
    previous = None
    for record in read_csv(uri, open_file):
        item = _needed(record.where, record.cells, "item_id")
        if item != previous:
            yield _image(record.where, "dpg-bench", item, _needed(record.where, record.cells, "text"))
        previous = item


def read_oneig(uri: str, open_file: OpenFile) -> Iterator[Record]:
    """OneIG-Bench's ``OneIG-Bench.csv``: the English prompts."""
    for record in read_csv(uri, open_file):
        category = _needed(record.where, record.cells, "category")
        if category not in _ONEIG_FOLDERS:
            known = ", ".join(_ONEIG_FOLDERS)
            raise ManifestError(f"{record.where}: category must be one of {known}, got {category!r}")
        item = f"{_ONEIG_FOLDERS[category]}/{_needed(record.where, record.cells, 'id')}"
        prompt = _needed(record.where, record.cells, "prompt_en")
        yield _image(record.where, "oneig-en", item, prompt, {"benchmark_class": category})


def read_tiif(uri: str, open_file: OpenFile) -> Iterator[Record]:
    """A file of TIIF-Bench: each line is a short and a long prompt for the same picture; its number names the image."""
    for index, (where, _, cells) in enumerate(json_objects(uri, open_file)):
        kind = _needed(where, cells, "type")
        for length in ("short_description", "long_description"):
            prompt = _needed(where, cells, length)
            yield _image(where, "tiif", f"{kind}/{length}/{index}", prompt, {"benchmark_class": kind})


def read_imgedit(uri: str, open_file: OpenFile) -> Iterator[Record]:
    """ImgEdit's ``basic_edit.json``: an object of edits by key. ``id`` names the image below the originals' folder."""
    with open_text(uri, open_file) as text:
        edits = json_object(uri, text.read(), "must hold a JSON object of edits by key")
    for key, edit in edits.items():
        where = f"{uri}, edit {key}"
        if not isinstance(edit, dict):
            raise ManifestError(f"{where}: must be an object with id, prompt and edit_type, got {edit!r}")
        kind, prompt, image = (_needed(where, edit, name) for name in ("edit_type", "prompt", "id"))
        yield _edit(where, "imgedit", key, kind, prompt, image, uri)


def read_gedit(uri: str, open_file: OpenFile) -> Iterator[Record]:
    """A Parquet file of GEdit-Bench; the image is embedded as the file has it."""
    for record in read_parquet(uri, open_file, without=("input_image_raw",)):
        where, cells = record.where, record.cells
        kind, language, key = (_needed(where, cells, name) for name in ("task_type", "instruction_language", "key"))
        item = f"fullset/{kind}/{language}/{key}"
        yield _edit(where, "gedit", item, kind, _needed(where, cells, "instruction"), cells["input_image"], uri)


def _image(where: str, benchmark: str, item: str, prompt: str, more: Mapping[str, str] | None = None) -> Record:
    cells = {"task": "text_to_image", "prompt": prompt, "benchmark": benchmark, "benchmark_item": item}
    return Record(
        {"id": f"{benchmark}/{item}", **cells, "benchmark_class": None, "benchmark_metadata": None, **(more or {})},
        where,
    )


def _edit(where: str, benchmark: str, item: str, kind: str, prompt: str, image: object, uri: str) -> Record:
    record = _image(where, benchmark, item, prompt, {"benchmark_class": kind})
    cells = {**record.cells, "task": _EDIT_TASKS.get(kind, "edit"), "image": image}
    return Record(cells, where, uri)


def _needed(where: str, cells: Mapping[str, object], name: str) -> str:
    value = cells.get(name)
    if not isinstance(value, str) or not value:
        raise ManifestError(f"{where}: {name} must be text, got {value!r}: is this the benchmark's own file?")
    return value
