"""The exceptions of the engine, and the root of every exception of the project.

::

    DimooError
    ├── ConfigError              the spec is wrong                     exit 2, never retried
    ├── WeightsError             checkpoint missing or mismatched      worker start fails, job stops
    ├── RequestError             one request is wrong                  becomes a row failure
    ├── EngineError              the engine cannot continue
    │   ├── BatchTooLarge        the batch did not fit memory          halve and repeat; alone: row failure
    │   ├── LogitsNotFinite      one request's numbers overflowed      becomes a row failure
    │   ├── CodecNotFinite       one image's numbers overflowed        becomes a row failure
    │   └── RequestTimedOut      one request took longer than allowed  becomes a row failure
    ├── ManifestError            (manifests.errors) the manifest is wrong    exit 2, never retried
    │   └── ManifestRowError     one row is wrong                      becomes a row failure
    └── StoreError               (pipeline.errors) object storage, with .retryable
        └── ObjectNotFound       the object does not exist

A message states what could not be done, to which object, the offending value, and what is allowed.
Every class survives pickling: its constructor arguments are passed to ``super().__init__``.
"""

ENDS_THE_PROCESS = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""What is raised to end a process or a generator; everything else may be the fault of one request or row."""


class DimooError(Exception):
    """Root of the exceptions this project raises on purpose."""


class ConfigError(DimooError, ValueError):
    """A setting is wrong; no retry can help. A ``ValueError`` too, so that pydantic reports it with its key."""


class WeightsError(DimooError):
    """A checkpoint is missing, incomplete or does not match its own config."""


class RequestError(DimooError):
    """One request cannot be built or run as asked; other requests are not affected."""


class EngineError(DimooError):
    """The engine cannot continue with the present batch."""


class BatchTooLarge(EngineError):
    """A forward pass did not fit into the device's memory."""


class LogitsNotFinite(EngineError):
    """What a step of one request computed is infinite or no number; others continue."""


class CodecNotFinite(EngineError):
    """What the image codec made of one image is infinite or no number; others are not affected."""


class RequestTimedOut(EngineError):
    """A request ran for longer than it may; others continue."""
