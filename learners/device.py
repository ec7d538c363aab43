"""The device that models run on."""

import os

import torch


def device_of(name: str | torch.device) -> torch.device:
    """Device of a name; ``auto`` is the GPU where there is one.

    PyTorch adds up in a fixed order on a GPU from then on, so that the same frames have the same energies, and the
    same data and seed the same weights, to the last bit. It costs no time that could be measured.

    Parameters
    ----------
    name
        ``cpu``, ``cuda``, ``cuda:1``, ... or ``auto``.

    Raises
    ------
    ValueError
        If it is ``cuda`` and there is no GPU that PyTorch can use.
    """
    available = torch.cuda.is_available()
    device = torch.device(("cuda" if available else "cpu") if name == "auto" else name)
    if device.type != "cuda":
        return device
    if not available:
        raise ValueError("there is no GPU here that PyTorch can use; choose auto or cpu")
    # cuBLAS reads this when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
