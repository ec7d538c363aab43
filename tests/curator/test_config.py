from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from curator.config import CampaignFile, read_campaign_file
from curator.config_measure import Diffusion
from curator.errors import BadInput


def refusal(tmp_path: Path, text: str) -> str:
    path = tmp_path / "campaign.yaml"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        read_campaign_file(path)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def test_only_the_system_must_be_given(tmp_path: Path):
    path = tmp_path / "campaign.yaml"
    path.write_text("system: {structure: lif-interstitial}\n")
    assert read_campaign_file(path).foundation == "mini-halides"


def test_durations_are_one_for_all_temperatures_or_one_for_each():
    given = {"temperatures_K": [500, 700], "duration_ps": [30, 12.5]}
    file = CampaignFile.model_validate({"system": {"structure": "x"}, "measure": {"diffusion": given}})
    assert file.measure.diffusion is not None
    assert file.measure.diffusion.durations_ps == (30, 12.5)
    assert CampaignFile.model_validate(file.model_dump(mode="json")) == file
    default = CampaignFile.model_validate({"system": {"structure": "x"}}).measure.diffusion
    assert default is not None
    assert default.durations_ps == (20.0, 20.0, 20.0)


def test_temperatures_are_sorted_with_their_durations():
    hot_first = {"temperatures_K": [900, 500, 700], "duration_ps": [5, 80, 20]}
    found = Diffusion.model_validate(hot_first)
    assert (found.temperatures_K, found.duration_ps) == ((500, 700, 900), (80, 20, 5))
    assert found == Diffusion(temperatures_K=(500, 700, 900), duration_ps=(80, 20, 5))
    assert Diffusion.model_validate(found.model_dump(mode="json")) == found
    one = Diffusion.model_validate(hot_first | {"duration_ps": 10})
    assert (one.temperatures_K, one.duration_ps) == ((500, 700, 900), 10)


@pytest.mark.parametrize("template", ["lif", "own", "classical"])
def test_templates_are_valid(template: str):
    folder = Path(__file__).parents[2] / "curator" / "templates"
    assert read_campaign_file(folder / f"{template}.yaml").name == template


