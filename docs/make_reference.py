"""Writes ``docs/reference.md`` from the schemas: ``python docs/make_reference.py``. A test holds the page to them."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel
from pydantic.fields import FieldInfo

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from jobs.spec.spec import JobSpec  # noqa: E402
from jobs.tools.catalog import ROW_COLUMNS, TaskEntry, reference_entries, task_entries  # noqa: E402
from manifests.columns import COLUMNS  # noqa: E402
from pipeline.output.results import DONE_SCHEMA, FAILURE_SCHEMA  # noqa: E402

PAGE = ROOT / "docs" / "reference.md"

_OF_IMAGES: Mapping[str, str] = {
    "step_cache.mode": "which step cache images have",
    "step_cache.reuse_ratio": "`reference`: share of positions served from the cache",
    "step_cache.refresh_interval": "`reference`: steps from one computation of everything to the next",
    "step_cache.refresh_share": "`target`: share of the image decided between computations of the whole image",
    "step_cache.warmup_ratio": "share of the steps, from the first on, that compute everything",
    "step_cache.prompt_share": "`target`: the same of those that compute the prompt and its images too",
    "step_cache.lookahead": "`target`: masked positions computed for each that is decided",
    "step_cache.compute_ratio": "`target`: and no smaller a share of the masked positions",
    "uncond_interval": "steps between computations of the streams without prompt or images",
    "commit.rule": "when a step decides more than the schedule says",
    "commit.bound": "of that rule",
}
"""Settings that drawing and editing have in the same words."""

SPEC_MEANINGS: Mapping[str, str] = {
    **{
        f"{section}.{key}": words
        for section in ("text_to_image", "image_to_image")
        for key, words in _OF_IMAGES.items()
    },
    "manifest": "Parquet file, or folder of them; path or `s3://`",
    "output": "where results go; by default `NAME-output` in the working directory",
    "model": "`builtin`, a checkpoint directory, or a hub id `OWNER/NAME[@REVISION]`",
    "adapter": "LoRA adapter in PEFT's format: directory or hub id",
    "workers": "Ray workers; 0 is this process; by default one a GPU, else 0",
    "worker_hour_usd": "what one worker costs an hour, for the costs that progress, summary and metrics tell",
    "limit": "the first rows only",
    "seed": "what seeds of rows that name none are derived from",
    "device": "`auto`, `cpu`, `cuda` or `cuda:N`",
    "dtype": "`auto` is `bfloat16` on CUDA, else `float32`; `float8` is for [newer GPUs](tuning.md#eight-bit-weights)",
    "task": "task of rows that name none",
    "prompt": "prompt of rows that name none",
    "preset": "which approximations rows may make, see [presets](presets.md)",
    "passthrough": "columns that look like known ones and are meant to pass through",
    "text_to_image.width": "pixels, a multiple of 16",
    "text_to_image.height": "pixels, a multiple of 16",
    "text_to_image.steps": "denoising steps",
    "text_to_image.cfg_scale": "guidance, 0 is none",
    "text_to_image.temperature": "0 is greedy",
    "image_to_image.steps": "denoising steps",
    "image_to_image.cfg_scale": "guidance towards the prompt",
    "image_to_image.cfg_image_scale": "guidance towards the input image",
    "image_to_image.temperature": "0 is greedy",
    "image_to_image.resolution": "crop of the input image: side of a square of equal area, `adaptive`, or `native`",
    "image_to_image.random_crop": "as in `understanding`; for input images of painting too",
    "understanding.max_tokens": "length of an answer",
    "understanding.block_length": "tokens decoded together",
    "understanding.steps": "of all blocks together; by default one for each eight tokens",
    "understanding.cfg_scale": "guidance, 0 is none",
    "understanding.temperature": "0 is greedy",
    "understanding.remasking": "which positions of a block are decided first",
    "understanding.resolution": "crop of the input image, as in `image_to_image`",
    "understanding.random_crop": "which part a crop takes depends on the row's seed, as in the reference's training",
    "understanding.match_question": "question of `score` and `best_of`, with `{prompt}`",
    "understanding.cache.mode": "what a step of an answer computes",
    "understanding.cache.prompt_interval": "every n-th block begins with a whole computation; 0: only the first",
    "understanding.cache.refresh_interval": "every n-th step of a block computes everything; 0: none",
    "understanding.commit.rule": "when a step decides more than its share",
    "understanding.commit.bound": "of that rule",
    "captions.detail": "`short`, `detailed` or `dense`: how much captions tell whose rows say none of it",
    "captions.short.prompt": "words for such a caption; by default those the model was trained with",
    "captions.short.max_tokens": "place of such a caption",
    "captions.detailed.prompt": "words for such a caption; by default those the model was trained with",
    "captions.detailed.max_tokens": "place of such a caption",
    "captions.dense.prompt": "words for such a caption; by default those the model was trained with",
    "captions.dense.max_tokens": "place of such a caption",
    "tokenize.resolution": "crop of the input image, as in `image_to_image`",
    "tokenize.random_crop": "as in `understanding`",
    "image.format": "of results",
    "image.quality": "1 to 100, of JPEG and WebP",
    "sources.local_files": "whether rows may name files of the machine; by default if the manifest is one itself",
    "sources.folders": "folders below which; empty: any",
    "sources.buckets": "buckets that rows may name; empty: any",
    "sources.max_bytes": "largest input file",
    "sources.max_pixels": "largest input image",
    "sources.decode_timeout_s": "longest time to open and decode one",
    "sources.decode_memory_bytes": "most memory for that",
    "engine.max_step_tokens": "tokens of one forward pass",
    "engine.max_cache_bytes": "what running requests keep between steps; by default asked of the machine",
    "engine.max_step_interval": "a running request makes a step at least so often, in steps of the engine",
    "engine.compile": "norms, rotations and gates by [kernels of torch's compiler](tuning.md#compiled-kernels)",
    "engine.batch_invariance": "logits equal bit for bit in every batch; `auto`: on CPUs",
    "ray.address": "cluster to join, `HOST:PORT` or `auto`; by default `RAY_ADDRESS`, else a Ray of the run's own",
    "ray.cpus_per_worker": "cores; by default as many as each finds on its machine",
    "ray.gpus_per_worker": "GPUs; by default 1 where there are any",
    "pipeline.segment_rows": "rows committed together; by default by the manifest's size and the workers, 64 at most",
    "pipeline.max_rows_in_flight": "rows that a worker has in hand",
    "pipeline.fetch_threads": "input images read at once by a worker",
    "pipeline.store_threads": "results written at once by a worker",
    "pipeline.flush_rows": "finished rows of a segment still in work after which they are kept on the store",
    "pipeline.flush_s": "seconds after which finished rows of a segment still in work are kept on the store",
    "worker_life.stop_deadline_s": "time to end in good order after SIGTERM: [durability](durability.md)",
    "worker_life.hang_timeout_s": "a worker that shows no sign of life for so long is killed",
    "worker_life.max_rows": "a worker is replaced after so many rows; by default never",
    "worker_life.max_s": "a worker is replaced after so long; by default never",
    "worker_life.max_growth_bytes": "a worker is replaced when it has grown by so much since its second segment",
    "failures.tries.store": "of a row whose image's store fails",
    "failures.tries.engine": "of a row that the engine fails on",
    "failures.tries.crash": "of a row that workers die with",
    "failures.first_wait_s": "before the second try; then twice as long each time",
    "failures.max_wait_s": "and at most so long",
    "failures.row_timeout_s": "longest time of a row in the engine; by default none",
    "failures.input_timeout_s": "longest time in which the bytes of an input image come",
    "failures.max_failures": "rows, or a share such as `5%`, after which the run stops",
    "failures.max_engine_streak": "rows in succession on which the engine fails: [durability](durability.md)",
    "hooks.rows": "functions on rows before the engine, see [hooks](hooks.md#inside-a-run)",
    "hooks.results": "functions on finished rows before they are stored",
    "hooks.scores": "functions that score finished rows, by the name of the score",
    "hooks.min_scores": "least scores of rows that are kept, by the name of the score",
}

OUTPUT_MEANINGS: Mapping[str, str] = {
    "row": "number of the row in the whole manifest, from 0",
    "id": "the manifest's, or the content hash that stands in for it",
    "task": "as run",
    "prompt": "as run, defaults filled in; of several, one a line",
    "output": "key of the image below the output; null for texts and codes",
    "text": "the answer; null for images",
    "width": "of the image in pixels; null for texts",
    "height": "of the image in pixels; null for texts",
    "steps": "as run; 0 where no transformer was asked",
    "cfg_scale": "as run",
    "cfg_image_scale": "as run; null for tasks that have none",
    "temperature": "as run",
    "seed": "as run",
    "preset": "which approximations were allowed",
    "num_tokens": "codes of all images, or tokens of the answer",
    "finish_reason": "`stop`: the answer ended; `length`: it filled its place; null for images",
    "sha256": "of the image file",
    "bytes": "of the image file",
    "vq_codes": "of a tokenized image, row by row",
    "vq_grid": "how many rows and columns these are",
    "outputs": "every image of the row",
    "model_score": "of `score`, `choices` or `best_of`, in [0, 1]; else null",
    "answers": "each of the choices with its probability",
}

FAILURE_MEANINGS: Mapping[str, str] = {
    "row": "number of the row in the whole manifest",
    "id": "its id",
    "stage": "`manifest`, `fetch`, `decode`, `prompt` or `generate`",
    "error_type": "name of the error",
    "message": "what was wrong, and what is allowed",
    "failure_class": "[what kind of failure](output.md#columns-of-_failures)",
    "attempts": "how often the row was tried",
    "columns": "the row's own columns, as a JSON object",
}


def page() -> str:
    """The whole page."""
    entries = [*task_entries(), *reference_entries()]
    parts = [
        "# Reference",
        "Written by `python docs/make_reference.py` from the schemas themselves; a test compares.",
        "## Job spec",
        "A YAML or TOML file for `--spec`, in which a dot is a section; or `--set KEY=VALUE`, which wins over it. "
        "Unknown keys are refused with the nearest known one. A default of — means that it is chosen when the run "
        "starts. Of `text_to_image` and `understanding` the checkpoint's own defaults come before those here.",
        table(("key", "values", "default", "meaning"), spec_rows()),
        "## Columns of a manifest",
        "More about them: [manifest](manifest.md#columns).",
        table(("column", "types", "default"), ((f"`{c.name}`", c.kind.accepted, c.default) for c in COLUMNS.values())),
        "## Columns of each task",
        "Every task also takes `id`, `seed` and `preset`. What each makes: [tasks](tasks.md). From `canny_dense` on "
        "they are [names of the reference](manifest.md#names-of-the-reference).",
        table(("task", "has to have", "exactly one of", "may have"), map(task_row, entries)),
        "## Columns of a part",
        "`parts/*.parquet`; columns that pass through follow. More: [output](output.md#columns-of-a-part).",
        table(("column", "type", "null", "meaning"), arrow_rows(DONE_SCHEMA, OUTPUT_MEANINGS)),
        "## Columns of a failures file",
        "`_failures/*.parquet`.",
        table(("column", "type", "null", "meaning"), arrow_rows(FAILURE_SCHEMA, FAILURE_MEANINGS)),
    ]
    return "\n\n".join(parts) + "\n"


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]] | Any) -> str:
    """A table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spec_rows() -> Iterator[tuple[str, ...]]:
    """Each key of the job spec."""
    for key, field in spec_fields(JobSpec):
        default = field.get_default(call_default_factory=True) if not field.is_required() else None
        shown = "—" if default is None or default in ((), {}) else f"`{default}`"
        yield f"`{key}`", values_of(field.annotation), shown, meaning(SPEC_MEANINGS, key)


