"""From a manifest row to a request: fetch, decode, crop, encode, lay out. Runs on the fetch threads."""

from dimoo_core.errors import RequestError
from dimoo_core.image_fit import centered, crop_sizes_for, fit, random_offset
from dimoo_core.model import Model
from dimoo_core.noise import SeededNoise
from dimoo_core.request import Request
from dimoo_core.settings import ImageSettings
from manifests.row import Row, RowFailure
from pipeline.errors import StoreError
from pipeline.fetch import ImageUnreadable, fetch_image
from pipeline.object_reader import ObjectReader
from pipeline.retry import Patience
from pipeline.row_seed import row_seed
from pipeline.run_settings import RunSettings


class RowPreparer:
    """Prepares rows for one model. Threads may share it."""

    def __init__(self, model: Model, settings: RunSettings, patience: Patience) -> None:
        self._model = model
        self._patience = patience
        self._settings = settings
        self._reader = ObjectReader()

    def prepare(self, row: Row, folder_uri: str) -> Request | RowFailure:
        """The row's request, named by its row number; or why there is none."""
        try:
            return self._request(row, folder_uri)
        except StoreError as error:
            return row_failure(row, "fetch", error)
        except ImageUnreadable as error:
            return row_failure(row, "decode", error)
        except RequestError as error:
            return row_failure(row, "prompt", error)

    def close(self) -> None:
        """Let go of connections."""
        self._reader.close()

    def _request(self, row: Row, folder_uri: str) -> Request:
        model, seed = self._model, row_seed(row, self._settings.seed)
        request_id, noise = str(row.index), SeededNoise(seed, model.device)
        if isinstance(row.settings, ImageSettings):
            return model.layout.text_to_image(request_id, row.prompt, row.settings, noise)
        assert row.image is not None  # the row parser refuses understanding without an image
        source = row.image
        image = self._patience.retry(lambda: fetch_image(source, self._reader, folder_uri))
        sizes = crop_sizes_for(image.size, self._settings.input_resolution)
        cropped = fit(image, sizes, random_offset(seed) if self._settings.random_crop else centered)
        return model.layout.understanding(request_id, row.prompt, model.codec.encode([cropped]), row.settings, noise)


def row_failure(row: Row, stage: str, error: Exception) -> RowFailure:
    """The failure of one row at a stage of its way."""
    return RowFailure(row.index, row.id, stage, type(error).__name__, str(error))
