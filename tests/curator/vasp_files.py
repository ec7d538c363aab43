"""Files as VASP writes them, with numbers that are known."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import GPa

from curator.backends.classical import FumiTosiLiF

TITLES = {"Li": "PAW_PBE Li_sv 10Sep2004", "F": "PAW_PBE F 08Apr2002", "Cl": "PAW_PBE Cl 06Sep2000"}
VALENCES = {"Li": 3.0, "F": 7.0, "Cl": 7.0}
PBE_520 = {"cutoff_eV": 520.0, "gga": "PE", "metagga": "none", "exact_exchange": 0.0, "dispersion": 0}
"""What is told of the settings of these files."""
ENDS = {True: "because EDIFF is reached", False: "EDIFF was not reached (unconverged)"}
ENTROPY_eV = 0.02
"""What energy(sigma->0) lies above the free energy."""


def walk(n_steps: int, seed: int = 0, step_A: float = 0.02) -> list[Atoms]:
    """Images of a smooth path of strained LiF with the energies, forces and stresses of a classical potential."""
    rng = np.random.default_rng(seed)
    start = bulk("LiF", "rocksalt", a=4.1, cubic=True)
    start = start[np.argsort(start.numbers)]
    start.set_cell(start.cell.array @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True)
    start.positions += rng.normal(scale=0.05, size=(len(start), 3))
    direction = rng.normal(size=(len(start), 3))
    images = []
    for idx in range(n_steps):
        image = start.copy()
        image.positions += step_A * idx * direction
        image.calc = FumiTosiLiF()
        results = {
            "energy": image.get_potential_energy(),
            "forces": image.get_forces(),
            "stress": image.get_stress(),
        }
        image.calc = SinglePointCalculator(image, **results)
        images.append(image)
    return images


def write_vasprun(
    path: Path,
    images: Sequence[Atoms],
    *,
    n_iterations: Sequence[int] | None = None,
    nelm: int = 60,
    encut: float = 520.0,
    pstress_kbar: float = 0.0,
    mesh: tuple[int, int, int] = (2, 2, 2),
    ivdw: int = 0,
    titles: dict[str, str] = TITLES,
    charge: int | None = None,
    tags: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Write a ``vasprun.xml`` of images whose calculators hold free energy, forces and stress in ASE's units.

    NELECT is written if a charge is given; further ``tags`` are numbers or logicals.
    """
    symbols = images[0].get_chemical_symbols()
    kinds = list(dict.fromkeys(symbols))
    assert symbols == sorted(symbols, key=kinds.index), "VASP sorts atoms by element"
    atoms = "".join(f"<rc><c>{s:<2}</c><c>{kinds.index(s) + 1:4d}</c></rc>" for s in symbols)
    types = "".join(
        f"<rc><c>{symbols.count(s):4d}</c><c>{s:<2}</c><c>1.0</c><c>{VALENCES[s]}</c><c>{titles[s]:<40}</c></rc>"
        for s in kinds
    )
    parts = [
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n<generator>',
        '<i name="program" type="string">vasp </i><i name="version" type="string">6.3.0  </i></generator>',
        f'<incar><i name="ENCUT">{encut}</i></incar>',
        f'<kpoints><generation param="Gamma"><v type="int" name="divisions">{mesh[0]} {mesh[1]} {mesh[2]}</v>',
        '<v name="usershift">0 0 0</v></generation><varray name="kpointlist"><v>0 0 0</v></varray>',
        '<varray name="weights"><v>1.0</v></varray></kpoints>',
        f'<parameters><separator name="electronic"><i name="ENMAX">{encut}</i><i type="int" name="ISPIN">1</i>',
        f'<i type="int" name="NELM">{nelm}</i><i type="int" name="ISMEAR">0</i><i name="SIGMA">0.05</i>',
        f'<i name="PSTRESS">{pstress_kbar}</i><i type="string" name="GGA">PE</i>',
        '<i type="string" name="METAGGA">--</i>',
        "" if "LHFCALC" in tags else '<i type="logical" name="LHFCALC">F</i>',
        f'<i type="int" name="IVDW">{ivdw}</i>',
        "" if charge is None else f'<i name="NELECT">{_n_electrons(symbols, charge)}</i>',
        *(
            f'<i type="logical" name="{name}">{"T" if value else "F"}</i>'
            if isinstance(value, bool)
            else f'<i name="{name}">{value}</i>'
            for name, value in tags.items()
        ),
        "</separator></parameters>",
        f"<atominfo><atoms>{len(symbols)}</atoms><types>{len(kinds)}</types>",
        '<array name="atoms"><field type="string">element</field><field type="int">atomtype</field>',
        f'<set>{atoms}</set></array><array name="atomtypes"><field type="int">atomspertype</field>',
        '<field type="string">element</field><field>mass</field><field>valence</field>',
        f'<field type="string">pseudopotential</field><set>{types}</set></array></atominfo>',
        _structure(images[0], ' name="initialpos"'),
    ]
    for image, n in zip(images, n_iterations or [12] * len(images), strict=True):
        results = image.calc.results
        energy = results["energy"]
        pv = pstress_kbar * 0.1 * GPa * image.get_volume()
        parts += ["<calculation>", _energies(energy, "scstep") * n, _structure(image, "")]
        parts += [_varray("forces", results["forces"]), _varray("stress", -_matrix(results["stress"]) / (0.1 * GPa))]
        # Here, and not in the steps of the electrons, stands the enthalpy.
        parts += [_energies(energy + pv, ""), "</calculation>"]
    parts += [_structure(images[-1], ' name="finalpos"'), "</modeling>"]
    path.write_text("\n".join(parts))


