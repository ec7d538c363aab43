"""The model for LAMMPS, called as ``pair_style mace`` calls it, against our own predictions."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matscipy.neighbours import neighbour_list

from curator.datasets.frame import Frame
from curator.learners.architecture import Head, build_module
from curator.learners.base import Prediction
from curator.learners.foundation import load_foundation
from curator.learners.lammps import export_lammps_model
from curator.learners.mace import MaceModel, export_model

pytestmark = pytest.mark.filterwarnings("ignore:The TorchScript type system")


def as_lammps_calls_it(path: Path, frame: Frame) -> Prediction:
    """Energy, forces and stress from the graph that LAMMPS builds of a periodic cell."""
    script = torch.jit.load(path)
    i, j, unit_shifts = neighbour_list(
        "ijS", positions=frame.positions, cell=frame.cell, pbc=frame.pbc, cutoff=float(script.r_max)
    )
    elements = script.atomic_numbers.tolist()
    double = {"dtype": torch.float64}
    graph = {
        "batch": torch.zeros(len(frame), dtype=torch.int64),
        "cell": torch.tensor(frame.cell, **double),
        "edge_index": torch.tensor(np.stack([i, j]), dtype=torch.int64),
        "energy": torch.empty(1, **double),
        "forces": torch.empty((len(frame), 3), **double),
        "node_attrs": torch.eye(len(elements), **double)[[elements.index(number) for number in frame.numbers]],
        "positions": torch.tensor(frame.positions, **double),
        "ptr": torch.tensor([0, len(frame)]),
        "shifts": torch.tensor(unit_shifts @ frame.cell, **double),
        "unit_shifts": torch.tensor(unit_shifts, **double),
        "weight": torch.ones(1, **double),
    }
    out = script(graph, torch.ones(len(frame), dtype=torch.bool), True)
    virial = (out["virials"][0] + out["virials"][0].T).detach().numpy() / 2
    stress = -virial[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] / abs(np.linalg.det(frame.cell))
    return Prediction(float(out["total_energy_local"].detach()), out["forces"].detach().numpy(), stress)


def check_same(found: Prediction, expected: Prediction) -> None:
    # The module holds atomic energies in the precision it was trained in, single; forces know nothing of them.
    assert found.energy == pytest.approx(expected.energy, rel=float(np.finfo(np.float32).eps))
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-9)
    np.testing.assert_allclose(found.stress, expected.stress, atol=1e-11)


@pytest.mark.parametrize("name", ["target", "replay"])
def test_it_is_the_head_that_predicts(name: str, model: MaceModel, frames: list[Frame], tmp_path: Path) -> None:
    heads = (*model.architecture.heads, Head("replay", (-2.0, -4.0, -1.5), scale=0.9, shift=-0.2))
    architecture = dataclasses.replace(model.architecture, heads=heads)
    head = MaceModel(architecture, build_module(architecture, seed=5)).with_head(name)
    export_lammps_model(head, tmp_path / "model-lammps.pt")
    for frame, expected in zip(frames, head.double().predict(frames, ("energy", "forces", "stress")), strict=True):
        check_same(as_lammps_calls_it(tmp_path / "model-lammps.pt", frame), expected)


def test_it_is_what_the_converter_of_mace_makes(frames: list[Frame], tmp_path: Path) -> None:
    model = load_foundation("mini-halides", device="cpu")
    export_lammps_model(model, tmp_path / "ours.pt")
    export_model(model, tmp_path / "their.model")
    converter = [sys.executable, "-m", "mace.cli.create_lammps_model", str(tmp_path / "their.model")]
    subprocess.run(converter, check=True, capture_output=True)
    expected = model.double().predict(frames, ("energy", "forces", "stress"))
    for frame, prediction in zip(frames, expected, strict=True):
        check_same(as_lammps_calls_it(tmp_path / "their.model-lammps.pt", frame), prediction)
        check_same(as_lammps_calls_it(tmp_path / "ours.pt", frame), prediction)
