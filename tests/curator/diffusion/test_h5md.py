"""H5MD as different programs write it, and what is missing in it."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from curator.diffusion.trajectory_files import load_positions

NUMBERS = np.array([3, 3, 9, 9, 9])
CELL_A = np.diag([8.0, 9.0, 10.0])


@pytest.fixture
def positions_A() -> np.ndarray:
    return np.random.default_rng(4).random((6, 5, 3)) * 8


@pytest.fixture
def file(tmp_path: Path, positions_A: np.ndarray) -> Path:
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as h5:
        group = h5.create_group("particles/all")
        group["position/value"] = positions_A
        group["species"] = NUMBERS
        group["box/edges"] = CELL_A
        group["box"].attrs["boundary"] = [b"periodic"] * 3
    return path


def change(path: Path, how: Callable[[h5py.Group], object]) -> None:
    with h5py.File(path, "a") as h5:
        how(h5["particles/all"])


def replaced(group: h5py.Group, name: str, **given: object) -> None:
    del group[name]
    group.create_dataset(name, **given)


@pytest.mark.parametrize(
    "how",
    [
        lambda group: group["box"].attrs.__setitem__("boundary", "periodic"),
        lambda group: group["box"].attrs.__setitem__("boundary", ["periodic"] * 3),
        lambda group: group["position/value"].attrs.__setitem__("unit", np.array([b"Angstrom"])),
        lambda group: replaced(group, "species", data=np.array(["Li", "Li", "F", "F", "F"], dtype="S2")),
        lambda group: replaced(group, "species", data=["Li", "Li", "F", "F", "F"], dtype=h5py.string_dtype()),
        lambda group: replaced(
            group, "species", data=[0, 0, 1, 1, 1], dtype=h5py.enum_dtype({"Li": 0, "F": 1}, basetype="i4")
        ),
    ],
    ids=["one boundary", "texts", "unit in an array", "bytes", "names", "enumeration"],
)
def test_it_may_be_written_otherwise(file: Path, positions_A: np.ndarray, how: Callable[[h5py.Group], object]):
    change(file, how)
    found = load_positions(file)
    np.testing.assert_array_equal(found.numbers, NUMBERS)
    np.testing.assert_allclose(found.positions, positions_A)
    np.testing.assert_allclose(found.cell, CELL_A)
    assert found.pbc.all()


def test_edges_have_a_unit_of_their_own(file: Path):
    change(file, lambda group: replaced(group, "box/edges", data=CELL_A / 10))
    change(file, lambda group: group["box/edges"].attrs.__setitem__("unit", "nm"))
    np.testing.assert_allclose(load_positions(file).cell, CELL_A)
    change(file, lambda group: group["box/edges"].attrs.__setitem__("unit", "furlong"))
    with pytest.raises(ValueError, match=r"run\.h5 cannot be read as a trajectory: its edges are in furlong"):
        load_positions(file)


def test_what_is_not_periodic_needs_no_edges(file: Path, positions_A: np.ndarray):
    change(file, lambda group: group["box"].attrs.__setitem__("boundary", [b"none"] * 3))
    change(file, lambda group: group["box"].pop("edges"))
    found = load_positions(file)
    assert not found.pbc.any()
    np.testing.assert_allclose(found.positions, positions_A)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda group: group.pop("position"), "it has no positions; write /particles/all/position/value"),
        (lambda group: group.pop("box"), "it does not say whether it is periodic; write /particles/all/box with"),
        (lambda group: group["box"].attrs.pop("boundary"), "it does not say whether it is periodic"),
        (lambda group: group["box"].pop("edges"), "it has no cell; write /particles/all/box/edges"),
        (
            lambda group: group["box"].attrs.__setitem__("boundary", np.array([True, True, True])),
            "its boundary is True, True, True; give periodic or none for each",
        ),
        (
            lambda group: replaced(group, "species", data=np.array(["Li", "Li", "F", "F", "Xx"], dtype="S2")),
            "'Xx' is not the symbol of an element",
        ),
    ],
)
def test_what_is_missing_is_named(file: Path, how: Callable[[h5py.Group], object], message: str):
    change(file, how)
    with pytest.raises(ValueError, match=rf"run\.h5 cannot be read as a trajectory: {message}"):
        load_positions(file)


def test_frames_that_were_never_written(file: Path, positions_A: np.ndarray):
    walk = np.concatenate([positions_A, positions_A + 0.1, np.zeros((6, 5, 3))])
    change(file, lambda group: replaced(group, "position/value", data=walk))
    message = "frame 13 is frame 12 once more, and so on; leave out frames that were never written"
    with pytest.raises(ValueError, match=message):
        load_positions(file)
