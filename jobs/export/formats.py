"""The formats of an export: the values of ``--to``, their help, and the class that writes each."""

from typing import NamedTuple


class ExportFormat(NamedTuple):
    """One format; ``writer`` is its class as ``module:class``, imported when asked for, made of an ``ExportSetup``.

    ``needs_inputs``: input images are always part of it.
    """

    summary: str
    writer: str
    needs_inputs: bool = False


FORMATS = {
    "files": ExportFormat("images, texts, metadata.jsonl", "jobs.export.folder:FolderExport"),
    "imagefolder": ExportFormat("a folder for datasets", "jobs.export.folder:ImageFolderExport"),
    "hf-parquet": ExportFormat("Parquet with a card", "jobs.export.table:ParquetExport"),
    "webdataset": ExportFormat("tar archives", "jobs.export.webdataset:TarExport"),
    "lance": ExportFormat("a Lance dataset", "jobs.export.table:LanceExport"),
    "benchmark": ExportFormat("folders for its evaluator", "jobs.export.folder:BenchmarkExport", needs_inputs=True),
}
