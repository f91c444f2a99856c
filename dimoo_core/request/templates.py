"""The texts around a user's prompt, as the model was trained with them.

Source: ``prompt_utils.py`` of the reference. These strings are part of the model: a changed word changes results.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

TEXT_TO_IMAGE_SYSTEM = "Generate an image according to the text prompt."
UNDERSTANDING_SYSTEM = (
    "You are a multimodal model that can process both text and images. Answer the following question based on the "
    "provided images. Analyze each image and combine relevant details to answer."
)
IMAGE_EDITING_SYSTEM = "Generate an image applying the following editing instruction based on the original image."
DENSE_PREDICTION_SYSTEM = "Perform dense prediction on the given images."
CONTROL_SYSTEM = "Generate an image according to the text prompt and the given control image."
SUBJECT_SYSTEM = "Generate an image according to the text prompt and the given object image."
MULTI_VIEW_SYSTEM = "Generate a view-image based on the given image."
STYLE_TRANSFER_SYSTEM = "Transform the current image into the style of the provided image."
IMAGE_TO_IMAGE_SYSTEM = "Generate an image according to the prompt and image."
UNCONDITIONAL_PROMPT = "<uncondition>"

MATCH_QUESTION = "Does the image show {prompt}?"
"""What the model is asked about an image to see whether it is what a prompt wants. Ours; the reference has none."""

YES, NO = ("yes", "Yes"), ("no", "No")
"""Answers that affirm it, and that deny it."""

MAP_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "canny": "canny edge map",
        "hed": "hed edge map",
        "depth": "depth map",
        "openpose": "pose estimation map",
        "normal": "normal map",
        "sam2mask": "sam2 mask",
    }
)
"""What each family of dense prediction is called in the prompt."""


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A system prompt, and the user's turn if the task has words of its own; None leaves it to the user."""

    system: str
    words: str | None = None

    def filled(self, prompt: str) -> str:
        """System and user turn with the task's own words, else with ``prompt``."""
        return chat(self.system, prompt if self.words is None else self.words)


def dense_prediction(family: str) -> PromptTemplate:
    """The template of a family of maps; one that is not in ``MAP_NAMES`` is any dense map."""
    name = MAP_NAMES.get(family, "dense map")
    return PromptTemplate(DENSE_PREDICTION_SYSTEM, f"Generate a {name} according to the image.")


def multi_view(view: str) -> PromptTemplate:
    """The template for another view, such as ``left``, of an object that is shown from the front."""
    return PromptTemplate(MULTI_VIEW_SYSTEM, f"Generate the {view} view based on the provided front view.")


STYLE_TRANSFER = PromptTemplate(STYLE_TRANSFER_SYSTEM, STYLE_TRANSFER_SYSTEM)
"""The user's turn of style transfer repeats the system prompt."""

_SYSTEM_BY_PART = {"control": CONTROL_SYSTEM, "subject": SUBJECT_SYSTEM, "edit": IMAGE_EDITING_SYSTEM}


def edit_type_template(edit_type: str) -> PromptTemplate:
    """The template of an image from an image by the reference's name for it: the first part that it contains decides.

    Source: ``generate_image_to_image_prompt`` in the reference's ``prompt_utils.py``.
    """
    words = edit_type.split("_")
    if "dense" in edit_type:
        return dense_prediction(words[0])
    for part, system in _SYSTEM_BY_PART.items():
        if part in edit_type:
            return PromptTemplate(system)
    if "ref_transfer" in edit_type:
        return STYLE_TRANSFER
    return multi_view(words[-1]) if "multi_view" in edit_type else PromptTemplate(IMAGE_TO_IMAGE_SYSTEM)


def chat(system: str, user: str) -> str:
    """One system and one user turn, each in its tags."""
    return f"<system>{system}</system><user>{user}</user>"


def match_question(template: str, prompt: str) -> str:
    """The question whether an image is what a prompt wants; a full stop at the prompt's end is left out."""
    return template.replace("{prompt}", prompt.strip().removesuffix("."))
