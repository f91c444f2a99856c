"""What one row costs: the shape of its request, from its prompt's tokens and its image's size, counted."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from dimoo_core.checkpoint.check import check_checkpoint
from dimoo_core.checkpoint.locate import BUILTIN, find_checkpoint
from dimoo_core.codec.resize import Size, best_crop_size, crop_sizes_for, resolution_beside, unscaled_plan
from dimoo_core.engine.flops import Cost, Generation, image_cost, text_cost
from dimoo_core.files import expanded_path
from dimoo_core.model_config import DIMOO_8B, ModelConfig, VQConfig
from dimoo_core.request.templates import TEXT_TO_IMAGE_SYSTEM, UNCONDITIONAL_PROMPT, UNDERSTANDING_SYSTEM, chat
from dimoo_core.settings import PIXELS_PER_TOKEN, ChoiceSettings, ImageSettings, Resolution, TextSettings
from jobs.spec.spec import JobSpec
from manifests.row.images import ImageSource
from manifests.row.parse import Row
from manifests.row.task_name import task_named
from pipeline.images.inputs import ImageFetcher
from pipeline.storage.uri import parse_uri, resolve_uri

_AMUSED = VQConfig(
    block_out_channels=(128, 256, 256, 512, 768),
    layers_per_block=2,
    latent_channels=64,
    num_vq_embeddings=8192,
    mid_block_add_attention=False,
)
"""The codec of the published model, by what is public of aMUSEd's."""
_CHARACTERS_PER_TOKEN = 4.0  # of English text, where the checkpoint's tokenizer is not at hand


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a plan has to know of a model; its weights are not read."""

    config: ModelConfig
    codec: VQConfig
    num_codes: int
    num_text_columns: int
    tokens_of: Callable[[str], frozenset[int] | int]  # different ids, or without a tokenizer how many there may be
    length_of: Callable[[str], int]
    is_estimated: bool


def read_model_facts(model: str) -> ModelFacts:
    """Facts of the embedded model or of a checkpoint directory; of a hub id those of the published model's shape."""
    if model != BUILTIN and not expanded_path(model).is_dir():

        def length(text: str) -> int:
            return max(1, round(len(text) / _CHARACTERS_PER_TOKEN))

        return ModelFacts(
            DIMOO_8B, _AMUSED, _AMUSED.num_vq_embeddings, DIMOO_8B.num_embeddings, length, length, is_estimated=True
        )
    directory = find_checkpoint(model).directory
    found = check_checkpoint(directory)
    tokens, tokenizer = found.tokens, found.tokenizer
    return ModelFacts(
        found.config,
        found.codec,
        tokens.image_columns.stop - tokens.image_columns.start,
        tokens.vocabulary_columns.stop - tokens.vocabulary_columns.start,
        lambda text: frozenset(tokenizer.encode(text)),
        lambda text: len(tokenizer.encode(text)),
        is_estimated=False,
    )


@dataclass(frozen=True, slots=True)
class RowCost:
    """One row's part in a plan; ``size`` is that of each of its images in pixels, None where there are none.

    ``may_skip``: steps may commit more than is counted here, so that the row may cost less.
    """

    cost: Cost
    size: Size | None
    num_images: int
    may_skip: bool = False


