"""Input of Quantum ESPRESSO's pw.x: settings that are explicit, and what of them makes a level of theory."""

import difflib
import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from ase import Atoms
from ase.io.espresso_namelist.keys import ALL_KEYS

from curator.backends.dft import electrons_problem, spin_of
from curator.backends.remedies import Input, merged
from curator.datasets.espresso import functional_named
from curator.datasets.label import Theory

PRESETS: Mapping[str, Mapping[str, float]] = {
    "pbe": {"cutoff_Ry": 90.0, "kpoint_spacing_per_A": 0.35, "convergence_Ry": 1e-9},
    "pbe-strict": {"cutoff_Ry": 110.0, "kpoint_spacing_per_A": 0.25, "convergence_Ry": 1e-10},
    "pbe-quick": {"cutoff_Ry": 60.0, "kpoint_spacing_per_A": 0.5, "convergence_Ry": 1e-8},
}
"""Set-ups of insulators with norm-conserving pseudopotentials; docs/dft.md tells what each is good for."""
HOW_NOT_WHAT: Mapping[str, tuple[str, ...]] = {
    "control": ("max_seconds", "disk_io", "verbosity", "wf_collect", "title"),
    "system": (),
    "electrons": (
        "electron_maxstep",
        "mixing_mode",
        "mixing_beta",
        "mixing_ndim",
        "diagonalization",
        "diago_thr_init",
        "diago_cg_maxiter",
        "diago_david_ndim",
        "diago_full_acc",
        "startingpot",
        "startingwfc",
    ),
}
"""Keys that change how an answer is found and not the answer; they are no part of the level of theory."""
SET_ELSEWHERE: Mapping[str, str] = {
    "calculation": "curator calculates one configuration at a time",
    "pseudo_dir": "give label.pseudopotentials",
    "outdir": "curator runs each calculation in a folder of its own",
    "prefix": "curator runs each calculation in a folder of its own",
    "restart_mode": "a calculation starts from the beginning",
    "tprnfor": "forces are always calculated",
    "tstress": "stress is always calculated",
    "scf_must_converge": "a calculation that is not converged is no label",
    "tot_charge": "give system.charge",
    "nspin": "give system.multiplicity",
    "tot_magnetization": "give system.multiplicity",
    "starting_magnetization": "give system.multiplicity",
    "hubbard_occ": "it counts elements in the order of the frame",
    "starting_ns_eigenvalue": "it counts elements in the order of the frame",
    "ibrav": "the cell is that of the frame",
    "celldm": "the cell is that of the frame",
    "nat": "the atoms are those of the frame",
    "ntyp": "the atoms are those of the frame",
    "ecutwfc": "give label.cutoff_Ry",
    "occupations": "give label.smearing_Ry, 0 for none",
    "degauss": "give label.smearing_Ry",
    "conv_thr": "give label.convergence_Ry",
}
BY_ELEMENT = frozenset(
    ("starting_charge", "hubbard_alpha", "hubbard_beta", "angle1", "angle2", "london_c6", "london_rvdw")
)
"""Keys with a value for each element, which pw.x counts in the order of the frame."""
SOURCES = "norm-conserving pseudopotentials come from pseudo-dojo.org, others from materialscloud.org/sssp"
_HEAD_BYTES = 200_000


@dataclass(frozen=True, slots=True)
class Pseudopotential:
    """What a UPF file says of itself.

    Attributes
    ----------
    path
        The file.
    element
        Symbol.
    valence
        Electrons that it leaves to be calculated.
    functional
        Exchange and correlation by the short name, such as ``PBE``.
    sha256, md5
        Of the whole file.
    """

    path: Path
    element: str
    valence: float
    functional: str
    sha256: str
    md5: str


