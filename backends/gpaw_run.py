"""Runs one GPAW calculation, in whichever Python has GPAW: ``python gpaw_run.py INPUT RESULT``, both JSON.

It knows nothing of curator, so that GPAW may live in an environment of its own and run with MPI. Without atoms in its
input it only tells the version of GPAW and the hashes of the setups that it would use.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

OUTPUT = "gpaw.txt"


def main() -> None:
    """Do what the input asks for; a result is written whole or not at all."""
    import gpaw
    from gpaw.mpi import world

    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    given = json.loads(source.read_text())
    result = {"version": gpaw.__version__, "setups": _setups(given["setups"], given["xc"])}
    if "numbers" in given:
        result |= _calculate(given)
    if world.rank == 0:
        aside = target.with_suffix(".part")
        aside.write_text(json.dumps(result))
        aside.rename(target)


def _setups(names: dict[str, str], xc: str) -> dict[str, str | None]:
    """SHA-256 of the setup of each element; None where there is none."""
    from gpaw.setup_data import search_for_file

    found: dict[str, str | None] = {}
    for symbol, name in names.items():
        try:
            content = search_for_file(f"{symbol}.{xc}" if name == "paw" else f"{symbol}.{name}.{xc}")[1]
            found[symbol] = hashlib.sha256(content).hexdigest()
        except FileNotFoundError:
            found[symbol] = None
    return found


def _calculate(given: dict[str, Any]) -> dict[str, Any]:
    from ase import Atoms
    from gpaw import GPAW, KohnShamConvergenceError

    atoms = Atoms(given["numbers"], positions=given["positions"], cell=given["cell"], pbc=True)
    atoms.set_initial_magnetic_moments(given["magnetic_moments"])
    atoms.calc = GPAW(xc=given["xc"], setups=given["setups"], txt=OUTPUT, **given["parameters"])
    try:
        energy = atoms.get_potential_energy(force_consistent=True)
        return {"energy": energy, "forces": atoms.get_forces().tolist(), "stress": atoms.get_stress().tolist()}
    except KohnShamConvergenceError as error:
        return {"not_converged": " ".join(str(error).split())}


if __name__ == "__main__":
    main()
