"""Records for the tests of data at rest: made from a seed, or drawn by hypothesis."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from curator.datasets.frame import Frame
from curator.datasets.label import Label, Provenance, Record, Split

MakeRecord = Callable[..., Record]


@pytest.fixture(scope="session")
def make_record() -> MakeRecord:
    """Record from a seed; equal seeds give equal records."""

    def make(
        seed: int,
        *,
        n_atoms: int = 3,
        theory: str = "pbe@0",
        group: str = "T600/r0",
        split: Split = "train",
        stress: bool = True,
    ) -> Record:
        rng = np.random.default_rng(seed)
        frame = Frame(
            rng.integers(1, 90, n_atoms), rng.uniform(-9, 9, (n_atoms, 3)), np.eye(3) * rng.uniform(3, 9), [True] * 3
        )
        label = Label(
            rng.normal(), rng.normal(size=(n_atoms, 3)), rng.normal(size=6) if stress else None, theory, rng.random()
        )
        return Record(frame, label, Provenance(seed % 3, f"explore/{group}", group, split, "random"))

    return make


@pytest.fixture(scope="session")
def records() -> st.SearchStrategy[list[Record]]:
    """Lists of up to six records with awkward numbers and texts; one split, so that no group is in two."""
    texts = st.one_of(
        st.text(max_size=8),
        st.sampled_from(
            ["T", "1", "1 2 3", "1e5", "_JSON {}", "a\\b", 'a"b', "a=b c", "a%22b", "\0", "\n", "ü/Å", "{["]
        ),
    )

    def arrays(*shape: int, bound: float) -> st.SearchStrategy[np.ndarray]:
        return hnp.arrays(np.float64, shape, elements=st.floats(-bound, bound))

    @st.composite
    def one(draw: st.DrawFn) -> Record:
        n_atoms = draw(st.integers(1, 4))
        cell = np.zeros((3, 3)) if draw(st.booleans()) else np.eye(3) * 5 + draw(arrays(3, 3, bound=1.0))
        frame = Frame(
            draw(hnp.arrays(np.int32, n_atoms, elements=st.integers(1, 94))),
            draw(arrays(n_atoms, 3, bound=1e4)),
            cell,
            draw(st.tuples(st.booleans(), st.booleans(), st.booleans())),
            draw(st.integers(-3, 3)),
            draw(st.integers(0, 3)),
        )
        label = Label(
            draw(st.floats(-1e7, 1e7)),
            draw(arrays(n_atoms, 3, bound=1e3)),
            draw(st.none() | arrays(6, bound=10.0)),
            draw(st.sampled_from(["pbe@0", "r2scan@1"])),
            draw(st.floats(0, 1e5)),
        )
        return Record(
            frame, label, Provenance(draw(st.integers(-1, 9)), draw(texts), draw(texts), "train", draw(texts))
        )

    return st.lists(one(), max_size=6, unique_by=lambda record: (record.frame.hash, record.label.theory))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Folder on a file system of 400 kB that can be filled up."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system to fill up")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "none", folder], check=False, capture_output=True
    )
    if mount.returncode:
        pytest.skip(f"cannot mount a small file system: {mount.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="session")
def assert_same() -> Callable[..., None]:
    """Fail unless two records agree: bit by bit, but for forces that went through text."""

    def same(one: Record, other: Record, forces_atol: float = 0.0) -> None:
        assert one.frame.hash == other.frame.hash
        assert np.array_equal(one.frame.positions, other.frame.positions)
        assert one.provenance == other.provenance
        assert (one.label.energy, one.label.theory, one.label.cpu_s) == (
            other.label.energy,
            other.label.theory,
            other.label.cpu_s,
        )
        np.testing.assert_allclose(one.label.forces, other.label.forces, rtol=0, atol=forces_atol)
        assert (one.label.stress is None) == (other.label.stress is None)
        if one.label.stress is not None:
            assert np.array_equal(one.label.stress, other.label.stress)

    return same
