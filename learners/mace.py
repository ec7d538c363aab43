"""MACE as a learner's model: prediction, an ASE calculator, and files that run no code when they are loaded."""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from curator.datasets.atomic import atomic_path, write_atomically
from curator.datasets.frame import Frame
from curator.learners.architecture import (
    Architecture,
    architecture_from_json,
    architecture_of,
    build_module,
    invariant_columns,
    load_state,
    with_heads,
)
from curator.learners.base import Prediction, Want
from curator.learners.convolution import accelerate
from curator.learners.device import device_of
from curator.learners.graphs import Graph, build_graph, collate, frame_graph

FORMAT = 1
TARGET, REPLAY = "target", "replay"


class MaceModel:
    """A MACE model with one head or several; predictions come from ``head``.

    Energies are put together outside the module, in double precision, from the atomic energies of the architecture
    and the module's interaction energy: 65 atoms at -300 eV would be rounded to 0.03 meV in single precision.

    Attributes
    ----------
    architecture
        All that builds the module, with the E0s of each head.
    module
        ``mace.modules.ScaleShiftMACE`` in evaluation mode, its parameters frozen, its convolutions accelerated.
    head
        Head that predicts: ``target`` where there is one, else the first.
    metadata
        JSON values that do not change the numbers: base model, strategy, data, versions.
    """

    def __init__(
        self,
        architecture: Architecture,
        module: torch.nn.Module,
        metadata: Mapping[str, object] = MappingProxyType({}),
        head: str | None = None,
    ) -> None:
        if head is None:
            head = TARGET if TARGET in architecture.head_names else architecture.head_names[0]
        elif head not in architecture.head_names:
            raise ValueError(f"no head {head!r}; the model has {', '.join(architecture.head_names)}")
        accelerate(module)
        self.architecture = architecture
        self.module = module.eval().requires_grad_(False)
        self.metadata = metadata
        self.head = head

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers it knows, ascending."""
        return self.architecture.atomic_numbers

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of its heads."""
        return self.architecture.head_names

    @property
    def r_max(self) -> float:
        """Cutoff in Å."""
        return self.architecture.r_max

    @property
    def dtype(self) -> torch.dtype:
        """Precision of its weights."""
        return next(self.module.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.module.parameters()).device

    @cached_property
    def hash(self) -> str:
        """SHA-256 over architecture, predicting head and weights, 64 hexadecimal digits."""
        digest = hashlib.sha256()
        digest.update(json.dumps([dataclasses.asdict(self.architecture), self.head], sort_keys=True).encode())
        for name, tensor in sorted(self.module.state_dict().items()):
            array = tensor.detach().cpu().contiguous().numpy()
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def e0s(self) -> dict[int, float]:
        """Atomic energies in eV of the predicting head, by atomic number."""
        values = self.architecture.heads[self.heads.index(self.head)].e0s_eV
        return dict(zip(self.elements, values, strict=True))

    def with_head(self, head: str) -> "MaceModel":
        """Let another head predict; weights are shared."""
        return MaceModel(self.architecture, self.module, self.metadata, head)

    def double(self) -> "MaceModel":
        """Copy in double precision, for tight relaxations."""
        return MaceModel(self.architecture, copy.deepcopy(self.module).double(), self.metadata, self.head)

    def to(self, device: str | torch.device) -> "MaceModel":
        """Copy on another device (see `device_of`), or the model itself if it is there already."""
        there = device_of(device)
        if there == self.device:
            return self
        return MaceModel(self.architecture, copy.deepcopy(self.module).to(there), self.metadata, self.head)

    def graph(self, frame: Frame) -> Graph:
        """Graph of a frame as this model reads it."""
        return frame_graph(frame, elements=self.elements, r_max=self.r_max)

    def predict(
        self, frames: Sequence[Frame], want: Sequence[Want] = ("energy", "forces"), *, batch_size: int = 8
    ) -> list[Prediction]:
        """Predictions in the order of ``frames``; node features come free with the forces.

        Stress is None for a frame that is not periodic in three dimensions.

        Raises
        ------
        ValueError
            If a frame holds an element that the model does not know.
        """
        predictions: list[Prediction] = []
        for start in range(0, len(frames), batch_size):
            graphs = [self.graph(frame) for frame in frames[start : start + batch_size]]
            predictions += self.predict_graphs(graphs, want)
        return predictions

    def predict_graphs(self, graphs: Sequence[Graph], want: Sequence[Want] = ("energy", "forces")) -> list[Prediction]:
        """Predictions of graphs in one batch; members of a committee with one cutoff can share them."""
        wants_stress = "stress" in want
        wants_forces = "forces" in want or wants_stress
        head = self.heads.index(self.head)
        batch = collate(
            graphs, [head] * len(graphs), n_elements=len(self.elements), dtype=self.dtype, device=self.device
        )
        with torch.set_grad_enabled(wants_forces):
            out = self.module(batch, compute_force=wants_forces, compute_stress=wants_stress)
        sizes = [graph.n_atoms for graph in graphs]
        ends = np.cumsum(sizes)[:-1]
        e0s = self.architecture.e0_table()[head]
        interaction = _numpy(out["interaction_energy"])
        energies = [
            float(e) + float(e0s[g.element_idx.numpy()].sum()) for e, g in zip(interaction, graphs, strict=True)
        ]
        nothing = [None] * len(graphs)
        forces = np.split(_numpy(out["forces"]), ends) if wants_forces else nothing
        stress = (
            [
                full_3x3_to_voigt_6_stress(s) if g.periodic else None
                for s, g in zip(_numpy(out["stress"]), graphs, strict=True)
            ]
            if (wants_stress)
            else nothing
        )
        features: Sequence[NDArray[np.float32] | None] = nothing
        if "node_features" in want:
            invariant = out["node_feats"][:, self._invariant_idx]
            features = np.split(invariant.detach().cpu().numpy().astype(np.float32), ends)
        return [Prediction(*values) for values in zip(energies, forces, stress, features, strict=True)]

    def calculator(self) -> "MaceCalculator":
        """ASE calculator with energy, forces and stress."""
        return MaceCalculator(self)

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``model.json`` to ``folder``; nothing in them runs code when loaded."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.module.state_dict().items()}
        write_atomically(folder / "model.safetensors", save(state))
        description = {
            "format": FORMAT,
            "hash": self.hash,
            "head": self.head,
            "architecture": dataclasses.asdict(self.architecture),
            "metadata": dict(self.metadata),
        }
        write_atomically(folder / "model.json", json.dumps(description, indent=1) + "\n")

    @cached_property
    def _invariant_idx(self) -> torch.Tensor:
        return torch.tensor(invariant_columns(self.module), device=self.device)


