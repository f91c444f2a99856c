"""Completion of the command line, as a real bash does it with the script that the command gives."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

COMPLETE = """
complete_line() {
  COMP_WORDS=($1); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); COMP_LINE=$1; COMP_POINT=${#1}; COMPREPLY=()
  spec=$(complete -p dimoo-batch); name=${spec##* -F }; ${name%% *} dimoo-batch  # bash gives the command's name
  printf '%s\\n' "${COMPREPLY[@]}"
}
"""


def bash(script: str, home: Path) -> list[str]:
    """The lines that bash prints; it reads nothing of the user's own."""
    path = shutil.which("bash")
    assert path is not None, "the tests need bash"
    environment = os.environ | {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ended = subprocess.run(
        [path, "--norc", "-c", script], env=environment, cwd=home, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split()


def test_commands_and_options_are_completed_by_the_shown_script(tmp_path: Path) -> None:
    found = bash(
        f"""set -e; {COMPLETE} eval "$(dimoo-batch --show-completion)"
        complete_line 'dimoo-batch re'; echo --; complete_line 'dimoo-batch run --max'""",
        tmp_path,
    )
    commands, options = " ".join(found).split(" -- ")
    assert sorted(commands.split()) == ["replay", "report", "retry"]
    assert options.split() == ["--max-failures"]


def test_an_installed_completion_is_there_in_the_next_shell(tmp_path: Path) -> None:
    bash("dimoo-batch --install-completion; true", tmp_path)
    found = bash(f"{COMPLETE} source ~/.bashrc; complete_line 'dimoo-batch manifest b'", tmp_path)
    assert found == ["build"]
