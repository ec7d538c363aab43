"""Labels from GFN-xTB, a semiempirical tight-binding method, by tblite: no DFT, and thousands of times cheaper."""

import importlib.metadata
from typing import Any, ClassVar

from ase import Atoms
from ase.calculators.calculator import CalculationFailed

from curator.backends.calculator import FailedCalculation, WholeCalculator
from curator.datasets.label import Theory

METHODS: dict[str, str] = {"gfn1-xtb": "GFN1-xTB", "gfn2-xtb": "GFN2-xTB"}
ACCURACY = 1.0
ELECTRONIC_TEMPERATURE_K = 300.0


class XtbCalculator(WholeCalculator):
    """GFN-xTB with the charge and multiplicity of the frame, at the Gamma point alone.

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
        try:
            from tblite.ase import TBLite
        except ImportError:
            raise ValueError(f"{method} needs tblite; install mlip-curator[xtb]") from None
        self._tblite = TBLite(
            method=METHODS[method],
            accuracy=ACCURACY,
            electronic_temperature=ELECTRONIC_TEMPERATURE_K,
            max_iterations=max_iterations,
            verbosity=0,
        )

    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        """Energy, forces and, where the cell is periodic, stress of ``atoms``."""
        charge, multiplicity = (int(atoms.info.get(name, 0)) for name in ("charge", "multiplicity"))
        # Without a multiplicity tblite takes the lowest there is.
        self._tblite.set(charge=charge, multiplicity=multiplicity or None)
        try:
            self._tblite.calculate(atoms)
        except CalculationFailed as error:
            message = str(error)
            if "unpaired electrons" in message:
                message += f"; multiplicity {multiplicity} does not go with charge {charge}"
            raise FailedCalculation("scf" if "not converged" in message else "crash", message) from None
        names = [name for name in self.implemented_properties if name != "stress" or atoms.pbc.all()]
        return {name: self._tblite.results[name] for name in names}


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
