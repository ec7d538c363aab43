"""Input of VASP: settings that are explicit, the POTCARs they are for, and what of them makes a level of theory."""

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io.vasp import write_vasp

from curator.backends.dft import electrons_problem, kpoint_grid, spin_of
from curator.datasets.label import Theory

PRESETS: Mapping[str, Mapping[str, float]] = {
    "pbe": {"cutoff_eV": 520.0, "kpoint_spacing_per_A": 0.35, "convergence_eV": 1e-6},
    "pbe-strict": {"cutoff_eV": 680.0, "kpoint_spacing_per_A": 0.25, "convergence_eV": 1e-7},
    "pbe-quick": {"cutoff_eV": 400.0, "kpoint_spacing_per_A": 0.5, "convergence_eV": 1e-5},
}
"""Set-ups of insulators; docs/dft-codes.md tells where they come from."""
FUNCTIONALS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "lda": ("CA", {"GGA": "CA"}),
    "pbe": ("PE", {"GGA": "PE"}),
    "pbesol": ("PE", {"GGA": "PS"}),
    "rpbe": ("PE", {"GGA": "RP"}),
    "scan": ("PE", {"METAGGA": "SCAN"}),
    "r2scan": ("PE", {"METAGGA": "R2SCAN"}),
}
"""For each functional the LEXCH of the POTCARs that serve it, and its tags."""
ELECTRONIC_SIGMA_EV = 0.01
"""Width of what VASP knows no other word for: levels that are full or empty."""
HOW_NOT_WHAT = frozenset(
    (  # noqa: SIM905
        "ALGO IALGO NELM NELMIN NELMDL LDIAG TIME AMIX BMIX AMIN AMIX_MAG BMIX_MAG IMIX MAXMIX INIMIX MIXPRE WC "
        "NSIM KPAR NCORE NPAR LPLANE LSCALU LSCALAPACK LWAVE LCHARG LORBIT NWRITE SYSTEM ISTART ICHARG INIWAV"
    ).split()
)
"""Tags that change how an answer is found and not the answer; they are no part of the level of theory."""
BY_ELEMENT = frozenset(("LDAUL", "LDAUU", "LDAUJ", "RWIGS", "ROPT"))
_ABSENT = {"LDAUL": -1}
SET_ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("NSW", "IBRION", "POTIM"), "curator calculates one configuration at a time"),
    **dict.fromkeys(("IMAGES", "ICHAIN", "LCLIMB", "ML_LMLFF"), "curator calculates one configuration at a time"),
    "ISIF": "forces and stress are always calculated",
    "PSTRESS": "a label holds no work of an outer pressure",
    **dict.fromkeys(("ISTART", "ICHARG"), "a calculation starts from the beginning"),
    **dict.fromkeys(("ENCUT", "ENMAX"), "give label.cutoff_eV"),
    "EDIFF": "give label.convergence_eV",
    "SIGMA": "give label.smearing_eV, 0 for an insulator",
    **dict.fromkeys(("KSPACING", "KGAMMA"), "give label.kpoint_spacing_per_A; grids are centred on Γ"),
    **dict.fromkeys(("GGA", "METAGGA", "XC"), "give label.functional"),
    "NELECT": "give system.charge",
    **dict.fromkeys(("ISPIN", "NUPDOWN", "MAGMOM"), "give system.multiplicity"),
}
_HEAD_BYTES = 20_000


@dataclass(frozen=True, slots=True)
class Potcar:
    """What a POTCAR of one element says of itself.

    Attributes
    ----------
    path
        The file.
    title
        Its TITEL: ``PAW_PBE Li_sv 10Sep2004``.
    valence
        Electrons that it leaves to be calculated.
    cutoff_eV
        Plane-wave cutoff below which it should not be used (ENMAX), in eV.
    lexch
        Exchange and correlation that it was made with: ``PE``, ``CA``.
    sha256
        Of the whole file.
    """

    path: Path
    title: str
    valence: float
    cutoff_eV: float
    lexch: str
    sha256: str


@dataclass(frozen=True, slots=True)
class VaspSettings:
    """Everything that is set in VASP for all frames alike.

    Attributes
    ----------
    potcars
        Path of a POTCAR of one element by symbol.
    functional
        One of `FUNCTIONALS`.
    cutoff_eV
        Plane-wave cutoff in eV (ENCUT).
    kpoint_spacing_per_A
        Largest distance of k-points in 1/Å, with the factor 2π, as KSPACING; grids are centred on Γ.
    convergence_eV
        Change of the energy in eV at which the SCF cycle ends (EDIFF).
    smearing_eV
        Smearing in eV (SIGMA), Gaussian unless ``incar`` names another ISMEAR; 0 for levels that are full or empty.
    charge
        Total charge in e.
    multiplicity
        Spin multiplicity; 0 and 1 calculate without spin.
    incar
        Further tags; a value by symbol for those of `BY_ELEMENT`.
    """

    potcars: Mapping[str, str]
    functional: str
    cutoff_eV: float
    kpoint_spacing_per_A: float
    convergence_eV: float
    smearing_eV: float = 0.0
    charge: int = 0
    multiplicity: int = 0
    incar: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.functional not in FUNCTIONALS:
            raise ValueError(f"functional: {self.functional!r} is unknown; there are {', '.join(FUNCTIONALS)}")
        object.__setattr__(self, "incar", {tag.upper(): value for tag, value in self.incar.items()})
        _check_tags(self.incar)


