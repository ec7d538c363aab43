"""Foundation models: the embedded one, those of the MACE project, and a user's own."""

import contextlib
import hashlib
import sys
import urllib.error
from importlib.resources import files
from pathlib import Path

import torch

from curator.learners.mace import MaceModel, from_module, keep_head, load_model

MINI_HALIDES = "mini-halides"


def load_foundation(reference: str, *, trust: bool = False, device: str = "auto") -> MaceModel:
    """Load a model to start from.

    Parameters
    ----------
    reference
        ``mini-halides``; ``mace:<name>`` for a model of the MACE project, such as ``mace:medium-mpa-0``, downloaded
        once and kept in mace's cache; the path of a folder that ``MaceModel.save`` wrote; or the path of a
        ``.model`` file. ``#<head>`` at the end chooses a head of a model that has several.
    trust
        Whether a ``.model`` file may be loaded. It is a pickle: loading it runs whatever code is in it.
    device
        ``cpu``, ``cuda`` or ``auto``.

    Raises
    ------
    ValueError
        If the model is unknown, missing, cannot be downloaded, or would have to be trusted.
    """
    reference, _, chosen = reference.partition("#")
    head = chosen or None
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if reference == MINI_HALIDES:
        folder = Path(str(files("curator.datasets.mini_halides")))
        if not (folder / "model.safetensors").is_file():
            raise ValueError(f"the embedded model {MINI_HALIDES} is missing from this installation; install it again")
        return load_model(folder, device=device)
    if reference.startswith("mace:"):
        name = reference.removeprefix("mace:")
        model = _import(_download(name), reference, head)
        return model.to(device)
    path = Path(reference)
    if path.is_dir():
        return load_model(path, device=device)
    if not path.is_file():
        raise ValueError(
            f"no foundation model {reference!r}: it is not {MINI_HALIDES}, not mace:<name>, and there is no such path"
        )
    if not trust:
        raise ValueError(
            f"{path} is a pickle (SHA-256 {_sha256(path)[:16]}...); loading it would run the code in it.\n"
            "If you know where it comes from, say so with --trust"
        )
    return _import(path, str(path.name), head).to(device)


def _import(path: Path, name: str, head: str | None) -> MaceModel:
    try:
        module = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise ValueError(f"{path} cannot be loaded as a MACE model: {type(error).__name__}: {error}") from error
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"{path} holds no MACE model but a {type(module).__name__}; give the .model file")
    model = from_module(module.float(), {"imported": name, "sha256": _sha256(path)})
    if head is None and len(model.heads) > 1 and model.head != "target":
        heads = ", ".join(model.heads)
        raise ValueError(f"{name} has the heads {heads}; choose one, such as {name}#{model.heads[0]}")
    return model if head is None else keep_head(model, head)


def _download(name: str) -> Path:
    """Path of a model of the MACE project, fetched from where mace itself fetches it."""
    from mace.calculators.foundations_models import download_mace_mp_checkpoint, mace_mp_urls

    if name not in mace_mp_urls:
        raise ValueError(f"no model {name!r} in the MACE project; there are {', '.join(mace_mp_urls)}")
    try:
        # mace prints to standard output, which may belong to a program that reads JSON.
        with contextlib.redirect_stdout(sys.stderr):
            return Path(download_mace_mp_checkpoint(name))
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise ValueError(
            f"mace:{name} is not in the cache and could not be downloaded ({error}).\n"
            f"Fetch {mace_mp_urls[name]} elsewhere and give its path with --trust, or use {MINI_HALIDES}"
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
