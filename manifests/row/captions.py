"""The detail of a caption: three levels, each with its prompt and the maximum length of its answer."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dimoo_core.errors import ConfigError
from dimoo_core.settings import MAX_ANSWER_TOKENS
from manifests.cells import short_repr, text_cell
from manifests.errors import ManifestRowError


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionRequest:
    """What the model is asked, and how many tokens its answer may have."""

    prompt: str
    max_tokens: int

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ConfigError(f"prompt must not be empty, got {self.prompt!r}: leave it out for the default")
        if not 1 <= self.max_tokens <= MAX_ANSWER_TOKENS:
            raise ConfigError(f"max_tokens must be from 1 to {MAX_ANSWER_TOKENS}, got {self.max_tokens}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Captions:
    """The request of each detail, and ``detail``: that of rows which name none, None for the task's own prompt.

    The words are ours; the reference has one request for captions, which is the prompt of the task.
    """

    short: CaptionRequest = CaptionRequest(prompt="Describe this image in one short sentence.", max_tokens=64)
    detailed: CaptionRequest = CaptionRequest(prompt="Describe this image in detail.", max_tokens=256)
    dense: CaptionRequest = CaptionRequest(
        prompt=(
            "Describe this image as completely as possible: every object with its colour, material, size and place, "
            "people and what they do, all text that can be read, the background, the light and the style."
        ),
        max_tokens=1024,
    )
    detail: str | None = None

    def __post_init__(self) -> None:
        if self.detail is not None:
            self.request(self.detail)

    def request(self, detail: str) -> CaptionRequest:
        """How to ask for this detail."""
        if detail not in DETAILS:
            near = difflib.get_close_matches(detail.strip().lower(), DETAILS, n=1, cutoff=0.5)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ConfigError(f"detail must be one of {', '.join(DETAILS)}, got {short_repr(detail)}{hint}")
        request: CaptionRequest = getattr(self, detail)
        return request


DETAILS = tuple(field.name for field in fields(Captions) if field.name != "detail")
"""Every detail, the shortest first."""


def caption_cells(record: Mapping[str, Any], captions: Captions) -> CaptionRequest | None:
    """How the caption of a row is asked for, if not by a prompt of the row or of its task.

    Raises:
        ManifestRowError: The row names a detail that there is not, or one beside a prompt of its own.
    """
    detail = text_cell("caption_detail", record.get("caption_detail"))
    prompt = text_cell("prompt", record.get("prompt"))
    if prompt is not None:
        if detail is not None:
            raise ManifestRowError(
                f"caption_detail and prompt are given, {short_repr(detail)} and {short_repr(prompt)}: leave one null"
            )
        return None
    detail = detail or captions.detail
    try:
        return None if detail is None else captions.request(detail)
    except ConfigError as error:
        raise ManifestRowError(f"caption_{error}") from error
