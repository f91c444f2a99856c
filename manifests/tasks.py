"""The tasks a row can ask for, as one table: the kind of each, the columns it takes and needs, and its settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from dimoo_core.request.templates import (
    CONTROL_SYSTEM,
    IMAGE_EDITING_SYSTEM,
    IMAGE_TO_IMAGE_SYSTEM,
    MAP_NAMES,
    MULTI_VIEW_SYSTEM,
    STYLE_TRANSFER,
    SUBJECT_SYSTEM,
    dense_prediction,
)

PAD_COLUMNS = ("pad_px", "pad_ratio")
"""Columns that give it; a row fills one of them at most."""

MASK_COLUMNS = ("mask_image", "mask_box", "mask_ratio")
"""Columns that give it; a row fills one of them."""

CODE_COLUMNS = ("vq_codes", "vq_grid")
"""Columns that a row of a decoding fills, and that the row of an encoding has in the output."""

TaskKind = Literal[
    "image", "image_to_image", "style", "views", "turns", "painting", "text", "score", "encoding", "decoding"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What tasks of one kind have in common.

    ``settings`` are the columns that set how a result is made; ``seed`` belongs to every row. ``needed`` are those
    among them that a row must fill, beside image and prompt, with an example of each. ``category`` is what the Hugging
    Face hub calls it. A kind that ``makes_text`` is decoded block by block, up to ``max_tokens``.
    """

    category: str
    settings: tuple[str, ...] = ()
    needed: Mapping[str, object] = field(default_factory=dict)
    makes_text: bool = False


_EDIT_SETTINGS = ("steps", "cfg_scale", "cfg_image_scale", "temperature", "negative_prompt")
_TEXT_SETTINGS = ("max_tokens", "block_length", "steps", "cfg_scale", "temperature")
_COUNTS = ("num_samples", "best_of", "keep_images")

KINDS: Mapping[TaskKind, Kind] = MappingProxyType(
    {
        "image": Kind(
            category="text-to-image",
            settings=("width", "height", "steps", "cfg_scale", "temperature", "negative_prompt", *_COUNTS),
        ),
        "image_to_image": Kind(category="image-to-image", settings=(*_EDIT_SETTINGS, *_COUNTS)),
        "style": Kind(
            category="image-to-image",
            settings=("style_image", *_EDIT_SETTINGS, *_COUNTS),
            needed={"style_image": "painting.png"},
        ),
        "views": Kind(category="image-to-image", settings=("view_names", *_EDIT_SETTINGS)),
        "turns": Kind(
            category="image-to-image",
            settings=("prompts", "keep_images", *_EDIT_SETTINGS),
            needed={"prompts": ["Remove the dog.", "Make it winter."]},
        ),
        "painting": Kind(
            category="image-to-image",
            settings=(
                *MASK_COLUMNS,
                *PAD_COLUMNS,
                "mask_dilation",
                "steps",
                "cfg_scale",
                "temperature",
                "negative_prompt",
                *_COUNTS,
            ),
        ),
        "text": Kind(
            category="visual-question-answering",
            settings=(*_TEXT_SETTINGS, "choices", "caption_detail"),
            makes_text=True,
        ),
        "score": Kind(category="visual-question-answering", settings=("max_tokens", "cfg_scale")),
        "encoding": Kind(category="image-feature-extraction"),
        "decoding": Kind(
            category="image-to-image",
            settings=CODE_COLUMNS,
            needed={"vq_codes": [2891, 17, 5, 640], "vq_grid": [2, 2]},
        ),
    }
)


