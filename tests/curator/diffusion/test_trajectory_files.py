"""The same walk from every format, and files that are no trajectories."""

from pathlib import Path

import h5py
import kmc
import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from ase.io.vasp import write_vasp_xdatcar

from curator.diffusion.measurement import diffusivity_of_positions
from curator.diffusion.trajectory_files import load_positions


@pytest.fixture(scope="module")
def positions() -> np.ndarray:
    return kmc.collinear(np.random.default_rng(3), 0.5, 30, 0.1)


def images_of(positions: np.ndarray) -> list[Atoms]:
    """Wrapped into the cell, as most codes write them."""
    return [Atoms(kmc.NUMBERS, frame % kmc.CELL[0, 0], cell=kmc.CELL, pbc=True) for frame in positions]


def write_lammps(path: Path, images: list[Atoms], *, with_elements: bool = False) -> None:
    """As ``dump custom id type [element] x y z`` writes it, in the order of another frame each time."""
    rng = np.random.default_rng(0)
    symbols = images[0].get_chemical_symbols()
    lines = []
    for step, image in enumerate(images):
        length = image.cell.lengths()
        bounds = [f"0.0 {side}" for side in length]
        columns = "id type element x y z" if with_elements else "id type x y z"
        lines += ["ITEM: TIMESTEP", str(step), "ITEM: NUMBER OF ATOMS", str(len(image))]
        lines += ["ITEM: BOX BOUNDS pp pp pp", *bounds, f"ITEM: ATOMS {columns}"]
        for atom in rng.permutation(len(image)):
            kind = "1" if symbols[atom] == "Li" else "2"
            kind += f" {symbols[atom]}" if with_elements else ""
            lines.append(f"{atom + 1} {kind} " + " ".join(f"{x:.8f}" for x in image.positions[atom]))
    path.write_text("\n".join(lines) + "\n")


def write_h5md(path: Path, images: list[Atoms], *, species: np.ndarray, scale: float = 1.0, unit: str = "") -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("particles/all")
        value = group.create_dataset("position/value", data=np.array([image.positions for image in images]) * scale)
        if unit:
            value.attrs["unit"] = unit
        group["species"] = species
        group["box/edges/value"] = np.array([image.cell.lengths() for image in images]) * scale
        group["box"].attrs["boundary"] = [b"periodic"] * 3


def check(path: Path, positions: np.ndarray, elements: list[str] | None = None) -> None:
    loaded = load_positions(path, elements)
    assert (loaded.numbers == kmc.NUMBERS).all()
    assert loaded.pbc.all()
    found, expected = (
        diffusivity_of_positions(given, kmc.NUMBERS, kmc.CELL, 100.0, mobile="Li", tracer=False)
        for given in (loaded.positions, positions)
    )
    assert found.msd.msd_A2 == pytest.approx(expected.msd.msd_A2, rel=1e-4)


@pytest.mark.parametrize("name", ["run.extxyz", "run.traj", "XDATCAR"])
def test_formats_of_ase(tmp_path: Path, positions: np.ndarray, name: str):
    if name == "XDATCAR":
        write_vasp_xdatcar(tmp_path / name, images_of(positions))
    else:
        write(tmp_path / name, images_of(positions))
    check(tmp_path / name, positions)


def test_lammps_dumps(tmp_path: Path, positions: np.ndarray):
    path = tmp_path / "run.lammpstrj"
    write_lammps(path, images_of(positions))
    check(path, positions, ["Li", "F"])
    with pytest.raises(ValueError, match="names types and no elements; say which they are: --elements"):
        load_positions(path)
    with pytest.raises(ValueError, match="has types 1 to 2; --elements names 1"):
        load_positions(path, ["Li"])
    with pytest.raises(ValueError, match="'Xx' is not the symbol"):
        load_positions(path, ["Li", "Xx"])
    write_lammps(path, images_of(positions), with_elements=True)
    check(path, positions)


def test_h5md(tmp_path: Path, positions: np.ndarray):
    images, types = images_of(positions), np.where(kmc.NUMBERS == 3, 1, 2)
    path = tmp_path / "run.h5md"
    write_h5md(path, images, species=types)
    check(path, positions, ["Li", "F"])
    write_h5md(path, images, species=types, scale=0.1, unit="nm")
    check(path, positions, ["Li", "F"])
    write_h5md(path, images, species=types, unit="furlong")
    with pytest.raises(ValueError, match="positions are in furlong"):
        load_positions(path, ["Li", "F"])
    with h5py.File(path, "w"):
        pass
    with pytest.raises(ValueError, match="has no particles; is it H5MD"):
        load_positions(path)


def test_what_changes_on_the_way_is_refused(tmp_path: Path, positions: np.ndarray):
    images = images_of(positions[:6])
    path = tmp_path / "run.extxyz"
    images[4].cell[0, 0] += 0.1
    write(path, images)
    with pytest.raises(ValueError, match=r"the cell of frame 4 .* needs a fixed cell, run it at constant volume"):
        load_positions(path)
    write_h5md(tmp_path / "run.h5", images, species=np.where(kmc.NUMBERS == 3, 1, 2))
    with pytest.raises(ValueError, match="the cell of frame 4"):
        load_positions(tmp_path / "run.h5", ["Li", "F"])
    write(path, [images[0], images[1][::-1]])
    with pytest.raises(ValueError, match=r"frame 1 has other atoms"):
        load_positions(path)
    write(path, images[0])
    with pytest.raises(ValueError, match="holds 1 frames"):
        load_positions(path)


def test_files_that_are_no_trajectories(tmp_path: Path):
    with pytest.raises(ValueError, match=r"missing\.extxyz cannot be read"):
        load_positions(tmp_path / "missing.extxyz")
    for name in ("broken.extxyz", "broken.h5"):
        (tmp_path / name).write_text("3\nnonsense\nLi 0 0\n")
        with pytest.raises(ValueError, match=rf"{name} cannot be read"):
            load_positions(tmp_path / name)
