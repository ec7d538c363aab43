"""Labels from VASP."""

import json
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ase import Atoms

from curator.backends.base import LabelFailed, LabellerSpec
from curator.backends.dft import Calculated, Ended, label_with_remedies
from curator.backends.program import run_leashed, scratch_of, split_command
from curator.backends.remedies import Input
from curator.backends.vasp_input import (
    VaspSettings,
    changed_potcar,
    input_problem,
    n_electrons,
    order_of,
    read_potcar,
    species_of,
    vasp_theory,
    write_input,
)
from curator.backends.vasp_output import ERRORS, OUTPUT, Asked, read_result, what_ended
from curator.datasets.label import Label, Theory

PROGRAM, NAME, EXAMPLE = "vasp_std", "vasp", "mpirun -np 16 vasp_std"
DENSITY = "CHGCAR"
KEPT = ("INCAR", "KPOINTS", "POSCAR", "OUTCAR", "OSZICAR", "vasprun.xml", OUTPUT, ERRORS, DENSITY)


@dataclass(frozen=True, slots=True)
class VaspLabeller:
    """Labels with VASP.

    Attributes
    ----------
    theory
        Level of theory of its labels.
    settings
        Input of VASP.
    command
        How it is run: ``vasp_std``, or ``mpirun -np 16 vasp_std``.
    walltime_s
        Longest time of one run in seconds.
    scratch
        Each calculation runs in a folder of its own in here; that of a failed one stays, without its POTCAR.
    """

    theory: Theory
    settings: VaspSettings
    command: str
    walltime_s: float
    scratch: Path

    def label(self, atoms: Atoms) -> Label | LabelFailed:
        """Label of ``atoms``, which are not changed; a failed calculation is returned, never raised.

        Raises
        ------
        SetupError
            If VASP cannot be run here: nothing is wrong with the frame.
        """
        return label_with_remedies(
            "vasp",
            self.theory.key,
            atoms,
            self.scratch,
            partial(self._calculate, atoms),
            input_problem=partial(input_problem, atoms, self.settings),
            command=split_command(self.command, NAME, EXAMPLE)[:2],
        )

    def _calculate(self, atoms: Atoms, changes: Input, folder: Path, before: Path | None) -> Calculated | Ended:
        species = species_of(atoms)
        changed = changed_potcar(self.settings, species)
        if changed is not None:
            return Ended("crash", f"{changed} has changed, or is gone, since the level of theory was named")
        write_input(atoms, self.settings, changes.get("incar", {}), folder)
        if before is not None:
            shutil.copyfile(before / DENSITY, folder / DENSITY)
        prefix, binary, suffix = split_command(self.command, NAME, EXAMPLE)
        status = run_leashed([*prefix, binary, *suffix], folder, self.walltime_s, OUTPUT, ERRORS)
        for path in folder.iterdir():
            if path.is_file() and path.name not in KEPT:
                path.unlink()
        titles = [read_potcar(Path(self.settings.potcars[symbol])).title for symbol in species]
        asked = Asked(titles, n_electrons(atoms, self.settings), self.settings.cutoff_eV, order_of(atoms))
        return what_ended(folder, status) or read_result(folder, asked)


def make_vasp(spec: LabellerSpec) -> VaspLabeller:
    """Labeller of a spec.

    Raises
    ------
    ValueError
        If its settings are wrong.
    """
    settings, command = VaspSettings(**json.loads(spec.settings)), spec.command or PROGRAM
    split_command(command, NAME, EXAMPLE)
    return VaspLabeller(vasp_theory(settings), settings, command, spec.walltime_s, scratch_of(spec))
