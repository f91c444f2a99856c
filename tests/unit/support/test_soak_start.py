"""A start of the soak tells of mistakes of its own, and its copy of the process does nothing after it."""

import subprocess
import sys
from pathlib import Path

from tests.support.command import REPOSITORY, TIMEOUT_S

_SCRIPT = """
import sys
from pathlib import Path
from tests.soak import start as module
from tests.soak.fault import FaultLog

def fail(start):
    raise ValueError("no command tells of this")

module._run = fail
log = FaultLog(Path(sys.argv[1]))
start = module.Start(0, 0, "run", 0, Path("m"), "out", log, log, True)
print(module.fork_and_run(start), flush=True)
"""


def test_an_exception_that_no_command_tells_of_is_no_ordinary_end(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SCRIPT, str(tmp_path / "log")]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    assert ended.stdout == "70\n"
    assert (tmp_path / "log").read_text() == "unexpected ValueError('no command tells of this')\n"
