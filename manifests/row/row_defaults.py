"""What the job says for every row that does not say it itself."""

from dataclasses import dataclass, field

from dimoo_core.errors import ConfigError
from dimoo_core.presets import DEFAULT_PRESET, Preset, find_preset
from dimoo_core.settings import ImageSettings, TextSettings
from manifests.row.captions import Captions
from manifests.row.task_name import find_task, unknown_task
from manifests.task import Task

IMAGE_TO_IMAGE = ImageSettings(cfg_scale=2.5, cfg_image_scale=4.0)
"""Settings of an image from an image, as the reference's script has them; its size is that of the input image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDefaults:
    """What the job says for every row that does not say it itself.

    The preset, the row's or this one, is put over the settings, except over the fields that the job sets itself: for
    each kind of settings they are named in ``explicit_…``.
    """

    task: str | None = None
    prompt: str | None = None
    preset: str = DEFAULT_PRESET
    explicit_text_to_image: tuple[str, ...] = ()
    explicit_image_to_image: tuple[str, ...] = ()
    explicit_understanding: tuple[str, ...] = ()
    text_to_image: ImageSettings = field(default_factory=ImageSettings)
    image_to_image: ImageSettings = field(default_factory=lambda: IMAGE_TO_IMAGE)
    understanding: TextSettings = field(default_factory=TextSettings)
    captions: Captions = field(default_factory=Captions)

    def __post_init__(self) -> None:
        if self.task is not None and find_task(self.task) is None:
            raise ConfigError(unknown_task(self.task))
        if self.prompt is not None and not self.prompt.strip():
            raise ConfigError(f"prompt must not be empty, got {self.prompt!r}: leave the default prompt out")
        preset = find_preset(self.preset)
        preset.image(self.text_to_image, self.explicit_text_to_image)
        preset.image(self.image_to_image, self.explicit_image_to_image)
        preset.text(self.understanding, self.explicit_understanding)

    def image_settings(self, task: Task, preset: Preset) -> ImageSettings:
        """Those of a row of a task that makes images, with a preset's approximations.

        Raises:
            ConfigError: The preset does not go with what the job sets itself.
        """
        if task.kind in ("image", "painting"):
            return preset.image(self.text_to_image, self.explicit_text_to_image)
        return preset.image(self.image_to_image, self.explicit_image_to_image)
