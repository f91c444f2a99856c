"""What a run was, in names and values: for the page and for the card."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from dimoo_core.checkpoint.locate import BUILTIN

BUILTIN_LICENCE = "apache-2.0"
"""Of the embedded model; what other checkpoints allow is theirs to say."""

_SPEC_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "input_resolution": "understanding.resolution",
        "random_crop": "understanding.random_crop",
        "image_to_image_resolution": "image_to_image.resolution",
        "image_to_image_random_crop": "image_to_image.random_crop",
        "tokenize_resolution": "tokenize.resolution",
        "tokenize_random_crop": "tokenize.random_crop",
        "image_format": "image.format",
        "limit": "limit",
    }
)
"""What ``run.json`` calls some keys of the job spec."""

_FIELD_KEYS: Mapping[str, str] = MappingProxyType({"width_px": "width", "height_px": "height", "num_steps": "steps"})
_NO_KEYS = frozenset(
    {
        "explicit_text_to_image",
        "explicit_image_to_image",
        "explicit_understanding",
        "text_to_image.cfg_image_scale",
        "image_to_image.width",
        "image_to_image.height",
    }
)
"""Fields of the engine's form that no key of the job spec sets."""


@dataclass(frozen=True, slots=True)
class RunFactSheet:
    """``run.json`` and ``_SUCCESS``, read for people.

    Attributes:
        description: ``run.json``.
        is_complete: Whether ``_SUCCESS`` is there.
    """

    description: Mapping[str, Any]
    is_complete: bool

    @property
    def title(self) -> str:
        """The manifest's name without folders and ending."""
        name = str(self.description.get("manifest", "run")).rstrip("/").rsplit("/", 1)[-1]
        return name.removesuffix(".parquet") or "run"

    @property
    def model(self) -> str:
        """The checkpoint's name."""
        return str(self.description.get("model", "unknown"))

    @property
    def num_rows(self) -> int:
        """Rows of the manifest that the run is about."""
        return int(self.description.get("rows", 0))

    def licence(self, *, has_inputs: bool = False) -> dict[str, str]:
        """In the words of a card's front matter; ``has_inputs``: rows carry images that the model did not make."""
        if self.model == BUILTIN and not has_inputs:
            return {"license": BUILTIN_LICENCE}
        name = "apache-2.0-and-terms-of-inputs" if self.model == BUILTIN else "see-model-and-inputs"
        return {"license": "other", "license_name": name}

    def licence_words(self, *, has_inputs: bool = False) -> str:
        """For whoever wants to use the results."""
        if self.model == BUILTIN:
            fill_in = " Fill in `license` above before publishing." if has_inputs else ""
            return (
                "The embedded model and what it makes: Apache-2.0. Prompts and input images keep their own terms."
                + fill_in
            )
        return (
            f"What may be done with these results depends on the licence of `{self.model}` and on the terms of the "
            "prompts and input images. Fill in `license` above before publishing."
        )

    def provenance(self) -> list[tuple[str, str]]:
        """Where the results come from."""
        results: Mapping[str, Any] = self.description.get("results", {})
        versions = results.get("versions", {})
        return [
            ("manifest", str(self.description.get("manifest", ""))),
            ("manifest fingerprint", str(results.get("manifest_fingerprint", ""))),
            ("model", self.model),
            ("model digest", str(results.get("model_digest", ""))),
            ("started", str(self.description.get("started_at", ""))),
            ("complete", "yes" if self.is_complete else "no, the run has not ended"),
            ("seed of the run", str(results.get("seed", ""))),
            ("device and type", f"{results.get('device', '')}, {results.get('dtype', '')}"),
            ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ]

    def settings(self) -> list[tuple[str, str]]:
        """Defaults that rows took where they said nothing, by the keys of the job spec."""
        results: Mapping[str, Any] = self.description.get("results", {})
        defaults = _leaves("", results.get("defaults", {}))
        others = [pair for name, key in _SPEC_KEYS.items() for pair in _leaves(key, results.get(name))]
        return [(key, value) for key, value in (*defaults, *others) if key not in _NO_KEYS]


def _leaves(key: str, value: object) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        named = ((_FIELD_KEYS.get(name, name), inner) for name, inner in value.items())
        return [pair for name, inner in named for pair in _leaves(f"{key}.{name}" if key else name, inner)]
    return [] if value in (None, [], ()) else [(key, str(value))]