def tags_of(settings: VaspSettings) -> dict[str, object]:
    """INCAR of all frames alike, nothing left to a default that changes the answer."""
    spin: dict[str, object] = {"ISPIN": 1}
    if settings.multiplicity > 1:
        spin = {"ISPIN": 2, "NUPDOWN": settings.multiplicity - 1}
    return {
        **FUNCTIONALS[settings.functional][1],
        "PREC": "Accurate",
        "ENCUT": settings.cutoff_eV,
        "EDIFF": settings.convergence_eV,
        "ISMEAR": 0,
        "SIGMA": settings.smearing_eV or ELECTRONIC_SIGMA_EV,
        "LASPH": True,
        "LREAL": False,
        **spin,
        "IBRION": -1,
        "NSW": 0,
        "ISIF": 2,
        "ISTART": 0,
        "ICHARG": 2,
        "ALGO": "Normal",
        "NELM": 100,
        "LWAVE": False,
        "LCHARG": False,
        **settings.incar,
    }


def vasp_theory(settings: VaspSettings) -> Theory:
    """Level of theory: the tags, the density of k-points and the POTCARs by their hashes.

    Raises
    ------
    ValueError
        If a POTCAR is missing, was made for another functional, or needs a higher cutoff.
    """
    potcars = {symbol: read_potcar(Path(path)) for symbol, path in sorted(settings.potcars.items())}
    lexch = FUNCTIONALS[settings.functional][0]
    for potcar in potcars.values():
        if potcar.lexch != lexch:
            raise ValueError(
                f"{potcar.path} is of LEXCH = {potcar.lexch}, functional {settings.functional} needs {lexch}; "
                "take the POTCARs from another library"
            )
        if potcar.cutoff_eV > settings.cutoff_eV:
            raise ValueError(
                f"cutoff_eV: {settings.cutoff_eV:g} is less than the {potcar.cutoff_eV:g} that {potcar.title} needs "
                "(ENMAX); a stress needs some 1.3 times as much"
            )
    return Theory(
        method=settings.functional,
        code="vasp",
        settings={
            "incar": {tag: value for tag, value in sorted(tags_of(settings).items()) if tag not in HOW_NOT_WHAT},
            "kpoint_spacing_per_A": settings.kpoint_spacing_per_A,
            "charge": settings.charge,
            "spin": spin_of(settings.multiplicity),
        },
        hashes={symbol: potcar.sha256 for symbol, potcar in potcars.items()},
    )


def input_problem(atoms: Atoms, settings: VaspSettings) -> str | None:
    """Tell why VASP cannot be asked about a configuration; None if it can."""
    missing = sorted(set(atoms.symbols) - set(settings.potcars))
    if missing:
        return f"no POTCAR of {', '.join(missing)}; name them in label.pseudopotentials"
    if atoms.cell.rank < 3:
        return "VASP needs three cell vectors; put the atoms in a box"
    valence = {symbol: read_potcar(Path(path)).valence for symbol, path in settings.potcars.items()}
    smearing = {"smearing_eV": settings.smearing_eV}
    return electrons_problem(atoms, valence, settings.charge, settings.multiplicity, smearing)


def species_of(atoms: Atoms) -> list[str]:
    """Symbols in the order in which they first appear: that of the POTCAR."""
    return list(dict.fromkeys(atoms.symbols))


def order_of(atoms: Atoms) -> np.ndarray:
    """Indices that bring the atoms of one element together, in the order of `species_of`."""
    species = species_of(atoms)
    return np.argsort([species.index(symbol) for symbol in atoms.symbols], kind="stable")


def n_electrons(atoms: Atoms, settings: VaspSettings) -> float:
    """Electrons that are calculated."""
    return sum(read_potcar(Path(settings.potcars[symbol])).valence for symbol in atoms.symbols) - settings.charge


