"""The frame store against extended XYZ through ASE, in one run: appending labelled frames and reading them at random.

Run it as ``python tests/benchmarks/bench_store.py [n_frames]``. Extended XYZ is given its best: frames are appended in
the same batches to one open file, which is synced to disk once at its end, as the store is, and besides reading by
index, which scans the file each time and is measured on a sample, the whole file is read at once. Ratios above 1 are in
favour of the store.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time

import ase.io
import numpy as np
from numpy.typing import NDArray

from curator.datasets.frame import Frame, atoms_from_frame
from curator.datasets.label import Label, Provenance, Record
from curator.datasets.store import Store

BATCHES = (100, 1000)
N_SAMPLED_READS = 10


def make_records(n_frames: int, rng: np.random.Generator) -> list[Record]:
    """Labelled frames of 20 to 200 atoms."""
    records = []
    for idx in range(n_frames):
        n_atoms = int(rng.integers(20, 201))
        frame = Frame(
            rng.integers(1, 90, n_atoms), rng.uniform(0, 15, (n_atoms, 3)), np.eye(3) * rng.uniform(14, 16), [True] * 3
        )
        label = Label(rng.normal(), rng.normal(size=(n_atoms, 3)), rng.normal(size=6), "pbe@0")
        group = f"explore/T900/r{idx // 50}"
        records.append(Record(frame, label, Provenance(idx // 1000, group, group, "train", "random")))
    return records


def main(n_frames: int = 10_000) -> None:
    """Print times and ratios."""
    rng = np.random.default_rng(0)
    records = make_records(n_frames, rng)
    images = []
    for record in records:
        atoms = atoms_from_frame(record.frame)
        atoms.info |= {"REF_energy": record.label.energy, "REF_stress": record.label.stress}
        atoms.new_array("REF_forces", record.label.forces)
        images.append(atoms)
    order = rng.permutation(n_frames)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        appended = []
        for batch in BATCHES:
            for old in folder.iterdir():
                old.unlink()
            with clock() as append_store, Store(folder / "frames.h5") as store:
                for first in range(0, n_frames, batch):
                    store.append(records[first : first + batch])
            with clock() as append_xyz, (folder / "frames.extxyz").open("w") as file:
                for first in range(0, n_frames, batch):
                    ase.io.write(file, images[first : first + batch], format="extxyz")
                    file.flush()
                os.fsync(file.fileno())
            appended.append((f"append, {batch} at a time", append_store, append_xyz))

        with clock() as random_store, Store(folder / "frames.h5", "r") as store:
            for idx in order:
                assert len(store[int(idx)]) == len(store.labels(int(idx))["pbe@0"].forces)

        with clock() as sample_xyz:
            for idx in order[:N_SAMPLED_READS]:
                assert len(ase.io.read(folder / "frames.extxyz", index=int(idx))) == len(records[idx].frame)
        random_xyz = sample_xyz * (n_frames / N_SAMPLED_READS)

        with clock() as all_store, Store(folder / "frames.h5", "r") as store:
            assert len(store.records()) == n_frames

        with clock() as all_xyz:
            assert len(ase.io.read(folder / "frames.extxyz", index=":")) == n_frames

        sizes = [(folder / f"frames.{suffix}").stat().st_size / 1e6 for suffix in ("h5", "extxyz")]

    print(f"{n_frames} frames of 20 to 200 atoms; {sizes[0]:.0f} and {sizes[1]:.0f} MB")
    print(f"{'wall and CPU seconds':36}{'store':>14}{'extxyz':>18}{'ratio':>14}")
    for what, ours, theirs in (
        *appended,
        ("read at random, by index", random_store, random_xyz),
        ("read at random, whole file first", random_store, all_xyz),
        ("read all in sequence", all_store, all_xyz),
    ):
        ratio = theirs / ours
        columns = (
            f"{ours[0]:.2f} {ours[1]:.2f}",
            f"{theirs[0]:.1f} {theirs[1]:.1f}",
            f"{ratio[0]:.0f}x {ratio[1]:.0f}x",
        )
        print(f"{what:36}{columns[0]:>14}{columns[1]:>18}{columns[2]:>14}")


@contextmanager
def clock() -> Iterator[NDArray[np.float64]]:
    """Wall and CPU seconds of the body, known when it has ended."""
    seconds = np.array([-perf_counter(), -process_time()])
    yield seconds
    seconds += [perf_counter(), process_time()]


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
