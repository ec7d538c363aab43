"""The section label of a file, where any ASE calculator may stand."""

import json
import os
from pathlib import Path

import pytest

from curator.backends.base import LabellerSpec
from curator.build import build_plan
from curator.config import CampaignFile
from curator.errors import BadInput
from curator.labelling import labeller_of, read_label_file

ASE = "kind: pseudolabel\ncode: ase\ncalculator: deepmd.calculator:DP\nmethod: dpa3\n"


def _labeller(folder: Path, text: str) -> LabellerSpec:
    (folder / "model.yaml").write_text(text)
    return labeller_of(read_label_file(folder / "model.yaml"), {"Li", "F"}, folder)


def test_paths_count_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/model.pth").write_text("")
    python = "{model: weights/model.pth, head: weights, n: 3}\npython: env/bin/python\nwalltime_h: 0.5\n"
    spec = _labeller(tmp_path, f"{ASE}parameters: {python}")
    parameters = {"head": "weights", "model": "weights/model.pth", "n": 3}
    assert spec == LabellerSpec(
        "pseudolabel",
        "dpa3",
        settings=json.dumps(parameters),
        walltime_s=1800.0,
        calculator="deepmd.calculator:DP",
        python=str(tmp_path / "env/bin/python"),
        folder=str(tmp_path),
    )


def test_the_interpreter_of_an_environment_is_a_link_that_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "env/bin").mkdir(parents=True)
    (tmp_path / "env/bin/python").symlink_to("/usr/bin/python3")
    (tmp_path / "elsewhere").mkdir()
    for written in ("../env/bin/python", str(tmp_path / "env/bin/python")):
        assert _labeller(tmp_path / "elsewhere", f"{ASE}python: {written}\n").python == str(tmp_path / "env/bin/python")
    assert _labeller(tmp_path, f"{ASE}python: python3.12\n").python == "python3.12"
    assert _labeller(tmp_path, ASE).python == ""
    assert _labeller(tmp_path, f"{ASE}python: ~/env/bin/python\n").python == os.path.expanduser("~/env/bin/python")  # noqa: PTH111


@pytest.mark.parametrize("kind", ["pseudolabel", "classical", "semiempirical", "dft"])
def test_an_ase_calculator_may_be_of_any_kind(tmp_path: Path, kind: str) -> None:
    spec = _labeller(tmp_path, ASE.replace("pseudolabel", kind))
    assert (spec.kind, spec.calculator) == (kind, "deepmd.calculator:DP")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: dft\ncode: ase\nmethod: pbe", ("ase needs calculator", "method")),
        ("code: ase\ncalculator: gpaw:GPAW", ("ase needs calculator", "method")),
        (f"{ASE}model: chgnet:r2scan\ncutoff_Ry: 40", ("cutoff_Ry means nothing to ase", "calculator, parameters")),
        (
            "kind: classical\nmodel: lif-fumi-tosi\nwalltime_h: 2",
            ("walltime_h means nothing", "leave it out"),
        ),
        ("kind: pseudolabel\nparameters: {a: 1}", ("parameters means nothing to pseudolabel",)),
        ("kind: semiempirical\nmodel: gfn1-xtb\nmethod: xtb", ("method means nothing to semiempirical",)),
        (ASE.replace("deepmd.calculator:DP", "deepmd.calculator"), ("label.calculator",)),
        (ASE.replace("dpa3", "my model/3"), ("label.method",)),
    ],
)
def test_keys_that_do_not_go_together_are_told(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(BadInput) as told:
        _labeller(tmp_path, text)
    for word in words:
        assert word in str(told.value)


@pytest.mark.parametrize(
    ("system", "parameters", "fits"),
    [
        ({}, {}, True),
        ({"charge": 1}, {}, False),
        ({}, {"charge": 1}, False),
        ({"charge": 1}, {"charge": 1}, True),
        ({"multiplicity": 2}, {"charge": 0}, False),
        ({"charge": -1, "multiplicity": 2}, {"charge": -1, "multiplicity": 2}, True),
    ],
)
def test_charges_must_agree(tmp_path: Path, system: dict[str, int], parameters: dict[str, int], fits: bool) -> None:
    label = {"kind": "dft", "code": "ase", "calculator": "gpaw:GPAW", "method": "pbe", "parameters": parameters}
    file = CampaignFile.model_validate({"system": {"structure": "lif-interstitial", **system}, "label": label})
    if fits:
        assert build_plan(file, tmp_path).labeller.calculator == "gpaw:GPAW"
        return
    with pytest.raises(BadInput, match=r"system\.(charge|multiplicity): is .* but label.parameters, .* gives"):
        build_plan(file, tmp_path)
