"""The sections of the job spec with the defaults of rows, by what they generate."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dimoo_core.errors import ConfigError
from dimoo_core.request.templates import MATCH_QUESTION
from dimoo_core.settings import (
    SECTION,
    ImageSettings,
    ParallelCommit,
    Remasking,
    Resolution,
    StepCacheConfig,
    TargetCacheConfig,
    TextCacheConfig,
    TextSettings,
)
from manifests.row.captions import DETAILS, Captions
from manifests.row.settings import IMAGE_TO_IMAGE
from pipeline.protocol.settings import CropSettings, UnderstandingInput


class Section(BaseModel):
    """Keys of the spec that belong together; an unknown one is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@contextmanager
def within_section(name: str) -> Iterator[None]:
    """Put the section's name before the message of a ``ConfigError``."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{name}.{error}") from error


class CaptionSpec(Section):
    """One way to ask for a caption; what is not given is as the checkpoint has it, else as in ``Captions``."""

    prompt: str | None = None
    max_tokens: int | None = None


class CaptionsSpec(Section):
    """How captions are asked for by their detail; ``detail`` is that of rows that name none and have no prompt."""

    detail: str | None = None
    short: CaptionSpec = CaptionSpec()
    detailed: CaptionSpec = CaptionSpec()
    dense: CaptionSpec = CaptionSpec()

    def settings(self) -> Captions:
        """The row parser's form."""
        default = Captions()
        requests = {}
        for name in DETAILS:
            with within_section(f"captions.{name}"):
                given = getattr(self, name).model_dump(exclude_none=True)
                requests[name] = replace(getattr(default, name), **given)
        with within_section("captions"):
            return Captions(detail=self.detail, **requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCache:
    """Every step computes everything, whatever the preset."""

    __pydantic_config__ = SECTION

    mode: Literal["none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCommit:
    """Each step commits its share, whatever the preset."""

    __pydantic_config__ = SECTION

    rule: Literal["none"]


StepCache = Annotated[NoCache | StepCacheConfig | TargetCacheConfig, Field(discriminator="mode")]
TextCache = Annotated[NoCache | TextCacheConfig, Field(discriminator="mode")]
Commit = Annotated[NoCommit | ParallelCommit, Field(discriminator="rule")]

ENGINE_NAMES = {"width": "width_px", "height": "height_px", "steps": "num_steps"}
"""Keys that the engine has under another name."""

_APPROXIMATIONS = ("step_cache", "cache", "uncond_interval", "commit")
_Form = TypeVar("_Form", ImageSettings, TextSettings, CropSettings, UnderstandingInput)


class GenerationSection(Section):
    """Defaults of rows of one kind, and how their steps may be approximated."""

    def explicit(self) -> tuple[str, ...]:
        """Fields of the engine's form that a preset must leave alone."""
        return tuple(name for name in _APPROXIMATIONS if getattr(self, name, None) is not None)

    def _as(self, form: type[_Form]) -> _Form:
        """The keys that a form has too; what is None here has its default there."""
        known = {field.name for field in fields(form)}
        given: dict[str, Any] = {}
        for key, value in self:
            name = ENGINE_NAMES.get(key, key)
            if name in known and value is not None:
                given[name] = None if isinstance(value, NoCache | NoCommit) else value
        return form(**given)


class ImageSection(GenerationSection):
    """What drawing and editing have in common."""

    step_cache: StepCache | None = None
    uncond_interval: int | None = None
    commit: Commit | None = None


class TextToImageSpec(ImageSection):
    """Defaults of rows that make an image."""

    width: int = 1024
    height: int = 1024
    steps: int = 64
    cfg_scale: float = 4.0
    temperature: float = 1.0

    def settings(self) -> ImageSettings:
        """The engine's form."""
        with within_section("text_to_image"):
            return self._as(ImageSettings)


class ImageToImageSpec(ImageSection):
    """Defaults of rows that make an image from an image; its size is that of the input image after its crop."""

    steps: int = IMAGE_TO_IMAGE.num_steps
    cfg_scale: float = IMAGE_TO_IMAGE.cfg_scale
    cfg_image_scale: float = IMAGE_TO_IMAGE.cfg_image_scale
    temperature: float = IMAGE_TO_IMAGE.temperature
    resolution: Resolution = 512
    random_crop: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.crop()
        return self

    def crop(self) -> CropSettings:
        """How input images are cropped."""
        return self._as(CropSettings)

    def settings(self) -> ImageSettings:
        """The engine's form."""
        with within_section("image_to_image"):
            return self._as(ImageSettings)


class UnderstandingSpec(GenerationSection):
    """Defaults of rows that read an image."""

    max_tokens: int = 1024
    block_length: int = 256
    steps: int | None = None
    cfg_scale: float = 0.0
    temperature: float = 0.0
    remasking: Remasking = "low_confidence"
    resolution: Resolution = 1024
    random_crop: bool = False
    match_question: str = MATCH_QUESTION
    cache: TextCache | None = None
    commit: Commit | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.input()
        return self

    def input(self) -> UnderstandingInput:
        """How input images are cropped, and what is asked about them to score them."""
        return self._as(UnderstandingInput)

    def settings(self) -> TextSettings:
        """The engine's form."""
        with within_section("understanding"):
            return self._as(TextSettings)
