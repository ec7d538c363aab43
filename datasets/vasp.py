"""VASP: ``vasprun.xml`` and ``OUTCAR``.

The energy is the free energy (``free  energy   TOTEN``, ``e_fr_energy``), of which the forces are the gradient, and
not ``energy(sigma->0)``, which is an extrapolation. Under ``PSTRESS`` vasprun.xml holds an enthalpy instead: the
pressure times the volume is taken off again.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress

from curator.datasets.output import Output, Step
from curator.datasets.textfile import read_text
from curator.datasets.units import KBAR

_NOTHING = ("", "--", "F", "NONE", "FALSE")
_WITH_PARAMETERS = ("BO", "MK")
"""Values of GGA that PARAM1 and PARAM2 belong to."""
_DEFAULTS = {"AGGAC": 1.0, "ZAB_VDW": -0.8491, "PARAM1": 0.1234, "PARAM2": 1.0}
"""Of what an OUTCAR need not print."""

_TAGS = {
    "ENCUT": r"^\s+ENCUT\s*=\s*([\d.]+) eV",
    "GGA": r"^\s+GGA\s*=\s*(\S+)",
    "METAGGA": r"^\s+METAGGA\s*=\s*(\S+)",
    "LHFCALC": r"^\s+LHFCALC\s*=\s*(\S+)",
    "AEXX": r"^\s+AEXX\s*=\s*([\d.]+)",
    "HFSCREEN": r"^\s+HFSCREEN\s*=\s*([\d.]+)",
    "IVDW": r"^\s+IVDW\s*=\s*(\d+)",
    "LUSE_VDW": r"^\s+LUSE_VDW\s*=\s*(\S+)",
    **{name: rf"^\s+(?i:{name})\s*=\s*(-?[\d.]+)" for name in _DEFAULTS},
    "ISPIN": r"^\s+ISPIN\s*=\s*(\d+)",
    "ISMEAR": r"^\s+ISMEAR\s*=\s*(-?\d+)",
    "SIGMA": r"SIGMA\s*=\s*([\d.]+)",
}


def read_vasprun(path: Path) -> Output:
    """Steps of a ``vasprun.xml``; of one that is cut off, those that are whole.

    A step counts as converged if its electrons took fewer than ``NELM`` iterations. Steps of a force field that VASP
    learns on the fly have none and are not read.
    """
    from pymatgen.io.vasp.outputs import Vasprun

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = Vasprun(path, parse_dos=False, parse_eigen=False, parse_potcar_file=False, exception_on_bad_xml=False)
    n_most = int(run.parameters["NELM"])
    pressure = float(run.parameters.get("PSTRESS", 0.0) or 0.0) * KBAR
    info = _info(*_ions_of(read_text(path).partition("</atominfo>")[0]), run.parameters.get("NELECT"))
    steps = []
    for found in run.ionic_steps:
        structure = found["structure"]
        if structure is None:
            continue
        atoms = Atoms(run.atomic_symbols, structure.cart_coords, cell=structure.lattice.matrix, pbc=True, info=info)
        energy, forces, stress = found.get("e_fr_energy"), found.get("forces"), found.get("stress")
        steps.append(
            Step(
                atoms,
                None if energy is None else float(energy) - pressure * structure.volume,
                None if forces is None else np.array(forces, dtype=np.float64),
                None if stress is None else full_3x3_to_voigt_6_stress(-KBAR * np.array(stress, dtype=np.float64)),
                converged=0 < len(found["electronic_steps"]) < n_most,
            )
        )
    told = {name.upper(): value for name, value in {**run.incar, **run.parameters}.items()}
    tags = {name: told.get(name) for name in _TAGS} | {"ENCUT": told.get("ENMAX", told.get("ENCUT"))}
    mesh = run.kpoints.kpts[0] if len(run.kpoints.kpts) == 1 else None
    kpoints: object = [int(n) for n in mesh] if mesh is not None else len(run.actual_kpoints)
    hubbard = [run.hubbards.get(_element(title), 0.0) for title in run.potcar_symbols]
    return _output(steps, tags, run.potcar_symbols, hubbard, kpoints, str(run.vasp_version))


def read_outcar(path: Path) -> Output:
    """Steps of an ``OUTCAR``, whose positions have five decimals only: ``vasprun.xml`` is the better source.

    A step counts as converged if the loop over its electrons says that ``EDIFF`` was reached.
    """
    text = read_text(path)
    images: list[Atoms] = ase.io.read(path, index=":", format="vasp-out")
    # What comes before each line of final energies is the loop that led to it.
    loops = text.split("FREE ENERGIE OF THE ION-ELECTRON SYSTEM")[:-1]
    head = text[: text.find("Iteration")]
    per_type = re.search(r"ions per type\s*=((?:\s+\d+)+)", head)
    counts = [int(n) for n in per_type[1].split()] if per_type else []
    valences = [float(z) for z in re.findall(r"ZVAL\s*=\s*([\d.]+)\s+mass and valenz", head)]
    n_electrons = re.search(r"NELECT\s*=\s*([\d.]+)\s+total number", head)
    info = _info(counts, valences, None if n_electrons is None else n_electrons[1])
    steps = []
    # A run that was killed may have ended between the two.
    for atoms, loop in zip(images, loops, strict=False):
        results = atoms.calc.results
        stress = results.get("stress")
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, info=info)
        converged = "aborting loop because EDIFF is reached" in loop
        steps.append(Step(bare, results.get("free_energy"), results.get("forces"), stress, converged))
    tags: dict[str, object] = {}
    for name, pattern in _TAGS.items():
        found = re.search(pattern, head, re.MULTILINE)
        tags[name] = None if found is None else found[1]
    n_kpoints = re.search(r"NKPTS\s*=\s*(\d+)", head)
    version = re.search(r"vasp\.(\S+)", text[:200])
    matches = [re.search(rf"^.*{name}\s*=((?:\s+-?[\d.]+)+)", head, re.MULTILINE) for name in ("LDAUU", "LDAUJ")]
    u, j = ([float(x) for x in match[1].split()] if match else None for match in matches)
    titles = re.findall(r"TITEL\s*=\s*(.+?)\s*$", head, re.MULTILINE)
    hubbard = [0.0] * len(titles) if u is None else [a - b for a, b in zip(u, j or [0.0] * len(u), strict=True)]
    kpoints = int(n_kpoints[1]) if n_kpoints else None
    return _output(steps, tags, titles, hubbard, kpoints, version[1] if version else "")


def _element(title: str) -> str:
    """Element of a pseudopotential such as ``PAW_PBE Li_sv 10Sep2004``, whose second word begins with it."""
    return re.split(r"[_.\d]", title.split()[1])[0]


def _ions_of(head: str) -> tuple[list[int], list[float]]:
    """Number of ions of each kind, and their valences, that the head of a ``vasprun.xml`` lists."""
    rows = re.findall(r"<rc>(.*?)</rc>", head.partition('name="atomtypes"')[2], re.DOTALL)
    cells = [re.findall(r"<c>\s*(.*?)\s*</c>", row, re.DOTALL) for row in rows]
    return [int(cell[0]) for cell in cells], [float(cell[3]) for cell in cells]


def _info(counts: Sequence[int], valences: Sequence[float], n_electrons: object) -> dict[str, int]:
    """Charge in e: what the valences of the ions exceed the electrons by; nothing where the file does not tell both."""
    if n_electrons is None or not counts or len(counts) != len(valences):
        return {}
    return {"charge": round(float(np.dot(counts, valences)) - float(str(n_electrons)))}


def _output(
    steps: list[Step],
    tags: Mapping[str, object],
    potentials: list[str],
    hubbard_eV: list[float],
    kpoints: object,
    version: str,
) -> Output:
    """Say the same of a run whichever file it is read from."""

    def word(name: str) -> str | None:
        value = str(tags[name] if tags[name] is not None else "").strip().strip(".").upper()
        return None if value in _NOTHING else value

    def number(name: str) -> float | None:
        return None if tags[name] is None else float(str(tags[name]))

    def default(name: str) -> float:
        value = number(name)
        return _DEFAULTS[name] if value is None else value

    gga = word("GGA") or "as the potentials"
    if gga in _WITH_PARAMETERS:
        gga += f" of {default('PARAM1'):.4g} and {default('PARAM2'):.4g}"
    exchange: object = 0.0 if word("LHFCALC") is None else number("AEXX")
    if exchange and (screening := number("HFSCREEN")):
        exchange = f"{exchange}, screened at {screening:g} per Å"
    dispersion: object = int(number("IVDW") or 0)
    if word("LUSE_VDW") is not None:
        dispersion = f"{dispersion}, nonlocal with ZAB_VDW {default('ZAB_VDW'):.5g} and AGGAC {default('AGGAC'):g}"
    # What is absent is told as well, so that a run with dispersion is not taken for one like the others.
    settings = {
        "cutoff_eV": number("ENCUT"),
        "gga": gga,
        "metagga": word("METAGGA") or "none",
        "exact_exchange": exchange,
        "dispersion": dispersion,
    }
    details = {
        "kpoints": kpoints,
        "spin": None if number("ISPIN") is None else int(number("ISPIN") or 0),
        "smearing": None if number("ISMEAR") is None else int(number("ISMEAR") or 0),
        "smearing_width_eV": number("SIGMA"),
        "pseudopotentials": {_element(title): title for title in potentials},
        "hubbard_U_eV": {_element(title): u for title, u in zip(potentials, hubbard_eV, strict=True)},
    }
    return Output(
        "vasp",
        tuple(steps),
        settings,
        {key: value for key, value in details.items() if value is not None},
        {"vasp": version.split()[0]} if version else {},
    )
