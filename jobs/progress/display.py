"""Shows the progress of a run while it changes: a panel on a terminal, plain lines elsewhere; on standard error.

The panel has small pictures of the latest images, drawn with coloured characters, two pixels in each.
"""

import io
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Self

from PIL import Image
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from jobs.progress.events import RunProgress, report
from jobs.progress.log import stderr_handler
from jobs.progress.state import ProgressState
from pipeline.storage.errors import StoreError

WIDTH, HEIGHT = 20, 20
"""Most pixels of a picture; a character is one wide and two high, which is nearly a square."""

_INTERVAL_S = 2.0
_UPPER_HALF = "▀"


class Thumbnails:
    """Reads the latest images in a thread of its own, so that a slow store does not hold up the run.

    What cannot be read is not shown: the run itself reports errors of its store.

    Args:
        latest: Keys of the images that were made last, the newest first.
        read: The bytes of one.
    """

    def __init__(self, latest: Callable[[], Sequence[str]], read: Callable[[str], bytes]) -> None:
        self._latest = latest
        self._read = read
        self._drawn: dict[str, Text] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="thumbnails", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_INTERVAL_S)

    def refresh(self) -> None:
        """Draw the latest images that are not drawn yet, and forget those that no longer are among them."""
        drawn: dict[str, Text] = {}
        for key in self._latest():
            picture = self._drawn.get(key) or self._picture(key)
            if picture is not None:
                drawn[key] = picture
        self._drawn = drawn

    def row(self, width: int) -> Table:
        """As many of them side by side as fit into so many characters, the newest first."""
        pictures = list(_fitting(self._drawn.values(), width))
        grid = Table.grid(padding=(0, 1))
        if pictures:
            grid.add_row(*pictures)
        return grid

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            self.refresh()

    def _picture(self, key: str) -> Text | None:
        try:
            data = self._read(key)
        except StoreError:
            return None
        with Image.open(io.BytesIO(data)) as image:
            return drawn(image)


def drawn(image: Image.Image) -> Text:
    """A picture of at most ``WIDTH`` x ``HEIGHT`` pixels, in the image's proportions."""
    small = image.convert("RGB")
    small.thumbnail((WIDTH, HEIGHT))
    columns, rows = small.width, small.height - small.height % 2 or 2
    small = small.resize((columns, rows))
    pixels = small.tobytes()

    def colour(column: int, row: int) -> str:
        start = 3 * (row * columns + column)
        return "#" + pixels[start : start + 3].hex()

    picture = Text(no_wrap=True)
    for row in range(0, rows, 2):
        for column in range(columns):
            picture.append(_UPPER_HALF, f"{colour(column, row)} on {colour(column, row + 1)}")
        if row + 2 < rows:
            picture.append("\n")
    return picture


def can_show(console: Console) -> bool:
    """Whether a terminal has the colours for it."""
    return console.is_terminal and console.color_system == "truecolor"


def _fitting(pictures: Iterable[Text], width: int) -> Iterator[Text]:
    left = width
    for picture in pictures:
        left -= len(picture.plain.partition("\n")[0]) + 1
        if left < 0:
            return
        yield picture


_LINE_INTERVAL_S = 10.0
_BAR_INTERVAL_S = 0.1  # a thousand workers speak far more often than anybody looks
_MAX_ERRORS = 3
_GAP = 3  # between two facts


class LineDisplay:
    """An event at the beginning, every ten seconds when the state has changed, and at the end."""

    def __init__(self, state: ProgressState) -> None:
        self._state = state
        self._next_s = 0.0
        self._shown = ""

    def __enter__(self) -> Self:
        self.refresh()
        return self

    def __exit__(self, *_: object) -> None:
        self._show()

    def refresh(self) -> None:
        """The state may have changed."""
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _LINE_INTERVAL_S
            self._show()

    def _show(self) -> None:
        line = self._state.line()
        if line != self._shown:
            report(RunProgress.of(self._state), message=line)
            self._shown = line


