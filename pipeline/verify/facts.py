"""The facts of ``run.json`` that the rest of the output has to agree with. Read without the code that writes it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import NotARun
from pipeline.storage.base import Store
from pipeline.storage.errors import ObjectNotFound

_SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """The frame of a run.

    Attributes:
        results_digest: Of everything that decides results, the manifest's fingerprint included; each part repeats it.
    """

    num_rows: int
    segment_rows: int
    image_format: str
    results_digest: str

    @property
    def image_suffix(self) -> str:
        """What names of images end with."""
        return _SUFFIXES[self.image_format]


def read_run_facts(store: Store) -> RunFacts:
    """The frame of the run at the root of a store.

    Raises:
        NotARun: There is no ``run.json``, or it does not describe a run.
    """
    uri = store.uri_of("run.json")
    try:
        found = json.loads(store.get("run.json"))
    except ObjectNotFound as error:
        hint = (
            ", though parts of one: the run command as it was first given writes it again" if _has_parts(store) else ""
        )
        raise NotARun(f"{store.uri} is not the output of a run: it has no run.json{hint}") from error
    except ValueError as error:
        raise NotARun(f"{uri} does not describe a run: {error}") from error
    results = found.get("results") if isinstance(found, dict) else None
    if not isinstance(results, dict):
        raise NotARun(f"{uri} does not describe a run: it has no results")
    facts = RunFacts(
        num_rows=_whole(uri, found, "rows", 0),
        segment_rows=_whole(uri, results, "segment_rows", 1),
        image_format=str(results.get("image_format")),
        results_digest=_digest(results),
    )
    if facts.image_format not in _SUFFIXES:
        raise NotARun(f"{uri}: image_format must be one of {', '.join(_SUFFIXES)}, got {facts.image_format!r}")
    return facts


def _has_parts(store: Store) -> bool:
    return any(True for _ in store.list("parts/"))


def _whole(uri: str, found: Mapping[str, Any], name: str, least: int) -> int:
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise NotARun(f"{uri}: {name} must be a number from {least}, got {value!r}")
    return value


def _digest(results: Mapping[str, Any]) -> str:
    text = json.dumps(results, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
