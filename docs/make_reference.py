"""Generates ``docs/reference.md`` from the schemas: ``python docs/make_reference.py``. A test compares."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pyarrow as pa
from pydantic.fields import FieldInfo

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from jobs.spec.override import kinds_of, section_fields  # noqa: E402
from jobs.spec.spec import JobSpec  # noqa: E402
from jobs.tools.catalog import ROW_COLUMNS, TaskEntry, reference_entries, task_entries  # noqa: E402
from manifests.columns import COLUMNS  # noqa: E402
from pipeline.output.results import DONE_SCHEMA, FAILURE_SCHEMA  # noqa: E402

PAGE = ROOT / "docs" / "reference.md"

_OF_IMAGES: Mapping[str, str] = {
    "step_cache.mode": "KV cache policy of images",
    "step_cache.reuse_ratio": "`reference`: share of positions served from the cache",
    "step_cache.refresh_interval": "`reference`: steps between full refreshes",
    "step_cache.refresh_share": "`target`: share of the image committed between refreshes of the whole image",
    "step_cache.warmup_ratio": "share of the steps, from the first on, that compute everything",
    "step_cache.prompt_share": "`target`: the same for refreshes of the prompt and its images",
    "step_cache.lookahead": "`target`: masked positions computed per committed one",
    "step_cache.compute_ratio": "`target`: lower bound, as a share of the masked positions",
    "uncond_interval": "steps between computations of the unconditional sequences",
    "commit.rule": "parallel commit: when a step commits more than the schedule",
    "commit.bound": "threshold of that rule",
}
"""Settings that text to image and image to image share."""

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
    "workers": "Ray workers; 0 runs in this process; by default one per GPU, else 0",
    "worker_hour_usd": "price of one worker per hour, for the cost in progress, summary and metrics",
    "limit": "run the first N rows only",
    "seed": "base of the seeds of rows without one",
    "device": "`auto`, `cpu`, `cuda` or `cuda:N`",
    "dtype": "`auto` is `bfloat16` on CUDA, else `float32`; `float8` is for [newer GPUs](tuning.md#eight-bit-weights)",
    "task": "task of rows without one",
    "prompt": "prompt of rows without one",
    "preset": "which approximations rows may use, see [presets](presets.md)",
    "passthrough": "extra columns whose names look like known ones",
    "text_to_image.width": "pixels, a multiple of 16",
    "text_to_image.height": "pixels, a multiple of 16",
    "text_to_image.steps": "denoising steps",
    "text_to_image.cfg_scale": "classifier-free guidance, 0 is none",
    "text_to_image.temperature": "0 is greedy",
    "image_to_image.steps": "denoising steps",
    "image_to_image.cfg_scale": "guidance towards the prompt",
    "image_to_image.cfg_image_scale": "guidance towards the input image",
    "image_to_image.temperature": "0 is greedy",
    "image_to_image.resolution": "crop of the input image: side of a square of equal area, `adaptive`, or `native`",
    "image_to_image.random_crop": "as in `understanding`; also for input images of inpainting",
    "understanding.max_tokens": "length of an answer",
    "understanding.block_length": "tokens decoded together",
    "understanding.steps": "of all blocks together; by default one per eight tokens",
    "understanding.cfg_scale": "guidance, 0 is none",
    "understanding.temperature": "0 is greedy",
    "understanding.remasking": "which positions of a block are committed first",
    "understanding.resolution": "crop of the input image, as in `image_to_image`",
    "understanding.random_crop": "draw the crop's offset from the row's seed, as in the reference's training",
    "understanding.match_question": "question of `score` and `best_of`, with `{prompt}`",
    "understanding.cache.mode": "KV cache policy of answers",
    "understanding.cache.prompt_interval": "every n-th block begins with a full refresh; 0: only the first",
    "understanding.cache.refresh_interval": "every n-th step of a block is a full refresh; 0: none",
    "understanding.commit.rule": "parallel commit: when a step commits more than its share",
    "understanding.commit.bound": "threshold of that rule",
    "captions.detail": "`short`, `detailed` or `dense`: level of detail of captions whose rows name none",
    "captions.short.prompt": "prompt of such captions; by default the model's training prompt",
    "captions.short.max_tokens": "maximum length of such captions",
    "captions.detailed.prompt": "prompt of such captions; by default the model's training prompt",
    "captions.detailed.max_tokens": "maximum length of such captions",
    "captions.dense.prompt": "prompt of such captions; by default the model's training prompt",
    "captions.dense.max_tokens": "maximum length of such captions",
    "tokenize.resolution": "crop of the input image, as in `image_to_image`",
    "tokenize.random_crop": "as in `understanding`",
    "image.format": "of results",
    "image.quality": "1 to 100, of JPEG and WebP",
    "sources.local_files": "whether rows may name local files; by default if the manifest is a local file",
    "sources.folders": "allowed local folders; empty: any",
    "sources.buckets": "allowed buckets; empty: any",
    "sources.max_bytes": "largest input file",
    "sources.max_pixels": "largest input image",
    "sources.decode_timeout_s": "time limit to open and decode one",
    "sources.decode_memory_bytes": "memory limit for that",
    "engine.max_step_tokens": "batch size of a step: maximum tokens per forward pass",
    "engine.max_cache_bytes": "KV cache of all running requests; by default measured on the machine",
    "engine.max_step_interval": "a running request takes a step at least every so many engine steps",
    "engine.compile": "norms, rotations and gates in [compiled kernels](tuning.md#compiled-kernels)",
    "engine.batch_invariance": "logits equal bit for bit in every batch; `auto`: on for CPUs",
    "ray.address": "cluster to join, `HOST:PORT` or `auto`; by default `RAY_ADDRESS`, else a local Ray",
    "ray.cpus_per_worker": "cores; by default an equal share of the machine's",
    "ray.gpus_per_worker": "GPUs; by default 1 where there are any",
    "pipeline.segment_rows": "rows committed together; by default from the manifest's size and the workers, 64 at most",
    "pipeline.max_rows_in_flight": "rows in flight per worker",
    "pipeline.fetch_threads": "concurrent reads of input images per worker",
    "pipeline.store_threads": "concurrent writes of results per worker",
    "pipeline.flush_rows": "flush a partial segment after so many finished rows",
    "pipeline.flush_s": "flush a partial segment after so many seconds",
    "worker_life.stop_deadline_s": "deadline of a [graceful shutdown](durability.md#preemption-and-graceful-shutdown)",
    "worker_life.hang_timeout_s": "a worker without a heartbeat for so long is killed",
    "worker_life.max_rows": "replace a worker after so many rows; by default never",
    "worker_life.max_s": "replace a worker after so many seconds; by default never",
    "worker_life.max_growth_bytes": "replace a worker when its memory has grown by so much since its second segment",
    "failures.tries.store": "attempts of a row whose image cannot be read",
    "failures.tries.engine": "attempts of a row that the engine fails on",
    "failures.tries.crash": "deaths of workers with a row before it is quarantined",
    "failures.first_wait_s": "backoff before the second attempt; doubles each time",
    "failures.max_wait_s": "maximum backoff",
    "failures.row_timeout_s": "time limit of a row in the engine; by default none",
    "failures.input_timeout_s": "time limit for the bytes of an input image",
    "failures.max_failures": "rows, or a share such as `5%`, after which the run stops",
    "failures.max_engine_streak": "consecutive `engine` failures after which [a worker is retired]"
    "(durability.md#workers-that-fail-on-row-after-row)",
    "hooks.rows": "functions on rows before the engine, see [hooks](hooks.md#inside-a-run)",
    "hooks.results": "functions on finished rows before they are stored",
    "hooks.scores": "functions that score finished rows, by the name of the score",
    "hooks.min_scores": "minimum scores of accepted rows, by the name of the score",
}

OUTPUT_MEANINGS: Mapping[str, str] = {
    "row": "number of the row in the whole manifest, from 0",
    "id": "the manifest's, or the content hash used in its place",
    "task": "as run",
    "prompt": "as run, defaults filled in; of several, one per line",
    "output": "key of the image below the output; null for texts and codes",
    "text": "the answer; null for images",
    "width": "of the image in pixels; null for texts",
    "height": "of the image in pixels; null for texts",
    "steps": "as run; 0 where the transformer was not used",
    "cfg_scale": "as run",
    "cfg_image_scale": "as run; null for tasks that have none",
    "temperature": "as run",
    "seed": "as run",
    "preset": "which approximations were allowed",
    "num_tokens": "codes of all images, or tokens of the answer",
    "finish_reason": "`stop`: the answer ended; `length`: it used all of `max_tokens`; null for images",
    "sha256": "of the image file",
    "bytes": "of the image file",
    "vq_codes": "codes of a tokenized image, row by row",
    "vq_grid": "rows and columns of these",
    "outputs": "every image of the row",
    "model_score": "of `score`, `choices` or `best_of`, in [0, 1]; else null",
    "answers": "each choice with its probability",
}

FAILURE_MEANINGS: Mapping[str, str] = {
    "row": "number of the row in the whole manifest",
    "id": "its id",
    "stage": "`manifest`, `fetch`, `decode`, `prompt`, `generate`, `store` or `hook`",
    "error_type": "name of the error",
    "message": "what was wrong, and what is allowed",
    "failure_class": "[what kind of failure](output.md#columns-of-_failures)",
    "attempts": "number of attempts",
    "columns": "the row's extra columns, as a JSON object",
}


def page() -> str:
    """The whole page."""
    entries = [*task_entries(), *reference_entries()]
    parts = [
        "# Reference",
        "Generated by `python docs/make_reference.py` from the schemas; a test compares.",
        "## Job spec",
        "A YAML or TOML file for `--spec`, in which a dot is a section; or an override with `--set KEY=VALUE`. Unknown "
        "keys are refused with the nearest known one. A default of — means that it is chosen when the run starts. "
        "For `text_to_image` and `understanding` the checkpoint's own defaults precede those here.",
        table(("key", "values", "default", "meaning"), spec_rows()),
        "## Columns of a manifest",
        "More about them: [manifest](manifest.md#columns).",
        table(("column", "types", "default"), ((f"`{c.name}`", c.kind.accepted, c.default) for c in COLUMNS.values())),
        "## Columns of each task",
        "Every task also takes `id`, `seed` and `preset`. What each makes: [tasks](tasks.md). From `canny_dense` on "
        "they are [names of the reference](manifest.md#names-of-the-reference).",
        table(("task", "required", "exactly one of", "optional"), map(task_row, entries)),
        "## Columns of a part",
        "`parts/*.parquet`; extra columns follow. More: [output](output.md#columns-of-a-part).",
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
    for key, kind, default in spec_fields(JobSpec, JobSpec(manifest="-")):
        shown = "—" if key == "manifest" or default is None or default in ((), {}) else f"`{default}`"
        yield f"`{key}`", values_of(kind), shown, meaning(SPEC_MEANINGS, key)


def spec_fields(section: type, defaults: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Keys with dots, their types and their defaults."""
    for name, kind in section_fields(section).items():
        default = getattr(defaults, name, None)
        inner = [item for item in kinds_of(kind) if section_fields(item)]
        found: dict[str, list[tuple[Any, Any]]] = {}
        for item in inner:
            for key, *rest in spec_fields(item, default, f"{prefix}{name}."):
                found.setdefault(key, []).append(tuple(rest))
        for key, [(kind_of_key, default_of_key), *others] in found.items():  # a section may be of several kinds
            words = tuple(word for each in (kind_of_key, *(kind for kind, _ in others)) for word in get_args(each))
            yield key, Literal[words] if others and get_origin(kind_of_key) is Literal else kind_of_key, default_of_key
        if not inner:
            yield prefix + name, kind, default


def values_of(annotation: Any) -> str:
    """The values that it takes."""
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) in (dict, Mapping):
        return f"mapping to {values_of(get_args(annotation)[1])}"
    if get_origin(annotation) is tuple:
        return "list"
    if annotation in (str, int, float, bool):
        return {str: "text", int: "integer", float: "number", bool: "`true`, `false`"}[annotation]
    inner = [item for item in get_args(annotation) if item is not type(None) and not isinstance(item, FieldInfo)]
    kinds = [values_of(item) for item in inner if isinstance(item, type) or get_origin(item) is not None]
    return " or ".join(dict.fromkeys(kind for kind in kinds if kind))


def task_row(entry: TaskEntry) -> tuple[str, ...]:
    """Its columns, required ones first."""
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
    """Its meaning.

    Raises:
        SystemExit: There is none.
    """
    if name not in meanings:
        raise SystemExit(f"{Path(__file__).name}: add the meaning of {name!r} to one of the tables")
    return meanings[name]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
