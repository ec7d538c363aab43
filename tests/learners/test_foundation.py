import os
import urllib.error
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mace.calculators.foundations_models import mace_mp_urls

from curator.datasets.frame import Frame
from curator.datasets.mini_halides.frames import GENERATIONS
from curator.datasets.notice import Notice
from curator.learners import download
from curator.learners.architecture import with_heads
from curator.learners.foundation import load_foundation
from curator.learners.mace import MaceModel, export_model


@pytest.fixture
def exported(model: MaceModel, tmp_path: Path) -> Path:
    export_model(model, tmp_path / "theirs.model")
    return tmp_path / "theirs.model"


def test_folder_of_ours(model: MaceModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    assert load_foundation(str(tmp_path), device="cpu").hash == model.hash


def test_pickle_needs_trust(exported: Path, model: MaceModel, frames: list[Frame]) -> None:
    with pytest.raises(ValueError, match=r"would run the code in it\.\n.*--trust"):
        load_foundation(str(exported))
    loaded = load_foundation(str(exported), trust=True, device="cpu")
    np.testing.assert_allclose(loaded.predict(frames)[0].forces, model.predict(frames)[0].forces, atol=1e-6)
    assert loaded.metadata["imported"] == "theirs.model"


def test_code_in_an_untrusted_pickle_does_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    torch.save(Bomb(), tmp_path / "bomb.model")
    with pytest.raises(ValueError, match="is a pickle"):
        load_foundation(str(tmp_path / "bomb.model"))
    assert not (tmp_path / "exploded").exists()


def test_head_of_several_must_be_chosen(model: MaceModel, tmp_path: Path, frames: list[Frame]) -> None:
    module, _ = with_heads(model.module, model.architecture, [0, 0], ["pbe", "r2scan"])
    module.scale_shift.scale[1] *= 2
    torch.save(module, tmp_path / "two.model")
    with pytest.raises(ValueError, match=r"two\.model has the heads pbe, r2scan; choose one, such as two\.model#pbe"):
        load_foundation(str(tmp_path / "two.model"), trust=True)
    pbe, r2scan = (load_foundation(f"{tmp_path}/two.model#{head}", trust=True) for head in ("pbe", "r2scan"))
    np.testing.assert_allclose(2 * pbe.predict(frames)[0].forces, r2scan.predict(frames)[0].forces, atol=1e-5)


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no foundation model 'nothing': it is not mini-halides, not mace:<name>"):
        load_foundation("nothing")
    (tmp_path / "junk.model").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"junk\.model cannot be loaded as a MACE model"):
        load_foundation(str(tmp_path / "junk.model"), trust=True)
    with pytest.raises(ValueError, match="no model in"):
        load_foundation(str(tmp_path))


def test_unknown_name_is_told() -> None:
    with pytest.raises(ValueError, match=r"no model 'gigantic' in the MACE project; there are small, medium"):
        load_foundation("mace:gigantic")


def test_without_network_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*args: object, **kwargs: object) -> object:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(ValueError, match=r"could not be downloaded .*\nFetch https://.* or use mini-halides") as caught:
        load_foundation("mace:medium-mpa-0")
    assert len(str(caught.value).splitlines()) == 2


def test_embedded_model_loads_without_download() -> None:
    model = load_foundation("mini-halides", device="cpu")
    assert set(model.elements) >= {3, 9, 11, 17, 19, 35}


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, exported: Path) -> Callable[[str], Path]:
    """Put a model into the cache under the name of one of the MACE project, as if it had been downloaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def put(name: str) -> Path:
        base = mace_mp_urls[name].rsplit("/", 1)[-1]
        path = tmp_path / "cache" / "mace" / "".join(c for c in base if c.isalnum() or c == "_")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(exported.read_bytes())
        return path

    return put


def test_file_with_another_hash_than_the_known_one_is_not_loaded(cached: Callable[[str], Path]) -> None:
    path = cached("small")
    with pytest.raises(ValueError, match=rf"{path.name} is not mace:small: its SHA-256 is .*, not 2ddb079c.*\nRemove"):
        load_foundation("mace:small", device="cpu")


def test_known_hash_lets_a_file_pass(
    cached: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, model: MaceModel, frames: list[Frame]
) -> None:
    path = cached("small")
    monkeypatch.setitem(download.SHA256, "small", download.sha256_of(path))
    loaded = load_foundation("mace:small#Default", device="cpu")
    np.testing.assert_allclose(loaded.predict(frames)[0].forces, model.predict(frames)[0].forces, atol=1e-6)
    assert not list(path.parent.glob("*.sha256"))


def test_hash_of_the_first_download_is_kept_where_none_is_known(cached: Callable[[str], Path]) -> None:
    path = cached("mh-1")
    with pytest.warns(Notice, match=r"no SHA-256 of mace:mh-1 is known; .* will be checked from now on"):
        load_foundation("mace:mh-1", device="cpu")
    assert path.with_name(f"{path.name}.sha256").read_text() == f"{download.sha256_of(path)}  {path.name}\n"
    load_foundation("mace:mh-1", device="cpu")
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="is not mace:mh-1"):
        load_foundation("mace:mh-1", device="cpu")


def test_every_known_hash_is_of_a_model_that_mace_names() -> None:
    assert set(download.SHA256) <= set(mace_mp_urls)
    assert len(set(download.SHA256.values())) == len(download.SHA256)
    assert all(len(digest) == 64 and int(digest, 16) for digest in download.SHA256.values())


def test_editions_share_their_architecture_and_differ_in_their_weights() -> None:
    models = [load_foundation(name, device="cpu") for name in ("mini-halides", *GENERATIONS)]
    kinds = {
        tuple(getattr(m.architecture, name) for name in ("atomic_numbers", "r_max", "hidden_irreps", "correlation"))
        for m in models
    }
    assert len(kinds) == 1
    assert len({sum(p.numel() for p in m.module.parameters()) for m in models}) == 1
    assert len({m.hash for m in models}) == 3


@pytest.mark.parametrize("name", ["mini-halides:0.4.0-small", "mini-halides:", "mini-halides:small#target"])
def test_unknown_edition_lists_those_there_are(name: str) -> None:
    listed = "mini-halides, mini-halides:0.2.0-small, mini-halides:0.3.0-small"
    with pytest.raises(ValueError, match=rf"^no edition .* of mini-halides; there are {listed}$"):
        load_foundation(name)