@dataclass(frozen=True, slots=True)
class EspressoSettings:
    """Everything that is set in pw.x for all frames alike.

    Attributes
    ----------
    pseudopotentials
        Path of a UPF file by symbol.
    cutoff_Ry
        Plane-wave cutoff of the orbitals in Ry; four times it for the density, unless ``input_data`` says otherwise.
    kpoint_spacing_per_A
        Largest distance of k-points in 1/Å, with the factor 2π, as VASP's KSPACING.
    convergence_Ry
        Estimated error of the energy in Ry at which the SCF cycle ends.
    smearing_Ry
        Gaussian smearing in Ry; 0 for fixed occupations.
    charge
        Total charge in e.
    multiplicity
        Spin multiplicity; 0 and 1 calculate without spin.
    input_data
        Further input by namelist and key; a value by symbol for those of `BY_ELEMENT`.
    """

    pseudopotentials: Mapping[str, str]
    cutoff_Ry: float
    kpoint_spacing_per_A: float
    convergence_Ry: float
    smearing_Ry: float = 0.0
    charge: int = 0
    multiplicity: int = 0
    input_data: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_input(self.input_data)


def input_of(settings: EspressoSettings) -> dict[str, dict[str, object]]:
    """Namelists of pw.x, nothing left to a default that changes the answer."""
    smeared = settings.smearing_Ry > 0
    occupations: dict[str, object] = {"occupations": "smearing" if smeared else "fixed"}
    if smeared:
        occupations |= {"smearing": "gaussian", "degauss": settings.smearing_Ry}
    spin: dict[str, object] = {}
    if settings.multiplicity > 1:
        spin = {"nspin": 2, "tot_magnetization": settings.multiplicity - 1}
    own: Input = {
        "control": {"calculation": "scf", "tprnfor": True, "tstress": True, "disk_io": "none"},
        "system": {"ecutwfc": settings.cutoff_Ry, "tot_charge": settings.charge, **occupations, **spin},
        "electrons": {
            "conv_thr": settings.convergence_Ry,
            "electron_maxstep": 100,
            "mixing_mode": "plain",
            "mixing_beta": 0.5,
            "diagonalization": "david",
        },
    }
    return merged(own, settings.input_data)


def numbered(data: Input, symbols: Iterable[str]) -> dict[str, dict[str, object]]:
    """Namelists for one frame: values by element bear the number that ASE's writer gives the element, as it appears."""
    found: dict[str, dict[str, object]] = {section: {} for section in data}
    for section, values in data.items():
        for key, value in values.items():
            if isinstance(value, Mapping):
                number = enumerate(dict.fromkeys(symbols), start=1)
                found[section] |= {f"{key}({idx})": value[symbol] for idx, symbol in number if symbol in value}
            else:
                found[section][key] = value
    return found


def espresso_theory(settings: EspressoSettings, binary: str) -> Theory:
    """Level of theory: the input, the density of k-points and the pseudopotentials by their hashes."""
    files = {symbol: read_pseudopotential(Path(path)) for symbol, path in settings.pseudopotentials.items()}
    if not files:
        raise ValueError("pseudopotentials: names none; give a folder, or a file by element")
    for symbol, file in files.items():
        if file.element != symbol:
            raise ValueError(f"pseudopotential {file.path}: is of {file.element}, and was given for {symbol}")
    functionals = sorted({file.functional for file in files.values()})
    functional = str(settings.input_data.get("system", {}).get("input_dft", functionals[0]))
    if len(functionals) > 1:
        which = ", ".join(f"{symbol} {file.functional}" for symbol, file in files.items())
        raise ValueError(f"the pseudopotentials are of several functionals ({which}); take them from one library")
    said = {
        section: {key: value for key, value in sorted(values.items()) if key not in HOW_NOT_WHAT.get(section, ())}
        for section, values in sorted(input_of(settings).items())
    }
    return Theory(
        method=functional.lower(),
        code="espresso",
        settings={
            "input": said,
            "kpoint_spacing_per_A": settings.kpoint_spacing_per_A,
            "spin": spin_of(settings.multiplicity),
        },
        hashes={symbol: file.sha256 for symbol, file in sorted(files.items())},
        versions=program_version(binary),
    )


