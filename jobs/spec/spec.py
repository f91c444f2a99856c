"""The job spec: what a person writes in YAML or TOML, or with ``--set key=value``.

Unknown keys are errors that name the nearest known one. Imports neither torch nor ray.
"""

import difflib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from dimoo_core.checkpoint.locate import BUILTIN
from dimoo_core.errors import ConfigError
from dimoo_core.presets import DEFAULT_PRESET, find_preset
from dimoo_core.settings import DtypeName, EngineConfig
from jobs.spec.generation import CaptionsSpec, ImageToImageSpec, Section, TextToImageSpec, UnderstandingSpec
from jobs.spec.override import apply_override, kind_of, kinds_of, literals_of, section_fields
from manifests.row.settings import RowDefaults
from pipeline.protocol.settings import (
    CropSettings,
    FailurePolicy,
    HookSettings,
    ImageOutput,
    PipelineSettings,
    WorkerLife,
)
from pipeline.protocol.source_policy import SourcePolicy

DEFAULT_MODEL = BUILTIN


class RaySpec(Section):
    """Where workers run. Without an address a Ray of this machine's own is started and ended with the run."""

    address: str | None = None
    cpus_per_worker: Annotated[float, Field(gt=0)] | None = None
    gpus_per_worker: Annotated[float, Field(ge=0)] | None = None


class JobSpec(Section):
    """One run. Everything but the manifest has a default."""

    manifest: Annotated[str, Field(min_length=1)]
    output: Annotated[str, Field(min_length=1)] | None = None
    model: Annotated[str, Field(min_length=1)] = DEFAULT_MODEL
    adapter: Annotated[str, Field(min_length=1)] | None = None
    workers: Annotated[int, Field(ge=0)] | None = None
    worker_hour_usd: Annotated[float, Field(ge=0)] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    device: Annotated[str, Field(min_length=1)] = "auto"
    dtype: DtypeName | Literal["auto"] = "auto"
    task: str | None = None
    prompt: str | None = None
    preset: str = DEFAULT_PRESET
    passthrough: tuple[str, ...] = ()
    text_to_image: TextToImageSpec = TextToImageSpec()
    image_to_image: ImageToImageSpec = ImageToImageSpec()
    understanding: UnderstandingSpec = UnderstandingSpec()
    captions: CaptionsSpec = CaptionsSpec()
    tokenize: CropSettings = CropSettings()
    image: ImageOutput = ImageOutput()
    sources: SourcePolicy = SourcePolicy()
    engine: EngineConfig = EngineConfig()
    ray: RaySpec = RaySpec()
    pipeline: PipelineSettings = PipelineSettings()
    failures: FailurePolicy = FailurePolicy()
    worker_life: WorkerLife = WorkerLife()
    hooks: HookSettings = HookSettings()

    @property
    def output_uri(self) -> str:
        """Where results go: as given, else a folder beside the working directory named after the manifest."""
        if self.output is not None:
            return self.output
        name = self.manifest.rstrip("/").rsplit("/", 1)[-1]
        return f"{name.removesuffix('.parquet') or 'manifest'}-output"

    def early_defaults(self) -> RowDefaults:
        """Those of ``row_defaults`` that do not depend on the checkpoint's own; enough to check a manifest's columns.

        Lengths of texts are left as they are by default: whether given ones fit is known with the checkpoint's.
        """
        lengths = UnderstandingSpec().model_dump(include={"max_tokens", "block_length", "steps"})
        understanding = self.understanding.model_copy(update=lengths)
        return self.model_copy(update={"understanding": understanding}).row_defaults()

    def row_defaults(self) -> RowDefaults:
        """The job's defaults for rows without their own values."""
        find_preset(self.preset)
        return RowDefaults(
            task=self.task,
            prompt=self.prompt,
            preset=self.preset,
            explicit_text_to_image=self.text_to_image.explicit(),
            explicit_image_to_image=self.image_to_image.explicit(),
            explicit_understanding=self.understanding.explicit(),
            text_to_image=self.text_to_image.settings(),
            image_to_image=self.image_to_image.settings(),
            understanding=self.understanding.settings(),
            captions=self.captions.settings(),
        )


