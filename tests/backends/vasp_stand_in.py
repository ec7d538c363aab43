"""Files as VASP writes them, about numbers that are known, and a program that calculates LiF in VASP's place.

As a program it reads what VASP would read, INCAR, KPOINTS, POSCAR and POTCAR, and nothing else.
"""

import re
import sys
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from numpy.typing import ArrayLike, NDArray

FINISHED = "General timing and accounting informations for this job:\n  Total CPU time used (sec):        1.0\n"
REACHED = "------------------------ aborting loop because EDIFF is reached ----------------------------------------\n"
NOT_REACHED = (
    "------------------------ aborting loop EDIFF was not reached (unconverged) ----------------------------\n"
)


def fake_potcar(symbol: str, valence: float, cutoff_eV: float, lexch: str = "PE", note: str = "") -> str:
    """A few lines in the shape of a POTCAR: no pseudopotential is in it."""
    return (
        f"  PAW_PBE {symbol} 00Fake0000\n   {valence:.8f}\n parameters from PSCTR are:\n"
        f"   VRHFIN ={symbol.split('_')[0]}: made by a test{note}\n   LEXCH  = {lexch}\n"
        f"   TITEL  = PAW_PBE {symbol} 00Fake0000\n   POMASS =    1.000; ZVAL   =  {valence:7.3f}    mass and valenz\n"
        f"   ENMAX  =  {cutoff_eV:.3f}; ENMIN  =  {0.75 * cutoff_eV:.3f} eV\n End of Dataset\n"
    )


def write_run(
    folder: Path,
    atoms: Atoms,
    energy: float,
    forces: ArrayLike,
    stress: ArrayLike,
    *,
    titles: list[str],
    n_electrons: float,
    cutoff_eV: float = 520.0,
    n_steps: int = 12,
    outcar_end: str = REACHED + FINISHED,
) -> None:
    """Write vasprun.xml and OUTCAR of a single point.

    Parameters
    ----------
    folder
        Where to write; made if there is none.
    atoms
        Atoms of one element stand together.
    energy
        Free energy in eV; that without the entropy is put 1 eV away.
    forces, stress
        In eV/Å, and in eV/Å³ with ASE's sign and Voigt order.
    titles, n_electrons, cutoff_eV
        What the run says that it used.
    n_steps
        SCF steps.
    outcar_end
        Last lines of OUTCAR.
    """
    folder.mkdir(parents=True, exist_ok=True)
    xx, yy, zz, yz, xz, xy = -np.asarray(stress, dtype=float) / (0.1 * units.GPa)  # in kB, of VASP's sign
    energies = f"""<energy>
   <i name="e_fr_energy">{energy:16.8f} </i>
   <i name="e_wo_entrp">{energy + 2.0:16.8f} </i>
   <i name="e_0_energy">{energy + 1.0:16.8f} </i>
  </energy>"""
    species = list(dict.fromkeys(atoms.symbols))
    kinds = "\n".join(f"<rc><c>{symbol}</c><c>{1 + species.index(symbol)}</c></rc>" for symbol in atoms.symbols)
    types = "\n".join(
        f"<rc><c>{sum(atoms.symbols == symbol)}</c><c>{symbol}</c><c>1.0</c><c>1.0</c><c> {title} </c></rc>"
        for symbol, title in zip(species, titles, strict=True)
    )
    structure = f"""<crystal>
   {_varray("basis", atoms.cell.array)}
   <i name="volume">{atoms.get_volume():.8f}</i>
   {_varray("rec_basis", atoms.cell.reciprocal())}
  </crystal>
  {_varray("positions", atoms.get_scaled_positions())}"""
    vasprun = f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <generator>
  <i name="program" type="string">vasp </i>
  <i name="version" type="string">6.4.3 </i>
 </generator>
 <incar>
  <i name="ENCUT">{cutoff_eV:.8f}</i>
 </incar>
 <kpoints>
  <generation param="Gamma">
   <v type="int" name="divisions">       1        1        1 </v>
   <v name="usershift">      0.00000000       0.00000000       0.00000000 </v>
  </generation>
  {_varray("kpointlist", np.zeros((1, 3)))}
  {_varray("weights", np.ones((1, 1)))}
 </kpoints>
 <parameters>
  <separator name="electronic" >
   <i name="ENMAX">{cutoff_eV:.8f}</i>
   <i name="NELECT">{n_electrons:.8f}</i>
   <separator name="electronic convergence" >
    <i type="int" name="NELM">   100</i>
   </separator>
  </separator>
  <separator name="ionic" >
   <i type="int" name="NSW">     0</i>
   <i type="int" name="IBRION">    -1</i>
  </separator>
 </parameters>
 <atominfo>
  <atoms> {len(atoms)} </atoms>
  <types> {len(species)} </types>
  <array name="atoms" >
   <dimension dim="1">ion</dimension>
   <field type="string">element</field>
   <field type="int">atomtype</field>
   <set>
   {kinds}
   </set>
  </array>
  <array name="atomtypes" >
   <dimension dim="1">type</dimension>
   <field type="int">atomspertype</field>
   <field type="string">element</field>
   <field>mass</field>
   <field>valence</field>
   <field type="string">pseudopotential</field>
   <set>
   {types}
   </set>
  </array>
 </atominfo>
 <structure name="initialpos" >
  {structure}
 </structure>
 <calculation>
  {f"<scstep>{energies}</scstep>" * n_steps}
  <structure>
  {structure}
  </structure>
  {_varray("forces", np.asarray(forces))}
  {_varray("stress", np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))}
  {energies}
 </calculation>
 <structure name="finalpos" >
  {structure}
 </structure>
</modeling>
"""
    (folder / "vasprun.xml").write_text(vasprun)
    steps = "".join(
        f"--------------------------------------- Iteration      1({step:4d})  ----\n"
        f"  total energy-change (2. order) :-0.{10 ** (-step):.7E}  (-0.1000000E-08)\n"
        for step in range(1, n_steps + 1)
    )
    (folder / "OUTCAR").write_text(f" vasp.6.4.3 (a stand-in)\n{steps}{outcar_end}")


def _varray(name: str, rows: NDArray[np.float64]) -> str:
    lines = "\n".join("   <v> " + " ".join(f"{value:.12f}" for value in row) + " </v>" for row in rows)
    return f'<varray name="{name}" >\n{lines}\n  </varray>'


def main() -> None:
    """Calculate POSCAR with a classical potential of LiF."""
    from curator.backends.classical import FumiTosiLiF

    atoms = ase.io.read("POSCAR", format="vasp")
    assert isinstance(atoms, Atoms)
    tags = dict(line.split(" = ", 1) for line in Path("INCAR").read_text().splitlines())
    titles = re.findall(r"TITEL\s*=\s*(.+)", Path("POTCAR").read_text())
    atoms.calc = FumiTosiLiF()
    write_run(
        Path(),
        atoms,
        atoms.get_potential_energy(),
        atoms.get_forces(),
        atoms.get_stress(),
        titles=titles,
        n_electrons=float(tags["NELECT"]),
        cutoff_eV=float(tags["ENCUT"]),
    )


if __name__ == "__main__":
    sys.exit(main())
