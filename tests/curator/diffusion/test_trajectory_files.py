"""The same walk from every format, and files that are no trajectories."""

import gzip
from pathlib import Path

import h5py
import kmc
import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from ase.io.vasp import write_vasp_xdatcar

from curator.datasets.notice import Notice
from curator.diffusion.measurement import diffusivity_of_positions
from curator.diffusion.trajectory_files import Positions, are_wrapped, load_positions


@pytest.fixture(scope="module")
def positions() -> np.ndarray:
    return kmc.collinear(np.random.default_rng(3), 0.5, 30, 0.1)


def images_of(positions: np.ndarray) -> list[Atoms]:
    """Wrapped into the cell, as most codes write them."""
    return [Atoms(kmc.NUMBERS, frame % kmc.CELL[0, 0], cell=kmc.CELL, pbc=True) for frame in positions]


def write_lammps(
    path: Path,
    images: list[Atoms],
    *,
    with_elements: bool = False,
    steps: list[int] | None = None,
    time: float = 0.0,
    units: str = "metal",
) -> None:
    """As ``dump custom id type [element] x y z`` writes it, in the order of another frame each time.

    With ``time``, that of a step, time and units are written too, as ``dump_modify time yes units yes`` does.
    """
    rng = np.random.default_rng(0)
    symbols = images[0].get_chemical_symbols()
    lines = []
    for step, image in zip(steps or range(len(images)), images, strict=True):
        length = image.cell.lengths()
        bounds = [f"0.0 {side}" for side in length]
        columns = "id type element x y z" if with_elements else "id type x y z"
        lines += ["ITEM: UNITS", units, "ITEM: TIME", f"{time * step:g}"] if time else []
        lines += ["ITEM: TIMESTEP", str(step), "ITEM: NUMBER OF ATOMS", str(len(image))]
        lines += ["ITEM: BOX BOUNDS pp pp pp", *bounds, f"ITEM: ATOMS {columns}"]
        for atom in rng.permutation(len(image)):
            kind = "1" if symbols[atom] == "Li" else "2"
            kind += f" {symbols[atom]}" if with_elements else ""
            lines.append(f"{atom + 1} {kind} " + " ".join(f"{x:.8f}" for x in image.positions[atom]))
    path.write_text("\n".join(lines) + "\n")


def write_h5md(
    path: Path, images: list[Atoms], *, species: np.ndarray | None, scale: float = 1.0, unit: str = ""
) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("particles/all")
        value = group.create_dataset("position/value", data=np.array([image.positions for image in images]) * scale)
        if unit:
            value.attrs["unit"] = unit
        if species is not None:
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


@pytest.mark.parametrize("name", ["run.extxyz", "run.traj", "XDATCAR", "T800@run1.extxyz", "a@b.traj"])
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


def test_the_unit_of_time_of_a_dump_is_that_of_its_style(tmp_path: Path, positions: np.ndarray):
    path = tmp_path / "run.lammpstrj"
    for units, time in (("real", 100.0), ("metal", 0.1)):
        write_lammps(path, images_of(positions[:3]), with_elements=True, time=time, units=units)
        assert load_positions(path).frame_interval_fs == pytest.approx(100)
    write_lammps(path, images_of(positions[:3]), with_elements=True, time=1.0, units="lj")
    with pytest.raises(ValueError, match="it is in units lj; lengths must be in Å"):
        load_positions(path)


@pytest.mark.parametrize(("unit", "fs"), [("fs", 1.0), ("ps", 1e3), ("ns", 1e6)])
def test_the_unit_of_time_of_h5md(tmp_path: Path, positions: np.ndarray, unit: str, fs: float):
    path = tmp_path / "run.h5md"
    write_h5md(path, images_of(positions[:3]), species=kmc.NUMBERS)
    with h5py.File(path, "a") as file:
        file["particles/all/position/time"] = 100 / fs * np.arange(3)
        file["particles/all/position/time"].attrs["unit"] = unit
    assert load_positions(path).frame_interval_fs == pytest.approx(100)


