"""Quantum ESPRESSO: the output of ``pw.x``.

Its total energy is the free energy of the smeared electrons, of which the forces are the gradient.
"""

import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import ase.io
from ase import Atoms

from curator.datasets.output import Output, Step
from curator.datasets.textfile import read_text

_HEAD = "Program PWSCF"
_ENERGY = "!    total energy"
_FAILED = "convergence NOT achieved"
_PSEUDO = re.compile(r"PseudoPot\. #\s*\d+ for\s+(\S+)\s+read from file:\s+(\S.*?)\s*\n\s*MD5 check sum:\s*(\w+)")
_TERMS: Mapping[str, str] = {
    "SLA PZ": "PZ",
    "SLA PW": "PW",
    "SLA PZ B88 P86": "BP",
    "SLA PW GGX GGC": "PW91",
    "SLA PW PBX PBC": "PBE",
    "SLA PW PBE PBE": "PBE",
    "SLA PW RPB PBC": "REVPBE",
    "SLA PW REVX PBC": "REVPBE",
    "SLA PW PSX PSC": "PBESOL",
    "SLA PW HHNX PBC": "RPBE",
    "SLA PW WCX PBC": "WC",
    "SLA LYP B88 BLYP": "BLYP",
    "SLA PW HSE PBC": "HSE",
    "PB0X PW PB0X PBC": "PBE0",
    "LDA": "PZ",
}
"""Short names of functionals by their terms: XClib/qe_dft_list.f90 of Quantum ESPRESSO, funct.f90 for older ones."""
_NO_TERM = ("NOGX", "NOGC", "NONE")
_DISPERSIONS = ("Grimme-D2", "DFT-D3", "TS-vdW", "XDM", "MBD")
"""As the output names them."""


def read_espresso(path: Path) -> Output:
    """Steps of an output of ``pw.x``, of one run or of several one after the other.

    A step counts as converged if the accuracy printed with its energy is within the threshold. What the output says
    in words does not do: with ``scf_must_converge = .false.`` it reads "convergence has been achieved" when the
    iterations have run out. A step that stops the run has no energy at all.
    """
    text = read_text(path)
    # A configuration begins with a run, or with new positions. Relaxations print the last one once more.
    parts = [part for part in re.split(rf"(?={_HEAD}|ATOMIC_POSITIONS)", text)[1:] if _is_step(part) or _is_head(part)]
    # Without the bands, which ASE's reader trips over where the electrons did not converge.
    bare = "".join(parts).replace("End of self-consistent calculation", "").replace("End of band structure", "")
    images = ase.io.read(StringIO(bare), index=":", format="espresso-out", results_required=False)
    threshold: float | None = None
    charge: int | None = None
    steps = []
    for atoms, part in zip(images, parts, strict=True):
        charge = _charge(part, atoms) if _is_head(part) else charge
        info = {} if charge is None else {"charge": charge}
        threshold = threshold_Ry(part) or threshold
        reached = accuracies_Ry(part.partition(_ENERGY)[2])[:1]
        results = atoms.calc.results
        if _is_step(part):
            steps.append(
                Step(
                    Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, info=info),
                    results.get("energy"),
                    results.get("forces"),
                    results.get("stress"),
                    converged=_FAILED not in part
                    and bool(reached)
                    and threshold is not None
                    and reached[0] <= threshold,
                )
            )
    runs = [_about(run) for run in re.split(rf"(?={_HEAD})", text)[1:]]
    if any(settings != runs[0][0] for settings, *_ in runs):
        raise ValueError("its runs differ in functional or cutoff; give each level of theory a file of its own")
    return Output("espresso", tuple(steps), *runs[0])


def functional_named(text: str) -> str:
    """Functional by its short name, ``PBE``, also where ``pw.x`` or a file lists its terms, ``SLA PW PBX PBC``.

    Terms are given back as they are if they have no short name here; numbers in brackets after them do not count.
    """
    name = text.partition("(")[0].strip().upper()
    terms = [term for term in re.split(r"[\s+-]+", name) if term not in _NO_TERM]
    return _TERMS.get(" ".join(terms), " ".join(name.split()))