def write_outcar(
    path: Path,
    images: Sequence[Atoms],
    *,
    converged: Sequence[bool] | None = None,
    charge: int | None = None,
    tags: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Write an ``OUTCAR`` of the same; positions have five decimals."""
    symbols = images[0].get_chemical_symbols()
    kinds = list(dict.fromkeys(symbols))
    lines = [" vasp.6.3.0 20Jan22 (build Jan 01 2026 00:00:00) complex", ""]
    # As VASP does: all at the beginning, and each before its details.
    lines += [f" POTCAR:    {TITLES[s]}" for s in kinds] * 2
    for s in kinds:
        lines += [f"   VRHFIN ={s}: s1p0", f"   TITEL  = {TITLES[s]}"]
        lines += [f"   POMASS =    1.000; ZVAL   = {VALENCES[s]:8.3f}    mass and valenz"]
    lines += [
        f"   ions per type =             {'  '.join(str(symbols.count(s)) for s in kinds)}",
        "   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   number of bands    NBANDS=     16",
        " k-points in reciprocal lattice and weights: Gamma",
        "   0.00000000  0.00000000  0.00000000     1.000",
        "   ENCUT  =  520.0 eV  38.22 Ry    6.18 a.u.   5.00  5.00  5.00*2*pi/ulx,y,z",
        "   ISPIN  =      1    spin polarized calculation?",
        "   NELM   =     60;   NELMIN=  2; NELMDL= -5     # of ELM steps",
        "   ISMEAR =     0;   SIGMA  =   0.05  broadening in eV -4-tet -1-fermi 0-gaus",
        "   GGA     =    PE    GGA type",
        "   METAGGA =    --    METAGGA type",
        *([] if "LHFCALC" in tags else ["   LHFCALC =     F    Hartree Fock is set to"]),
        *(f"   {name:<8}= {'FT'[value] if isinstance(value, bool) else value} " for name, value in tags.items()),
    ]
    if charge is not None:
        lines.append(f"   NELECT = {_n_electrons(symbols, charge):12.4f}    total number of electrons")
    for idx, (image, good) in enumerate(zip(images, converged or [True] * len(images), strict=True), start=1):
        results = image.calc.results
        kbar = -results["stress"] / (0.1 * GPa)
        volume = image.get_volume()
        lines += [
            f"--------------------------------------- Iteration {idx:6d}(   1)  ----------------------------------",
            "  free energy    TOTEN  =         0.00000000 eV",
            f"------- aborting loop {ENDS[good]} -------",
            "  in kB  " + "".join(f"{kbar[i]:14.5f}" for i in (0, 1, 2, 5, 3, 4)),
            f"  volume of cell : {volume:14.2f}",
            "      direct lattice vectors                 reciprocal lattice vectors",
            *("    " + "".join(f"{x:13.9f}" for x in row) + "  0.0  0.0  0.0" for row in image.cell.array),
            " POSITION                                       TOTAL-FORCE (eV/Angst)",
            " " + "-" * 83,
            *(
                "  " + "".join(f"{x:13.5f}" for x in r) + "   " + "".join(f"{x:14.6f}" for x in f)
                for r, f in zip(image.positions, results["forces"], strict=True)
            ),
            " " + "-" * 83,
            "    total drift:                                0.000000      0.000000      0.000000",
            "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)",
            "  ---------------------------------------------------",
            f"  free  energy   TOTEN  = {results['energy']:20.8f} eV",
            "",
            f"  energy  without entropy= {results['energy'] + 2 * ENTROPY_eV:20.8f}  "
            f"energy(sigma->0) = {results['energy'] + ENTROPY_eV:20.8f}",
            "",
        ]
    path.write_text("\n".join(lines) + "\n")


def _n_electrons(symbols: Sequence[str], charge: int) -> float:
    return sum(VALENCES[symbol] for symbol in symbols) - charge


def _matrix(voigt: np.ndarray) -> np.ndarray:
    return voigt[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]


def _energies(free: float, tag: str) -> str:
    inner = (
        f'<energy><i name="e_fr_energy">{free:.8f}</i><i name="e_wo_entrp">{free + 2 * ENTROPY_eV:.8f}</i>'
        f'<i name="e_0_energy">{free + ENTROPY_eV:.8f}</i></energy>'
    )
    return f"<{tag}>{inner}</{tag}>\n" if tag else inner


def _structure(image: Atoms, name: str) -> str:
    basis = _varray("basis", image.cell.array)
    return (
        f'<structure{name}><crystal>{basis}<i name="volume">{image.get_volume():.8f}</i></crystal>'
        f"{_varray('positions', image.get_scaled_positions(wrap=False), decimals=16)}</structure>"
    )


def _varray(name: str, rows: np.ndarray, decimals: int = 10) -> str:
    lines = "\n".join("<v>" + " ".join(f"{x:.{decimals}f}" for x in row) + "</v>" for row in rows)
    return f'<varray name="{name}">\n{lines}\n</varray>'
