"""The sections of the job spec with the defaults of rows, by what they generate."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from dimoo_core.errors import ConfigError
from dimoo_core.request.templates import MATCH_QUESTION
from dimoo_core.settings import (
    ImageSettings,
    ParallelCommit,
    Remasking,
    Resolution,
    StepCacheConfig,
    TargetCacheConfig,
    TextCacheConfig,
    TextSettings,
)
from manifests.row.captions import DETAILS, CaptionRequest, Captions
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

    def over(self, below: "CaptionSpec") -> "CaptionSpec":
        """This, with the values of ``below`` where this has none."""
        return below.model_copy(update=self.model_dump(exclude_none=True))

    def request(self, default: CaptionRequest) -> CaptionRequest:
        """The row parser's form."""
        return CaptionRequest(
            prompt=default.prompt if self.prompt is None else self.prompt,
            max_tokens=default.max_tokens if self.max_tokens is None else self.max_tokens,
        )


class CaptionsSpec(Section):
    """How captions are asked for by their detail; ``detail`` is that of rows that name none and have no prompt."""

    detail: str | None = None
    short: CaptionSpec = CaptionSpec()
    detailed: CaptionSpec = CaptionSpec()
    dense: CaptionSpec = CaptionSpec()

    def over(self, below: "CaptionsSpec") -> "CaptionsSpec":
        """This, with the values of ``below`` where this has none."""
        ways = {name: getattr(self, name).over(getattr(below, name)) for name in DETAILS}
        return below.model_copy(update=ways | ({} if self.detail is None else {"detail": self.detail}))

    def settings(self) -> Captions:
        """The row parser's form.

        Raises:
            ConfigError: If a value is out of range, or there is no such detail.
        """
        default = Captions()
        ways = {}
        for name in DETAILS:
            with within_section(f"captions.{name}"):
                ways[name] = getattr(self, name).request(getattr(default, name))
        with within_section("captions"):
            return Captions(detail=self.detail, **ways)


class StepCacheSpec(Section):
    """A step cache of images; what is not given has the default of its mode."""

    mode: Literal["none", "reference", "target"]
    reuse_ratio: float | None = None
    refresh_interval: int | None = None
    warmup_ratio: float | None = None
    refresh_share: float | None = None
    prompt_share: float | None = None
    lookahead: float | None = None
    compute_ratio: float | None = None

    def settings(self) -> StepCacheConfig | TargetCacheConfig | None:
        """The engine's form.

        Raises:
            ConfigError: If a value is out of range, or means nothing in this mode.
        """
        match self.mode:
            case "none":
                _given(self, "step_cache", "mode", ())
                return None
            case "reference":
                return StepCacheConfig(**_given(self, "step_cache", "mode", StepCacheConfig.__dataclass_fields__))
            case "target":
                return TargetCacheConfig(**_given(self, "step_cache", "mode", TargetCacheConfig.__dataclass_fields__))


class TextCacheSpec(Section):
    """A cache of answers; what is not given has its default."""

    mode: Literal["none", "prefix", "dual"]
    prompt_interval: int | None = None
    refresh_interval: int | None = None

    def settings(self) -> TextCacheConfig | None:
        """As ``StepCacheSpec.settings``."""
        if self.mode == "none":
            _given(self, "cache", "mode", ())
            return None
        return TextCacheConfig(mode=self.mode, **_given(self, "cache", "mode", TextCacheConfig.__dataclass_fields__))


class CommitSpec(Section):
    """When a step may commit more than its share."""

    rule: Literal["none", "confidence", "entropy"]
    bound: float | None = None

    def settings(self) -> ParallelCommit | None:
        """As ``StepCacheSpec.settings``."""
        if self.rule == "none":
            _given(self, "commit", "rule", ())
            return None
        if self.bound is None:
            raise ConfigError(f"commit.bound is missing: rule {self.rule!r} needs one")
        return ParallelCommit(rule=self.rule, bound=self.bound)


def _given(section: Section, name: str, kind: str, known: Any) -> dict[str, Any]:
    """What the section gives beside its kind, all of it among the ``known`` fields."""
    given = section.model_dump(exclude={kind}, exclude_none=True)
    if unknown := [key for key in given if key not in known]:
        raise ConfigError(f"{name}.{unknown[0]} means nothing where {name}.{kind} is {getattr(section, kind)!r}")
    return given


class ImageSection(Section):
    """What drawing and editing have in common: how an image's steps may be approximated."""

    step_cache: StepCacheSpec | None = None
    uncond_interval: int | None = None
    commit: CommitSpec | None = None

    def explicit(self) -> tuple[str, ...]:
        """Fields of the engine's form that a preset must leave alone."""
        return _explicit(self, "step_cache", "uncond_interval", "commit")

    def with_approximations(self, settings: ImageSettings) -> ImageSettings:
        """The engine's form of this section.

        Raises:
            ConfigError: If a value is out of range.
        """
        return replace(
            settings,
            step_cache=self.step_cache.settings() if self.step_cache is not None else None,
            uncond_interval=1 if self.uncond_interval is None else self.uncond_interval,
            commit=self.commit.settings() if self.commit is not None else None,
        )


class TextToImageSpec(ImageSection):
    """Defaults of rows that make an image."""

    width: int = 1024
    height: int = 1024
    steps: int = 64
    cfg_scale: float = 4.0
    temperature: float = 1.0

    def settings(self) -> ImageSettings:
        """The engine's form.

        Raises:
            ConfigError: If a value is out of range.
        """
        with within_section("text_to_image"):
            settings = ImageSettings(
                width_px=self.width,
                height_px=self.height,
                num_steps=self.steps,
                cfg_scale=self.cfg_scale,
                temperature=self.temperature,
            )
            return self.with_approximations(settings)


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
        return CropSettings(resolution=self.resolution, random_crop=self.random_crop)

    def settings(self) -> ImageSettings:
        """The engine's form.

        Raises:
            ConfigError: If a value is out of range.
        """
        with within_section("image_to_image"):
            settings = ImageSettings(
                num_steps=self.steps,
                cfg_scale=self.cfg_scale,
                cfg_image_scale=self.cfg_image_scale,
                temperature=self.temperature,
            )
            return self.with_approximations(settings)


class UnderstandingSpec(Section):
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
    cache: TextCacheSpec | None = None
    commit: CommitSpec | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.input()
        return self

    def input(self) -> UnderstandingInput:
        """How input images are cropped, and what is asked about them to score them."""
        return UnderstandingInput(
            resolution=self.resolution, random_crop=self.random_crop, match_question=self.match_question
        )

    def settings(self) -> TextSettings:
        """The engine's form.

        Raises:
            ConfigError: If a value is out of range.
        """
        with within_section("understanding"):
            return TextSettings(
                max_tokens=self.max_tokens,
                block_length=self.block_length,
                num_steps=self.steps,
                cfg_scale=self.cfg_scale,
                temperature=self.temperature,
                remasking=self.remasking,
                cache=self.cache.settings() if self.cache is not None else None,
                commit=self.commit.settings() if self.commit is not None else None,
            )

    def explicit(self) -> tuple[str, ...]:
        """Fields of the engine's form that a preset must leave alone."""
        return _explicit(self, "cache", "commit")


def _explicit(section: Section, *names: str) -> tuple[str, ...]:
    return tuple(name for name in names if getattr(section, name) is not None)