def input_problem(atoms: Atoms, settings: EspressoSettings) -> str | None:
    """Tell why pw.x cannot be asked about a configuration; None if it can."""
    missing = sorted(set(atoms.symbols) - set(settings.pseudopotentials))
    if missing:
        return f"no pseudopotential of {', '.join(missing)}; name them in label.pseudopotentials"
    valence = {s: read_pseudopotential(Path(path)).valence for s, path in settings.pseudopotentials.items()}
    smearing = {"smearing_Ry": settings.smearing_Ry}
    return electrons_problem(atoms, valence, settings.charge, settings.multiplicity, smearing)


def find_pseudopotentials(folder: Path, symbols: set[str]) -> dict[str, str]:
    """UPF files of elements in a folder: their names begin with the symbol.

    Raises
    ------
    ValueError
        If an element has no file there, or several.
    """
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}; {SOURCES}")
    found = {}
    for symbol in sorted(symbols):
        pattern = re.compile(rf"{symbol}([^a-z].*)?\.upf", re.IGNORECASE)
        files = [file for file in sorted(folder.iterdir()) if pattern.fullmatch(file.name)]
        if len(files) != 1:
            names = ", ".join(file.name for file in files)
            which = f"it holds {names}; name one" if files else f"{SOURCES}. Or name it"
            raise ValueError(f"{folder} must hold one UPF file of {symbol}; {which}: {{{symbol}: file}}")
        found[symbol] = str(files[0])
    return found


@lru_cache(maxsize=64)
def read_pseudopotential(path: Path) -> Pseudopotential:
    """What a UPF file says of itself.

    Raises
    ------
    ValueError
        If there is no such file, or its header does not tell element, valence and functional.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"pseudopotential {path}: cannot be read ({error.strerror or error})") from None
    head = content[:_HEAD_BYTES].decode("latin-1")
    values = {}
    for key in ("element", "z_valence", "functional"):
        match = re.search(rf'\b{key}\s*=\s*"\s*([^"]*?)\s*"', head)
        if match is None:
            raise ValueError(f"pseudopotential {path}: its header tells no {key}; a UPF file of version 2 is needed")
        values[key] = match[1]
    return Pseudopotential(
        path=path,
        element=values["element"],
        valence=float(values["z_valence"].replace("D", "e")),
        functional=functional_named(values["functional"]),
        sha256=hashlib.sha256(content).hexdigest(),
        md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
    )


@lru_cache(maxsize=8)
def program_version(binary: str) -> dict[str, str]:
    """Version that a pw.x says it has; empty if it cannot be run here, as on a login node."""
    if shutil.which(binary) is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:  # without input it leaves a file that says so
        try:
            run = subprocess.run(
                [binary], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20
            )
        except (OSError, subprocess.TimeoutExpired):
            return {}
    match = re.search(r"Program PWSCF v\.?\s*(\S+)", run.stdout)
    return {"espresso": match[1]} if match else {}


def _check_input(given: Input) -> None:
    sections = {name.lower(): {key.lower() for key in keys} for name, keys in ALL_KEYS["pw"].items()}
    for section, values in given.items():
        if section not in sections or not isinstance(values, Mapping):
            raise ValueError(f"input_data: {section!r} is no namelist of pw.x; there are {', '.join(sections)}")
        for key, value in values.items():
            name, bracket, _ = key.lower().partition("(")
            if name in SET_ELSEWHERE:
                raise ValueError(f"input_data.{section}.{key}: cannot be set here; {SET_ELSEWHERE[name]}")
            if name not in sections[section]:
                close = difflib.get_close_matches(key, sections[section], n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise ValueError(f"input_data.{section}.{key}: pw.x knows no such key{hint}")
            by_element = name in BY_ELEMENT
            if (by_element and bracket) or by_element != isinstance(value, Mapping):
                how = f"give its values by element, {name}: {{Li: 0.5}}" if by_element else "one value"
                raise ValueError(
                    f"input_data.{section}.{key}: {value!r} cannot be used; {how}: pw.x counts elements in the order "
                    "of the frame"
                )
