"""What is wrong with an object whose content cannot be read."""

import pyarrow as pa

from pipeline.store_errors import ObjectNotFound, StoreError

CONTENT_ERRORS = (pa.ArrowException, OSError, UnicodeDecodeError, StoreError)
"""What reading a damaged file may raise; a store that is out of reach is among it, see ``damage_of``."""


def damage_of(error: Exception) -> str:
    """What is wrong with an object whose reading raised ``error``.

    Raises:
        Exception: ``error`` itself, if it is not about the object but about memory or a store that is out of reach.
    """
    if isinstance(error, ObjectNotFound):
        return "nothing"
    if isinstance(error, MemoryError) or (isinstance(error, StoreError) and error.retryable):
        raise error
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
