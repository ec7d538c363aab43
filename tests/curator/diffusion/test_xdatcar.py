"""XDATCAR as VASP and others write it; the positions are those of the same walk written by ASE."""

from pathlib import Path

import kmc
import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from ase.io.vasp import write_vasp_xdatcar
from pymatgen.core import Lattice, Structure
from pymatgen.core.trajectory import Trajectory

from curator.diffusion.trajectory_files import load_positions

TRICLINIC = np.array([[8.0, 0.0, 0.0], [4.0, 7.0, 0.0], [1.0, 2.0, 9.0]])
N_FRAMES = 6


@pytest.fixture(scope="module")
def images() -> list[Atoms]:
    rng = np.random.default_rng(3)
    symbols = ["Li"] * 3 + ["F"] * 2
    return [Atoms(symbols, scaled_positions=rng.random((5, 3)), cell=TRICLINIC, pbc=True) for _ in range(N_FRAMES)]


def expect(path: Path, images: list[Atoms], atol_A: float = 1e-6) -> None:
    found = load_positions(path)
    np.testing.assert_array_equal(found.numbers, images[0].numbers)
    np.testing.assert_allclose(found.positions, [image.positions for image in images], atol=atol_A)
    np.testing.assert_allclose(found.cell, images[0].cell.array, atol=1e-6)
    assert found.pbc.all()


def rows_of(values: np.ndarray) -> str:
    return "".join(f"{x:12.9f} {y:12.9f} {z:12.9f}\n" for x, y, z in values)


def frames_of(path: Path, images: list[Atoms]) -> list[str]:
    """Header and frames of a run at constant volume, as VASP writes them, and the file itself."""
    head = "LiF\n" + "1.0\n" + rows_of(TRICLINIC) + "Li F\n" + "3 2\n"
    frames = [
        f"Direct configuration= {idx:5d}\n" + rows_of(image.get_scaled_positions())
        for idx, image in enumerate(images, 1)
    ]
    path.write_text(head + "".join(frames))
    return [head, *frames]


@pytest.mark.parametrize("name", ["XDATCAR", "run1.xdatcar", "at 800 K"])
def test_any_name_will_do(tmp_path: Path, images: list[Atoms], name: str):
    frames_of(tmp_path / name, images)
    expect(tmp_path / name, images)


def test_blank_lines_end_nothing(tmp_path: Path, images: list[Atoms]):
    head, *frames = frames_of(tmp_path / "XDATCAR", images)
    (tmp_path / "XDATCAR").write_text(head + "".join(frames[:3]) + "\n\n" + "".join(frames[3:]) + "\n")
    expect(tmp_path / "XDATCAR", images)
    # Two runs in one file, with a blank line between them.
    (tmp_path / "XDATCAR").write_text(head + "".join(frames[:3]) + "\n" + head + "".join(frames[3:]))
    expect(tmp_path / "XDATCAR", images)


def test_a_header_before_each_frame(tmp_path: Path, images: list[Atoms]):
    head, *frames = frames_of(tmp_path / "XDATCAR", images)
    (tmp_path / "XDATCAR").write_text("".join(head + frame for frame in frames))
    expect(tmp_path / "XDATCAR", images)
    wider = head.replace("9.000000", "9.100000")
    (tmp_path / "XDATCAR").write_text(head + frames[0] + wider + frames[1])
    with pytest.raises(ValueError, match="the cell of frame 1 differs from that of frame 0"):
        load_positions(tmp_path / "XDATCAR")
    _, second, third = head.partition("\n")
    (tmp_path / "XDATCAR").write_text(second + third + frames[0] + head.replace("F", "Cl") + frames[1])
    with pytest.raises(ValueError, match="frame 1 has other atoms than frame 0"):
        load_positions(tmp_path / "XDATCAR")


@pytest.mark.parametrize("symbols", ["Li_sv  F_h", "Li/1a2b3c4d F/5e6f7a8b", "Li  F"])
def test_symbols_of_potcars(tmp_path: Path, images: list[Atoms], symbols: str):
    head, *frames = frames_of(tmp_path / "XDATCAR", images)
    lines = head.splitlines()
    assert lines[5].split() == ["Li", "F"]
    lines[5] = symbols
    (tmp_path / "XDATCAR").write_text("\n".join(lines) + "\n" + "".join(frames))
    expect(tmp_path / "XDATCAR", images)


def test_the_scale(tmp_path: Path, images: list[Atoms]):
    head, *frames = frames_of(tmp_path / "XDATCAR", images)
    lines = head.splitlines()
    for scale, stretch in (("2.0", 2.0), (f"{-8 * np.linalg.det(TRICLINIC):.9f}", 2.0)):
        lines[1] = scale
        (tmp_path / "XDATCAR").write_text("\n".join(lines) + "\n" + "".join(frames))
        larger = [Atoms(i.numbers, i.positions * stretch, cell=i.cell * stretch, pbc=True) for i in images]
        expect(tmp_path / "XDATCAR", larger)


def test_cartesian_coordinates(tmp_path: Path, images: list[Atoms]):
    head, *_ = frames_of(tmp_path / "XDATCAR", images)
    blocks = [f"Cartesian configuration= {idx}\n" + rows_of(image.positions) for idx, image in enumerate(images)]
    (tmp_path / "XDATCAR").write_text(head + "".join(blocks))
    expect(tmp_path / "XDATCAR", images)


def test_as_pymatgen_writes_it(tmp_path: Path, images: list[Atoms]):
    structures = [
        Structure(Lattice(image.cell.array), image.get_chemical_symbols(), image.get_scaled_positions())
        for image in images
    ]
    Trajectory.from_structures(structures, constant_lattice=True).write_Xdatcar(tmp_path / "XDATCAR")
    expect(tmp_path / "XDATCAR", images, atol_A=1e-4)


def test_a_frame_that_is_broken_is_named(tmp_path: Path, images: list[Atoms]):
    head, *frames = frames_of(tmp_path / "XDATCAR", images)
    for broken, message in (
        (frames[2].replace("0.", "O.", 1), "frame 2: could not convert"),
        (frames[2].rsplit("\n", 2)[0] + "\n", "frame 2 has 4 coordinates for 5 atoms"),
        (frames[2] + "what is this?\n", "before frame 3 there is no header of VASP 5"),
    ):
        (tmp_path / "XDATCAR").write_text(head + "".join(frames[:2]) + broken + "".join(frames[3:]))
        with pytest.raises(ValueError, match=f"XDATCAR cannot be read as a trajectory: {message}"):
            load_positions(tmp_path / "XDATCAR")


def test_a_walk(tmp_path: Path):
    walk = kmc.collinear(np.random.default_rng(3), 0.5, 3, 0.1)
    images = [Atoms(kmc.NUMBERS, frame % kmc.CELL[0, 0], cell=kmc.CELL, pbc=True) for frame in walk]
    write(tmp_path / "run.extxyz", images)
    write_vasp_xdatcar(tmp_path / "XDATCAR", images)
    extxyz, xdatcar = (load_positions(tmp_path / name) for name in ("run.extxyz", "XDATCAR"))
    np.testing.assert_allclose(xdatcar.positions % kmc.CELL[0, 0], extxyz.positions % kmc.CELL[0, 0], atol=1e-5)
    np.testing.assert_array_equal(xdatcar.numbers, extxyz.numbers)
