"""Labels from universal potentials: CHGNet, whose weights come inside its wheel, and any MACE model."""

import contextlib
import importlib.metadata
import importlib.util
import io
import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress
from pymatgen.core import Structure

from curator.backends.calculator import WholeCalculator
from curator.datasets.digest import sha256_of
from curator.datasets.label import Theory
from curator.learners.device import device_of
from curator.learners.reference import split_head

if TYPE_CHECKING:
    from curator.learners.mace import MaceModel

_cached_sha256 = lru_cache(maxsize=16)(sha256_of)

CHGNET_MODELS: tuple[str, ...] = ("r2scan", "0.3.0", "0.2.0")
"""Versions of CHGNet, best level of theory first: r2SCAN, and two trained on GGA/GGA+U."""
CHGNET_CUTOFF_A: float = 6.0


class ChgnetCalculator(WholeCalculator):
    """CHGNet with energy, forces and stress, about three times faster than CHGNet's own calculator.

    CHGNet is asked for the energy alone, and one backward pass through fractional coordinates ``s`` and lattice ``L``
    gives the rest: with ``r = s L``, forces are ``-(dE/ds) L^-T`` and the stress is ``L^T (dE/dL) / V``. Its own
    route takes two passes that keep their graphs for a second derivative, and predicts magnetic moments besides.

    Parameters
    ----------
    version
        One of `CHGNET_MODELS`.
    device
        ``cpu``, ``cuda``, or ``auto`` for the best there is.

    Raises
    ------
    ValueError
        If the version is unknown, or at a calculation if the cell is not periodic in three directions.

    References
    ----------
    B. Deng et al., Nat. Mach. Intell. 5, 1031 (2023): CHGNet.
    X. Huang et al., Cross-functional transferability in foundation machine learning interatomic potentials,
    npj Comput. Mater. (2025): r2SCAN.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, version: str, device: str = "auto", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._model = _load_chgnet(version, device)
        self._device = next(self._model.parameters()).device

    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        """Energy, forces and stress of ``atoms``."""
        if not atoms.pbc.all():
            raise ValueError("CHGNet needs a cell that is periodic in three directions; put the atoms in one")
        # Wrapped, because single precision counts from the origin.
        structure = Structure(
            atoms.cell.array,
            atoms.get_chemical_symbols(),
            atoms.positions,
            coords_are_cartesian=True,
            to_unit_cell=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            graph = self._model.graph_converter(structure).to(self._device)
            energy = len(atoms) * self._model([graph], task="e")["e"].sum()
        by_position, by_lattice = torch.autograd.grad(energy, [graph.atom_frac_coord, graph.lattice])
        lattice = atoms.cell.array
        return {
            "energy": float(energy.detach()),
            "free_energy": float(energy.detach()),
            "forces": -_numpy(by_position) @ np.linalg.inv(lattice).T,
            "stress": full_3x3_to_voigt_6_stress(lattice.T @ _numpy(by_lattice) / atoms.get_volume()),
        }


def chgnet_theory(version: str) -> Theory:
    """Level of theory of a version of CHGNet, told apart by the SHA-256 of its weights file."""
    return Theory(
        method=f"chgnet-{version}",
        code="chgnet",
        settings={"dtype": "float32"},
        hashes={"weights": _cached_sha256(_chgnet_weights(version))},
        versions={"chgnet": importlib.metadata.version("chgnet")},
    )


@lru_cache(maxsize=4)
def load_mace(reference: str, device: str = "auto", trust: bool = False) -> "MaceModel":
    """MACE model that serves as a labeller; see `curator.learners.foundation.load_foundation`."""
    from curator.learners.foundation import load_foundation

    return load_foundation(reference, trust=trust, device=device)


def mace_theory(reference: str, model: "MaceModel") -> Theory:
    """Level of theory of a MACE model, told apart by the hash of its weights."""
    name, head = split_head(reference)
    if ":" not in name and Path(name).exists():
        name = f"mace:{Path(name).stem}"
    return Theory(
        method=name.replace(":", "-") + (f"-{head}" if head else ""),
        code="mace",
        hashes={"weights": model.hash},
        versions={"mace-torch": importlib.metadata.version("mace-torch")},
    )


def _chgnet_weights(version: str) -> Path:
    spec = importlib.util.find_spec("chgnet")
    if version not in CHGNET_MODELS or spec is None or spec.origin is None:
        raise ValueError(f"no CHGNet model {version!r}; there are {', '.join(CHGNET_MODELS)}")
    (weights,) = (Path(spec.origin).parent / "pretrained" / version).glob("*.pth.tar")
    return weights


@lru_cache(maxsize=4)
def _load_chgnet(version: str, device: str) -> Any:
    _chgnet_weights(version)
    # CHGNet announces itself on standard output, which may belong to a program that reads JSON.
    with contextlib.redirect_stdout(io.StringIO()):
        from chgnet.model.model import CHGNet

        model = CHGNet.load(model_name=version, use_device=str(device_of(device)), verbose=False)
    # Without gradients of weights nothing but the positions and the lattice keeps a graph alive.
    return model.eval().requires_grad_(False)


def _numpy(tensor: torch.Tensor) -> Any:
    return tensor.detach().cpu().double().numpy()
