"""What every part of the job spec has in common."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from dimoo_core.errors import ConfigError

ResolutionValue = Annotated[int, Field(ge=32, multiple_of=32)] | Literal["adaptive", "native"]
"""How input images are cropped, see ``Resolution``."""


class Section(BaseModel):
    """Keys of the spec that belong together; an unknown one is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@contextmanager
def within_section(name: str) -> Iterator[None]:
    """Put the section's name before the message of a ``ConfigError``."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{name}.{error}") from error