def test_h5md(tmp_path: Path, positions: np.ndarray):
    images, types = images_of(positions), np.where(kmc.NUMBERS == 3, 1, 2)
    path = tmp_path / "run.h5md"
    write_h5md(path, images, species=types)
    check(path, positions, ["Li", "F"])
    for scale, unit in ((0.1, "nm"), (100.0, "pm")):
        write_h5md(path, images, species=types, scale=scale, unit=unit)
        check(path, positions, ["Li", "F"])
    write_h5md(path, images, species=types, unit="furlong")
    with pytest.raises(ValueError, match="positions are in furlong"):
        load_positions(path, ["Li", "F"])
    write_h5md(path, images, species=kmc.NUMBERS)
    check(path, positions)
    write_h5md(path, images, species=None)
    with pytest.raises(ValueError, match="does not say which atom is which element"):
        load_positions(path)
    with h5py.File(path, "w"):
        pass
    with pytest.raises(ValueError, match="has no particles; is it H5MD"):
        load_positions(path)


@pytest.mark.parametrize("tilt_A", [0.0, 2.0])
@pytest.mark.parametrize(
    "columns", ["xu yu zu", "xsu ysu zsu", "x y z ix iy iz", "xs ys zs ix iy iz", "x y z", "xs ys zs"]
)
def test_dumps_know_whether_they_are_unwrapped(tmp_path: Path, columns: str, tilt_A: float):
    """An atom that moves by half a cell from frame to frame can be followed by what the file says alone."""
    cell = np.array([[6.0, 0, 0], [tilt_A, 6, 0], [0, 0, 6]])
    scaled = np.array([[0.1, 0.2, 0.3]]) + 0.5 * np.arange(4)[:, None] * [[1, 1, 0]]
    lines = []
    for step, place in enumerate(scaled):
        inside = place % 1
        value = dict(zip(("xu", "yu", "zu", "x", "y", "z"), [*place @ cell, *inside @ cell], strict=True))
        value |= dict(zip(("xsu", "ysu", "zsu", "xs", "ys", "zs"), [*place, *inside], strict=True))
        value |= dict(zip(("ix", "iy", "iz"), np.floor(place).astype(int), strict=True))
        lines += ["ITEM: TIMESTEP", str(step), "ITEM: NUMBER OF ATOMS", "1"]
        lines += ["ITEM: BOX BOUNDS xy xz yz pp pp pp", f"0 {6 + tilt_A} {tilt_A}", "0 6 0", "0 6 0"]
        row = " ".join(f"{value[name]:.10g}" for name in columns.split())
        lines += [f"ITEM: ATOMS element id {columns}", f"Li 1 {row}"]
    path = tmp_path / "run.lammpstrj"
    path.write_text("\n".join(lines) + "\n")
    if "u" in columns or "i" in columns:
        loaded = load_positions(path)
        assert loaded.is_unwrapped
        np.testing.assert_allclose(loaded.positions[:, 0], scaled @ cell, atol=1e-8)
        np.testing.assert_allclose(loaded.cell, cell)
    else:
        assert not load_positions(path).is_unwrapped


def test_images_of_h5md(tmp_path: Path, positions: np.ndarray):
    path = tmp_path / "run.h5"
    write_h5md(path, images_of(positions), species=kmc.NUMBERS)
    assert not load_positions(path).is_unwrapped
    with h5py.File(path, "a") as file:
        file["particles/all/image/value"] = np.floor(positions / kmc.CELL[0, 0]).astype(int)
    loaded = load_positions(path)
    assert loaded.is_unwrapped
    np.testing.assert_allclose(loaded.positions, positions, atol=1e-9)


def test_vectors_of_a_cell_are_not_the_lengths_of_three_frames(tmp_path: Path, positions: np.ndarray):
    path, cell = tmp_path / "run.h5", np.array([[8.0, 0, 0], [2.0, 8, 0], [0, 1, 9]])
    for n_frames in (3, 4):
        write_h5md(path, images_of(positions[:n_frames]), species=kmc.NUMBERS)
        with h5py.File(path, "a") as file:
            del file["particles/all/box/edges"]
            file["particles/all/box/edges"] = cell
        np.testing.assert_array_equal(load_positions(path).cell, cell)
        with h5py.File(path, "a") as file:
            del file["particles/all/box/edges"]
            file["particles/all/box/edges"] = np.array([8.0, 8, 9])
        np.testing.assert_array_equal(load_positions(path).cell, np.diag([8.0, 8, 9]))


