"""Foundation models: the embedded one, those of the MACE project, and a user's own."""

from pathlib import Path

import torch

from curator.datasets.digest import sha256_of
from curator.datasets.mini_halides.frames import folder_of
from curator.learners.download import download
from curator.learners.mace import TARGET, MaceModel, from_module, keep_head, load_model
from curator.learners.reference import MINI_HALIDES, is_mini_halides, split_head

__all__ = ["MINI_HALIDES", "load_foundation"]


def load_foundation(reference: str, *, trust: bool = False, device: str = "auto") -> MaceModel:
    """Load a model to start from.

    Parameters
    ----------
    reference
        ``mini-halides`` or one of its smaller editions, such as ``mini-halides:0.3.0-small``; ``mace:<name>`` for a
        model of the MACE project, such as ``mace:medium-mpa-0``, downloaded once and kept in mace's cache; the path
        of a folder that ``MaceModel.save`` wrote; or the path of a ``.model`` file. ``#<head>`` at the end chooses a
        head of a model that has several.
    trust
        Whether a ``.model`` file may be loaded. It is a pickle: loading it runs whatever code is in it.
    device
        ``cpu``, ``cuda`` or ``auto``.

    Raises
    ------
    ValueError
        If the model or its head is unknown, missing, cannot be downloaded, or would have to be trusted.
    """
    name, head = split_head(reference)
    path = Path(name)
    if is_mini_halides(name):
        folder = folder_of(name)
        if not (folder / "model.safetensors").is_file():
            raise ValueError(f"the embedded model {name} is missing from this installation; install it again")
        model = load_model(folder)
    elif name.startswith("mace:"):
        model = _import(download(name.removeprefix("mace:")), name, head)
    elif path.is_dir():
        model = load_model(path)
    elif not path.is_file():
        raise ValueError(
            f"no foundation model {name!r}: it is not {MINI_HALIDES}, not mace:<name>, and there is no such path"
        )
    elif not trust:
        raise ValueError(
            f"{path} is a pickle (SHA-256 {sha256_of(path)[:16]}...); loading it would run the code in it.\n"
            "If you know where it comes from, say so with --trust"
        )
    else:
        model = _import(path, path.name, head)
    return _with_head(model, name, head).to(device)


def _with_head(model: MaceModel, name: str, head: str | None) -> MaceModel:
    if head is None or model.heads == (head,):
        return model
    if head not in model.heads:
        raise ValueError(f"{name} has no head {head!r}; it has {', '.join(model.heads)}")
    return keep_head(model, head)


def _import(path: Path, name: str, head: str | None) -> MaceModel:
    try:
        module = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise ValueError(f"{path} cannot be loaded as a MACE model: {type(error).__name__}: {error}") from error
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"{path} holds no MACE model but a {type(module).__name__}; give the .model file")
    model = from_module(module.float(), {"imported": name, "sha256": sha256_of(path)})
    if head is None and len(model.heads) > 1 and model.head != TARGET:
        heads = ", ".join(model.heads)
        raise ValueError(f"{name} has the heads {heads}; choose one, such as {name}#{model.heads[0]}")
    return model
