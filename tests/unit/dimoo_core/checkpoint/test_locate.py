"""A model is a directory, or a hub repository at a commit; its digest says whether two are the same."""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub.utils import filter_repo_objects
from hypothesis import given
from hypothesis import strategies as st

from dimoo_core.checkpoint.locate import BUILTIN, CHECKPOINT_FILES, _elsewhere, digest, find_checkpoint
from dimoo_core.errors import WeightsError
from dimoo_core.files import check_files

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"d_model": 32}',
    "model.safetensors": b"weights",
    "vqvae/config.json": b"{}",
    "onnx/config.json": b"{}",
    "consolidated/model.safetensors": b"the same weights again",
    "vqvae/onnx/config.json": b"{}",
    "vqvae-fp16/model.safetensors": b"another codec",
    "modeling_llada.py": b"raise SystemExit('code of a repository must never be fetched')",
    "pytorch_model.bin": b"a pickle",
}


@dataclass
class Hub:
    """What a stub of the hub was asked for."""

    url: str = ""
    fetched: list[str] = field(default_factory=list)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)  # status and error code by what paths begin with


@contextmanager
def running_hub() -> Iterator[Hub]:
    """One repository ``someone/tiny`` whose ``main`` points to ``COMMIT``."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            for start, (status, code) in hub.refusals.items():
                if path.startswith(start):
                    return self._send(status, b"{}", with_body, {"X-Error-Code": code} if code else {})
            prefix = f"/someone/tiny/resolve/{COMMIT}/"
            if path.startswith(prefix) and path.removeprefix(prefix) in FILES:
                name = path.removeprefix(prefix)
                if with_body:
                    hub.fetched.append(name)
                self._send(200, FILES[name], with_body, {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT})
            elif path in (
                f"/api/models/someone/tiny{suffix}" for suffix in ("", "/revision/main", f"/revision/{COMMIT}")
            ):
                siblings = [{"rfilename": name} for name in FILES]
                info = {"id": "someone/tiny", "modelId": "someone/tiny", "sha": COMMIT, "siblings": siblings}
                self._send(200, json.dumps(info).encode(), with_body, {"Content-Type": "application/json"})
            elif path.startswith(f"/api/models/someone/tiny/tree/{COMMIT}"):
                tree = [
                    {"type": "file", "path": name, "size": len(content), "oid": name} for name, content in FILES.items()
                ]
                self._send(200, json.dumps(tree).encode(), with_body, {"Content-Type": "application/json"})
            elif path.startswith("/api/models/someone/tiny/revision/"):
                self._send(404, b'{"error": "Revision not found"}', with_body, {"X-Error-Code": "RevisionNotFound"})
            else:
                self._send(404, b'{"error": "Repository not found"}', with_body, {"X-Error-Code": "RepoNotFound"})

        def _send(self, status: int, body: bytes, with_body: bool, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield hub
        server.shutdown()
        thread.join()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    from huggingface_hub import constants

    with running_hub() as stub:
        monkeypatch.setattr(constants, "ENDPOINT", stub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", stub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield stub


def test_a_directory_is_found_under_its_absolute_path(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_checkpoint.parent)
    found = find_checkpoint(tiny_checkpoint.name)
    assert found.directory == tiny_checkpoint.resolve()
    assert found.name == str(tiny_checkpoint.resolve())


@pytest.mark.parametrize("model", ["no/such/directory", "", "what ever", "owner/name@"])
def test_what_is_neither_directory_nor_id_is_refused(model: str) -> None:
    with pytest.raises(WeightsError, match="give builtin, a directory, OWNER/NAME or OWNER/NAME@REVISION"):
        find_checkpoint(model)


@pytest.mark.parametrize("model", ["someone/tiny", f"someone/tiny@{COMMIT}", "someone/tiny@main"])
def test_a_hub_id_becomes_a_commit_and_only_data_is_fetched(hub: Hub, model: str) -> None:
    found = find_checkpoint(model)
    assert found.name == f"someone/tiny@{COMMIT}"
    held = {path.relative_to(found.directory).as_posix() for path in found.directory.rglob("*") if path.is_file()}
    assert held == set(hub.fetched) == {"config.json", "model.safetensors", "vqvae/config.json"}
    assert (found.directory / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("name", ["config.json", "model-00001-of-00002.safetensors", "vqvae/config.json", ".x.json"])
def test_files_of_the_root_and_of_the_codec_are_wanted(name: str) -> None:
    assert is_wanted(name)


@given(st.lists(st.sampled_from(["", "v", "vq", "vqva", "vqvae", "vqvaes", "vqvax", "x", "vqvae.json"]), min_size=1))
def test_no_file_elsewhere_is_wanted(folders: list[str]) -> None:
    folders = [folder for folder in folders if folder]
    assert is_wanted("/".join([*folders, "config.json"])) == (folders in ([], ["vqvae"]))


def is_wanted(name: str) -> bool:
    return bool(list(filter_repo_objects([name], allow_patterns=list(CHECKPOINT_FILES), ignore_patterns=_elsewhere())))


@pytest.mark.parametrize(
    ("model", "refusals", "words"),
    [
        ("someone/else", {}, "neither directory nor repository of that name, or it is private: check the name"),
        ("someone/tiny", {"/api/models/someone/tiny": (403, "GatedRepo")}, "it is gated, accept its conditions"),
        ("someone/tiny", {"/someone/tiny/resolve/": (403, "GatedRepo")}, "it is gated, accept its conditions"),
        ("someone/tiny", {"/api/models/someone/tiny": (401, "")}, "refuses this user's token (401), log in with"),
        ("someone/tiny", {"/someone/tiny/resolve/": (403, "")}, "refuses this user's token (403), log in with"),
        ("someone/tiny@v9", {}, "it has no revision 'v9', give a branch, tag or commit of it"),
        ("someone/tiny", {"/api/models/someone/tiny": (403, "")}, "refuses this user's token (403), log in with"),
        ("someone/tiny", {"/api/models/someone/tiny": (429, "")}, "the hub answers with 429"),
        ("a--b/tiny", {}, "this is not a valid repository name"),
    ],
)
def test_what_the_hub_refuses_is_told_by_its_cause(
    hub: Hub, model: str, refusals: dict[str, tuple[int, str]], words: str
) -> None:
    hub.refusals = refusals
    with pytest.raises(WeightsError, match=re.escape(f"cannot download '{model}': ")) as caught:
        find_checkpoint(model)
    assert words in str(caught.value)
    assert str(caught.value).isprintable(), "one line"


def test_offline_mode_is_named_with_the_command_that_helps(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    words = r"HF_HUB_OFFLINE is set, and this machine's cache, .*cache, does not have it: unset it, or run 'hf download"
    with pytest.raises(WeightsError, match=words):
        find_checkpoint("someone/tiny")


def test_a_download_that_broke_off_is_named_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants, errors

    hub.refusals = {f"/someone/tiny/resolve/{COMMIT}/model.safetensors": (403, "")}
    with pytest.raises(WeightsError, match="refuses this user's token"):
        find_checkpoint("someone/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    if hasattr(errors, "IncompleteSnapshotError"):  # older versions give the directory as it is
        with pytest.raises(WeightsError, match=r"HF_HUB_OFFLINE is set, .* has only a part of it: unset it"):
            find_checkpoint("someone/tiny")
    directory = Path(constants.HF_HUB_CACHE, "models--someone--tiny", "snapshots", COMMIT)
    with pytest.raises(WeightsError, match=r"lacks .*: its download is incomplete, run 'hf download someone/tiny'"):
        check_files(directory)


def test_a_full_disk_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(WeightsError, match=r"no space is left for its cache, .*: free some, or set HF_HOME"):
        find_checkpoint("someone/tiny")


def test_a_cache_that_cannot_be_written_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match=r"its cache cannot be written \(.*file.*: Not a directory\): set HF_HOME"):
        find_checkpoint("someone/tiny")


def test_without_a_connection_the_last_download_serves(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    from huggingface_hub import constants

    downloaded = find_checkpoint("someone/tiny")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert find_checkpoint("someone/tiny") == downloaded


def test_a_hub_that_cannot_be_reached_is_an_error_of_the_checkpoint(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    words = (
        r"the hub cannot be reached \(ConnectError\), and this machine's cache, .* does not have it: check the network"
    )
    with pytest.raises(WeightsError, match=words):
        find_checkpoint("someone/tiny")


def test_digests_of_checkpoints_stay_as_they_are(tiny_checkpoint: Path) -> None:
    """Runs are resumed by them."""
    assert digest(find_checkpoint(BUILTIN).directory) == "ef3e4de6a719e33aa12b7e70855edbf4"
    assert digest(tiny_checkpoint) == "94e3e2128d8566bfe7338a202598b757"


def test_a_digest_passes_directories_and_names_what_cannot_be_read(tiny_checkpoint: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))
    (copy / "runs.json").mkdir()
    assert digest(copy) == digest(tiny_checkpoint)
    (copy / "extra.json").symlink_to("nowhere")
    with pytest.raises(WeightsError, match=r"extra\.json cannot be read \(No such file or directory\)"):
        digest(copy)


def test_a_digest_depends_on_contents_and_names_and_on_nothing_else(tiny_checkpoint: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))
    assert digest(copy) == digest(tiny_checkpoint)
    (copy / "README.md").write_text("not part of the model")
    assert digest(copy) == digest(tiny_checkpoint)

    seen = {digest(copy)}
    config = copy / "config.json"
    config.write_text(config.read_text().replace("500000", "500001"))
    seen.add(digest(copy))
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    seen.add(digest(copy))
    (copy / "vqvae" / "diffusion_pytorch_model.safetensors").rename(copy / "vqvae" / "model.safetensors")
    seen.add(digest(copy))
    assert len(seen) == 4


def test_a_digest_of_a_large_file_looks_at_samples_of_it(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(65 * 2**20)  # sparse
    before = digest(tmp_path)
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    assert digest(tmp_path) != before
