"""The way of a row from the engine to its segment: through the codec and to the store."""

import queue
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from PIL import Image
from torch import Tensor

from dimoo_core.errors import CodecNotFinite
from dimoo_core.request.request import TextResult
from manifests.errors import RowFailure
from manifests.row.parse import Row
from pipeline.output.results import RowResult
from pipeline.rows.failure import OF_THE_RUN, RowBoundary, row_failure
from pipeline.rows.flow import FittedImage, MadeImages, RowFlow, WeighedAnswer
from pipeline.rows.postprocess import Postprocessor
from pipeline.worker.commit import SegmentCommitter
from pipeline.worker.segment import OpenSegment
from pipeline.worker.threads import WorkerThreads

_MAX_CODEC_ROWS = 64  # whose images are taken through the codec before the next ones are looked for

FedRow = tuple[OpenSegment, RowFlow]
"""A row that goes through the engine, and where it belongs."""

CodecWork = tuple[OpenSegment, Row, MadeImages | FittedImage]
"""Images of a row that are to go through the codec, and where they belong."""

CodecProduct = list[Image.Image] | Tensor | CodecNotFinite


class OutputStage:
    """Takes rows that the engine is done with; all work is left to other threads, so that the engine's may call it."""

    def __init__(
        self,
        threads: WorkerThreads,
        postprocessor: Postprocessor,
        committer: SegmentCommitter,
        boundary: RowBoundary,
        *,
        has_hooks: bool,
    ) -> None:
        self._threads = threads
        self._has_hooks = has_hooks
        self._postprocessor = postprocessor
        self._committer = committer
        self._boundary = boundary
        self._for_codec: queue.SimpleQueue[CodecWork] = queue.SimpleQueue()

    def take(self, rows: Sequence[FedRow]) -> None:
        """Carry rows away, of which each has its result or its error.

        Texts of a segment go together, since handing each to a thread costs more than they do, but for hooks that may
        be slow.
        """
        texts: dict[int, list[FedRow]] = defaultdict(list)
        for segment, flow in rows:
            if flow.error is not None:
                failure = row_failure(flow.row, "generate", flow.error)
                self._threads.store(self._committer.commit_held, segment, failure)
            elif isinstance(flow.result, TextResult | WeighedAnswer):
                texts[id(flow) if self._has_hooks else id(segment)].append((segment, flow))
            else:
                assert flow.result is not None  # it is over without an error
                self._for_codec.put((segment, flow.row, flow.result))
                self._threads.codec(self._run_codec)
        for together in texts.values():
            self._threads.store(self._finish_texts, together)

    def _run_codec(self) -> None:
        """Take through the codec together what has come meanwhile, from the engine or straight from the manifest.

        Asked for once per row, so that none is left; finds nothing where an earlier turn took several.
        """
        works: list[CodecWork] = []
        with suppress(queue.Empty):
            while len(works) < _MAX_CODEC_ROWS:
                works.append(self._for_codec.get_nowait())
        for (segment, row, result), product in zip(works, self._through_codec(works), strict=True):
            if isinstance(product, RowFailure):
                self._threads.store(self._committer.commit_held, segment, product)
            elif isinstance(product, CodecNotFinite):
                self._threads.store(self._committer.commit_held, segment, row_failure(row, "generate", product))
            elif isinstance(product, Tensor):
                self._threads.store(self._finish_codes, segment, row, product)
            else:
                assert isinstance(result, MadeImages)
                self._threads.store(self._finish_images, segment, row, result, product)

    def _through_codec(self, works: Sequence[CodecWork]) -> Sequence[CodecProduct | RowFailure]:
        """What the codec makes of each; of rows that it fails on together, of each alone."""
        try:
            return self._postprocessor.through_codec([result for *_, result in works])
        except OF_THE_RUN:
            raise
        except BaseException as error:  # nobody knows which row's it is
            traceback.clear_frames(error.__traceback__)
        return [self._boundary.run(row, "generate", partial(self._alone_through_codec, made)) for _, row, made in works]

    def _alone_through_codec(self, made: MadeImages | FittedImage) -> CodecProduct:
        (product,) = self._postprocessor.through_codec([made])
        return product

    def _finish_codes(self, segment: OpenSegment, row: Row, codes_HW: Tensor) -> None:
        self._finish(segment, row, lambda: self._postprocessor.finish_codes(row, segment, codes_HW))

    def _finish_images(self, segment: OpenSegment, row: Row, made: MadeImages, images: list[Image.Image]) -> None:
        self._finish(segment, row, lambda: self._postprocessor.finish_images(row, segment, made, images))

    def _finish_texts(self, rows: Sequence[FedRow]) -> None:
        for segment, flow in rows:
            self._finish(segment, flow.row, partial(self._finish_text, segment, flow))

    def _finish_text(self, segment: OpenSegment, flow: RowFlow) -> RowResult:
        if isinstance(flow.result, TextResult):
            return self._postprocessor.finish_text(flow.row, segment, flow.result)
        assert isinstance(flow.result, WeighedAnswer)
        return self._postprocessor.finish_weighed(flow.row, segment, flow.result)

    def _finish(self, segment: OpenSegment, row: Row, work: Callable[[], RowResult]) -> None:
        self._committer.commit_held(segment, self._boundary.run(row, "store", work))
