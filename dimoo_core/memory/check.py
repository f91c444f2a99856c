"""What a model needs against what is free, before a byte of its weights is read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from dimoo_core.errors import ConfigError
from dimoo_core.memory.free import FreeMemory, free_memory, free_on_cuda, resident_bytes
from dimoo_core.memory.need import GIB, ITEM_BYTES, MIB, MemoryNeed, can_be_float8, size_words
from dimoo_core.settings import DtypeName

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
    begun = "" if may_change_dtype else f"; the run has begun in {need.dtype} and goes on in it"
    if (short := _shortage(need, num_workers, limits)) is not None:
        needed, limit = short
        raise ConfigError(
            _refusal(need, num_workers, needed, limit, _fitting(need, num_workers, limit, may_change_dtype)) + begun
        )
    if not need.is_on_host and is_loading and _has_cuda():  # without one the loader says so
        limit = free_on_cuda(need.device)
        if need.model_bytes > limit.num_bytes:
            ways = list(_fitting_on_gpu(need, limit, may_change_dtype))
            raise ConfigError(_refusal(need, 0, need.model_bytes, limit, ways) + begun)


def check_mapping(path: Path) -> None:
    """Refuse to look into a file of weights for which there is no room in the address space.

    Raises:
        ConfigError: There is none.
    """
    needed = mapped_bytes(path.stat().st_size)
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
    """Let loading end in words where memory runs out after all: limits of a process, and GPUs, do not end it.

    Raises:
        ConfigError: It has run out.
    """
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
