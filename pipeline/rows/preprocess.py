"""From a manifest row to its first requests: fetch, decode, crop, encode, lay out. Runs on the fetch threads."""

from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from dimoo_core.checkpoint.load import Model
from dimoo_core.codec.resize import (
    centered,
    fit_as_planned,
    random_offset,
    unscaled_plan,
)
from dimoo_core.errors import CodecNotFinite, RequestError
from dimoo_core.request.inpainting import masked_codes
from dimoo_core.request.noise import SeededNoise
from dimoo_core.request.request import Request
from dimoo_core.request.templates import NO, YES, match_question
from dimoo_core.settings import PIXELS_PER_TOKEN, ChoiceSettings, ImageSettings, TextSettings
from manifests.errors import RowFailure
from manifests.row.images import CodeGrid
from manifests.row.mask import Mask
from manifests.row.parse import Row
from manifests.row.task_name import task_named
from manifests.tasks import OUTPAINT
from pipeline.images.decoder import ImageUnreadable
from pipeline.images.inputs import InputImages
from pipeline.protocol.settings import RunSettings
from pipeline.rows.failure import row_failure
from pipeline.rows.flow import (
    FittedImage,
    MadeImage,
    MadeImages,
    Rounds,
    RowFlow,
    answer,
    best_of,
    choice,
    codec_alone,
    match,
    row_seed,
    samples,
    turns,
    views,
)
from pipeline.rows.inpaint import MaskUnusable, grown_codes, grown_image, kept_pixels, painted_pixels, painted_tokens
from pipeline.storage.errors import StoreError
from pipeline.storage.retry import RetryPolicy


