"""The part of the job spec that says what rows may have read for them."""

from typing import Annotated, Any

from pydantic import Field, field_validator

from jobs.spec.section import Section
from pipeline.protocol.source_policy import SourcePolicy

_DEFAULT = SourcePolicy()


class SourcesSpec(Section):
    """Where input images may lie, and what reading one may cost; see ``SourcePolicy``."""

    local_files: bool | None = None
    folders: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    max_bytes: Annotated[int, Field(ge=1)] = _DEFAULT.max_bytes
    max_pixels: Annotated[int, Field(ge=1)] = _DEFAULT.max_pixels
    decode_timeout_s: Annotated[float, Field(gt=0)] = _DEFAULT.decode_timeout_s
    decode_memory_bytes: Annotated[int, Field(ge=2**28)] = _DEFAULT.decode_memory_bytes

    @field_validator("folders", "buckets", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        """YAML and TOML know lists only."""
        return tuple(value) if isinstance(value, list) else value

    def policy(self) -> SourcePolicy:
        """The pipeline's form."""
        return SourcePolicy(**self.model_dump())