def test_every_default_survives_a_round_trip(tmp_path: Path):
    file = CampaignFile.model_validate({"system": {"structure": "lif-interstitial"}})
    path = tmp_path / "campaign.yaml"
    path.write_text(yaml.safe_dump(file.model_dump(mode="json")))
    assert read_campaign_file(path) == file


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("system: {structure: x, moblie: Li}", ["system.moblie", "mobile"]),
        ("systm: {structure: x}", ["systm", "did you mean system?"]),
        (
            "system: {structure: x}\nmeasure: {diffusion: {tolerence_eV: 1}}",
            ["measure.diffusion.tolerence_eV", "tolerance_eV"],
        ),
        ("system: {structure: x}\nexplore: {temperatures_K: [600, -5]}", ["explore.temperatures_K.1", "-5"]),
        ("system: {structure: x}\nexplore: {temperatures_K: []}", ["explore.temperatures_K"]),
        ("system: {structure: x}\nlabel: {kind: magic}", ["label.kind", "magic", "pseudolabel"]),
        ("system: {structure: x}\nstop: {max_labels: .nan}", ["stop.max_labels"]),
        ("system: {structure: x, supercell: [2, 0, 2]}", ["system.supercell", "at least 1"]),
        ("system: {structure: x}\nstop: {diffusivity_factor: 1}", ["stop.diffusivity_factor", "greater than 1"]),
        (
            "system: {structure: x}\nmeasure: {diffusion: {duration_ps: -5}}",
            ["measure.diffusion.duration_ps:", "greater than 0; got -5"],
        ),
        (
            "system: {structure: x}\nmeasure: {diffusion: {duration_ps: [20, -1, 3]}}",
            ["measure.diffusion.duration_ps.1:", "greater than 0; got -1"],
        ),
        (
            "system: {structure: x}\nmeasure: {diffusion: {duration_ps: [20, 10]}}",
            ["measure.diffusion:", "holds 2 lengths for 3 temperatures"],
        ),
        (
            "system: {structure: x}\nselect: {method: random, hop_share: 0.9}",
            ["select: hop_share means nothing to method random", "drop it"],
        ),
        (
            "system: {structure: x}\nexplore: {temperatures_K: 600}",
            ["explore.temperatures_K: must be a list, such as [600, 800, 1000]; got 600"],
        ),
        (
            "system: {structure: x, supercell: 2x2x2}",
            ["system.supercell: must be a list, such as [2, 2, 2]; got '2x2x2'"],
        ),
        (
            "system: {structure: x}\nmeasure: {probes: {pressures_GPa: 5}}",
            ["measure.probes.pressures_GPa: must be a list, such as [5]; got 5"],
        ),
        (
            "system: {structure: x}\nmeasure: {diffusion: {duration_ps: 20 ps}}",
            ["measure.diffusion.duration_ps: must be a number in ps, without the unit; got '20 ps'"],
        ),
        (
            "system: {structure: x}\nexplore: {temperatures_K: [600, 900 K]}",
            ["explore.temperatures_K.1: must be a number in K, without the unit; got '900 K'"],
        ),
        (
            "system: {structure: x}\nlabel: {kind: dft, kpoint_spacing_per_A: 0.4 1/A}",
            ["label.kpoint_spacing_per_A: must be a number in 1/Å, without the unit"],
        ),
        (
            "system: {structure: x}\nstop: {force_error_eV_per_A: 50 meV}",
            ["stop.force_error_eV_per_A: must be a number in eV/Å, without the unit"],
        ),
        (
            "system: {structure: x}\nrun: {executor: slurm}",
            ["run.executor: ", "'local' or 'serial'", "docs/cluster.md"],
        ),
        ("system: {structure: x}\nlabel: {kind: dft, code: cp2k}", ["label.code: ", "'gpaw' or 'ase'", "code: ase"]),
        ("name: ../up\nsystem: {structure: x}", ["name", "../up"]),
        ("system:", ["system"]),
        ("name: x", ["system", "missing"]),
        ("just text", ["keys and values"]),
    ],
)
def test_what_is_wrong_is_named_with_a_remedy(tmp_path: Path, text: str, words: list[str]):
    message = refusal(tmp_path, text)
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("e0", "words"),
    [
        ("guessed", "learn.e0: input should be 'estimated', 'foundation' or 'average'; got 'guessed'"),
        ("-1.9", "learn.e0: input should be 'estimated', 'foundation' or 'average'; got -1.9"),
        ("{Li: low}", "learn.e0.Li: input should be a valid number, unable to parse string as a number; got 'low'"),
    ],
)
def test_bad_atomic_energies_are_told_in_one_line(tmp_path: Path, e0: str, words: str):
    (line,) = refusal(tmp_path, f"system: {{structure: x}}\nlearn: {{e0: {e0}}}").splitlines()
    assert line.endswith(words)


def test_a_misspelt_key_is_told_before_the_one_it_is_missed_for(tmp_path: Path):
    typo, missing = refusal(tmp_path, "sytem: {structure: x}").splitlines()
    assert typo.endswith("sytem: unknown key; did you mean system?")
    assert missing.endswith("system: is missing; it must be given")


def test_many_mistakes_are_counted_not_listed(tmp_path: Path):
    assert "more problems" in refusal(tmp_path, "\n".join(f"key{i}: 1" for i in range(9)))


@given(st.text())
def test_no_text_makes_it_stumble(tmp_path_factory: pytest.TempPathFactory, text: str):
    path = tmp_path_factory.mktemp("any") / "campaign.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(BadInput, match=r"campaign\.yaml"):
        read_campaign_file(path)


@pytest.mark.parametrize(
    ("hop", "words"),
    [
        ("{initial: a.extxyz}", ("system.hop.final: is missing",)),
        ("{mechanism: exchange}", ("system.hop.mechanism", "'interstitialcy'", "exchange")),
        ("{mechanism: vacancy, max_length: 4}", ("system.hop.max_length: unknown key", "max_length_A")),
        ("vacancy", ("system.hop", "vacancy")),
    ],
)
def test_hops_are_files_or_a_mechanism(tmp_path: Path, hop: str, words: tuple[str, ...]):
    told = refusal(tmp_path, f"system: {{structure: lif, hop: {hop}}}")
    for word in words:
        assert word in told