def write_input(atoms: Atoms, settings: VaspSettings, changes: Mapping[str, object], folder: Path) -> None:
    """Write INCAR, KPOINTS, POSCAR and POTCAR; atoms of one element stand together, as `order_of` has them."""
    species = species_of(atoms)
    tags = tags_of(settings) | {"NELECT": n_electrons(atoms, settings)} | dict(changes)
    if settings.multiplicity > 1:
        tags["MAGMOM"] = f"{len(atoms)}*{(settings.multiplicity - 1) / len(atoms):.6f}"
    text = "".join(f"{tag} = {_said(tag, value, species)}\n" for tag, value in tags.items())
    (folder / "INCAR").write_text(text)
    grid = " ".join(map(str, kpoint_grid(atoms, settings.kpoint_spacing_per_A)))
    (folder / "KPOINTS").write_text(f"spacing {settings.kpoint_spacing_per_A:g} 1/A\n0\nGamma\n{grid}\n0 0 0\n")
    together = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=True)[order_of(atoms)]
    if together.cell.handedness < 0:
        together.cell *= -1  # the same lattice, of the one hand that VASP takes
    write_vasp(folder / "POSCAR", together, direct=False)
    potcars = [Path(settings.potcars[symbol]).read_bytes() for symbol in species]
    (folder / "POTCAR").write_bytes(b"".join(potcars))


def find_potcars(folder: Path, symbols: set[str], setups: Mapping[str, str]) -> dict[str, str]:
    """POTCARs of elements in a library, a folder such as ``potpaw_PBE.64`` with one folder for each variant.

    Parameters
    ----------
    folder
        The library.
    symbols
        Elements.
    setups
        Variant by symbol, such as ``Li_sv``; an element that is not named has the plain one.

    Raises
    ------
    ValueError
        If the library or a POTCAR is missing.
    """
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}; the POTCARs come with a licence of VASP, and are not shipped here")
    found = {}
    for symbol in sorted(symbols):
        variant = setups.get(symbol, symbol)
        potcar = folder / variant / "POTCAR"
        if not potcar.is_file():
            pattern = re.compile(rf"{symbol}(?![a-z])")
            names = [path.parent.name for path in sorted(folder.glob("*/POTCAR")) if pattern.match(path.parent.name)]
            choice = f"choose one with setups: {{{symbol}: {names[0]}}}" if names else "name the folder of a library"
            raise ValueError(f"no POTCAR {potcar}; of {symbol} there are {', '.join(names) or 'none'}; {choice}")
        found[symbol] = str(potcar)
    return found


@lru_cache(maxsize=64)
def read_potcar(path: Path) -> Potcar:
    """What a POTCAR says of itself.

    Raises
    ------
    ValueError
        If there is no such file, or it is not the POTCAR of one element.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"POTCAR {path}: cannot be read ({error.strerror or error})") from None
    titles = re.findall(rb"^\s*TITEL\s*=\s*(.+?)\s*$", content, re.MULTILINE)
    head = content[:_HEAD_BYTES].decode("latin-1")
    values = {}
    for tag, pattern in (("LEXCH", r"(\w+)"), ("ZVAL", r"([\d.]+)"), ("ENMAX", r"([\d.]+)")):
        match = re.search(rf"\b{tag}\s*=\s*{pattern}", head)
        if match is not None:
            values[tag] = match[1]
    if len(titles) != 1 or len(values) != 3:
        raise ValueError(f"POTCAR {path}: is not that of one element, with its TITEL, LEXCH, ZVAL and ENMAX")
    return Potcar(
        path=path,
        title=titles[0].decode("latin-1"),
        valence=float(values["ZVAL"]),
        cutoff_eV=float(values["ENMAX"]),
        lexch=values["LEXCH"],
        sha256=hashlib.sha256(content).hexdigest(),
    )


def changed_potcar(settings: VaspSettings, species: Sequence[str]) -> str | None:
    """Path of a POTCAR that is another than it was when the level of theory was named; None if there is none."""
    for symbol in species:
        potcar = read_potcar(Path(settings.potcars[symbol]))
        if not potcar.path.is_file() or hashlib.sha256(potcar.path.read_bytes()).hexdigest() != potcar.sha256:
            return str(potcar.path)
    return None


def _said(tag: str, value: object, species: Sequence[str]) -> str:
    """Value as INCAR has it."""
    if isinstance(value, bool):
        return ".TRUE." if value else ".FALSE."
    if isinstance(value, Mapping):
        return " ".join(str(value.get(symbol, _ABSENT.get(tag, 0.0))) for symbol in species)
    if isinstance(value, list | tuple):
        return " ".join(_said(tag, each, species) for each in value)
    return str(value)


def _check_tags(given: Mapping[str, object]) -> None:
    known = set(json.loads((files("pymatgen.io.vasp") / "incar_parameters.json").read_text()))
    for tag, value in given.items():
        if tag in SET_ELSEWHERE:
            raise ValueError(f"incar.{tag}: cannot be set here; {SET_ELSEWHERE[tag]}")
        if tag not in known:
            close = difflib.get_close_matches(tag, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f"incar.{tag}: VASP knows no such tag{hint}")
        if (tag in BY_ELEMENT) != isinstance(value, Mapping):
            how = (
                f"give its values by element, such as {{Li: {_ABSENT.get(tag, 0)}}}"
                if tag in BY_ELEMENT
                else "one value"
            )
            raise ValueError(f"incar.{tag}: {value!r} cannot be used; {how}: elements come in the order of the frame")
