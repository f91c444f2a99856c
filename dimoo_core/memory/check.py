"""How much memory this process can have, and whether what a model and its requests need fits into it.

Free memory is the least of what the machine, its container and the process's limits leave; on a GPU what is free there.
"""

import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dimoo_core.errors import ConfigError
from dimoo_core.memory.need import GIB, ITEM_BYTES, MIB, MemoryNeed, can_be_float8, size_words
from dimoo_core.settings import DtypeName

_MIB = 2**20
_NO_LIMIT = 2**60  # version 1 uses the greatest number that is a multiple of a page
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
    """What is free of this machine's memory, by each limit there is; the least is what can be had."""
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
    """The control groups that limit this process's memory, its own first, and whether they are of version 2."""
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
                break  # those above do not count


def _upwards(top: Path, mounted: str, path: str) -> Iterator[Path]:
    """The group's folder and those above it up to the mount's own.

    A container sees its own group, or one above it, as the mount's root; the path may be relative to the host's root.
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
    """The number in a file; None if it is not there or stands for no limit."""
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


_OUT_OF_MEMORY = ("out of memory", "allocate memory", "unable to mmap")
_NUM_THREADS = 12  # of a worker that have work with few rows
_STACK_BYTES, _ARENA_BYTES = 8 * MIB, 64 * MIB  # of a thread; what glibc reserves for one that allocates
_POOL_BYTES = GIB  # that the allocator of Arrow reserves at its first call


def check_memory(
    need: MemoryNeed, *, num_workers: int = 0, is_loading: bool = True, may_change_dtype: bool = True
) -> None:
    """Refuse to load what does not fit.

    Args:
        need: Of each worker.
        num_workers: Processes on this machine that will load it; 0: this process does.
        is_loading: Whether this process is to load it, so that its GPU is looked at.
        may_change_dtype: Whether another type would still be the same run.

    Raises:
        ConfigError: With what is needed, what is free, and what would fit by the same arithmetic.
    """
    limits = free_memory()
    begun = "" if may_change_dtype else f"; the run began in {need.dtype} and keeps it"
    if (short := _shortage(need, num_workers, limits)) is not None:
        needed, limit = short
        raise ConfigError(
            _refusal(need, num_workers, needed, limit, _fitting(need, num_workers, limit, may_change_dtype)) + begun
        )
    if not need.is_on_host and is_loading and _has_cuda():  # without one the loader fails
        limit = free_on_cuda(need.device)
        if need.model_bytes > limit.num_bytes:
            ways = list(_fitting_on_gpu(need, limit, may_change_dtype))
            raise ConfigError(_refusal(need, 0, need.model_bytes, limit, ways) + begun)


def check_mapping(directory: Path) -> None:
    """Refuse to look into a checkpoint whose largest file of weights has no room in the address space."""
    sizes = {path: path.stat().st_size for path in directory.glob("*.safetensors") if path.is_file()}
    if not sizes:
        return
    path = max(sizes, key=sizes.__getitem__)
    needed = mapped_bytes(sizes[path])
    for limit in free_memory():
        if limit.has_files and needed > limit.num_bytes:
            free = size_words(max(0, limit.num_bytes))
            raise ConfigError(
                f"not enough memory: to look into {path} takes {size_words(needed)} of address space, {free} are free "
                f"{limit.words}: raise that limit"
            )


def mapped_bytes(file_bytes: int) -> int:
    """Address space of a file that is open: safetensors maps it, and torch does again."""
    return 2 * file_bytes


@contextmanager
def refusing_for_memory() -> Iterator[None]:
    """Let loading end in words where memory runs out after all: limits of a process, and GPUs, do not end it."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch has a class of its own for GPUs only
        told = " ".join(str(error).split())
        if not isinstance(error, MemoryError) and not any(words in told.lower() for words in _OUT_OF_MEMORY):
            raise
        least = min(free_memory(), key=lambda limit: limit.num_bytes)
        free = f"{size_words(max(0, least.num_bytes))} are free {least.words}"
        raise ConfigError(f"not enough memory to load the model: {told or 'an allocation failed'}; {free}") from error


def dtype_that_fits(need: MemoryNeed, *, num_workers: int = 0) -> DtypeName:
    """What ``auto`` means on a CPU: float32 where it fits, else bfloat16."""
    full = replace(need, dtype="float32")
    return "float32" if _shortage(full, num_workers, free_memory()) is None else "bfloat16"


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _shortage(need: MemoryNeed, num_workers: int, limits: Sequence[FreeMemory]) -> tuple[int, FreeMemory] | None:
    """What is needed of the limit that lacks most, and that limit; None if all is well."""
    shorts = [(needed, limit) for limit in limits if (needed := _needed(need, num_workers, limit)) > limit.num_bytes]
    return max(shorts, key=lambda short: short[0] - short[1].num_bytes, default=None)