class RowCosts:
    """Costs of rows. Keeps those of shapes seen before.

    Unless it ``reads_remote``, images on S3 are taken to be square and as large as is used.
    """

    def __init__(self, facts: ModelFacts, spec: JobSpec, images: ImageFetcher, *, reads_remote: bool) -> None:
        self._facts = facts
        self._spec = spec
        self._images = images
        self._reads_remote = reads_remote
        self.num_assumed_sizes = 0
        self._image_cost = lru_cache(4096)(image_cost)
        self._text_cost = lru_cache(4096)(text_cost)

    def of(self, row: Row, folder: str) -> RowCost:
        """The cost of one row."""
        settings, image = row.settings, row.image
        if settings is None:  # the codec alone
            size = None if image is None else self._crop(image, folder, self._spec.tokenize.resolution)
            return RowCost(Cost(), size, int(task_named(row.task).kind == "decoding"))
        if isinstance(settings, TextSettings):
            cost = self._text(row.prompt, settings, self._asked_about(row, folder))
            return RowCost(cost, None, 0, settings.commit is not None)
        if isinstance(settings, ChoiceSettings):
            return RowCost(self._text(row.prompt, _one_step(settings), self._asked_about(row, folder)), None, 0)
        spans: list[Size] = []
        if image is None:
            size = (settings.width_px, settings.height_px)
        elif row.mask is not None:
            size = unscaled_plan(self._size(image, folder) or (1024, 1024)).crop
        else:
            spans = [self._crop(source, folder, self._spec.image_to_image.resolution) for source in row.inputs]
            size = spans[-1]  # as in the reference, that of the last input image
        return self._series(row, settings, size, spans)

    def _series(self, row: Row, settings: ImageSettings, size: Size, sources: list[Size]) -> RowCost:
        """All images of a row: its samples, views or turns."""
        task, series = task_named(row.task), row.series
        prompts = series.prompts or (row.prompt,) * series.num_samples
        total, unwanted = Cost(), UNCONDITIONAL_PROMPT if row.negative_prompt is None else row.negative_prompt
        for prompt in prompts:
            system = task.system_for(prompt) if sources else TEXT_TO_IMAGE_SYSTEM
            total += self._image(chat(system, prompt), chat(system, unwanted), settings, size, sources)
            if series.is_scored:
                understanding = self._spec.understanding
                weighed = ChoiceSettings(max_tokens=understanding.max_tokens, cfg_scale=understanding.cfg_scale)
                total += self._text(prompt, _one_step(weighed), [size])
        return RowCost(total, size, len(prompts) if series.keeps_all else 1, settings.commit is not None)

    def _image(self, cond: str, uncond: str, settings: ImageSettings, size: Size, sources: list[Size]) -> Cost:
        """An image; one under a mask is counted as if all of it were painted."""
        of_sources = sum(map(_span, sources))
        around = 2 + _target(size) + 2
        lengths = [self._facts.length_of(cond) + of_sources + around]
        texts = [cond]
        if settings.cfg_scale:
            lengths.append(self._facts.length_of(uncond) + of_sources + around)
            texts.append(uncond)
        if sources and settings.cfg_image_scale:
            lengths.append(self._facts.length_of(cond) + around)
        shape = Generation(
            sequence_lengths=tuple(lengths),
            num_target=_target(size),
            num_masked=_codes(size),
            num_suffix=2,
            # mask, newline, begin and end of image and answer; input images rarely repeat a code
            num_distinct=self._num_distinct(texts) + 6 + min(of_sources, self._facts.num_codes),
            num_columns=self._facts.num_codes,
        )
        return self._image_cost(self._facts.config, shape, settings)

    def _text(self, prompt: str, settings: TextSettings, crops: list[Size]) -> Cost:
        words = chat(UNDERSTANDING_SYSTEM, prompt)
        length = self._facts.length_of(words) + sum(map(_span, crops)) + 1 + settings.max_tokens + 1
        shape = Generation(
            sequence_lengths=(length,) * (2 if settings.cfg_scale else 1),
            num_target=settings.max_tokens,
            num_masked=settings.max_tokens,
            num_suffix=1,
            num_distinct=self._num_distinct([words]) + 6 + min(sum(map(_codes, crops)), self._facts.num_codes),
            num_columns=self._facts.num_text_columns,
        )
        return self._text_cost(self._facts.config, shape, settings)

    def _asked_about(self, row: Row, folder: str) -> list[Size]:
        """Sizes of the images that a row has a question about."""
        resolution = resolution_beside(self._spec.understanding.resolution, len(row.inputs))
        return [self._crop(source, folder, resolution) for source in row.inputs]

    def _num_distinct(self, texts: list[str]) -> int:
        found = [self._facts.tokens_of(text) for text in texts]
        ids = [each for each in found if isinstance(each, frozenset)]
        return len(frozenset().union(*ids)) if ids else sum(each for each in found if isinstance(each, int))

    def _crop(self, image: ImageSource, folder: str, resolution: Resolution) -> Size:
        size = self._size(image, folder)
        if size is None:
            side = resolution if isinstance(resolution, int) else 1024
            size = (side, side)
        return best_crop_size(size, crop_sizes_for(size, resolution))

    def _size(self, image: ImageSource, folder: str) -> Size | None:
        """Upright width and height from the file's header; None where it is not read."""
        is_remote = image.uri is not None and not parse_uri(resolve_uri(folder, image.uri)).is_local
        if is_remote and not self._reads_remote:
            self.num_assumed_sizes += 1
            return None
        header = self._images.header(image, folder)
        return header.width, header.height


def _one_step(settings: ChoiceSettings) -> TextSettings:
    """An answer of one step costs what choices do, but for the few positions that these read less."""
    length = settings.max_tokens or 1
    return TextSettings(max_tokens=length, block_length=length, num_steps=1, cfg_scale=settings.cfg_scale)


def _codes(size: Size) -> int:
    return size[0] // PIXELS_PER_TOKEN * (size[1] // PIXELS_PER_TOKEN)


def _target(size: Size) -> int:
    """Codes of an image with a newline after each row."""
    return _codes(size) + size[1] // PIXELS_PER_TOKEN


def _span(size: Size) -> int:
    """An input image with its begin and end."""
    return _target(size) + 2
