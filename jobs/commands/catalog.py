"""``dimoo-batch tasks`` and ``dimoo-batch models``."""

from jobs import api
from jobs.commands.options import AsJsonArray
from jobs.commands.support import echo_result


def tasks(as_json: AsJsonArray = False) -> None:
    """List the tasks: each with its columns and an example row as JSON.

    The reference's own task names (edit_type) follow; in multi_view_left, left may be any other view.

    \b
    Examples:
      dimoo-batch tasks
      dimoo-batch tasks --json | jq '.[] | select(.name == "inpaint")'
      dimoo-batch tasks --json | jq -c '.[].example' > rows.jsonl
    """
    entries = [*api.task_entries(), *api.reference_entries()]
    lines = [line for entry in entries for line in ("", *entry.lines())]
    echo_result(entries, lines[1:], as_json=as_json)


def models(as_json: AsJsonArray = False) -> None:
    """List the checkpoints available to --model: embedded, published, and downloaded ones.

    \b
    Examples:
      dimoo-batch models
      dimoo-batch models --json
    """
    entries = api.model_entries()
    echo_result(entries, (entry.words() for entry in entries), as_json=as_json)
