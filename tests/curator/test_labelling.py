"""From the section ``label`` to a labeller."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from curator.config_label import KEYS, Label
from curator.errors import BadInput
from curator.labelling import labeller_of, read_label_file

UPF = '<UPF version="2.0.1">\n<PP_HEADER element="{}" z_valence="{}" functional="PBE"/>\n</UPF>\n'


@pytest.fixture
def pseudos(tmp_path: Path) -> Path:
    """Headers of pseudopotentials, which is all that is read of them here."""
    folder = tmp_path / "pseudos"
    folder.mkdir()
    for name, symbol, valence in (("Li.upf", "Li", 3), ("F_ONCV-1.2.UPF", "F", 7), ("Fe.upf", "Fe", 16)):
        (folder / name).write_text(UPF.format(symbol, valence))
    return folder


def settings(label: Label, folder: Path, **charge: int) -> dict[str, object]:
    return json.loads(labeller_of(label, {"Li", "F"}, folder, **charge).settings)


def test_preset_and_what_overrides_it(pseudos: Path, tmp_path: Path):
    plain = settings(Label(kind="dft", pseudopotentials="pseudos"), tmp_path, charge=1)
    assert plain["pseudopotentials"] == {"Li": str(pseudos / "Li.upf"), "F": str(pseudos / "F_ONCV-1.2.UPF")}
    assert (plain["cutoff_Ry"], plain["charge"]) == (90.0, 1)
    strict = settings(Label(kind="dft", preset="pbe-strict", pseudopotentials="pseudos", cutoff_Ry=100), tmp_path)
    assert strict["cutoff_Ry"] == 100.0
    assert strict["kpoint_spacing_per_A"] < plain["kpoint_spacing_per_A"]


def test_pseudopotentials_by_name_and_in_doubt(pseudos: Path, tmp_path: Path):
    named = Label(kind="dft", pseudopotentials={"Li": "pseudos/Li.upf", "F": "pseudos/F_ONCV-1.2.UPF"})
    assert settings(named, tmp_path)["pseudopotentials"] == {
        "Li": str(pseudos / "Li.upf"),
        "F": str(pseudos / "F_ONCV-1.2.UPF"),
    }
    (pseudos / "Li-sp.upf").write_text(UPF.format("Li", 3))
    with pytest.raises(ValueError, match=r"one UPF file of Li; it holds Li-sp\.upf, Li\.upf; name one: \{Li: file\}"):
        settings(Label(kind="dft", pseudopotentials="pseudos"), tmp_path)
    for file in pseudos.glob("Li*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"one UPF file of Li; .*pseudo-dojo\.org.* Or name it: \{Li: file\}"):
        settings(Label(kind="dft", pseudopotentials="pseudos"), tmp_path)
    with pytest.raises(ValueError, match="pseudopotentials: is missing; name a folder of UPF files"):
        settings(Label(kind="dft"), tmp_path)


def test_every_key_belongs_to_a_kind():
    told = {key for keys in KEYS.values() for key in keys} | {"kind", "also"}
    assert told == set(Label.model_fields)


@pytest.mark.parametrize(
    "keys", [{"kind": "dft", "model": "mini-halides"}, {"kind": "pseudolabel", "cutoff_Ry": 90}, {"smearing_Ry": 0.1}]
)
def test_keys_of_another_kind_are_refused(keys: dict[str, object]):
    with pytest.raises(ValidationError, match="means nothing to"):
        Label.model_validate(keys)


def test_a_section_written_out_with_its_defaults_is_read_again():
    for section in (Label(), Label(kind="dft", preset="pbe-quick", also="chgnet:r2scan")):
        assert Label.model_validate(section.model_dump(mode="json")) == section


def test_section_in_a_file_of_its_own_or_in_a_campaign(tmp_path: Path):
    alone, campaign, broken = (tmp_path / name for name in ("label.yaml", "campaign.yaml", "broken.yaml"))
    alone.write_text("{kind: pseudolabel, model: chgnet:0.3.0}")
    campaign.write_text("system: {structure: lif}\nlabel: {kind: pseudolabel, model: chgnet:0.3.0}")
    assert read_label_file(alone) == read_label_file(campaign) == Label(model="chgnet:0.3.0")
    broken.write_text("label: {kind: dft, cutof_Ry: 90}")
    with pytest.raises(BadInput, match=r"broken\.yaml: label\.cutof_Ry: unknown key; did you mean cutoff_Ry\?"):
        read_label_file(broken)
