"""The texts around a user's prompt, as the model was trained with them.

Source: ``prompt_utils.py`` of the reference. These strings are part of the model: a changed word changes results.
"""

TEXT_TO_IMAGE_SYSTEM = "Generate an image according to the text prompt."
UNDERSTANDING_SYSTEM = (
    "You are a multimodal model that can process both text and images. Answer the following question based on the "
    "provided images. Analyze each image and combine relevant details to answer."
)
UNCONDITIONAL_PROMPT = "<uncondition>"


def chat(system: str, user: str) -> str:
    """One system and one user turn, each in its tags."""
    return f"<system>{system}</system><user>{user}</user>"
