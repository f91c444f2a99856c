"""What is refused for want of memory, and what is said to fit."""

from dataclasses import replace

import pytest

from dimoo_core.errors import ConfigError
from dimoo_core.memory import check as memory_check
from dimoo_core.memory.check import FreeMemory, check_memory, dtype_that_fits, refusing_for_memory
from dimoo_core.memory.need import GIB, MemoryNeed, RequestShape
from dimoo_core.model_config import DIMOO_8B, VQConfig
from dimoo_core.settings import ImageSettings

_CODEC = VQConfig(block_out_channels=(16, 32, 32, 48, 64), norm_num_groups=4, latent_channels=8)
_SHAPE = RequestShape.of_image(ImageSettings(width_px=64, height_px=64), 64 * 64, 0, 8192)
_NEED = MemoryNeed(config=DIMOO_8B, codec=_CODEC, dtype="float32", device="cpu", shape=_SHAPE)
_BF16 = replace(_NEED, dtype="bfloat16")


def free(monkeypatch: pytest.MonkeyPatch, *gib: float, is_each: bool = False) -> None:
    limits = [FreeMemory(words="on this machine", num_bytes=int(each * GIB), is_each=is_each) for each in gib]
    monkeypatch.setattr(memory_check, "free_memory", lambda: limits)


def refusal(need: MemoryNeed, num_workers: int = 0, *, may_change_dtype: bool = True) -> str:
    with pytest.raises(ConfigError) as caught:
        check_memory(need, num_workers=num_workers, may_change_dtype=may_change_dtype)
    return str(caught.value)


def test_both_figures_are_told_and_the_type_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 23, 100)
    said = refusal(_NEED)
    assert "needs 30." in said
    assert "23.0 GiB are free on this machine" in said
    assert "--set dtype=bfloat16" in said
    assert "a GPU with 15." in said
    check_memory(_BF16)


def test_workers_that_fit_alone_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 35)
    check_memory(_BF16, num_workers=2)
    said = refusal(_BF16, 3)
    assert "3 workers need" in said
    assert "--workers 2" in said
    assert "dtype" not in said


def test_a_limit_that_each_process_has_for_itself_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 20, is_each=True)
    check_memory(_BF16, num_workers=50)


def test_nothing_is_proposed_that_does_not_fit_either(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 2)
    said = refusal(_NEED, 2)
    assert "--set" not in said
    assert "--workers" not in said
    assert "a GPU with" in said


def test_type_and_workers_are_proposed_together_where_neither_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 20)
    assert "--set dtype=bfloat16 --workers 1" in refusal(_NEED, 2)


def test_smaller_steps_are_proposed_where_they_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = RequestShape.of_image(ImageSettings(), 64 * 64, 0, 8192)
    full = replace(_BF16, shape=replace(shape, num_tokens=512, num_read=256), num_requests=1000)
    less = replace(full, max_step_tokens=2048)
    free(monkeypatch, less.host_bytes / GIB)
    said = refusal(full)
    tokens = int(said.partition("engine.max_step_tokens=")[2].split(",")[0])
    check_memory(replace(full, max_step_tokens=tokens))


def test_a_run_that_has_begun_keeps_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 23)
    said = refusal(_NEED, may_change_dtype=False)
    assert "dtype=" not in said
    assert "began in float32" in said


@pytest.mark.parametrize(("gib", "dtype"), [(40, "float32"), (23, "bfloat16"), (2, "bfloat16")])
def test_auto_is_float32_where_that_fits(monkeypatch: pytest.MonkeyPatch, gib: float, dtype: str) -> None:
    free(monkeypatch, gib)
    assert dtype_that_fits(_NEED) == dtype


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("unable to mmap 5 bytes"), RuntimeError("CUDA out of memory")]
)
def test_memory_that_runs_out_while_loading_is_told_in_words(error: Exception) -> None:
    with pytest.raises(ConfigError, match="not enough memory to load the model"), refusing_for_memory():
        raise error


def test_other_errors_of_loading_pass() -> None:
    with pytest.raises(RuntimeError, match="something else"), refusing_for_memory():
        raise RuntimeError("something else")


def test_what_threads_and_allocators_reserve_counts_for_a_process_and_no_gpu_would_help(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tiny = replace(_BF16, config=replace(_BF16.config, num_layers=1))
    limit = FreeMemory(words="by ulimit -v", num_bytes=tiny.host_bytes + GIB, is_each=True, has_files=True)
    monkeypatch.setattr("dimoo_core.memory.check.free_memory", lambda: [limit])
    with pytest.raises(ConfigError, match=r"reserved by threads and allocators 1\.8 GiB\); what fits: a higher limit$"):
        check_memory(tiny)
    monkeypatch.setattr(
        "dimoo_core.memory.check.free_memory", lambda: [replace(limit, num_bytes=limit.num_bytes + GIB)]
    )
    check_memory(tiny)
