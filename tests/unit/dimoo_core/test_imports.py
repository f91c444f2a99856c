"""The engine runs where nothing else of the project's dependencies is installed, and settings without torch."""

import subprocess
import sys

import pytest

_BLOCKING = """
import sys

class Blocked:
    names = {names!r}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ImportError(f"{{name}} is not installed here")

sys.meta_path.insert(0, Blocked())
import {module}
torch = sys.modules.get("torch")
assert torch is None or not torch.cuda.is_initialized()
"""


def import_without(module: str, *names: str) -> None:
    """Import modules in a process that lacks some libraries; no device must be touched on the way."""
    code = _BLOCKING.format(module=module, names=set(names))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_engine_imports_without_cluster_storage_and_what_only_loading_needs() -> None:
    libraries = ("diffusers", "transformers", "tokenizers", "huggingface_hub")
    import_without(
        "dimoo_core.engine.engine, dimoo_core.checkpoint.load",
        "ray",
        "boto3",
        "botocore",
        "pyarrow",
        "pydantic",
        *libraries,
    )


@pytest.mark.parametrize(
    "module",
    [
        "dimoo_core.settings",
        "dimoo_core.presets",
        "dimoo_core.errors",
        "dimoo_core.model_config",
        "dimoo_core.request.tokens",
        "dimoo_core.request.templates",
        "dimoo_core.checkpoint.locate",
        "dimoo_core.codec.resize",
    ],
)
def test_what_a_plan_needs_imports_without_torch(module: str) -> None:
    import_without(module, "torch", "diffusers", "transformers")