def load_spec(path: Path | None, flags: Mapping[str, Any], overrides: Iterable[str]) -> JobSpec:
    """Compose a spec: the file, then the flags given, then ``key=value`` assignments; later ones win.

    Args:
        path: A ``.yaml``, ``.yml`` or ``.toml`` file.
        flags: Top-level keys; None means not given.
        overrides: ``dotted.key=value``, see ``apply_override``.

    Raises:
        ConfigError: Names every wrong key and value.
    """
    raw: dict[str, Any] = _read_file(path) if path is not None else {}
    raw |= {key: value for key, value in flags.items() if value is not None}
    for override in overrides:
        apply_override(raw, override, JobSpec)
    return parsed_spec(raw)


def parsed_spec(raw: Mapping[str, Any]) -> JobSpec:
    """The spec of plain values, as YAML, TOML and JSON have them."""
    if isinstance(hooks := raw.get("hooks"), dict):  # one name may be given without a list
        lists = {name: [hook] for name in ("rows", "results") if isinstance(hook := hooks.get(name), str)}
        raw = {**raw, "hooks": hooks | lists}
    try:
        return JobSpec.model_validate_json(json.dumps(raw, default=_not_plain))
    except ValidationError as error:
        raise ConfigError("; ".join(_problems(error))) from error
    except (TypeError, ValueError) as error:  # a key that YAML reads as a date, a section that holds itself
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"the spec cannot be read: {str(error).lower()}") from error


def _not_plain(value: object) -> str:
    """YAML reads an unquoted ``2024-01-01`` as a date."""
    raise ConfigError(f"{value} is a {type(value).__name__} in YAML: put it in quotes, if it is meant as text")


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"cannot read the spec {path}: {error.strerror}") from error
    except (yaml.YAMLError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the spec {path} cannot be parsed: {' '.join(str(error).split())}") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f"the spec {path} must be a mapping of keys to values, got {type(raw).__name__}")
    return raw


_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def _problems(error: ValidationError) -> Iterator[str]:
    """One problem for each key; where a value may be of several kinds, pydantic has one for each of those."""
    of_key: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    sections: dict[tuple[str, ...], Any] = {}
    for detail in error.errors():
        names, section = _located(detail["loc"], is_known=detail["type"] not in _UNKNOWN)
        of_key.setdefault(names, []).append(detail)
        sections[names] = section
    for location, (first, *others) in of_key.items():
        key, tag = ".".join(location), str(first.get("ctx", {}).get("discriminator", "")).strip("'")
        if first["type"] in _UNKNOWN:
            known = [name for kind in kinds_of(sections[location]) for name in section_fields(kind)]
            near = difflib.get_close_matches(location[-1], known, n=1)
            hint = f", did you mean {near[0]!r}" if near else ""
            yield f"unknown key {key!r}{hint}; known here: {', '.join(known)}"
        elif first["type"] in ("missing", "union_tag_not_found"):
            yield f"{key}.{tag} is missing" if tag else f"{key} is missing"
        elif first["type"] == "union_tag_invalid":
            yield f"{key}.{tag} must be one of {first['ctx']['expected_tags']}, got {first['ctx']['tag']!r}"
        elif first["type"] == "value_error":
            message = str(first["ctx"]["error"])
            yield message if message.startswith(f"{location[0]}.") else f"{key}.{message}"
        else:
            allowed = " or ".join(detail["msg"].removeprefix("Input should be ") for detail in (first, *others))
            allowed = allowed.replace("greater than or equal to", "at least")
            yield f"{key} must be {allowed}, got {first['input']!r}"


def _located(place: Sequence[int | str], *, is_known: bool) -> tuple[tuple[str, ...], Any]:
    """The names of a key, and the type of the section that it is in.

    Args:
        place: As pydantic gives it, with items of lists and with the kind of value that was tried.
        is_known: Whether the section has the key.
    """
    names: list[str] = []
    kind: Any = JobSpec
    section = kind
    for depth, part in enumerate(place, 1):
        inner = kind_of(kind, part)
        if inner is object and (is_known or depth < len(place)):
            kind = next((each for each in kinds_of(kind) if part in literals_of(each)), kind)
            continue
        names.append(str(part))
        section, kind = kind, inner
    return tuple(names), section
