"""How ``run`` and ``retry`` end when they break off: one line that says why, how to go on, and the exit code."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dimoo_core.errors import ConfigError, DimooError, WeightsError
from jobs.command import EXIT_FAILED, EXIT_TOO_MANY_FAILURES, EXIT_WRONG_INPUT, fail
from jobs.stop_signal import Stopped
from manifests.errors import ManifestError
from pipeline.errors import NotARun, RunInUse, RunStopped, TooManyFailures
from pipeline.store_errors import StoreError


@contextmanager
def ending_with_exit_codes(target: Callable[[], str]) -> Iterator[None]:
    """End the command for whatever a run raises.

    Args:
        target: The output as far as it is known, asked when there is something to go on with.
    """
    try:
        yield
    except (ConfigError, ManifestError, WeightsError, NotARun) as error:
        fail(str(error), EXIT_WRONG_INPUT)
    except StoreError as error:
        fail(str(error), EXIT_FAILED if error.retryable else EXIT_WRONG_INPUT)
    except RunInUse as error:
        fail(str(error), EXIT_FAILED)
    except RunStopped as error:
        fail(f"{error}\n{resume_hint(target())}", 128 + signal.SIGTERM)
    except DimooError as error:
        exit_code = EXIT_TOO_MANY_FAILURES if isinstance(error, TooManyFailures) else EXIT_FAILED
        fail(f"{error}\n{resume_hint(target())}", exit_code)
    except (KeyboardInterrupt, Stopped) as error:
        number = error.number if isinstance(error, Stopped) else signal.SIGINT
        fail(f"stopped\n{resume_hint(target())}", 128 + number)


def resume_hint(target: str) -> str:
    """How to go on after a stop."""
    return (
        f"rows committed so far are kept ({target}); run the same command again to go on, dimoo-batch status says how "
        "far it is"
    )
