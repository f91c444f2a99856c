"""One example of a task: what the model gets, what it should give, and how to tell."""

from dataclasses import dataclass

from shapes.goal import Goal
from shapes.tile import Codes
from shapes.world import Scene


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """An example; exactly one of ``target_codes`` and ``answer`` is given.

    Attributes:
        task: Name of the task, one of ``shapes.task.TASKS``.
        kind: Category within the task, one of ``shapes.task.TASKS[task]``.
        system: System prompt, a constant of ``dimoo_core.request.templates``.
        prompt: User prompt.
        inputs: Input images as grids of codes, in the order in which the model gets them.
        target_codes: The image that training aims at; for some goals one of several right ones.
        mask: Same shape as ``target_codes``, 1 where the model is to predict and 0 where it is given the code; None
            if it predicts everything.
        answer: The text that training aims at.
        goal: What a right output is.
        scenes: Scenes behind inputs and target.
        key: What decides the example's split: a scene, or what a prompt without cells says on its canvas.
    """

    task: str
    kind: str
    system: str
    prompt: str
    inputs: tuple[Codes, ...] = ()
    target_codes: Codes | None = None
    mask: Codes | None = None
    answer: str | None = None
    goal: Goal
    scenes: tuple[Scene, ...]
    key: str

    @property
    def category(self) -> str:
        """``task/kind``."""
        return f"{self.task}/{self.kind}"