def spec_fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Keys with dots, and their fields."""
    for name, field in model.model_fields.items():
        candidates = [field.annotation, *get_args(field.annotation)]
        sections = [item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)]
        if sections:
            yield from spec_fields(sections[0], f"{prefix}{name}.")
        else:
            yield prefix + name, field


def values_of(annotation: Any) -> str:
    """What may be written there."""
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is dict:
        return f"mapping to {values_of(get_args(annotation)[1])}"
    if get_origin(annotation) is tuple:
        return "list"
    if annotation in (str, int, float, bool):
        return {str: "text", int: "integer", float: "number", bool: "`true`, `false`"}[annotation]
    inner = [item for item in get_args(annotation) if item is not type(None) and not isinstance(item, FieldInfo)]
    kinds = [values_of(item) for item in inner if isinstance(item, type) or get_origin(item) is not None]
    return " or ".join(dict.fromkeys(kind for kind in kinds if kind))


def task_row(entry: TaskEntry) -> tuple[str, ...]:
    """Its columns, those it has to have first."""
    optional = [name for name in entry.optional if name not in ROW_COLUMNS]
    return f"`{entry.name}`", names(entry.required), names(entry.one_of), names(optional)


def names(columns: Any) -> str:
    """In code, separated by commas."""
    if not columns:
        return "—"
    return ", ".join(f"`{name}`" for name in columns)


def arrow_rows(schema: pa.Schema, meanings: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Each column of a schema."""
    for field in schema:
        kind = str(field.type).replace("item: ", "").replace(" not null", "").replace("|", "")
        yield f"`{field.name}`", kind, "yes" if field.nullable else "no", meaning(meanings, field.name)


def meaning(meanings: Mapping[str, str], name: str) -> str:
    """What is said of it here.

    Raises:
        SystemExit: Nothing is.
    """
    if name not in meanings:
        raise SystemExit(f"{Path(__file__).name}: say what {name!r} means, in one of the tables of meanings")
    return meanings[name]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