class PanelDisplay(LineDisplay):
    """A bar and what the workers do, redrawn in place; below it what they made last, if it can be shown."""

    def __init__(self, state: ProgressState, console: Console, thumbnails: Thumbnails | None = None) -> None:
        super().__init__(state)
        self._console = console
        self._thumbnails = thumbnails
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("[cyan]{task.fields[eta]}"),
            console=console,
            expand=True,
        )
        self._bar = self._progress.add_task("", total=state.num_rows, completed=state.num_completed, eta="")
        self._live = Live(console=console, refresh_per_second=4, transient=True, get_renderable=self._render)
        self._stack = ExitStack()
        self._next_frame_s = 0.0

    def __enter__(self) -> Self:
        self._set_panel(True)
        super().__enter__()
        if self._thumbnails is not None:
            self._stack.enter_context(self._thumbnails)
        self._stack.enter_context(self._live)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.refresh()
        self._stack.close()
        super().__exit__()
        self._set_panel(False)

    def refresh(self) -> None:
        """``Live`` redraws by itself, and this at once when something is new."""
        super().refresh()
        if time.monotonic() >= self._next_frame_s:
            self._next_frame_s = time.monotonic() + _BAR_INTERVAL_S
            self._live.refresh()

    def _set_panel(self, has_panel: bool) -> None:
        """Lines about progress go to the log of the output alone while a panel shows it."""
        if (handler := stderr_handler()) is not None:
            handler.has_panel = has_panel

    def _render(self) -> Group:
        state = self._state
        eta = f"ETA {state.eta_words}" if state.eta_words else ""
        self._progress.update(self._bar, completed=state.num_completed, eta=eta)
        shown: list[RenderableType] = [self._progress, _facts(state, self._console.width)]
        if self._thumbnails is not None:
            shown.append(self._thumbnails.row(self._console.width))
        return Group(*shown)


def _facts(state: ProgressState, width: int) -> RenderableType:
    """Small facts, two rows of them in columns; where these are too wide, lines as full as each can be.

    Those without a number yet are left out.
    """
    texts = [Text.assemble((f"{name} ", "dim"), (value, style)) for name, value, style in _cells(state)]
    half = -(-len(texts) // 2)
    widest = (max(text.cell_len for text in texts[column::half]) for column in range(half))
    if sum(widest) + _GAP * half > width:
        return Group(*_filled_lines(texts, width))
    table = Table.grid(padding=(0, _GAP))
    for row in (texts[:half], texts[half:]):
        table.add_row(*row)
    return table


def _filled_lines(texts: Sequence[Text], width: int) -> Iterator[Text]:
    line: list[Text] = []
    for text in texts:
        if line and sum(each.cell_len + _GAP for each in line) + text.cell_len > width:
            yield Text(" " * _GAP).join(line)
            line = []
        line.append(text)
    yield Text(" " * _GAP).join(line)


def _cells(state: ProgressState) -> Iterator[tuple[str, str, str]]:
    waiting = state.num_workers - state.num_ready
    ready = f"{state.num_ready} at work" + (f", {waiting} loading the model" if waiting > 0 else "")
    yield "workers", ready, "bold"
    num_failed = state.num_completed_failed
    yield "failed", f"{num_failed:,}", "bold red" if num_failed else "bold"
    if state.rows_per_s > 0:
        yield "rows/s", f"{state.rows_per_s:.2f}", "bold"
        yield "rows/h", f"{3600 * state.rows_per_s:,.0f}", "bold"
    if state.num_tokens:
        yield "tokens/s", f"{state.tokens_per_s:,.0f}", "bold"
        yield "tokens/step", f"{state.tokens_per_step:,.0f}", "bold"
    if state.engine_busy_ratio is not None:
        yield "engine busy", f"{state.engine_busy_ratio:.0%}", "bold"
    if state.cache_hit_ratio:
        yield "cache hit", f"{state.cache_hit_ratio:.0%}", "bold"
    if state.cost_usd is not None:
        yield "cost", f"{state.cost_usd:,.2f} USD", "bold"
    if state.num_lost:
        yield "lost and replaced", str(state.num_lost), "bold yellow"
    for name, count in state.failures.most_common(_MAX_ERRORS):
        yield name, f"{count:,}", "red"


def display_of(state: ProgressState, read_image: Callable[[str], bytes]) -> LineDisplay:
    """A panel if people look at standard error, a terminal, else lines; ``read_image`` gives an image by its key."""
    console, handler = Console(stderr=True), stderr_handler()
    if not console.is_terminal or handler is None or handler.as_json:
        return LineDisplay(state)
    return PanelDisplay(state, console, Thumbnails(state.latest_images, read_image) if can_show(console) else None)