def functional_used(text: str) -> str | None:
    """Functional that an output says it was calculated with; None if it does not say."""
    found = re.search(r"Exchange-correlation\s*=\s*(\S.*)", text)
    return None if found is None else functional_named(found[1])


def threshold_Ry(text: str) -> float | None:
    """Estimated error of the energy in Ry at which the iterations were to end; None if the output does not tell."""
    found = re.search(r"scf convergence threshold\s*=\s*(\S+)", text)
    return None if found is None else _float(found[1])


def accuracies_Ry(text: str) -> list[float]:
    """Estimated error of the energy in Ry after each iteration."""
    return [_float(found) for found in re.findall(r"estimated scf accuracy\s*<\s*(\S+)", text)]


def potentials_read(text: str) -> list[tuple[str, str, str]]:
    """Species, file and MD5 of each pseudopotential that was read."""
    return [(species, file, digest) for species, file, digest in _PSEUDO.findall(text)]


def _is_head(part: str) -> bool:
    return part.startswith(_HEAD)


def _is_step(part: str) -> bool:
    return _ENERGY in part or _FAILED in part


def _charge(head: str, atoms: Atoms) -> int | None:
    """Charge in e: what the valence of the species, which the head of a run lists, exceeds the electrons by."""
    electrons = re.search(r"number of electrons\s*=\s*([\d.]+)", head)
    table = re.search(r"atomic species\s+valence\s+mass\s+pseudopotential\s*\n((?:[ \t]*\S.*\n)+)", head)
    if electrons is None or table is None:
        return None
    rows = [line.split() for line in table[1].splitlines()]
    valence = {_element(row[0]): float(row[1]) for row in rows}
    if not set(atoms.symbols) <= set(valence):
        return None
    return round(sum(valence[symbol] for symbol in atoms.symbols) - float(electrons[1]))


def _about(text: str) -> tuple[dict[str, object], dict[str, object], dict[str, str]]:
    """Settings, details and version that the head of the output tells."""

    def found(pattern: str) -> str | None:
        match = re.search(pattern, text)
        return None if match is None else match[1].strip()

    settings: dict[str, object] = {
        "functional": functional_used(text) or "unknown",
        "dispersion": next((name for name in _DISPERSIONS if name in text), "none"),
    }
    for name, pattern in (
        ("cutoff_Ry", r"kinetic-energy cutoff\s*=\s*([\d.]+)"),
        ("density_cutoff_Ry", r"charge density cutoff\s*=\s*([\d.]+)"),
    ):
        if (value := found(pattern)) is not None:
            settings[name] = float(value)
    potentials = {_element(name): f"{Path(file).name} md5:{digest}" for name, file, digest in potentials_read(text)}
    spin = 4 if "Noncollinear calculation" in text else 2 if "Starting magnetic structure" in text else 1
    details: dict[str, object] = {
        "pseudopotentials": potentials,
        "hubbard_U_eV": dict.fromkeys(potentials, 0.0) | _hubbard_eV(text),
        "spin": spin,
    }
    if (n_kpoints := found(r"number of k points=\s*(\d+)")) is not None:
        details["kpoints"] = int(n_kpoints)
    if (smearing := found(r"number of k points=\s*\d+ +(\S.*?smearing.*?=\s*[\d.]+)")) is not None:
        details["smearing"] = " ".join(smearing.split())
    version = found(r"Program PWSCF v\.?(\S+)")
    return settings, details, {} if version is None else {"espresso": version}


def _hubbard_eV(text: str) -> dict[str, float]:
    """Hubbard U by element: a table up to version 7.0, a line for each shell since then."""
    table = re.search(r"atomic species\s+L\s+U\s+alpha.*\n((?:[ \t]*\S.*\n)+)", text)
    rows = [line.split() for line in table[1].splitlines()] if table else []
    shells = re.findall(r"^\s+U\((\w+)-\d\w\)\s*=\s*(-?[\d.]+)", text, re.MULTILINE)
    return {_element(name): float(value) for name, value in [(row[0], row[2]) for row in rows] + shells}


def _element(species: str) -> str:
    """Element of a species such as ``Fe1``, ``Fe_up`` or ``Fe-pbe``."""
    return re.split(r"[_\-\d]", species)[0]


def _float(text: str) -> float:
    return float(text.upper().replace("D", "E"))
