"""What ``curator diffusion`` makes of trajectories in files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from curator.errors import BadInput, bad_input

if TYPE_CHECKING:
    from curator.diffusion.diffusivity import Diffusivity
    from curator.diffusion.trajectory_files import Positions

SAME_INTERVAL = 0.01
"""Times between frames agree if they differ by less than this share."""


def temperature_of_each(files: Sequence[Path], temperatures_K: Sequence[float]) -> list[float]:
    """Temperature of each file, of one for all or one for each."""
    if len(temperatures_K) == 1:
        return [*temperatures_K] * len(files)
    if len(temperatures_K) != len(files):
        raise BadInput(
            "--temperature-K: give one for all trajectories, or one for each; "
            f"got {len(temperatures_K)} for {len(files)}"
        )
    return [*temperatures_K]


def load_files(files: Sequence[Path], elements: str | None) -> "dict[Path, Positions]":
    """Trajectories of files, none of which may be there twice."""
    from curator.diffusion.trajectory_files import load_positions

    types = None if elements is None else [symbol.strip() for symbol in elements.split(",")]
    loaded: dict[Path, Positions] = {}
    for path in files:
        with bad_input():
            found = load_positions(path, types)
        for other, before in loaded.items():
            if path.resolve() == other.resolve() or np.array_equal(found.positions, before.positions):
                raise BadInput(f"{path}: holds the same frames as {other}; each trajectory counts once, leave one out")
        loaded[path] = found
    return loaded


def stated_interval_fs(loaded: "dict[Path, Positions]", given_fs: float | None) -> float:
    """Time between frames, which files may state and must not contradict."""
    interval_fs, stated_by = given_fs, None
    for path, positions in loaded.items():
        stated_fs = positions.frame_interval_fs
        if interval_fs is None:
            interval_fs, stated_by = stated_fs, path
        elif stated_fs is not None and abs(stated_fs - interval_fs) > SAME_INTERVAL * interval_fs:
            if stated_by is not None:
                raise BadInput(
                    f"{path}: states {stated_fs:g} fs between its frames, and {stated_by} {interval_fs:g} fs; measure "
                    "them one at a time, or write them alike"
                )
            raise BadInput(
                f"--frame-interval-fs: {path} states {stated_fs:g} fs between its frames, not {interval_fs:g} fs; "
                "which is right? correct the option or the file"
            )
    if interval_fs is None:
        raise BadInput("--frame-interval-fs: the time between the frames of a trajectory must be given")
    return interval_fs


def of_files(
    loaded: "dict[Path, Positions]",
    temperatures_K: Sequence[float],
    frame_interval_fs: float,
    unwrapped: bool,
    options: dict[str, Any],
) -> "list[Diffusivity]":
    """Diffusivity at each temperature, from the trajectories that have it."""
    from curator.diffusion.measurement import coldest_first, diffusivity_of_positions, liquid_diffusivity_of_positions
    from curator.diffusion.trajectory_files import SAME_CELL_A

    measure: Callable[..., Diffusivity] = diffusivity_of_positions
    others = {"liquid", "viscosity_mPa_s"}
    if options["liquid"]:
        measure, others = liquid_diffusivity_of_positions, {"liquid", "host", "n_carriers"}
    own = {name: value for name, value in options.items() if name not in others}

    def at(temperature_K: float, guessed_hop_length_A: float | None) -> "Diffusivity":
        here = [path for path, own_K in zip(loaded, temperatures_K, strict=True) if own_K == temperature_K]
        first = loaded[here[0]]
        for path in here:
            other = loaded[path]
            if not np.array_equal(other.numbers, first.numbers):
                raise BadInput(f"{path}: has other atoms than {here[0]}; replicas share them")
            if not np.allclose(other.cell, first.cell, rtol=0, atol=SAME_CELL_A):
                raise BadInput(f"{path}: has another cell than {here[0]}; replicas share it")
            if not np.array_equal(other.pbc, first.pbc):
                raise BadInput(f"{path}: is periodic in other directions than {here[0]}; replicas are alike")
            check_species(other.numbers, str(path), options["mobile"], options["host"])
        positions = [_followed(path, loaded[path], unwrapped) for path in here]
        is_unwrapped = unwrapped or all(loaded[path].is_unwrapped for path in here)
        try:
            return measure(
                positions,
                first.numbers,
                first.cell,
                frame_interval_fs,
                pbc=first.pbc,
                unwrapped=is_unwrapped or bool(first.pbc.any()),
                temperature_K=temperature_K,
                guessed_hop_length_A=guessed_hop_length_A,
                **own,
            )
        except ValueError as error:
            raise BadInput(f"{', '.join(map(str, here))}: {error}") from error

    return coldest_first([*dict.fromkeys(temperatures_K)], at)


def _followed(path: Path, loaded: "Positions", unwrapped: bool) -> NDArray[np.float64]:
    """Unwrapped positions of a file; an error names it."""
    from curator.diffusion.trajectory_files import are_wrapped
    from curator.positions import unwrap

    if loaded.is_unwrapped:
        return loaded.positions
    wrapped = are_wrapped(loaded)
    if unwrapped and wrapped:
        raise BadInput(f"{path}: positions are wrapped; leave out --unwrapped, or write frames more often")
    if unwrapped:
        return loaded.positions
    try:
        return unwrap(loaded.positions, loaded.cell, loaded.pbc)
    except ValueError as error:
        remedy = "" if wrapped else "; if its positions were never wrapped, say --unwrapped"
        raise BadInput(f"{path}: {error}{remedy}") from error


def check_species(numbers: NDArray[np.int32], place: str, mobile: str, host: Sequence[str] | None) -> None:
    """Raise :class:`BadInput` if the mobile element, or one of the host, is not there."""
    present = symbols(numbers)
    for option, symbol in [("--mobile", mobile), *(("--host", symbol) for symbol in host or ())]:
        if not atomic_numbers.get(symbol):
            raise BadInput(f"{option}: '{symbol}' is not the symbol of an element")
        if symbol not in present:
            raise BadInput(f"{option} {symbol}: there is no {symbol} in {place}, which holds {', '.join(present)}")
        if option == "--host" and symbol == mobile:
            raise BadInput(f"--host {symbol}: is the mobile element; name those that stay")


def symbols(numbers: NDArray[np.int32], without: str = "") -> list[str]:
    """Symbols of elements, in the order of their atomic numbers."""
    symbols = [chemical_symbols[number] for number in np.unique(numbers)]
    return [symbol for symbol in symbols if symbol != without]
