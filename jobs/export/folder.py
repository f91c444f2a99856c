"""Exports as folders of image files with a ``metadata.jsonl``."""

import io
import json
from pathlib import Path
from typing import TextIO

from PIL import Image

from dimoo_core.errors import ConfigError
from jobs.export.base import Export, ExportSetup, folder_cells, json_line
from jobs.export.rows import FinishedRow


class FolderExport:
    """Images and texts in folders of their own, and their rows' cells in ``metadata.jsonl``."""

    _is_image_folder = False

    def __init__(self, setup: ExportSetup) -> None:
        self._target = setup.target
        self._tables: dict[str, tuple[Path, TextIO]] = {}

    def add(self, row: FinishedRow) -> None:
        """Write the files of a row."""
        split = row.split if self._is_image_folder else ""
        base = f"{split}/" if split else ""
        cells: dict[str, object] = {}
        if row.image is not None:
            cells["file_name"] = self._image(base, "images", row.name + row.image.suffix, row.image.data)
        if row.source is not None:
            name = f"{row.name}-source{row.source.suffix}"
            cells["source_image_file_name"] = self._image(base, "sources", name, row.source.data)
        if row.sources and not self._is_image_folder:  # which has no place for rows without an image of their own
            cells["source_images_file_names"] = [
                self._image(base, "sources", f"{row.name}-source-{number}{source.suffix}", source.data)
                for number, source in enumerate(row.sources)
            ]
        if not self._is_image_folder and row.cells["text"] is not None:
            self._target.put(f"texts/{row.name}.txt", row.cells["text"].encode())
        if "file_name" in cells or not self._is_image_folder:
            line = json_line({**cells, "words": row.words, **folder_cells(row.cells)})
            self._table(base).write(line + "\n")

    def finish(self) -> None:
        """Put the tables into place."""
        for base, (path, file) in self._tables.items():
            file.close()
            self._target.put_file(f"{base}metadata.jsonl", path)

    def close(self) -> None:
        """Let go of open files."""
        for _, file in self._tables.values():
            file.close()

    def _image(self, base: str, folder: str, name: str, data: bytes) -> str:
        relative = name if self._is_image_folder else f"{folder}/{name}"
        self._target.put(base + relative, data)
        return relative

    def _table(self, base: str) -> TextIO:
        if base not in self._tables:
            path = self._target.scratch / f"{len(self._tables)}.jsonl"
            self._tables[base] = (path, path.open("w", encoding="utf-8"))
        return self._tables[base][1]


class ImageFolderExport(FolderExport):
    """A folder by split as Hugging Face's ImageFolder reads it, where ``metadata.jsonl`` is beside the images.

    It names them in ``file_name`` and ``source_image_file_name``, of which ImageFolder makes the columns ``image`` and
    ``source_image``.
    """

    _is_image_folder = True


class BenchmarkExport(Export):
    """The folders that the evaluators of public benchmarks read; ``benchmark_item`` of a row is its place.

    GenEval has a folder of samples for each prompt. The others look for one file an item: samples of DPG-Bench and
    OneIG make one picture, side by side in rows of two; of the others only the first is taken.
    """

    def __init__(self, setup: ExportSetup) -> None:
        self._target = setup.target
        self._model = setup.model_name
        self._item: tuple[str, str] | None = None
        self._samples: list[FinishedRow] = []

    def add(self, row: FinishedRow) -> None:
        """Write the image of a row, or keep it until those of the same item are there; they follow each other."""
        item = _item_of(row)
        if item != self._item:
            self._write()
        self._item = item
        self._samples.append(row)

    def finish(self) -> None:
        """Write what is left."""
        self._write()

    def _write(self) -> None:
        samples, self._samples = self._samples, []
        if self._item is None or not samples:
            return
        benchmark, item = self._item
        if benchmark == "geneval":
            self._geneval(item, samples)
        elif benchmark in ("dpg-bench", "oneig-en"):
            suffix = "png" if benchmark == "dpg-bench" else "webp"
            folder, slash, name = item.rpartition("/")
            model = f"{folder}/{self._model}/" if slash else ""
            self._target.put(f"{model}{name}.{suffix}", _grid(samples, suffix))
        elif benchmark == "tiif":
            kind, _, rest = item.partition("/")
            self._target.put(f"{kind}/{self._model}/{rest}.png", _as_png(samples[0]))
        else:
            self._target.put(f"{item}.png", _as_png(samples[0]))
            if samples[0].source is not None:
                self._target.put(f"{item}_SRCIMG.png", _png(samples[0].source.data))

    def _geneval(self, item: str, samples: list[FinishedRow]) -> None:
        metadata = json.loads(samples[0].cells["benchmark_metadata"])
        self._target.put(f"{item}/metadata.jsonl", json.dumps(metadata).encode())
        for number, sample in enumerate(samples):
            self._target.put(f"{item}/samples/{number:04d}.png", _as_png(sample))


def _item_of(row: FinishedRow) -> tuple[str, str]:
    benchmark, item = row.cells.get("benchmark"), row.cells.get("benchmark_item")
    if not isinstance(benchmark, str) or not isinstance(item, str) or row.image is None or row.cells["output"] is None:
        raise ConfigError(
            f"row {row.cells['row']} has no image or no columns benchmark and benchmark_item: build the manifest with "
            "dimoo-batch manifest build --from geneval, or another benchmark"
        )
    return benchmark, item


def _as_png(row: FinishedRow) -> bytes:
    assert row.image is not None  # seen when the row was added
    return row.image.data if row.image.suffix == ".png" else _png(row.image.data)


def _png(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.convert("RGB").save(buffer, format="PNG")
    return buffer.getvalue()


def _grid(samples: list[FinishedRow], suffix: str) -> bytes:
    """The samples in one picture, two per row; a single one stays as it is."""
    images = [Image.open(io.BytesIO(sample.image.data)).convert("RGB") for sample in samples if sample.image]
    columns = min(2, len(images))
    width, height = images[0].size
    picture = Image.new("RGB", (columns * width, -(-len(images) // columns) * height))
    for number, image in enumerate(images):
        picture.paste(image, (number % columns * width, number // columns * height))
    buffer = io.BytesIO()
    picture.save(buffer, format=suffix.upper(), **({"lossless": True} if suffix == "webp" else {}))
    return buffer.getvalue()
