"""Labels from GFN-xTB, a semiempirical tight-binding method, by tblite: no DFT, and thousands of times cheaper."""

import importlib.metadata
from importlib.util import find_spec
from typing import Any, ClassVar

from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import Bohr, Hartree, kB

from curator.backends.calculator import FailedCalculation, WholeCalculator
from curator.datasets.label import Theory

METHODS: dict[str, str] = {"gfn1-xtb": "GFN1-xTB", "gfn2-xtb": "GFN2-xTB"}
ACCURACY = 1.0
ELECTRONIC_TEMPERATURE_K = 300.0


class XtbCalculator(WholeCalculator):
    """GFN-xTB with the charge and multiplicity of the frame, at the Gamma point alone.

    An odd number of electrons must have its multiplicity, as in DFT: tblite itself would choose one.

    Parameters
    ----------
    method
        ``gfn1-xtb`` or ``gfn2-xtb``.
    max_iterations
        When self-consistency is given up.

    Raises
    ------
    ValueError
        If the method is unknown or tblite is not installed.

    References
    ----------
    S. Grimme, C. Bannwarth, P. Shushkov, J. Chem. Theory Comput. 13, 1989 (2017): GFN1-xTB.
    C. Bannwarth, S. Ehlert, S. Grimme, J. Chem. Theory Comput. 15, 1652 (2019): GFN2-xTB.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, method: str, max_iterations: int = 250, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if method not in METHODS:
            raise ValueError(f"no semiempirical method {method!r}; there are {', '.join(METHODS)}")
        if find_spec("tblite") is None:
            raise ValueError(f"{method} needs tblite; pip install -c constraints.txt '.[xtb]' in curator's folder")
        self._method = METHODS[method]
        self._max_iterations = max_iterations

    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        """Energy, forces and, where the cell is periodic, stress of ``atoms``."""
        from tblite.exceptions import TBLiteRuntimeError
        from tblite.interface import Calculator

        charge, multiplicity = (int(atoms.info.get(name, 0)) for name in ("charge", "multiplicity"))
        unpaired = max(multiplicity - 1, 0)
        numbers, positions, lattice = atoms.numbers, atoms.positions / Bohr, atoms.cell.array / Bohr
        try:
            tblite = Calculator(self._method, numbers, positions, charge, unpaired, lattice, atoms.pbc)
            tblite.set("accuracy", ACCURACY)
            tblite.set("temperature", ELECTRONIC_TEMPERATURE_K * kB / Hartree)
            tblite.set("max-iter", self._max_iterations)
            tblite.set("verbosity", 0)
            result = tblite.singlepoint()
        except TBLiteRuntimeError as error:
            raise FailedCalculation("scf" if "not converged" in str(error) else "crash", str(error)) from None
        electrons = round(result.get("orbital-occupations").sum())
        if electrons % 2 and multiplicity < 2:
            raise FailedCalculation(
                "input",
                f"{electrons} electrons cannot all be in pairs: give the frame a charge (system.charge) or a "
                "multiplicity of 2 (system.multiplicity)",
            )
        energy = float(result.get("energy")) * Hartree
        results = {"energy": energy, "free_energy": energy, "forces": -result.get("gradient") * Hartree / Bohr}
        if atoms.pbc.all():
            results["stress"] = full_3x3_to_voigt_6_stress(result.get("virial") * Hartree / atoms.get_volume())
        return results


def xtb_theory(method: str) -> Theory:
    """Level of theory of a GFN-xTB method."""
    return Theory(
        method=method,
        code="tblite",
        settings={
            "accuracy": ACCURACY,
            "electronic_temperature_K": ELECTRONIC_TEMPERATURE_K,
            "kpoints": "gamma",
        },
        versions={"tblite": importlib.metadata.version("tblite")},
    )
