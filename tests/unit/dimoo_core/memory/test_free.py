"""Free memory by every limit: made-up trees of the kernel's files, real limits of a process, a real control group."""

import resource
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from dimoo_core.memory.check import FreeMemory, free_bytes, free_memory

_MIB = 2**20
_V2 = "30 23 0:28 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
_V1 = "35 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


def tree(root: Path, mountinfo: str, cgroup: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/mountinfo": mountinfo, "proc/self/cgroup": cgroup, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def of_groups(root: Path) -> dict[str, int]:
    """What each control group leaves, by the name of its file."""
    found = [limit for limit in free_memory(root) if "container" in limit.words]
    return {limit.words.partition(" by ")[2]: limit.num_bytes for limit in found}


def v2(folder: str, limit: str, current: int, stat: str = "", high: str = "max") -> dict[str, str]:
    at = f"sys/fs/cgroup{folder}"
    return {
        f"{at}/memory.max": f"{limit}\n",
        f"{at}/memory.high": f"{high}\n",
        f"{at}/memory.current": f"{current}\n",
        f"{at}/memory.stat": stat,
    }


def test_a_group_of_version_2_leaves_its_limit_less_what_it_uses_without_files(tmp_path: Path) -> None:
    stat = f"anon 5\ninactive_file {100 * _MIB}\nactive_file {50 * _MIB}\nshmem 3\n"
    files = v2("/a", str(1000 * _MIB), 400 * _MIB, stat)
    root = tree(tmp_path, _V2.format(root="/"), "0::/a\n", files)
    assert of_groups(root) == {"/sys/fs/cgroup/a/memory.max": 750 * _MIB}
    assert free_bytes(root) == 750 * _MIB


def test_groups_above_and_the_point_of_throttling_have_a_say(tmp_path: Path) -> None:
    files = v2("/a/b", "max", 1) | v2("/a", str(300), 100) | v2("", "max", 0, high=str(50))
    root = tree(tmp_path, _V2.format(root="/"), "0::/a/b\n", files)
    assert of_groups(root) == {"/sys/fs/cgroup/a/memory.max": 200, "/sys/fs/cgroup/memory.high": 50}


@pytest.mark.parametrize(("mounted", "path"), [("/docker/x", "/docker/x"), ("/", "/"), ("/docker/x", "/../../up")])
def test_a_container_sees_its_group_as_the_root_of_the_mount(tmp_path: Path, mounted: str, path: str) -> None:
    root = tree(tmp_path, _V2.format(root=mounted), f"0::{path}\n", v2("", "900", 100))
    assert of_groups(root) == {"/sys/fs/cgroup/memory.max": 800}


def test_a_group_of_version_1_counts_all_below_it_and_a_great_number_is_no_limit(tmp_path: Path) -> None:
    at = "sys/fs/cgroup/memory"
    files = {
        f"{at}/a/b/memory.limit_in_bytes": "1000\n",
        f"{at}/a/b/memory.usage_in_bytes": "600\n",
        f"{at}/a/b/memory.stat": "cache 9\ninactive_file 1\ntotal_inactive_file 200\ntotal_active_file 50\n",
        f"{at}/a/memory.limit_in_bytes": "700\n",
        f"{at}/a/memory.usage_in_bytes": "650\n",
        f"{at}/a/memory.use_hierarchy": "1\n",
        f"{at}/memory.limit_in_bytes": "9223372036854771712\n",
        f"{at}/memory.usage_in_bytes": "5\n",
    }
    root = tree(tmp_path, _V1.format(root="/") + _V2.format(root="/"), "4:memory:/a/b\n0::/\n", files)
    expected = {f"/{at}/a/b/memory.limit_in_bytes": 650, f"/{at}/a/memory.limit_in_bytes": 50}
    assert of_groups(root) == expected
    (root / at / "a/memory.use_hierarchy").write_text("0\n")
    assert of_groups(root) == {f"/{at}/a/b/memory.limit_in_bytes": 650}


@pytest.mark.parametrize("cgroup", ["", "nonsense\n", "4:cpu:/a\n"])
def test_where_the_kernel_says_nothing_the_machine_alone_counts(tmp_path: Path, cgroup: str) -> None:
    root = tree(tmp_path, "nonsense\n" + _V1.format(root="/"), cgroup, {})
    assert [limit.words for limit in free_memory(root)] == ["on this machine"]


@pytest.mark.parametrize(("kind", "option"), [(resource.RLIMIT_AS, "-v"), (resource.RLIMIT_DATA, "-d")])
def test_ulimit_leaves_each_process_its_limit_less_what_it_has(kind: int, option: str) -> None:
    words = (
        "from dimoo_core.memory.check import free_memory; print(free_memory()[-1].num_bytes, free_memory()[-1].words)"
    )

    def limited() -> None:
        resource.setrlimit(kind, (3000 * _MIB, 3000 * _MIB))

    ended = subprocess.run(
        [sys.executable, "-c", words], capture_output=True, text=True, check=True, preexec_fn=limited, timeout=60
    )
    free, told = ended.stdout.split(maxsplit=1)
    assert told.strip() == f"for each process by ulimit {option}"
    assert 1500 * _MIB < int(free) < 3000 * _MIB


@pytest.fixture
def group() -> Iterator[Path]:
    """A real control group below this process's own."""
    own = Path("/proc/self/cgroup")
    for line in own.read_text().splitlines() if own.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            folder = Path(f"/sys/fs/cgroup/memory{path}") / f"dimoo-batch-{uuid.uuid4().hex}"
            break
    else:
        pytest.skip("no control group of version 1 for memory: a group of version 2 cannot be made below a used one")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"a control group cannot be made here: {error}")
    yield folder
    folder.rmdir()


def test_a_real_control_group_is_seen_by_the_process_in_it(group: Path) -> None:
    (group / "memory.limit_in_bytes").write_text(str(300 * _MIB))
    words = "from dimoo_core.memory.check import free_bytes; print(free_bytes())"
    script = f"echo $$ > {group}/cgroup.procs && exec {sys.executable} -c '{words}'"
    ended = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert 200 * _MIB < int(ended.stdout) < 300 * _MIB


def test_a_limit_is_told_in_words() -> None:
    assert all(isinstance(limit, FreeMemory) and limit.words for limit in free_memory())
