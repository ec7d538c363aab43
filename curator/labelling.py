"""From the section ``label`` of a campaign file to the labeller that it names."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import ValidationError

from curator.backends.base import LabellerSpec
from curator.config_label import Label
from curator.errors import BadInput
from curator.learners.reference import is_mini_halides, split_head


def key_of(label: Label) -> str:
    """Key of the campaign file that a bad labeller is blamed on."""
    return "label" if label.kind == "dft" or label.code == "ase" else "label.model"


def labeller_of(
    label: Label,
    symbols: set[str],
    folder: Path,
    *,
    charge: int = 0,
    multiplicity: int = 0,
    device: str = "auto",
    trust: bool = False,
) -> LabellerSpec:
    """Labeller that a section names.

    Parameters
    ----------
    label
        The section.
    symbols
        Elements that are to be labelled.
    folder
        Where relative paths begin.
    charge, multiplicity
        Of every frame.

    Raises
    ------
    ValueError
        If a file is missing or a setting is wrong.
    """
    if label.code == "ase":
        assert label.calculator is not None
        assert label.method is not None
        return LabellerSpec(
            label.kind,
            label.method,
            settings=json.dumps(label.parameters, sort_keys=True),
            walltime_s=3600 * label.walltime_h,
            calculator=label.calculator,
            python=_interpreter(label.python, folder),
            folder=str(folder.absolute()),
        )
    if label.kind == "pseudolabel":
        return pseudolabeller(label.model, folder, device, trust)
    if label.kind != "dft":
        return LabellerSpec(label.kind, label.model)
    code = label.code or "espresso"
    own = {"espresso": _espresso, "vasp": _vasp, "gpaw": _gpaw}[code](label, symbols, folder)
    return LabellerSpec(
        "dft",
        code,
        settings=json.dumps(own | {"charge": charge, "multiplicity": multiplicity}, sort_keys=True),
        command=label.command or "",
        walltime_s=3600 * label.walltime_h,
    )


def pseudolabeller(model: str, folder: Path, device: str, trust: bool) -> LabellerSpec:
    """Labeller of a model that a campaign file names."""
    return LabellerSpec("pseudolabel", model_reference(model, folder), device, trust)


def _interpreter(python: str | None, folder: Path) -> str:
    """Path of an interpreter; that of an environment is a link, which is not to be followed."""
    if python is None or "/" not in python:
        return python or ""
    return os.path.abspath(folder / Path(python).expanduser())  # noqa: PTH100


def _espresso(label: Label, symbols: set[str], folder: Path) -> dict[str, object]:
    from curator.backends.espresso_input import PRESETS, find_pseudopotentials

    given = label.pseudopotentials
    if given is None:
        raise ValueError(
            "pseudopotentials: is missing; name a folder of UPF files, such as those of pseudo-dojo.org (PBE, "
            "norm-conserving, standard)"
        )
    if isinstance(given, str):
        files = find_pseudopotentials(Path(resolve(given, folder)), symbols)
    else:
        files = {symbol: resolve(path, folder) for symbol, path in given.items()}
    return {
        **_numbers(label, PRESETS[label.preset]),
        "pseudopotentials": files,
        "smearing_Ry": label.smearing_Ry,
        "input_data": label.input_data,
    }


def _vasp(label: Label, symbols: set[str], folder: Path) -> dict[str, object]:
    from curator.backends.vasp_input import PRESETS, find_potcars

    given = label.pseudopotentials
    if given is None:
        raise ValueError("pseudopotentials: is missing; name your library of POTCARs, a folder such as potpaw_PBE.64")
    if isinstance(given, str):
        potcars = find_potcars(Path(resolve(given, folder)), symbols, label.setups)
    else:
        potcars = {symbol: resolve(path, folder) for symbol, path in given.items()}
    return {
        **_numbers(label, PRESETS[label.preset]),
        "potcars": potcars,
        "functional": label.functional,
        "smearing_eV": label.smearing_eV,
        "incar": label.incar,
    }


def _gpaw(label: Label, symbols: set[str], _: Path) -> dict[str, object]:
    from curator.backends.gpaw import PRESETS

    return {
        **_numbers(label, PRESETS[label.preset]),
        "elements": sorted(symbols),
        "functional": label.functional,
        "smearing_eV": label.smearing_eV,
        "setups": label.setups,
    }


def _numbers(label: Label, preset: Mapping[str, float]) -> dict[str, float]:
    """Numbers of a preset, and those that were given instead."""
    given = {name: getattr(label, name) for name in preset}
    return dict(preset) | {name: value for name, value in given.items() if value is not None}


def read_label_file(path: Path) -> Label:
    """The section ``label`` of a YAML file, which may hold nothing else.

    Raises
    ------
    BadInput
        If it cannot be read or holds a key that is not allowed.
    """
    from curator.config import explained

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from None
    section = content.get("label", content) if isinstance(content, dict) else content
    if not isinstance(section, dict):
        raise BadInput(f"{path}: must hold the keys of label, such as 'kind: dft'")
    try:
        return Label.model_validate(section)
    except ValidationError as error:
        raise BadInput("\n".join(f"{path}: {line}" for line in explained(error, "label"))) from None


def resolve(reference: str, folder: Path) -> str:
    """A path made absolute from the campaign folder."""
    path = Path(reference).expanduser()
    return str(path if path.is_absolute() else (folder / path).resolve())


def model_reference(reference: str, folder: Path) -> str:
    """A model by name stays as it is, a model by path is resolved; either may name a head."""
    name, _ = split_head(reference)
    if ":" in name or is_mini_halides(name):
        return reference
    looks_like_path = "/" in name or name.endswith(".model") or (folder / name).exists()
    return resolve(reference, folder) if looks_like_path else reference
