"""How much memory there is for this process: of the machine, of its containers, and of what ``ulimit`` lets it have.

A container's limit is that of its control group and of every group above it, of version 1 or 2. What a group uses
counts without files that it has read: the kernel gives those up first, and weights are mapped from their files. Swap is
not counted: a model whose weights lie there makes no image in any time. ``ulimit -m`` is not looked at: Linux has not
kept to it since 2.4.30.

Source: ``Documentation/admin-guide/cgroup-v2.rst`` and ``cgroup-v1/memory.rst`` of Linux; getrlimit(2), cgroups(7),
proc(5).
"""

import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MIB = 2**20
_NO_LIMIT = 2**60  # version 1 says so with the greatest number that is a multiple of a page
_STARTED_VIRTUAL_BYTES = 900 * _MIB  # of a process that has imported torch: nearly all of it is mapped, not taken
_STARTED_DATA_BYTES = 250 * _MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeMemory:
    """What one limit leaves.

    Attributes:
        words: Whose it is, for people.
        num_bytes: What is free of it.
        is_each: Every process has it for itself; otherwise all share it.
        has_files: Files that are mapped count, too.
    """

    words: str
    num_bytes: int
    is_each: bool = False
    has_files: bool = False


def free_memory(root: Path = Path("/")) -> list[FreeMemory]:
    """What is free of this machine's memory, by each limit there is; the least is what can be had.

    Args:
        root: Where ``/proc`` and ``/sys`` are.
    """
    return [_of_machine(), *_of_groups(root), *_of_process(root)]


def free_bytes(root: Path = Path("/")) -> int:
    """The least of ``free_memory`` that this process can have."""
    return max(0, min(each.num_bytes for each in free_memory(root)))


def resident_bytes() -> int:
    """What this process has in memory without files that it maps."""
    import psutil  # a bare GPU machine may lack it, and needs neither this nor what follows

    found = psutil.Process().memory_info()
    return int(found.rss - getattr(found, "shared", 0))


def free_on_cuda(device: str) -> FreeMemory:
    """What is free of a GPU's memory; what torch has reserved and does not use is free, too."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return FreeMemory(words=f"on {device}", num_bytes=free + idle)


def _of_machine() -> FreeMemory:
    import psutil

    return FreeMemory(words="on this machine", num_bytes=int(psutil.virtual_memory().available))


def _of_process(root: Path) -> Iterator[FreeMemory]:
    """What ``ulimit`` leaves; of a process that starts later no less than one that has imported torch has."""
    used = _kib_fields(root / "proc/self/status")
    for kind, option, field, started, has_files in (
        (resource.RLIMIT_AS, "-v", "VmSize", _STARTED_VIRTUAL_BYTES, True),
        (resource.RLIMIT_DATA, "-d", "VmData", _STARTED_DATA_BYTES, False),
    ):
        limit, _ = resource.getrlimit(kind)
        if limit == resource.RLIM_INFINITY or field not in used:
            continue
        num_bytes = limit - max(used[field], started)
        words = f"for each process by ulimit {option}"
        yield FreeMemory(words=words, num_bytes=num_bytes, is_each=True, has_files=has_files)


def _of_groups(root: Path) -> Iterator[FreeMemory]:
    for folder, is_v2 in _group_folders(root):
        names = ("memory.max", "memory.high") if is_v2 else ("memory.limit_in_bytes",)
        for name in names:
            limit, used = _number(folder / name), _used(folder, is_v2)
            if limit is not None and used is not None:
                path = f"/{folder.relative_to(root)}"
                yield FreeMemory(words=f"in this container by {path}/{name}", num_bytes=limit - used)


def _used(folder: Path, is_v2: bool) -> int | None:
    """What a group and those below it use, without files that the kernel would give up."""
    used = _number(folder / ("memory.current" if is_v2 else "memory.usage_in_bytes"))
    if used is None:
        return None
    prefix = "" if is_v2 else "total_"
    kept = ("inactive_file", "active_file", "slab_reclaimable")
    stat = _fields(folder / "memory.stat")
    return max(0, used - sum(stat.get(f"{prefix}{name}", 0) for name in kept))


def _group_folders(root: Path) -> Iterator[tuple[Path, bool]]:
    """The control groups with a say on this process's memory, its own first, and whether they are of version 2."""
    paths = _paths_of_groups(root)
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        mount, kind = before.split(), after.split()
        if len(mount) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        is_v2 = kind[0] == "cgroup2"
        if not is_v2 and "memory" not in kind[2].split(","):
            continue
        path = paths.get("" if is_v2 else "memory")
        if path is None:
            continue
        top = root / mount[4].replace("\\040", " ").lstrip("/")
        for folder in _upwards(top, mount[3], path):
            yield folder, is_v2
            if not is_v2 and _number(folder.parent / "memory.use_hierarchy") == 0:
                break  # those above have no say


def _upwards(top: Path, mounted: str, path: str) -> Iterator[Path]:
    """The group's folder and those above it up to the mount's own.

    A container sees its own group, or one above it, as the mount's root; the path may be told from the host's root.
    """
    inside = path.removeprefix(mounted.rstrip("/")) if path.startswith(mounted) else path
    names = [name for name in inside.split("/") if name]
    if ".." in names:  # the process was moved out of what it can see: only the mount's own group is known
        names = []
    for count in range(len(names), -1, -1):
        folder = top.joinpath(*names[:count])
        if folder.is_dir():
            yield folder


def _paths_of_groups(root: Path) -> dict[str, str]:
    """The path of this process's group, by controller; that of version 2 has no name."""
    found: dict[str, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        found |= dict.fromkeys(controllers.split(","), path)
    return found


def _number(path: Path) -> int | None:
    """What a file of one number says; None if it is not there or says that there is no limit."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdecimal() and int(text) < _NO_LIMIT else None


def _fields(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _lines(path))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _kib_fields(path: Path) -> dict[str, int]:
    found = (line.split() for line in _lines(path))
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in found if len(words) == 3 and words[2] == "kB"}


def _lines(path: Path) -> list[str]:
    """Lines of one of the kernel's files; none where it is not there or not to be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