CAPTION, INPAINT, OUTPAINT = "caption", "inpaint", "outpaint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing the model can be asked to do.

    ``default_prompt`` stands in where neither the row nor the job gives a prompt. ``system`` is the system prompt of a
    task that makes an image from an image; ``free_system`` takes its place where the prompt is not the task's own. A
    task that ``keeps_words`` always has its default prompt, not the row's or the job's.
    """

    name: str
    kind: TaskKind
    meaning: str
    needs_image: bool
    needs_prompt: bool
    default_prompt: str | None = None
    system: str = IMAGE_TO_IMAGE_SYSTEM
    free_system: str | None = None
    keeps_words: bool = False

    def system_for(self, prompt: str) -> str:
        """The system prompt that goes with a prompt.

        Source: the reference's script has templates of its own for dense predictions, and a generic one that it falls
        back to with the user's words for ``canny_pred`` and its like.
        """
        return self.system if self.free_system is None or prompt == self.default_prompt else self.free_system

    @property
    def of_kind(self) -> Kind:
        """What it has in common with others of its kind."""
        return KINDS[self.kind]

    @property
    def category(self) -> str:
        """What the Hugging Face hub calls it."""
        return "image-to-text" if self.name == CAPTION else self.of_kind.category

    @property
    def needs_codes(self) -> bool:
        """Whether a row gives VQ codes in place of an image."""
        return self.kind == "decoding"

    @property
    def can_grow(self) -> bool:
        """Whether a row may ask for an image that is larger than its own."""
        return self.name == OUTPAINT

    @property
    def takes_images(self) -> bool:
        """Whether a row may have several input images in place of one."""
        return self.kind == "text"

    @property
    def image_columns(self) -> tuple[str, ...]:
        """Columns of which a row fills exactly one, its input."""
        if not self.needs_image:
            return ()
        return ("image", "images") if self.takes_images else ("image",)

    @property
    def one_of(self) -> tuple[str, ...]:
        """Columns of which a row fills exactly one, where there is a choice."""
        return self.image_columns if self.takes_images else self.mask_columns

    @property
    def has_details(self) -> bool:
        """Whether a row may set the detail of its answer."""
        return self.name == CAPTION

    @property
    def mask_columns(self) -> tuple[str, ...]:
        """Columns of which a row fills exactly one, the area to paint."""
        if self.kind != "painting":
            return ()
        return (*MASK_COLUMNS, *PAD_COLUMNS) if self.can_grow else MASK_COLUMNS

    @property
    def takes_prompt(self) -> bool:
        """Whether a row may have words of its own in ``prompt``."""
        return self.kind not in ("views", "turns")

    @property
    def needed_columns(self) -> tuple[str, ...]:
        """Columns that a row must fill, beside ``prompt`` where the job has no default for it."""
        return (*(() if self.takes_images else self.image_columns), *self.of_kind.needed)

    @property
    def unused_columns(self) -> tuple[str, ...]:
        """Known columns that must be null in a row of this task, since they would have no effect."""
        return _unused_columns(self)


@lru_cache(256)  # asked for once per row
def _unused_columns(task: Task) -> tuple[str, ...]:
    settings = dict.fromkeys(name for kind in KINDS.values() for name in kind.settings)
    of_no_use = (*(() if task.can_grow else PAD_COLUMNS), *(() if task.has_details else ("caption_detail",)))
    unused = tuple(name for name in settings if name not in task.of_kind.settings or name in of_no_use)
    given = (("prompt", task.takes_prompt), ("image", task.needs_image), ("images", task.takes_images))
    return (*(name for name, is_used in given if not is_used), *unused)


_EDITS = {
    "edit": "edit the image as the prompt asks",
    "edit_add": "add what the prompt names to the image",
    "edit_remove": "remove what the prompt names from the image",
    "edit_replace": "replace one object of the image, as the prompt asks",
    "edit_background": "change the background of the image, as the prompt asks",
    "edit_text_transfer": "change the text in the image, as the prompt asks",
}
_PAINTINGS = {
    INPAINT: "regenerate the masked area; the prompt describes the whole image",
    OUTPAINT: "generate what is around a box or around the image; the prompt describes the whole image",
}
_CONTROLS = {"canny": "canny edge map", "hed": "HED edge map", "depth": "depth map", "openpose": "pose map"}


def _with_image(name: str, meaning: str, system: str) -> Task:
    return Task(name=name, kind="image_to_image", meaning=meaning, needs_image=True, needs_prompt=True, system=system)


def _prediction(family: str) -> Task:
    template = dense_prediction(family)
    return Task(
        name="seg_pred" if family == "sam2mask" else f"{family}_pred",
        kind="image_to_image",
        meaning=f"predict the {MAP_NAMES[family]} of the image",
        needs_image=True,
        needs_prompt=False,
        default_prompt=template.words,
        system=template.system,
        free_system=IMAGE_TO_IMAGE_SYSTEM,
    )


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            Task(
                name="text_to_image",
                kind="image",
                meaning="generate an image from the prompt",
                needs_image=False,
                needs_prompt=True,
            ),
            *(_with_image(name, meaning, IMAGE_EDITING_SYSTEM) for name, meaning in _EDITS.items()),
            *(
                _with_image(f"{name}_control", f"generate an image from the prompt and the {what}", CONTROL_SYSTEM)
                for name, what in _CONTROLS.items()
            ),
            _with_image("subject_driven", "generate a scene for the object of the image", SUBJECT_SYSTEM),
            Task(
                name="style_transfer",
                kind="style",
                meaning="redraw the image in the style of the style image, and in its size",
                needs_image=True,
                needs_prompt=False,
                default_prompt=STYLE_TRANSFER.words,
                system=STYLE_TRANSFER.system,
            ),
            Task(
                name="multi_view",
                kind="views",
                meaning="generate other views; the image is the front view",
                needs_image=True,
                needs_prompt=False,
                system=MULTI_VIEW_SYSTEM,
            ),
            Task(
                name="multiturn_edit",
                kind="turns",
                meaning="apply edits in sequence, each to the previous result",
                needs_image=True,
                needs_prompt=False,
                system=IMAGE_EDITING_SYSTEM,
            ),
            *(_prediction(family) for family in MAP_NAMES),
            *(
                Task(name=name, kind="painting", meaning=meaning, needs_image=True, needs_prompt=True)
                for name, meaning in _PAINTINGS.items()
            ),
            Task(
                name="vqa",
                kind="text",
                meaning="answer the prompt, a question about the image or images",
                needs_image=True,
                needs_prompt=True,
            ),
            Task(
                name=CAPTION,
                kind="text",
                meaning="describe the image, or the images together",
                needs_image=True,
                needs_prompt=False,
                default_prompt="Describe this image in detail.",
            ),
            Task(
                name="score",
                kind="score",
                meaning="score how likely the image shows what the prompt describes",
                needs_image=True,
                needs_prompt=True,
            ),
            Task(
                name="tokenize",
                kind="encoding",
                meaning="encode the image to VQ codes",
                needs_image=True,
                needs_prompt=False,
            ),
            Task(
                name="detokenize",
                kind="decoding",
                meaning="decode VQ codes to an image",
                needs_image=False,
                needs_prompt=False,
            ),
        )
    }
)
"""Every task of the product by its name; ``task_name`` also knows the reference's names."""
