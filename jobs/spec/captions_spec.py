"""The part of the job spec that says how captions are asked for."""

from jobs.spec.section import Section, within_section
from manifests.row.captions import DETAILS, CaptionRequest, Captions


class CaptionSpec(Section):
    """One way to ask for a caption; what is not given is as the checkpoint has it, else as in ``Captions``."""

    prompt: str | None = None
    max_tokens: int | None = None

    def over(self, below: "CaptionSpec") -> "CaptionSpec":
        """This, and what ``below`` says where this says nothing."""
        return below.model_copy(update=self.model_dump(exclude_none=True))

    def request(self, default: CaptionRequest) -> CaptionRequest:
        """The row parser's form."""
        return CaptionRequest(
            prompt=default.prompt if self.prompt is None else self.prompt,
            max_tokens=default.max_tokens if self.max_tokens is None else self.max_tokens,
        )


class CaptionsSpec(Section):
    """How captions are asked for by their detail; ``detail`` is that of rows that name none and have no prompt."""

    detail: str | None = None
    short: CaptionSpec = CaptionSpec()
    detailed: CaptionSpec = CaptionSpec()
    dense: CaptionSpec = CaptionSpec()

    def over(self, below: "CaptionsSpec") -> "CaptionsSpec":
        """This, and what ``below`` says where this says nothing."""
        ways = {name: getattr(self, name).over(getattr(below, name)) for name in DETAILS}
        return below.model_copy(update=ways | ({} if self.detail is None else {"detail": self.detail}))

    def settings(self) -> Captions:
        """The row parser's form.

        Raises:
            ConfigError: If a value is out of range, or there is no such detail.
        """
        default = Captions()
        ways = {}
        for name in DETAILS:
            with within_section(f"captions.{name}"):
                ways[name] = getattr(self, name).request(getattr(default, name))
        with within_section("captions"):
            return Captions(detail=self.detail, **ways)
