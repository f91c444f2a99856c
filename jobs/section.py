"""What every part of the job spec has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Keys of the spec that belong together; an unknown one is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
