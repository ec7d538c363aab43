"""The part of an ASE calculator that is the same for every potential that knows all its properties at once."""

from abc import abstractmethod
from typing import Any, ClassVar

from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from curator.backends.base import FailureReason, LabelFailed, Labeller


class FailedCalculation(CalculationFailed):  # type: ignore[misc]
    """A calculation that failed for a reason that is known."""

    def __init__(self, reason: FailureReason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class WholeCalculator(Calculator):  # type: ignore[misc]
    """ASE calculator that works out all its properties in one go, whichever are asked for."""

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Keep a copy of ``atoms`` and fill ``results`` with all their properties."""
        super().calculate(atoms, properties, system_changes)
        self.results = self.evaluate(self.atoms)

    @abstractmethod
    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        """Properties of ``atoms`` by ASE's names, in ASE's units."""


class LabellerCalculator(WholeCalculator):
    """ASE calculator that asks a labeller, to relax a cell or a saddle at its level of theory.

    Raises
    ------
    FailedCalculation
        If there is no label of the atoms.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, labeller: Labeller, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._labeller = labeller

    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        """Energy, forces and, where there is one, stress of ``atoms``."""
        label = self._labeller.label(atoms)
        if isinstance(label, LabelFailed):
            raise FailedCalculation(label.reason, label.message)
        results = {"energy": label.energy, "free_energy": label.energy, "forces": label.forces}
        return results if label.stress is None else results | {"stress": label.stress}
