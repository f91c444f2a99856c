"""What an acceptance run asks for: rows of every task of the reference, each with its prompt, seed and input images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.box_pixels import box_pixels
from dimoo_core.errors import ConfigError
from dimoo_core.request.builder import RequestLayout
from dimoo_core.request.inpainting import centered_box, masked_codes, token_mask
from dimoo_core.request.noise import NoiseSource
from dimoo_core.request.request import Request
from dimoo_core.request.templates import (
    CONTROL_SYSTEM,
    IMAGE_EDITING_SYSTEM,
    STYLE_TRANSFER,
    SUBJECT_SYSTEM,
    PromptTemplate,
    dense_prediction,
    multi_view,
)
from dimoo_core.settings import ImageSettings, TextSettings

Size = tuple[int, int]
"""Width and height in pixels."""

PAINTED_SHARES = (0.5, 0.5)
"""Width and height of the box that is painted, or kept where the surroundings are."""

_SCENES = (
    "A weathered red fishing boat on a pebble beach at low tide, white cottages on a green hill behind it.",
    "A brass telescope on a wooden table beside an open atlas, warm light from the left.",
    "Three hot-air balloons over a valley in morning mist, seen from a ridge.",
)
_QUESTIONS = ("Describe this image in detail.", "How many round shapes are in this picture, and which one is largest?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing to generate. ``edit_type`` is the reference's name of a task that makes an image from images."""

    name: str
    task: str
    prompt: str
    seed: int
    settings: ImageSettings | TextSettings
    edit_type: str | None = None
    template: PromptTemplate | None = None
    num_images: int = 0
    is_outside: bool = False  # paint around the box, not inside

    @property
    def is_painting(self) -> bool:
        """Part of the input image is kept."""
        return self.task in ("inpaint", "outpaint")

    def request(
        self,
        layout: RequestLayout,
        codes: Sequence[Tensor],
        noise: NoiseSource,
        settings: ImageSettings | TextSettings | None = None,
    ) -> Request:
        """The request as the engine takes it; ``codes`` are those of the row's images."""
        settings = settings or self.settings
        if isinstance(settings, TextSettings):
            return layout.understanding(self.name, self.prompt, codes, settings, noise)
        if self.template is not None:
            words = self.prompt if self.template.words is None else self.template.words
            return layout.image_to_image(self.name, self.template.system, words, codes, settings, noise)
        known = masked_codes(codes[0], painted_tokens(self, settings)) if self.is_painting else None
        return layout.text_to_image(self.name, self.prompt, settings, noise, known_codes=known)


def painted_tokens(row: Row, settings: ImageSettings) -> Tensor:
    """Which tokens a painting row asks for, (rows, columns) bool."""
    size = (settings.width_px, settings.height_px)
    pixels_hw = box_pixels(size, centered_box(size, *PAINTED_SHARES))
    return token_mask(1 - pixels_hw if row.is_outside else pixels_hw)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Sizes and lengths of the rows. Images made from images have the size of their input, as in the reference."""

    sizes: tuple[Size, ...]
    input_size: Size
    num_steps: int
    answer_tokens: int

    def __post_init__(self) -> None:
        if self.answer_tokens < 4 or self.answer_tokens % 4:
            raise ConfigError(f"--answer must be a multiple of 4 of at least 4 tokens, got {self.answer_tokens}")
        for size in (*self.sizes, self.input_size):
            ImageSettings(width_px=size[0], height_px=size[1], num_steps=self.num_steps)  # refuses what cannot be

    def rows(self, count: int) -> list[Row]:
        """The first ``count`` rows of an endless list in which every task comes before any is repeated.

        Raises:
            ConfigError: If none is asked for.
        """
        if count < 1:
            raise ConfigError(f"--rows must be at least 1, got {count}")
        kinds = self._kinds()
        return [
            replace(row, name=f"{index + 1:02d} {row.name}", seed=index + 1, prompt=_prompt(row, index // len(kinds)))
            for index, row in enumerate(islice(cycle(kinds), count))
        ]

    def _kinds(self) -> list[Row]:
        """A row of each kind. Guidance is that of the reference's scripts."""
        edit = [
            ("edit", "edit_add", PromptTemplate(IMAGE_EDITING_SYSTEM), 1),
            ("control", "canny_control", PromptTemplate(CONTROL_SYSTEM), 1),
            ("subject", "subject_driven", PromptTemplate(SUBJECT_SYSTEM), 1),
            ("style", "image_ref_transfer", STYLE_TRANSFER, 2),
            ("dense prediction", "depth_dense", dense_prediction("depth"), 1),
            ("multi-view", "multi_view_left", multi_view("left"), 1),
        ]
        edits = [
            Row(
                name=f"{task} {_by(self.input_size)}",
                task=task,
                prompt="",
                seed=0,
                settings=replace(self._image(self.input_size), cfg_scale=2.5, cfg_image_scale=4.0),
                edit_type=edit_type,
                template=template,
                num_images=num_images,
            )
            for task, edit_type, template, num_images in edit
        ]
        draws = [
            Row(name=f"text to image {_by(size)}", task="text to image", prompt="", seed=0, settings=self._image(size))
            for size in self.sizes
        ]
        texts = [self._text("caption", num_blocks=1), self._text("question", num_blocks=4)]
        paints = [self._paint("inpaint", is_outside=False), self._paint("outpaint", is_outside=True)]
        return [draws[0], edits[0], texts[0], paints[0], *edits[1:4], texts[1], paints[1], *edits[4:], *draws[1:]]

    def _image(self, size: Size) -> ImageSettings:
        return ImageSettings(width_px=size[0], height_px=size[1], num_steps=self.num_steps)

    def _paint(self, task: str, *, is_outside: bool) -> Row:
        return Row(
            name=f"{task} {_by(self.input_size)}",
            task=task,
            prompt="",
            seed=0,
            settings=self._image(self.input_size),
            num_images=1,
            is_outside=is_outside,
        )

    def _text(self, task: str, *, num_blocks: int) -> Row:
        length = self.answer_tokens
        settings = TextSettings(max_tokens=length, block_length=length // num_blocks, num_steps=max(4, length // 4))
        name = f"{task} of {_by(self.input_size)}, {length} tokens"
        return Row(name=name, task=task, prompt="", seed=0, settings=settings, num_images=1)


def _prompt(row: Row, turn: int) -> str:
    if row.task in ("caption", "question"):
        return _QUESTIONS[row.task == "question"]
    return _SCENES[turn % len(_SCENES)]


def _by(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def input_images(row: Row, size: Size) -> list[Image.Image]:
    """Pictures drawn for a row: a coloured gradient with shapes on it, all decided by the row's seed."""
    return [_drawing(1000 * row.seed + index, size) for index in range(row.num_images)]


def _drawing(seed: int, size: Size) -> Image.Image:
    generator = torch.Generator().manual_seed(seed)

    def below(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator))

    across, down = (Image.linear_gradient("L").rotate(angle).resize(size) for angle in (90, 0))
    image = Image.merge("RGB", (across, down, Image.new("L", size, below(256))))
    draw = ImageDraw.Draw(image)
    width, height = size
    for index in range(5):
        left, top = below(width * 3 // 4), below(height * 3 // 4)
        box = (left, top, left + width // 8 + below(width // 4), top + height // 8 + below(height // 4))
        (draw.ellipse if index % 2 else draw.rectangle)(box, fill=(below(256), below(256), below(256)))
    return image
