"""The turns of an acceptance run: in each dtype the reference, then the engine, in the first one presets, too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from benchmarks.acceptance.budget import TimeBudget
from benchmarks.acceptance.inputs import Inputs
from benchmarks.acceptance.likeness import Likeness, likeness
from benchmarks.acceptance.memory import MemoryMeter, release
from benchmarks.acceptance.outcome import (
    Comparison,
    LeftOut,
    PresetOutcome,
    RowRun,
    TurnCost,
    agreement,
    compare_answers,
    compare_images,
)
from benchmarks.acceptance.row import Row
from benchmarks.acceptance.sheet import file_name, side_by_side
from benchmarks.acceptance.turn import EngineTurn, Made, ReferenceTurn, now
from benchmarks.reference_inputs import ReferenceInputs
from dimoo_core.presets import DEFAULT_PRESET, PRESETS
from dimoo_core.settings import DtypeName, ImageSettings

REFERENCE = "reference"


def turn_name(dtype: str, contender: str) -> str:
    """As the budget and the page name a turn."""
    return f"{contender} in {dtype}"


def contenders(dtype: str, running: Sequence[str], presets: Sequence[str]) -> list[str]:
    """Who has a turn in a dtype: both implementations; in the first of those that run, every preset, too."""
    others = [name for name in presets if name != DEFAULT_PRESET]
    return [REFERENCE, DEFAULT_PRESET, *(others if dtype in running[:1] else [])]


@dataclass(slots=True, kw_only=True)
class Outcomes:
    """Everything that was found so far."""

    comparisons: list[Comparison] = field(default_factory=list)
    presets: list[PresetOutcome] = field(default_factory=list)
    costs: list[TurnCost] = field(default_factory=list)
    runs: list[RowRun] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be run on what, and where pictures go. ``refused`` are dtypes that do not fit, with the reason."""

    clone: Path
    checkpoint: Path
    device: torch.device
    dtypes: Sequence[DtypeName]
    refused: dict[str, str]
    rows: Sequence[Row]
    presets: Sequence[str]
    directory: Path


