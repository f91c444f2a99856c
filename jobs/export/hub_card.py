"""The card of an exported dataset: ``README.md`` as the Hugging Face hub and ``datasets`` read it."""

from collections.abc import Iterator, Mapping

import yaml

from jobs.counted import counted
from jobs.report.facts import RunFactSheet
from jobs.report.markdown import plain_words, table_lines


def hub_card(facts: RunFactSheet, num_rows: Mapping[str, int], digest: str, *, has_inputs: bool) -> str:
    """The card.

    Args:
        facts: Of the run.
        num_rows: Of each split.
        digest: Of the data files. ``datasets`` caches a local folder by its name and its configuration alone; with the
            digest in the latter it does not take one export for another of the same name.
        has_inputs: Whether images that the model was given are among the data.
    """
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in sorted(num_rows)]
    front = {
        "pretty_name": facts.title,
        **facts.licence(has_inputs=has_inputs),
        "tags": ["synthetic", "lumina-dimoo", "dimoo-batch"],
        "configs": [{"config_name": "default", "description": f"content {digest}", "data_files": files}],
    }
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n" + "\n".join(
        _body(facts, num_rows, has_inputs)
    )


def _body(facts: RunFactSheet, num_rows: Mapping[str, int], has_inputs: bool) -> Iterator[str]:
    yield f"# {plain_words(facts.title)}\n"
    yield (
        f"{counted(sum(num_rows.values()), 'row')} made by the model `{facts.model}` with dimoo-batch. What the model "
        "made is synthetic and was not looked through by people."
    )
    if has_inputs:
        yield "\nThe images that the model was given are here too: they are not synthetic and keep terms of their own."
    yield from table_lines("Splits", ("split", "rows"), [(name, f"{rows:,}") for name, rows in num_rows.items()])
    yield from table_lines("Provenance", ("what", "value"), facts.provenance())
    yield from table_lines("Settings where a row says nothing", ("setting", "value"), facts.settings())
    yield f"\n## Licence\n\n{facts.licence_words(has_inputs=has_inputs)}\n"