class MaceCalculator(Calculator):  # type: ignore[misc]
    """ASE calculator of a ``MaceModel``.

    Stress is calculated only if it is asked for. ``results["node_features"]`` holds the invariant node features,
    which come with the forces at no cost.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, model: MaceModel) -> None:
        super().__init__()
        self.model = model

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy", "forces"),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Energy and forces of ``atoms``; their stress if ``properties`` names it."""
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        model = self.model
        graph = build_graph(
            atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, elements=model.elements, r_max=model.r_max
        )
        want: tuple[Want, ...] = ("energy", "forces", "node_features")
        if "stress" in properties:
            if not graph.periodic:
                raise ValueError(f"stress needs periodicity in three dimensions; pbc is {atoms.pbc.tolist()}")
            want = (*want, "stress")
        (prediction,) = model.predict_graphs([graph], want)
        self.results = {
            "energy": prediction.energy,
            "free_energy": prediction.energy,
            "forces": prediction.forces,
            "node_features": prediction.node_features,
        }
        if prediction.stress is not None:
            self.results["stress"] = prediction.stress


def load_model(folder: Path, *, device: str = "cpu") -> MaceModel:
    """Model that ``MaceModel.save`` wrote.

    Raises
    ------
    ValueError
        If the folder holds no such model, its weights do not fit its description, or they are not those that were
        saved.
    """
    folder = Path(folder)
    weights, description = folder / "model.safetensors", folder / "model.json"
    if not (weights.is_file() and description.is_file()):
        inside = ", ".join(sorted(str(path.parent) for path in folder.glob("*/model.json")))
        expected = "model.safetensors and model.json are expected there"
        raise ValueError(f"no model in {folder}: {f'name one of those inside, {inside}' if inside else expected}")
    try:
        values = json.loads(description.read_text())
        found = values["format"]
        architecture = architecture_from_json(values["architecture"]) if found == FORMAT else None
        metadata, head, expected = values["metadata"], values["head"], values["hash"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{description} does not describe a model: {type(error).__name__}: {error}") from error
    if architecture is None:
        raise ValueError(f"{description} has format {found!r}; this version of curator reads {FORMAT}")
    try:
        state = load_file(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights} is damaged ({error}); copy it again") from error
    module = build_module(architecture, dtype=next(t.dtype for t in state.values() if t.is_floating_point()))
    load_state(module, state)
    model = MaceModel(architecture, module, metadata, head)
    if model.hash != expected:
        raise ValueError(f"the weights in {folder} are not those that model.json describes; copy both files again")
    return model.to(device)


def from_module(module: torch.nn.Module, metadata: Mapping[str, object] = MappingProxyType({})) -> MaceModel:
    """Model of a module that mace made; the module itself is not kept.

    Raises
    ------
    ValueError
        If it is not a ``ScaleShiftMACE``.
    """
    architecture = architecture_of(module)
    dtype = next(module.parameters()).dtype
    own = build_module(architecture, dtype=dtype)
    load_state(own, module.state_dict())
    return MaceModel(architecture, own, metadata)


def keep_head(model: MaceModel, head: str) -> MaceModel:
    """Copy with one head only."""
    module, architecture = with_heads(model.module, model.architecture, [model.heads.index(head)], [head])
    return MaceModel(architecture, module, model.metadata)


def export_model(model: MaceModel, path: Path) -> None:
    """Write a ``.model`` file of the predicting head that mace's own ``MACECalculator`` loads."""
    with atomic_path(Path(path)) as aside:
        module, _ = with_heads(model.module, model.architecture, [model.heads.index(model.head)], ["Default"])
        torch.save(module.cpu(), aside)


def _numpy(tensor: torch.Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = tensor.detach().cpu().numpy().astype(np.float64)
    return array
