"""What a run was, in names and values: for the page and for the card."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from dimoo_core.checkpoint.locate import BUILTIN
from dimoo_core.errors import ConfigError
from jobs.spec.result_keys import INTERNAL, SPEC_KEYS, key_as_set
from pipeline.manifest import ManifestSource, open_unchecked_manifest
from pipeline.protocol.source_policy import SourcePolicy

BUILTIN_LICENCE = "apache-2.0"
"""Of the embedded model; other checkpoints have their own licences."""

_NO_KEYS = (*INTERNAL, "text_to_image.cfg_image_scale", "image_to_image.width", "image_to_image.height")
"""Fields of the engine's form that no key of the job spec sets."""


@dataclass(frozen=True, slots=True)
class RunFactSheet:
    """``run.json`` and ``_SUCCESS``, read for people."""

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

    @property
    def sources(self) -> SourcePolicy:
        """What the rows of the run may have read; whoever reads their inputs later keeps to it."""
        recorded = self.description.get("job", {}).get("sources", {})
        return TypeAdapter(SourcePolicy).validate_json(json.dumps(recorded))

    def manifest(self, uri: str | None = None) -> ManifestSource:
        """The manifest of the run, where it is now or else where the run found it.

        Raises:
            ConfigError: That is another manifest.
            ManifestError, StoreError: It cannot be read.
        """
        uri = uri or str(self.description.get("manifest", ""))
        source = open_unchecked_manifest(uri)
        found, wanted = source.fingerprint, self.description.get("results", {}).get("manifest_fingerprint")
        if found != wanted:
            raise ConfigError(f"{uri} is not the manifest of this run: its fingerprint is {found}, not {wanted}")
        return source

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
            f"Use of these results depends on the licence of `{self.model}` and on the terms of the "
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
        """Defaults of rows without their own values, by the keys of the job spec."""
        results: Mapping[str, Any] = self.description.get("results", {})
        shown = {name: results.get(name) for name in ("defaults", "limit", *SPEC_KEYS)}
        settings = ((key_as_set(name), value) for name, value in _leaves("", shown))
        return [(key, value) for key, value in settings if key not in _NO_KEYS]


def _leaves(key: str, value: object) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [pair for name, inner in value.items() for pair in _leaves(f"{key}.{name}" if key else name, inner)]
    return [] if value in (None, [], ()) else [(key, str(value))]
