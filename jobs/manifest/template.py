"""Prompts written as templates: ``a {color} {animal}``, filled from a record's columns and from lists of values."""

import difflib
import itertools
import string
from collections.abc import Iterator, Mapping, Sequence

from dimoo_core.errors import ConfigError
from jobs.manifest.record import Record
from manifests.errors import ManifestRowError


class PromptTemplate:
    """A text with names in braces; ``{{`` and ``}}`` stand for braces.

    Raises:
        ConfigError: A brace is left open, or something else than a name is in braces.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError as error:
            raise ConfigError(f"the template {text!r} is not valid: {error}") from error
        self.names = tuple(dict.fromkeys(name for _, name, _, _ in parts if name is not None))
        plain = all(name.isidentifier() for name in self.names)
        if not plain or any(form or conversion for _, _, form, conversion in parts):
            raise ConfigError(
                f"the template {text!r} must have nothing but names of columns in braces, as in {{color}}"
            )

    def fill(self, values: Mapping[str, object]) -> str:
        """The text with its names replaced.

        Raises:
            ManifestRowError: A name has no value here.
        """
        for name in self.names:
            if values.get(name) is None:
                there = [key for key, value in values.items() if value is not None]
                near = difflib.get_close_matches(name, there, n=1)
                hint = f": did you mean {near[0]!r}?" if near else ""
                known = ", ".join(there) or "nothing"
                raise ManifestRowError(f"the template needs {name!r}, which has no value here; there is {known}{hint}")
        return self._text.format_map({name: values[name] for name in self.names})


def combinations(record: Record, variables: Mapping[str, Sequence[str]]) -> Iterator[Record]:
    """The record with every combination of the variables' values, the last variable changing fastest."""
    for values in itertools.product(*variables.values()):
        yield record.with_cells({**record.cells, **dict(zip(variables, values, strict=True))})


def num_combinations(variables: Mapping[str, Sequence[str]]) -> int:
    """How many there are for each record."""
    count = 1
    for values in variables.values():
        count *= len(values)
    return count
