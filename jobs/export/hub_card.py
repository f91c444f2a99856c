"""The card of an exported dataset: ``README.md`` as the Hugging Face hub and ``datasets`` read it."""

from collections.abc import Iterator, Mapping

import yaml

from jobs.report.facts import RunFactSheet
from jobs.report.markdown import plain_words, table_lines


def hub_card(facts: RunFactSheet, num_rows: Mapping[str, int], digest: str) -> str:
    """The card.

    Args:
        facts: Of the run.
        num_rows: Of each split.
        digest: Of the data files. ``datasets`` caches a local folder by its name and its configuration alone; with the
            digest in the latter it does not take one export for another of the same name.
    """
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in sorted(num_rows)]
    front = {
        "pretty_name": facts.title,
        **facts.licence(),
        "tags": ["synthetic", "lumina-dimoo", "dimoo-batch"],
        "configs": [{"config_name": "default", "description": f"content {digest}", "data_files": files}],
    }
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n" + "\n".join(
        _body(facts, num_rows)
    )


def _body(facts: RunFactSheet, num_rows: Mapping[str, int]) -> Iterator[str]:
    yield f"# {plain_words(facts.title)}\n"
    yield (
        f"{sum(num_rows.values()):,} rows made by the model `{facts.model}` with dimoo-batch. Everything that it made "
        "is synthetic and was not looked through by people."
    )
    yield from table_lines("Splits", ("split", "rows"), [(name, f"{rows:,}") for name, rows in num_rows.items()])
    yield from table_lines("Provenance", ("what", "value"), facts.provenance())
    yield from table_lines("Settings where a row says nothing", ("setting", "value"), facts.settings())
    yield f"\n## Licence\n\n{facts.licence_words()}\n"
