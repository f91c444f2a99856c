"""The exceptions of the input contract; the whole tree is drawn in ``dimoo_core.errors``."""

from dimoo_core.errors import DimooError


class ManifestError(DimooError):
    """The manifest as a whole cannot be used: missing columns, wrong types, unreadable file."""


class ManifestRowError(ManifestError):
    """One row is wrong; it becomes a row failure and the other rows are not affected."""
