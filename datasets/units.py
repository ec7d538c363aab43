"""Units.

Inside curator every quantity is in ASE's units: eV, Å, eV/Å, eV/Å³, amu, and time in ps or fs where a name
says so. Stress has ASE's sign (tension positive) and Voigt order xx yy zz yz xz xy.
"""

from ase import units as ase_units

KB_EV_PER_K: float = float(ase_units.kB)
KB_J_PER_K: float = float(ase_units._k)
C_PER_E: float = float(ase_units._e)
"""The elementary charge in C."""
FS: float = float(ase_units.fs)
"""One femtosecond in ASE's own unit of time."""
GPA: float = float(ase_units.GPa)
"""One gigapascal in eV/Å³."""
KBAR: float = 0.1 * GPA
"""One kilobar in eV/Å³."""
HARTREE: float = float(ase_units.Hartree)
RYDBERG: float = float(ase_units.Rydberg)
KCAL_PER_MOL: float = float(ase_units.kcal / ase_units.mol)
KJ_PER_MOL: float = float(ase_units.kJ / ase_units.mol)
"""Energies in eV."""
BOHR: float = float(ase_units.Bohr)
"""One bohr in Å."""
CM2_PER_S_PER_A2_PER_PS: float = 1e-4
"""Factor from Å²/ps to cm²/s."""
