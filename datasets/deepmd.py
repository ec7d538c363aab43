"""DeePMD data: folders of ``type.raw`` with ``set.*`` or ``*.raw``, and HDF5, read by dpdata."""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress

from curator.datasets.output import Output, Step


def read_deepmd(path: Path) -> Output:
    """Steps of a DeePMD system; several systems if it is an HDF5 file or of mixed type.

    A virial there is ``-dE/dstrain``, so that the stress is minus the virial over the volume, as in extended XYZ.

    Raises
    ------
    ValueError
        If dpdata is not installed, or the folder holds no energies and forces.
    """
    try:
        import dpdata
    except ImportError as error:
        raise ValueError("DeePMD data are read by dpdata, which is not installed: pip install dpdata") from error
    if path.is_file():
        systems = list(dpdata.MultiSystems().load_systems_from_file(str(path), fmt="deepmd/hdf5").systems.values())
    elif list(path.glob("set.*/real_atom_types.npy")):
        systems = list(dpdata.MultiSystems().load_systems_from_file(str(path), fmt="deepmd/npy/mixed").systems.values())
    else:
        kind = "deepmd/npy" if list(path.glob("set.*")) else "deepmd/raw"
        systems = [dpdata.LabeledSystem(str(path), fmt=kind)]
    return Output("unknown", tuple(step for system in systems for step in _steps(system.data)))


def _steps(data: dict[str, object]) -> list[Step]:
    names = [str(name) for name in np.asarray(data["atom_names"])]
    symbols = [names[idx] for idx in np.asarray(data["atom_types"])]
    periodic = not data.get("nopbc", False)
    coords, cells, energies = (np.asarray(data[key], dtype=np.float64) for key in ("coords", "cells", "energies"))
    forces = np.asarray(data["forces"], dtype=np.float64)
    virials = np.asarray(data["virials"], dtype=np.float64) if "virials" in data else None
    steps = []
    for idx, (positions, cell) in enumerate(zip(coords, cells, strict=True)):
        atoms = Atoms(symbols, positions, cell=cell if periodic else None, pbc=periodic)
        stress = None
        if virials is not None and periodic:
            stress = full_3x3_to_voigt_6_stress(-virials[idx] / atoms.get_volume())
        steps.append(Step(atoms, float(energies[idx]), forces[idx], stress))
    return steps