def test_elements_of_a_dump_are_told_by_their_masses(tmp_path: Path):
    masses = [1.0, 1.008, 2.014, 6.94, 16.0, 238.03]
    frame = ["ITEM: NUMBER OF ATOMS", str(len(masses)), "ITEM: BOX BOUNDS pp pp pp", *["0 9"] * 3]
    frame += ["ITEM: ATOMS id mass x y z", *(f"{i} {mass} {i} 0 0" for i, mass in enumerate(masses))]
    lines = [line for step in "01" for line in ("ITEM: TIMESTEP", step, *frame)]
    (tmp_path / "run.lammpstrj").write_text("\n".join(lines) + "\n")
    assert load_positions(tmp_path / "run.lammpstrj").numbers.tolist() == [1, 1, 1, 3, 8, 92]


def test_time_in_the_file(tmp_path: Path, positions: np.ndarray):
    images = images_of(positions[:5])
    path = tmp_path / "run.lammpstrj"
    write_lammps(path, images, with_elements=True)
    assert load_positions(path).frame_interval_fs is None  # steps of unknown length
    write_lammps(path, images, with_elements=True, time=0.1)
    assert load_positions(path).frame_interval_fs == pytest.approx(100)
    write_lammps(path, images, with_elements=True, steps=[0, 100, 200, 400, 500])
    with pytest.raises(ValueError, match=r"run\.lammpstrj: .* 200 from frame 2 to frame 3, 100 mostly"):
        load_positions(path)
    write_lammps(path, images, with_elements=True, steps=[0, 100, 200, 100, 200])
    with pytest.raises(ValueError, match="goes back from 200 in frame 2 to 100 in frame 3; leave out what a restart"):
        load_positions(path)
    path = tmp_path / "run.h5"
    for time, expected in (([0.0, 0.2, 0.4, 0.6, 0.8], 200), (0.05, 50), ([0, 0.1, 0.2, 0.4, 0.5], None)):
        write_h5md(path, images, species=kmc.NUMBERS)
        with h5py.File(path, "a") as file:
            stored = file["particles/all/position"].create_dataset("time", data=np.float32(time))
            stored.attrs["unit"] = "ps"
        if expected is not None:
            assert load_positions(path).frame_interval_fs == pytest.approx(expected, rel=1e-5)
        else:
            with pytest.raises(ValueError, match="not equally far apart"):
                load_positions(path)


def test_a_restart_that_overlaps_what_was_written_before(tmp_path: Path, positions: np.ndarray):
    images, path = images_of(positions[:6]), tmp_path / "run.extxyz"
    write(path, [*images[:5], *images[2:]])
    with pytest.raises(ValueError, match="frame 5 is frame 2 once more, and so on; leave out what a restart wrote"):
        load_positions(path)
    write(path, [*images[:3], *images[2:]])
    assert len(load_positions(path).positions) == 7


def test_a_walk_on_a_lattice_comes_back(tmp_path: Path, positions: np.ndarray):
    """Kinetic Monte Carlo has no vibrations: most frames are there many times."""
    sites = np.repeat(positions[:2], 4, axis=0)
    write(tmp_path / "kmc.extxyz", images_of(np.concatenate([sites, sites])))
    assert len(load_positions(tmp_path / "kmc.extxyz").positions) == 16