class Preprocessor:
    """Prepares rows for one model. Threads may share it."""

    def __init__(self, model: Model, settings: RunSettings, retry_policy: RetryPolicy) -> None:
        self._model = model
        self._settings = settings
        self._inputs = InputImages(model.codec, settings, retry_policy)

    @property
    def inputs(self) -> InputImages:
        """What reads the rows' input images."""
        return self._inputs

    def preprocess(self, row: Row, folder_uri: str) -> RowFlow | RowFailure:
        """The row with its first requests, named after its row number; or why there are none.

        Raises:
            RunFailed: The image could not be read for reasons that are not the row's.
        """
        try:
            return RowFlow(row, self._rounds(row, folder_uri))
        except StoreError as error:
            return row_failure(row, "fetch", error)
        except (ImageUnreadable, MaskUnusable) as error:
            return row_failure(row, "decode", error)
        except RequestError as error:
            return row_failure(row, "prompt", error)
        except CodecNotFinite as error:
            return row_failure(row, "generate", error)

    def close(self) -> None:
        """Let go of connections and processes."""
        self._inputs.close()

    def _rounds(self, row: Row, folder_uri: str) -> Rounds:
        """What the row asks of the engine. Everything that needs its images is done before this returns."""
        seed = row_seed(row, self._settings.results.seed)
        if isinstance(row.settings, ImageSettings):
            drawn = self._images(row, seed, folder_uri)
            return best_of(row, drawn, partial(self._match, row, seed)) if row.series.is_scored else drawn
        if row.settings is None:
            return codec_alone(self._for_codec(row, seed, folder_uri))
        name, images = str(row.index), self._inputs.asked_about(row, seed, folder_uri)
        layout, noise = self._model.layout, self._noise(seed)
        if isinstance(row.settings, TextSettings):
            return answer(layout.understanding(name, row.prompt, images, row.settings, noise))
        if row.choices:
            return choice(row, layout.choices(name, row.prompt, images, row.choices, row.settings, noise))
        return match(self._match(row, seed, name, *images))

    def _match(self, row: Row, seed: int, name: str, codes_HW: Tensor) -> Request:
        """The question whether an image is what the row's prompt wants."""
        understanding = self._settings.results.defaults.understanding
        settings = ChoiceSettings(max_tokens=understanding.max_tokens, cfg_scale=understanding.cfg_scale)
        question = match_question(self._settings.results.understanding.match_question, row.prompt)
        return self._model.layout.choices(
            name,
            question,
            [codes_HW],
            (*YES, *NO),
            row.settings if isinstance(row.settings, ChoiceSettings) else settings,
            self._noise(seed),
        )

    def _images(self, row: Row, seed: int, folder_uri: str) -> Rounds:
        if row.mask is not None:
            return self._painting(row, row.mask, folder_uri)
        return self._drawing(row, seed) if row.image is None else self._image_to_image(row, seed, folder_uri)

    def _drawing(self, row: Row, seed: int) -> Rounds:
        def draw(name: str, seed: int) -> Request:
            assert isinstance(row.settings, ImageSettings)
            return self._model.layout.text_to_image(
                name, row.prompt, row.settings, self._noise(seed), negative_prompt=row.negative_prompt
            )

        return samples(row, seed, draw)

    def _image_to_image(self, row: Row, seed: int, folder_uri: str) -> Rounds:
        """The image's size is that of the last input image, as in the reference."""
        assert isinstance(row.settings, ImageSettings)
        crop = self._settings.results.image_to_image
        inputs = [
            self._inputs.encoded(source, folder_uri, seed, crop.resolution, crop.random_crop) for source in row.inputs
        ]
        height_px, width_px = (side * PIXELS_PER_TOKEN for side in inputs[-1].shape)
        settings = replace(row.settings, width_px=width_px, height_px=height_px)
        task = task_named(row.task)

        def draw(name: str, seed: int, prompt: str, *codes: Tensor) -> Request:
            return self._model.layout.image_to_image(
                name,
                task.system_for(prompt),
                prompt,
                codes,
                settings,
                self._noise(seed),
                negative_prompt=row.negative_prompt,
            )

        if task.kind == "turns":
            return turns(row, seed, inputs[0], draw)
        if task.kind == "views":
            return views(row, seed, lambda name, seed, prompt: draw(name, seed, prompt, *inputs))
        return samples(row, seed, lambda name, seed: draw(name, seed, row.prompt, *inputs))

    def _painting(self, row: Row, mask: Mask, folder_uri: str) -> Rounds:
        assert row.image is not None  # the row parser sees to both
        assert isinstance(row.settings, ImageSettings)
        seed = row_seed(row, self._settings.results.seed)
        offset = random_offset(seed) if self._settings.results.image_to_image.random_crop else centered
        with ExitStack() as held:
            image = self._inputs.fetch(row.image, folder_uri, held=held)
            size, plan = image.size, unscaled_plan(image.size)
            fitted = fit_as_planned(image, plan, offset)
        if mask.padding is not None:
            image, mask_HW = grown_image(mask, mask.padding, fitted)
            codes_HW = grown_codes(mask.padding, fitted, *self._model.codec.encode([fitted]))
        else:
            image = fitted
            with ExitStack() as held:
                mask_image = None
                if mask.image is not None:
                    mask_image = self._inputs.fetch(mask.image, folder_uri, keeps_mode=True, held=held)
                painted = painted_pixels(mask, size, mask_image, keeps_box=row.task == OUTPAINT)
                # A random offset is drawn from the same seed for each, so both are cut at the same place.
                mask_HW = painted_tokens(mask, fit_as_planned(painted, plan, offset))
            (codes_HW,) = self._model.codec.encode([image])
        settings = replace(row.settings, width_px=image.width, height_px=image.height)

        def draw(name: str, seed: int) -> Request:
            return self._model.layout.text_to_image(
                name,
                row.prompt,
                settings,
                self._noise(seed),
                negative_prompt=row.negative_prompt,
                known_codes=masked_codes(codes_HW, mask_HW),
            )

        return samples(row, seed, draw, kept_pixels(image, mask_HW))

    def _noise(self, seed: int) -> SeededNoise:
        return SeededNoise(seed, self._model.device)

    def _for_codec(self, row: Row, seed: int, folder_uri: str) -> MadeImages | FittedImage:
        if row.codes is not None:
            codes_HW = _codes_tensor(row.codes, self._model.codec.num_codes)
            return MadeImages((MadeImage(codes_HW, row.prompt, seed),))
        assert row.image is not None  # the row parser sees to one of them
        crop = self._settings.results.tokenize
        return FittedImage(self._inputs.fitted(row.image, folder_uri, seed, crop.resolution, crop.random_crop))


def _codes_tensor(grid: CodeGrid, num_codes: int) -> Tensor:
    """A row's codes, (rows, columns)."""
    if (largest := max(grid.codes)) >= num_codes:
        fix = "tokenize the images with this model"
        raise RequestError(f"vq_codes must be from 0 to {num_codes - 1} for this model, got {largest}: {fix}")
    return torch.tensor(grid.codes, dtype=torch.int64).view(grid.rows, grid.columns)
