"""What is reported goes through ``logging``; here is how it gets to standard error, for people or for programs."""

import json
import logging
import sys
from datetime import UTC, datetime

LOGGER = logging.getLogger("dimoo_batch")
"""Parent of one logger for each package, ``dimoo_batch.jobs`` and so on."""

LEVELS = ("debug", "info", "warning", "error")


class StderrHandler(logging.Handler):
    """Writes lines for people, or JSON for programs, to what ``sys.stderr`` is at the moment.

    A panel puts a stream of its own there. While one is shown, ``has_panel``, lines about progress are left out. Events
    that people have no use for while all goes well are left out below the level debug.
    """

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self.as_json = as_json
        self.has_panel = False

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        event = getattr(record, "event", None)
        if self.as_json:
            print(_json_line(record, event), file=sys.stderr, flush=True)
        elif (
            event is None
            or record.levelno >= logging.WARNING
            or LOGGER.isEnabledFor(logging.DEBUG)
            or (event["event"] == "progress" and not self.has_panel)
        ):
            print(record.getMessage(), file=sys.stderr, flush=True)


def begin(level: str, *, as_json: bool = False) -> None:
    """Have what is reported from now on written to standard error; instead of as before, if it was."""
    for handler in [*LOGGER.handlers]:
        if isinstance(handler, StderrHandler):
            LOGGER.removeHandler(handler)
    LOGGER.addHandler(StderrHandler(as_json=as_json))
    LOGGER.setLevel(level.upper())


def stderr_handler() -> StderrHandler | None:
    """The handler that ``begin`` made; None in a program that logs by itself."""
    return next((handler for handler in LOGGER.handlers if isinstance(handler, StderrHandler)), None)


def _json_line(record: logging.LogRecord, event: dict[str, object] | None) -> str:
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    fields = event or {"event": "log", "level": record.levelname.lower(), "message": record.getMessage()}
    return json.dumps({"at": at} | fields, default=str)
