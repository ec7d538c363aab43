"""Small models and small data with a known answer."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from curator.backends.classical import FumiTosiLiF
from curator.datasets.extxyz import read_own_records, write_records
from curator.datasets.frame import Frame, frame_from_atoms
from curator.datasets.label import Label, Provenance, Record
from curator.learners.architecture import Architecture, Head, build_module
from curator.learners.mace import MaceModel

torch.set_num_threads(1)

SMALL = Architecture(
    atomic_numbers=(3, 9, 11),
    r_max=3.5,
    heads=(Head("target", (-1.25, -3.5, -0.75), scale=1.5, shift=0.1),),
    avg_num_neighbors=18.0,
    hidden_irreps="8x0e",
    mlp_irreps="4x0e",
    radial_mlp=(8,),
    pair_repulsion=True,
)


def lif(n_extra: int = 0, rattle: float = 0.1, seed: int = 0, a: float = 4.0) -> Atoms:
    """Rattled conventional cell of LiF, with lithium interstitials."""
    atoms = bulk("LiF", "rocksalt", a=a, cubic=True)
    for site in np.array([[1.0, 1.0, 1.0], [3.0, 3.0, 1.0]])[:n_extra]:
        atoms.append("Li")
        atoms.positions[-1] = site
    atoms.rattle(rattle, seed=seed)
    return atoms


@pytest.fixture(scope="session")
def frames() -> list[Frame]:
    return [frame_from_atoms(lif(n_extra=n, seed=n)) for n in (0, 1, 2)]


@pytest.fixture(scope="session")
def model() -> MaceModel:
    return MaceModel(SMALL, build_module(SMALL, seed=3))


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    def make(atoms: Atoms, energy: float, *, group: str = "g", reason: str = "random") -> Record:
        label = Label(energy, np.zeros((len(atoms), 3)), None, "test")
        return Record(frame_from_atoms(atoms), label, Provenance(0, "test", group, "train", reason))

    return make


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """LiF with and without an interstitial, labelled by the Fumi-Tosi potential, as they come back from a file."""
    labelled = []
    for seed in range(16):
        atoms = lif(n_extra=seed % 2, seed=seed, a=4.0 + 0.1 * (seed % 3))
        atoms.calc = FumiTosiLiF()
        label = Label(atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(), "lif-fumi-tosi")
        provenance = Provenance(0, "rattled", f"seed-{seed}", "train", "random")
        labelled.append(Record(frame_from_atoms(atoms), label, provenance))
    path = tmp_path_factory.mktemp("records") / "records.extxyz"
    write_records(path, labelled)
    return read_own_records(path)