@pytest.mark.parametrize("name", ["run.extxyz", "run.lammpstrj", "XDATCAR"])
def test_a_last_frame_that_was_cut_off(tmp_path: Path, positions: np.ndarray, name: str):
    """Wherever the last frame ends, the others are read; elsewhere, a broken frame is an error."""
    images, path = images_of(positions[:4]), tmp_path / name
    if name == "run.extxyz":
        write(path, images)
    elif name == "XDATCAR":
        write_vasp_xdatcar(path, images)
    else:
        write_lammps(path, images, with_elements=True)
    whole, complete = path.read_text(), load_positions(path).positions
    length = len(whole) // 4
    for cut in (1, 3, 20, length // 2, length - 100):
        path.write_text(whole[:-cut])
        with pytest.warns(Notice, match=rf"{name}: ends within frame 3, .* the 3 complete frames are used"):
            np.testing.assert_array_equal(load_positions(path).positions, complete[:3])
    half = whole[: length // 2]
    path.write_text(half.rsplit("\n", 1)[0] + "\n" + whole)
    with pytest.raises(ValueError, match=f"{name} cannot be read"):
        load_positions(path)


def test_elements_are_said_once(tmp_path: Path, positions: np.ndarray):
    write(tmp_path / "run.extxyz", images_of(positions[:3]))
    with pytest.raises(ValueError, match=r"run\.extxyz names its elements by itself; leave out --elements"):
        load_positions(tmp_path / "run.extxyz", ["Li", "F"])


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
    with pytest.raises(ValueError, match="needs two frames or more; it has 1"):
        load_positions(path)


def test_positions_that_are_no_numbers(tmp_path: Path, positions: np.ndarray):
    images = images_of(positions[:4])
    images[2].positions[5, 1] = np.nan
    write(tmp_path / "run.extxyz", images)
    with pytest.raises(ValueError, match=r"run\.extxyz: the position of atom 5 in frame 2 is no number"):
        load_positions(tmp_path / "run.extxyz")


def test_files_that_are_no_trajectories(tmp_path: Path):
    for name in ("empty.extxyz", "empty.h5", "empty"):
        (tmp_path / name).touch()
        with pytest.raises(ValueError, match=rf"{name} cannot be read as a trajectory: it is empty"):
            load_positions(tmp_path / name)
    with pytest.raises(ValueError, match=r"missing\.extxyz cannot be read"):
        load_positions(tmp_path / "missing.extxyz")
    for name in ("broken.extxyz", "broken.h5"):
        (tmp_path / name).write_text("3\nnonsense\nLi 0 0\n")
        with pytest.raises(ValueError, match=rf"{name} cannot be read"):
            load_positions(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["text.dat", "run.nc", "vasprun.xml", "OUTCAR", "run.traj", "run.xtc", "a.lammpstrj.gz"]
)
def test_files_that_cannot_be_read_are_told_in_a_line(tmp_path: Path, positions: np.ndarray, name: str):
    """Cut off, or of another kind than the name says: whatever a reader of ASE raises."""
    contents = {
        "text.dat": b"hello world\n",
        "run.nc": b"CDF\x01\x00",
        "vasprun.xml": b'<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n <generator>\n',
        "OUTCAR": b" vasp.6.3.0\n POTCAR:    PAW_PBE Li_sv\n",
        "run.xtc": b"\x00\x00\x07\xcb",
    }
    path = tmp_path / name
    if name == "a.lammpstrj.gz":
        write_lammps(path, images_of(positions[:40]), with_elements=True)
        path.write_bytes(gzip.compress(path.read_bytes())[:-2000])
    elif name == "run.traj":
        write(path, images_of(positions))
        path.write_bytes(path.read_bytes()[:5000])
    else:
        path.write_bytes(contents[name])
    with pytest.raises(
        ValueError, match=rf"{name} cannot be read as a trajectory: .*may be cut off, or of no known"
    ) as error:
        load_positions(path)
    assert "\n" not in str(error.value)


def test_wrapped_positions_are_known_by_their_steps():
    rng = np.random.default_rng(5)
    cell = np.array([[8.0, 0, 0], [4.0, 7.0, 0], [1.0, 2.0, 9.0]])
    walk = np.cumsum(rng.normal(scale=0.5, size=(500, 4, 3)), axis=0)
    fractional = walk @ np.linalg.inv(cell)

    def known(positions: np.ndarray, *pbc: bool) -> bool:
        return are_wrapped(Positions(positions, np.array([3, 3, 9, 9]), cell, np.array(pbc)))

    for folded in (fractional % 1, (fractional + 0.5) % 1 - 0.5, fractional % 1 + 0.3):
        assert known(np.round(folded @ cell, 4), True, True, True)
        assert not known(folded @ cell, False, False, False)
    assert not known(walk, True, True, True)
    # Vibrations that stay within the cell are the same either way.
    resting = (0.5 + 0.05 * rng.normal(size=(500, 4, 3))) @ cell
    assert not known(resting, True, True, True)
