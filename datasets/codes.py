"""Outputs of other programs by format, recognised by name and content."""

from collections.abc import Callable
from pathlib import Path

from curator.datasets.cp2k import read_cp2k
from curator.datasets.deepmd import read_deepmd
from curator.datasets.espresso import read_espresso
from curator.datasets.exchange import read_exchange
from curator.datasets.output import Output
from curator.datasets.textfile import OPENERS, open_text
from curator.datasets.vasp import read_outcar, read_vasprun

PROGRAMS: dict[str, Callable[[Path], Output]] = {
    "vasprun": read_vasprun,
    "outcar": read_outcar,
    "espresso": read_espresso,
    "cp2k": read_cp2k,
    "deepmd": read_deepmd,
}
FORMATS = (*PROGRAMS, "extxyz", "traj", "db")

_HEAD_BYTES = 200_000
_SIGNS = (
    ("<modeling>", "vasprun"),
    ("Program PWSCF", "espresso"),
    ("CP2K|", "cp2k"),
    ("vasp.", "outcar"),
)


def format_of(path: Path) -> str:
    """Format of a file or folder, one of ``FORMATS``.

    Raises
    ------
    ValueError
        If it is not there, empty, or nothing that is known.
    """
    if path.is_dir():
        # The system itself, or systems of mixed type below it.
        if (path / "type.raw").exists() or any(path.glob("**/type.raw")):
            return "deepmd"
        raise ValueError(f"{path}: a folder that holds no DeePMD data (type.raw); name the files in it")
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    name = path.with_suffix("").name if path.suffix in OPENERS else path.name
    by_suffix = {".xyz": "extxyz", ".extxyz": "extxyz", ".traj": "traj", ".db": "db", ".hdf5": "deepmd"}
    if (known := by_suffix.get(Path(name).suffix.lower())) is not None:
        return known
    with open_text(path, errors="replace") as file:
        head = file.read(_HEAD_BYTES)
    for sign, kind in _SIGNS:
        if sign in head:
            return kind
    raise ValueError(f"{path}: not recognised; name its format with --format: {', '.join(FORMATS)}")


def read_output(
    path: Path,
    kind: str,
    *,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    use_calculator: bool = False,
) -> Output:
    """Read an output of a known format; the keys are those of extended XYZ.

    Raises
    ------
    ValueError
        If it cannot be read. The text names the file.
    """
    keys = {"energy_key": energy_key, "forces_key": forces_key, "stress_key": stress_key}
    if kind == "extxyz":
        return read_exchange(path, **keys, use_calculator=use_calculator)
    if kind in ("traj", "db"):
        return read_exchange(path, use_calculator=True)
    try:
        output = PROGRAMS[kind](path)
    except Exception as error:  # The readers below raise whatever their parsers run into.
        text = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: not readable as {kind} ({text or type(error).__name__})") from error
    if not output.steps:
        raise ValueError(f"{path}: holds no finished step")
    return output
