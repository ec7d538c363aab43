"""A MACE model for LAMMPS."""

from pathlib import Path

from curator.datasets.atomic import atomic_path
from curator.learners.architecture import with_heads
from curator.learners.mace import MaceModel


def export_lammps_model(model: MaceModel, path: Path) -> None:
    """Write the TorchScript file of the predicting head that ``pair_style mace`` of LAMMPS runs.

    It is in double precision, and what mace's own ``mace_create_lammps_model`` makes of the file that
    :func:`curator.learners.mace.export_model` writes.
    """
    # After learners.architecture, which says why.
    from e3nn.util import jit
    from mace.calculators import LAMMPS_MACE

    module, _ = with_heads(model.module, model.architecture, [model.heads.index(model.head)], ["Default"])
    script = jit.compile(LAMMPS_MACE(module.double().cpu()))
    with atomic_path(Path(path)) as aside:
        script.save(str(aside))
