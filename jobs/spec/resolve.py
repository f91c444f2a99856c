"""What a job spec means together with its model: the checkpoint's own defaults and the adapter.

A checkpoint's ``generation_config.json`` may hold sections of the job spec under the same names; they are below the job
spec, which is below the row. Other keys of that file belong to other libraries and are left alone.
"""

from pathlib import Path
from typing import Any

from dimoo_core.checkpoint.check import CheckedCheckpoint, check_checkpoint
from dimoo_core.checkpoint.locate import BUILTIN, find_checkpoint
from dimoo_core.errors import ConfigError, WeightsError
from dimoo_core.files import expanded_path, read_json_object
from dimoo_core.memory.check import check_mapping
from jobs.spec.generation import CaptionsSpec, UnderstandingSpec, within_section
from jobs.spec.spec import JobSpec, parsed_spec
from manifests.errors import ManifestRowError
from manifests.row.captions import DETAILS
from manifests.row.settings import text_settings

FILE_NAME = "generation_config.json"
SECTIONS = ("text_to_image", "image_to_image", "understanding", "captions")
"""Sections of a job spec that a checkpoint may have defaults for."""


def with_generation_defaults(spec: JobSpec, directory: Path) -> JobSpec:
    """The spec with the checkpoint's defaults wherever it has no value itself.

    Raises:
        WeightsError: If the checkpoint's file is wrong; names the file, the key and the value.
        ConfigError: If a value of the spec is out of range, or does not go with one of the checkpoint's.
    """
    defaults = _read_defaults(directory / FILE_NAME)
    merged: dict[str, Any] = {}
    for name in SECTIONS:
        ours, theirs = getattr(spec, name), getattr(defaults, name)
        given = {field: getattr(ours, field) for field in ours.model_fields_set}
        if isinstance(theirs, UnderstandingSpec):
            given |= _lengths(theirs, given)
        elif isinstance(theirs, CaptionsSpec):
            given |= {
                detail: getattr(theirs, detail).model_copy(update=getattr(ours, detail).model_dump(exclude_none=True))
                for detail in DETAILS
            }
        merged[name] = theirs.model_copy(update=given)
    resolved = spec.model_copy(update=merged)
    resolved.row_defaults()
    return resolved


def _read_defaults(path: Path) -> JobSpec:
    """A spec that holds nothing but the checkpoint's defaults; the product's own where there is no such file."""
    raw = read_json_object(path, if_missing="") if path.is_file() else {}
    try:
        spec = parsed_spec({"manifest": "-", **{name: raw[name] for name in SECTIONS if name in raw}})
        spec.row_defaults()
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from error
    return spec


def _lengths(defaults: UnderstandingSpec, given: dict[str, Any]) -> dict[str, Any]:
    """Lengths and steps that go together: a job changes the checkpoint's as a row changes the job's."""
    record = {name: given.get(name) for name in ("max_tokens", "block_length", "steps")}
    try:
        with within_section("understanding"):
            settings = text_settings(record, defaults.settings())
    except ManifestRowError as error:
        raise ConfigError(f"understanding.{error}") from error
    return {
        "max_tokens": settings.max_tokens,
        "block_length": settings.block_length,
        "steps": settings.num_steps,
    }


def with_found_adapter(spec: JobSpec) -> JobSpec:
    """The spec with its adapter by the name that every worker and every resume finds it by."""
    if spec.adapter is None:
        return spec
    try:
        adapter = find_checkpoint(spec.adapter)
    except WeightsError as error:
        raise WeightsError(f"adapter: {error}") from error
    return spec.model_copy(update={"adapter": adapter.name})


def check_model(directory: Path, adapter: str | None) -> CheckedCheckpoint:
    """Check a checkpoint and the adapter of that name, which has been found before.

    Raises:
        WeightsError: A worker could not load them.
        ConfigError: This process may not have as much address space as their files take.
    """
    check_mapping(directory)
    return check_checkpoint(directory, adapter=None if adapter is None else find_checkpoint(adapter).directory)


def resolved_spec(spec: JobSpec) -> JobSpec:
    """The spec with the defaults of its checkpoint, where that is on this machine; a hub id is taken to have none."""
    if spec.model == BUILTIN or expanded_path(spec.model).is_dir():
        return with_generation_defaults(spec, find_checkpoint(spec.model).directory)
    return spec
