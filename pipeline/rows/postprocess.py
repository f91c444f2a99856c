"""From an engine's result to a row result: decode, encode, store. Runs on the store threads."""

import hashlib
import io
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from dimoo_core.checkpoint.load import Model
from dimoo_core.errors import CodecNotFinite
from dimoo_core.request.request import TextResult
from dimoo_core.settings import PIXELS_PER_TOKEN, ChoiceSettings, ImageSettings, TextSettings
from manifests.errors import RowFailure
from manifests.files.plan import Segment
from manifests.row.images import ImageSource
from manifests.row.parse import Row
from manifests.row.task_name import task_named
from pipeline.output.directory import RunDirectory
from pipeline.output.results import AnswerDone, RowResult, RowSuccess, StoredImage
from pipeline.protocol.settings import IMAGE_FORMATS, ImageOutput, RunSettings
from pipeline.rows.flow import FittedImage, MadeImage, MadeImages, WeighedAnswer, row_seed
from pipeline.rows.row_hooks import ImageFile, Judged, ResultJudge, RowHooks, SegmentRows
from pipeline.storage.retry import RetryPolicy


class Postprocessor:
    """Stores results of one model in one run. Threads may share it."""

    def __init__(
        self,
        model: Model,
        settings: RunSettings,
        run: RunDirectory,
        retry_policy: RetryPolicy,
        hooks: RowHooks,
        read_input: Callable[[ImageSource, str], Image.Image],
    ) -> None:
        self._model = model
        self._judge = ResultJudge(hooks, read_input, self._encoded)
        self._settings = settings
        self._run = run
        self._retry_policy = retry_policy

    def finish_text(self, row: Row, at: SegmentRows, result: TextResult) -> RowResult:
        """The row of an answer; nothing is stored before its segment is committed."""
        assert isinstance(row.settings, TextSettings)
        judged = self.judged(row, at, text=self._model.layout.answer_text(result.token_ids))
        if isinstance(judged, RowFailure):
            return judged
        return RowSuccess(
            **self._of_every_row(row),
            text=judged.text,
            steps=row.settings.num_blocks * row.settings.steps_per_block,
            cfg_scale=row.settings.cfg_scale,
            temperature=row.settings.temperature,
            num_tokens=len(result.token_ids),
            finish_reason=result.finish_reason,
            scores=judged.scores,
        )

    def finish_weighed(self, row: Row, at: SegmentRows, answer: WeighedAnswer) -> RowResult:
        """The row of an answer that was chosen; nothing is stored before its segment is committed."""
        assert isinstance(row.settings, ChoiceSettings)
        choices = answer.choices
        judged = self.judged(row, at, text=answer.text)
        if isinstance(judged, RowFailure):
            return judged
        return RowSuccess(
            **self._of_every_row(row),
            text=judged.text,
            steps=1,
            cfg_scale=row.settings.cfg_scale,
            temperature=0.0,
            num_tokens=0,
            model_score=answer.score,
            answers=None if choices is None else tuple(AnswerDone(answer=name, probability=p) for name, p in choices),
            scores=judged.scores,
        )

    def finish_codes(self, row: Row, at: SegmentRows, codes_HW: Tensor) -> RowResult:
        """The row of an image's codes; nothing is stored before its segment is committed."""
        rows, columns = codes_HW.shape
        judged = self.judged(row, at)
        if isinstance(judged, RowFailure):
            return judged
        return RowSuccess(
            **self._of_every_row(row),
            width=columns * PIXELS_PER_TOKEN,
            height=rows * PIXELS_PER_TOKEN,
            steps=0,
            cfg_scale=0.0,
            temperature=0.0,
            num_tokens=codes_HW.numel(),
            vq_codes=codes_HW.flatten().numpy().astype(np.uint16),
            vq_grid=(rows, columns),
            scores=judged.scores,
        )

    def through_codec(
        self, results: list[MadeImages | FittedImage]
    ) -> list[list[Image.Image] | Tensor | CodecNotFinite]:
        """What the codec makes of each: pixels of a row's images, codes (rows, columns) of an input image."""
        made = [image for each in results if isinstance(each, MadeImages) for image in each.images]
        pixels = iter(self._decoded(made))
        codes = iter(self._model.codec.try_encode([each.image for each in results if isinstance(each, FittedImage)]))
        return [
            _whole(islice(pixels, len(each.images))) if isinstance(each, MadeImages) else next(codes)
            for each in results
        ]

    def _decoded(self, made: list[MadeImage]) -> list[Image.Image | CodecNotFinite]:
        """Pixels of finished images, with those that stay as they were pasted back."""
        decoded = self._model.codec.try_decode([each.vq_codes for each in made])
        return [
            image if each.kept is None or isinstance(image, CodecNotFinite) else each.kept.pasted_on(image)
            for each, image in zip(made, decoded, strict=True)
        ]

    def finish_images(self, row: Row, at: SegmentRows, made: MadeImages, images: list[Image.Image]) -> RowResult:
        """Store a row's images, given decoded, and return the row."""
        assert row.settings is None or isinstance(row.settings, ImageSettings)
        judged = self.judged(row, at, pixels=images[made.chosen])
        if isinstance(judged, RowFailure):
            return judged
        assert judged.pixels is not None  # it had an image, and hooks cannot take it away
        images = [*images[: made.chosen], judged.pixels, *images[made.chosen + 1 :]]
        stored = tuple(
            self._stored(row, at.segment, number, each, image)
            for number, (each, image) in enumerate(zip(made.images, images, strict=True))
        )
        own = stored[made.chosen]
        return RowSuccess(
            **self._of_every_row(row),
            output=own.output,
            width=own.width,
            height=own.height,
            steps=row.settings.num_steps if row.settings else 0,
            cfg_scale=row.settings.cfg_scale if row.settings else 0.0,
            cfg_image_scale=_image_guidance(row),
            temperature=row.settings.temperature if row.settings else 0.0,
            num_tokens=sum(each.vq_codes.numel() for each in made.images),
            sha256=own.sha256,
            bytes=own.bytes,
            outputs=stored,
            model_score=own.score,
            scores=judged.scores,
        )

    def judged(
        self, row: Row, at: SegmentRows, *, text: str | None = None, pixels: Image.Image | None = None
    ) -> Judged | RowFailure:
        """What the run's hooks leave of a row's answer or image."""
        return self._judge.judge(row, at, self._of_every_row(row), text, pixels)

    def _encoded(self, image: Image.Image) -> ImageFile:
        image_format = self._settings.results.image.format
        data = encode_image(image, self._settings.results.image)
        return ImageFile(data, IMAGE_FORMATS[image_format].suffix)

    def _of_every_row(self, row: Row) -> dict[str, Any]:
        """The columns that do not depend on what was made."""
        return {
            "row": row.index,
            "id": row.id,
            "task": row.task,
            "prompt": row.prompt,
            "seed": row_seed(row, self._settings.results.seed),
            "preset": row.preset,
        }

    def _stored(self, row: Row, segment: Segment, number: int, made: MadeImage, image: Image.Image) -> StoredImage:
        file, content_type = self._encoded(image), IMAGE_FORMATS[self._settings.results.image.format].content_type
        key = self._run.image_key(segment, row.index, row.id, file.suffix, number)
        self._retry_policy.retry(lambda: self._run.store.put(key, file.data, content_type=content_type))
        return StoredImage(
            output=key,
            prompt=made.prompt,
            seed=made.seed,
            width=image.width,
            height=image.height,
            sha256=hashlib.sha256(file.data).hexdigest(),
            bytes=len(file.data),
            score=made.score,
        )


def _whole(images: Iterable[Image.Image | CodecNotFinite]) -> list[Image.Image] | CodecNotFinite:
    """A row's images; the error of one is the row's."""
    whole: list[Image.Image] = []
    wrong: CodecNotFinite | None = None
    for image in images:
        if isinstance(image, CodecNotFinite):
            wrong = wrong or image
        else:
            whole.append(image)
    return wrong or whole


def _image_guidance(row: Row) -> float | None:
    """How far the row was guided towards its input images; None of a task that is not."""
    takes_it = "cfg_image_scale" in task_named(row.task).of_kind.settings
    return row.settings.cfg_image_scale if takes_it and isinstance(row.settings, ImageSettings) else None


def encode_image(image: Image.Image, output: ImageOutput) -> bytes:
    """The file of an image."""
    buffer = io.BytesIO()
    options = {"quality": output.quality} if IMAGE_FORMATS[output.format].has_quality else {}
    image.save(buffer, format=output.format.upper(), **options)
    return buffer.getvalue()
