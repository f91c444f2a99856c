"""The texts around a user's prompt, as the model was trained with them.

Source: ``prompt_utils.py`` of the reference. These strings are part of the model: a changed word changes results.
"""

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


def chat(system: str, user: str) -> str:
    """One system and one user turn, each in its tags."""
    return f"<system>{system}</system><user>{user}</user>"
