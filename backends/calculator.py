"""The part of an ASE calculator that is the same for every potential that knows all its properties at once."""

from abc import abstractmethod
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes


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
