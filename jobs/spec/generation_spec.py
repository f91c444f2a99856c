"""The parts of the job spec with the defaults of rows, by what they make."""

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from dimoo_core.request.templates import MATCH_QUESTION
from dimoo_core.settings import ImageSettings, Remasking, TextSettings
from jobs.spec.approximation_spec import CommitSpec, StepCacheSpec, TextCacheSpec
from jobs.spec.section import ResolutionValue, Section, within_section
from manifests.row.settings import IMAGE_TO_IMAGE


class ImageSection(Section):
    """What drawing and editing have in common: how an image's steps may be approximated."""

    step_cache: StepCacheSpec | None = None
    uncond_interval: int | None = None
    commit: CommitSpec | None = None

    def explicit(self) -> tuple[str, ...]:
        """Fields of the engine's form that a preset must leave alone."""
        return _given(self, "step_cache", "uncond_interval", "commit")

    def with_approximations(self, settings: ImageSettings) -> ImageSettings:
        """The engine's form, computed as this section says.

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
    resolution: ResolutionValue = 512
    random_crop: bool = False

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
    resolution: ResolutionValue = 1024
    random_crop: bool = False
    match_question: Annotated[str, Field(pattern=r"\{prompt\}")] = MATCH_QUESTION
    cache: TextCacheSpec | None = None
    commit: CommitSpec | None = None

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
        return _given(self, "cache", "commit")


def _given(section: Section, *names: str) -> tuple[str, ...]:
    return tuple(name for name in names if getattr(section, name) is not None)
