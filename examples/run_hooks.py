"""Hooks of a run, as docs/hooks.md shows them."""

from typing import Any

from PIL import ImageDraw, ImageFilter, ImageStat


def in_oil(cells: dict[str, Any]) -> dict[str, Any] | str:
    """Before the engine: add a style, and reject prompts that are too long."""
    prompt = cells["prompt"] or ""
    if len(prompt) > 500:
        return f"its prompt has {len(prompt)} characters"
    return {**cells, "prompt": f"{prompt}, oil painting"}


def first_sentence(row: Any) -> Any:
    """After the engine: keep the first sentence of an answer."""
    if row.cells["text"] is not None:
        row.cells["text"] = row.cells["text"].split(". ")[0]
    return row


def numbered(row: Any) -> Any:
    """After the engine: write the row's number on its image."""
    if row.cells["text"] is None:
        image = row.pixels.copy()
        ImageDraw.Draw(image).text((2, 2), str(row.cells["row"]), fill="white")
        row.pixels = image
    return row


class Sharpness:
    """A score from 0 to 1; made once for each worker, so that a model could be loaded here."""

    def __init__(self) -> None:
        self._edges = ImageFilter.FIND_EDGES

    def __call__(self, row: Any) -> float | None:
        """How much of the row's image is edges; None where it has none."""
        if row.pixels is None:
            return None
        return float(ImageStat.Stat(row.pixels.convert("L").filter(self._edges)).mean[0] / 255)