def _needed(need: MemoryNeed, num_workers: int, limit: FreeMemory) -> int:
    if limit.is_each:  # what a started process has is counted there
        return need.more_host_bytes(need.host_bytes) + _reserved_bytes(need, limit)
    return num_workers * need.host_bytes if num_workers else need.more_host_bytes(resident_bytes())


def _reserved_bytes(need: MemoryNeed, limit: FreeMemory) -> int:
    """What a worker reserves of its address space, or of its data, and for the most part never touches."""
    if not limit.has_files:
        return _POOL_BYTES + _NUM_THREADS * _STACK_BYTES
    return _POOL_BYTES + _NUM_THREADS * _ARENA_BYTES + mapped_bytes(need.largest_file_bytes)


def _fitting(need: MemoryNeed, num_workers: int, limit: FreeMemory, may_change_dtype: bool) -> list[str]:
    """Ways to ask for less that fit; the first kind of change that is enough, then a GPU."""
    limits = free_memory()

    def fits(other: MemoryNeed, count: int) -> bool:
        return _shortage(other, count, limits) is None

    types = [replace(need, dtype=name) for name in _smaller_types(need)] if may_change_dtype else []
    ways = [f"--set dtype={other.dtype}{_each(other, num_workers)}" for other in types if fits(other, num_workers)][:1]
    if count := next((count for count in range(num_workers - 1, 0, -1) if fits(need, count)), 0):
        ways.append(f"--workers {count}")
    step = next((other for other in _smaller_steps(need) if fits(other, num_workers)), None)
    if step is not None:
        ways.append(f"--set engine.max_step_tokens={step.max_step_tokens}")
    if not ways:
        pairs = ((other, count) for other in types for count in range(num_workers - 1, 0, -1))
        both = next(((other, count) for other, count in pairs if fits(other, count)), None)
        ways += [f"--set dtype={both[0].dtype} --workers {both[1]}"] if both is not None else []
    if limit.is_each:
        return [*ways, "a higher limit"]
    return ways + ([_gpu(need, may_change_dtype)] if need.is_on_host else [])


def _fitting_on_gpu(need: MemoryNeed, limit: FreeMemory, may_change_dtype: bool) -> Iterator[str]:
    import torch

    for name in _smaller_types(need) if may_change_dtype else ():
        other = replace(need, dtype=name)
        can = name != "float8" or torch.cuda.get_device_capability(need.device) >= (8, 9)
        if can and other.model_bytes <= limit.num_bytes:
            yield f"--set dtype={name} ({size_words(other.model_bytes)})"
            break
    yield f"a GPU with {size_words(need.model_bytes)} free"


def _smaller_types(need: MemoryNeed) -> Iterator[DtypeName]:
    """Those with fewer bytes a number; 8 bits on GPUs only, elsewhere their product may copy the matrix."""
    names: tuple[DtypeName, ...] = ("bfloat16", "float8")
    for name in names:
        is_possible = name != "float8" or (not need.is_on_host and can_be_float8(need.config))
        if ITEM_BYTES[name] < ITEM_BYTES[need.dtype] and is_possible:
            yield name


def _smaller_steps(need: MemoryNeed) -> Iterator[MemoryNeed]:
    """Steps of half as many tokens, and so on, down to one request."""
    tokens = need.max_step_tokens // 2
    while tokens >= need.shape.num_tokens:
        yield replace(need, max_step_tokens=tokens)
        tokens //= 2


def _gpu(need: MemoryNeed, may_change_dtype: bool) -> str:
    on_gpu = replace(need, device="cuda", dtype="bfloat16" if may_change_dtype else need.dtype)
    return f"a GPU with {size_words(on_gpu.model_bytes)} free"


def _each(need: MemoryNeed, num_workers: int) -> str:
    return f" ({size_words(need.host_bytes)}{' each' if num_workers > 1 else ''})"


def _refusal(need: MemoryNeed, num_workers: int, needed: int, limit: FreeMemory, ways: list[str]) -> str:
    who = f"{num_workers} workers need" if num_workers > 1 and not limit.is_each else "the model needs"
    fit = f"; what fits: {', or '.join(ways)}" if ways else ""
    free = size_words(max(0, limit.num_bytes))
    parts = need.words()
    if limit.is_each:
        parts += f", reserved by threads and allocators {size_words(_reserved_bytes(need, limit))}"
    return f"not enough memory: {who} {size_words(needed)}, {free} are free {limit.words} ({parts}){fit}"
