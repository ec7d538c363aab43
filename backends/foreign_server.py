"""Serves one ASE calculator on standard input and output, in whatever Python environment this file is run with.

That environment needs Python 3.10 or newer and ASE; nothing of curator is imported. The protocol is described in
docs/calculators.md: one JSON object a line. Whatever the calculator prints goes to standard error.

``python foreign_server.py SCRATCH [MODULES]``: the folder to work in, and one whose modules can be imported.
"""

import importlib
import importlib.metadata
import json
import os
import sys
import time
from contextlib import suppress
from typing import Any

PROTOCOL = 1
"""Version of the protocol: a server refuses any other."""


def main() -> None:
    """Answer one request after another until there are no more."""
    # The calculator, be it Python or C, must neither write between the answers nor read the requests.
    requests, answers = (os.fdopen(os.dup(fd), mode, encoding="utf-8") for fd, mode in ((0, "r"), (1, "w")))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    # The folder of this file, whose modules would hide others of the same names.
    del sys.path[0]
    scratch, *modules = sys.argv[1:]
    sys.path += modules
    # Many calculators write into the current folder, which they must not share.
    os.chdir(scratch)
    calculator = None
    for line in requests:
        _forget_what_was_said()
        try:
            request = json.loads(line)
            if calculator is None:
                calculator, answer = start(**request)
            else:
                answer = calculate(calculator, **request)
        except Exception as error:
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        print(json.dumps(answer), file=answers, flush=True)


def start(protocol: int, calculator: str, parameters: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Make the calculator; the answer tells what it can do, and the versions of the packages behind it."""
    if protocol != PROTOCOL:
        raise ValueError(f"the server speaks protocol {PROTOCOL}, not {protocol}")
    import ase

    module, _, attribute = calculator.partition(":")
    made: Any = importlib.import_module(module)
    for name in attribute.split("."):
        made = getattr(made, name)
    packages = importlib.metadata.packages_distributions().get(module.split(".")[0], [])
    found = made(**parameters)
    return found, {
        "protocol": PROTOCOL,
        "properties": list(found.implemented_properties),
        "versions": {"ase": ase.__version__} | {name: importlib.metadata.version(name) for name in packages},
    }


def calculate(
    calculator: Any,
    numbers: list[int],
    positions: list[list[float]],
    cell: list[list[float]],
    pbc: list[bool],
    properties: list[str],
) -> dict[str, Any]:
    """Properties of atoms in ASE's units; the energy is the one whose derivatives the forces are.

    Raises
    ------
    SCFError
        If the calculator says of itself that it did not converge, as those do that raise nothing.
    """
    import numpy as np
    from ase import Atoms
    from ase.calculators.calculator import SCFError, all_changes
    from ase.stress import full_3x3_to_voigt_6_stress

    before = _cpu_seconds()
    with suppress(AttributeError):  # where they cannot be set, they are made anew each time
        calculator.results = {}  # what it does not set this time is not to be that of the frame before
    calculator.calculate(Atoms(numbers, positions, cell=cell, pbc=pbc), properties, all_changes)
    converged = getattr(calculator, "converged", None)
    if isinstance(converged, bool | np.bool_) and not converged:
        raise SCFError("the calculator says that it did not converge")
    results = calculator.results
    stress = results["stress"] if "stress" in properties else None
    if stress is not None and np.shape(stress) == (3, 3):
        stress = full_3x3_to_voigt_6_stress(np.asarray(stress))
    return {
        "energy": float(results.get("free_energy", results["energy"])),
        "forces": np.asarray(results["forces"], dtype=float).tolist(),
        "stress": None if stress is None else np.asarray(stress, dtype=float).tolist(),
        "cpu_s": _cpu_seconds() - before,
    }


def _cpu_seconds() -> float:
    """CPU seconds of this process and of the programs it has run and waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _forget_what_was_said() -> None:
    """Keep the file that standard error may be from growing: it tells of the latest request alone."""
    with suppress(OSError):
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)


if __name__ == "__main__":
    main()
