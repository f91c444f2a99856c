"""The part of the job spec about rows that only want an image's codes."""

from typing import Annotated, Literal

from pydantic import Field

from jobs.section import Section


class TokenizeSpec(Section):
    """How input images are cropped before they are encoded; codes for training want the crop that training uses."""

    resolution: Annotated[int, Field(ge=32, multiple_of=32)] | Literal["adaptive", "native"] = 1024