class AcceptanceRun:
    """One run. ``outcomes`` grows turn by turn; ``report`` is told of each row, ``save`` called after each turn."""

    def __init__(
        self,
        plan: Plan,
        inputs: Inputs,
        reference: ReferenceInputs,
        budget: TimeBudget,
        report: Callable[[str], None],
        save: Callable[[Outcomes], None],
    ) -> None:
        self.outcomes = Outcomes()
        self._plan = plan
        self._inputs = inputs
        self._reference = reference
        self._budget = budget
        self._report = report
        self._save = save
        self._strips: dict[tuple[str, str], list[tuple[str, Image.Image]]] = {}

    def run(self) -> Outcomes:
        """Every dtype after the other; never two sets of weights at once."""
        for dtype in self._plan.dtypes:
            if dtype in self._plan.refused:
                for contender in self._contenders(dtype):
                    self._leave_out(turn_name(dtype, contender), self._plan.rows, self._plan.refused[dtype])
                continue
            theirs = self._reference_turn(dtype)
            release(self._plan.device)
            self._save(self.outcomes)
            self._engine_turns(dtype, theirs)
            self._write_pictures()
            release(self._plan.device)
            self._save(self.outcomes)
        return self.outcomes

    def _contenders(self, dtype: str) -> list[str]:
        running = [dtype for dtype in self._plan.dtypes if dtype not in self._plan.refused]
        return contenders(dtype, running, self._plan.presets)

    def _reference_turn(self, dtype: DtypeName) -> dict[str, Made]:
        plan = self._plan

        def load() -> Callable[[Row], Made]:
            return ReferenceTurn(plan.clone, plan.checkpoint, self._inputs, plan.device, dtype).run

        return self._turn(turn_name(dtype, REFERENCE), plan.rows, load, MemoryMeter(plan.device))

    def _engine_turns(self, dtype: DtypeName, theirs: dict[str, Made]) -> None:
        """Exactly, then under each preset, with the weights loaded once."""
        plan, loaded = self._plan, list[EngineTurn]()

        def engine() -> EngineTurn:
            if not loaded:
                loaded.append(EngineTurn(plan.checkpoint, self._inputs, plan.device, dtype))
            return loaded[0]

        rows, meter = _made_in(theirs, plan.rows), MemoryMeter(plan.device)
        exact: dict[str, Made] = {}
        for contender in self._contenders(dtype)[1:]:
            is_exact = contender == DEFAULT_PRESET

            def load(contender: str = contender, is_exact: bool = is_exact) -> Callable[[Row], Made]:
                turn = engine()
                return lambda row: turn.run(row, PRESETS[contender], theirs[row.name] if is_exact else None)

            of_turn = rows if is_exact else _made_in(exact, rows)
            made = self._turn(turn_name(dtype, contender), of_turn, load, meter)
            if is_exact:
                exact = made
                self._compare(dtype, rows, theirs, exact)
            else:
                self._compare_preset(dtype, contender, rows, exact, made)
        loaded.clear()

    def _turn(
        self, turn: str, rows: Sequence[Row], load: Callable[[], Callable[[Row], Made]], meter: MemoryMeter
    ) -> dict[str, Made]:
        """Run the rows that fit the time and the memory; the others are named as left out."""
        made: dict[str, Made] = {}
        names = {row.name for row in rows}
        self._leave_out(turn, [row for row in self._plan.rows if row.name not in names], "an earlier turn left it out")
        self._budget.begin(turn, names)
        refusals = {row.name: self._budget.refusal(row.name) for row in rows}
        if all(refusals.values()):
            for row in rows:
                self._leave_out(turn, [row], refusals[row.name] or "")
            return made
        meter.restart()
        started_s = now(self._plan.device)
        try:
            run = load()
        except torch.OutOfMemoryError as error:
            self._leave_out(turn, rows, _first_line(error))
            return made
        load_s = now(self._plan.device) - started_s
        self._budget.begin(turn, names)  # the time of loading is nobody's share
        for row in rows:
            if (one := self._run_row(turn, row, run)) is not None:
                made[row.name] = one
        self.outcomes.costs.append(TurnCost(turn=turn, load_s=load_s, peak_bytes=meter.peak_bytes()))
        return made

    def _run_row(self, turn: str, row: Row, run: Callable[[Row], Made]) -> Made | None:
        """One row, or None and a note if it does not fit."""
        reason = self._budget.refusal(row.name)
        if reason is None:
            try:
                made = run(row)
            except torch.OutOfMemoryError as error:
                reason = _first_line(error)
            else:
                self._budget.ran(row.name, made.seconds)
                self.outcomes.runs.append(RowRun(turn=turn, row=row.name, seconds=made.seconds))
                self._report(f"{turn}: {row.name}: {made.seconds:.2f} s")
                return made
        release(self._plan.device)
        self._leave_out(turn, [row], reason)
        return None

    def _leave_out(self, turn: str, rows: Sequence[Row], reason: str) -> None:
        for row in rows:
            self.outcomes.left_out.append(LeftOut(turn=turn, row=row.name, reason=reason))
        if rows:
            self._report(f"{turn}: left out, {reason}: {', '.join(row.name for row in rows)}")

    def _compare(self, dtype: str, rows: Sequence[Row], theirs: dict[str, Made], ours: dict[str, Made]) -> None:
        """The engine, exactly, against the reference."""
        for row in _made_in(ours, rows):
            first, second = theirs[row.name], ours[row.name]
            answers, alike, picture = None, None, None
            if isinstance(row.settings, ImageSettings):
                tokens = compare_images(first.ids, second.ids)
                alike = self._draw(dtype, row, first.ids, second.ids)
                picture = file_name(dtype, row.name)
            else:
                tokens = compare_answers(first.ids, second.ids, self._inputs.tokens)
                answers = (self._text(first), self._text(second))
            self.outcomes.comparisons.append(
                Comparison(
                    dtype=dtype,
                    row=row.name,
                    task=row.task,
                    tokens=tokens,
                    difference=second.difference,
                    reference_s=first.seconds,
                    engine_s=second.seconds,
                    likeness=alike,
                    answers=answers,
                    picture=picture,
                )
            )

    def _draw(self, dtype: str, row: Row, theirs: Tensor, ours: Tensor) -> Likeness | None:
        """Decode both images, each by its own implementation; None where the reference's codes are none."""
        (image,) = self._inputs.codec.decode([ours])
        strip = self._strips[dtype, row.name] = [("input", given) for given in self._inputs.images(row)]
        is_decodable = bool(((theirs >= 0) & (theirs < self._inputs.tokens.num_codes)).all())
        if is_decodable:
            strip.append((REFERENCE, self._reference.image(theirs)))
        strip.append((DEFAULT_PRESET, image))
        return likeness(strip[-2][1], image) if is_decodable else None

    def _compare_preset(
        self, dtype: str, preset: str, rows: Sequence[Row], exact: dict[str, Made], made: dict[str, Made]
    ) -> None:
        """The engine under a preset, against itself computing exactly."""
        for row in _made_in(made, rows):
            first, second, alike = exact[row.name], made[row.name], None
            if isinstance(row.settings, ImageSettings):
                (image,) = self._inputs.codec.decode([second.ids])
                strip = self._strips[dtype, row.name]
                alike = likeness(dict(strip)[DEFAULT_PRESET], image)
                strip.append((preset, image))
            self.outcomes.presets.append(
                PresetOutcome(
                    dtype=dtype,
                    preset=preset,
                    row=row.name,
                    task=row.task,
                    tokens=agreement(first.answer_ids(self._inputs.tokens), second.answer_ids(self._inputs.tokens)),
                    exact_s=first.seconds,
                    seconds=second.seconds,
                    likeness=alike,
                )
            )

    def _text(self, made: Made) -> str:
        return self._inputs.layout.answer_text(made.answer_ids(self._inputs.tokens).tolist())

    def _write_pictures(self) -> None:
        for (dtype, row), strip in self._strips.items():
            side_by_side(strip).save(self._plan.directory / file_name(dtype, row))
        self._strips.clear()


def _made_in(made: dict[str, Made], rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.name in made]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
