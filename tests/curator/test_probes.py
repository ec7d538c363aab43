"""Probes of a model in one process."""

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write
from rich.console import Console
from typer.testing import CliRunner

from curator.backends.executor import SerialExecutor
from curator.backends.labellers import make_labeller
from curator.build import build_plan
from curator.commands.probe import _forgetting, app
from curator.config import CampaignFile
from curator.context import Context
from curator.datasets.fence import acquire
from curator.datasets.frame import frame_from_atoms
from curator.datasets.journal import Journal
from curator.errors import BadInput
from curator.learners.architecture import Architecture, Head, build_module
from curator.learners.foundation import load_foundation
from curator.learners.mace import MaceModel
from curator.learners.probes import forgetting
from curator.learners.replay import probe_records
from curator.probes import ProbeSettings, probe, probe_round, probe_structures, probes_json
from curator.progress import Display
from curator.state import CampaignFolder, plain_json, read_json, read_log, write_json
from curator.trajectory import timestep_for

TINY = Architecture(
    (3, 9, 11),
    r_max=3.2,
    heads=(Head("target", (-1.25, -3.5, -0.75)),),
    avg_num_neighbors=12.0,
    n_interactions=1,
    hidden_irreps="8x0e",
    max_ell=1,
    mlp_irreps="4x0e",
    radial_mlp=(8,),
    pair_repulsion=True,
)
FEW = ProbeSettings(n_structures=2, max_steps=3, duration_ps=0.1, temperature_K=300.0, n_trajectories=2)


@pytest.fixture(scope="module")
def model() -> MaceModel:
    return MaceModel(TINY, build_module(TINY, seed=3))


def test_all_probes_of_a_crystal(model: MaceModel) -> None:
    structure = frame_from_atoms(bulk("LiF", "rocksalt", a=4.0, cubic=True))
    parts: list[tuple[str, float]] = []
    found = probe(model, structure, FEW, on_part=lambda name, done: parts.append((name, done)))
    assert [dimer.name for dimer in found.dimers] == ["Li-Li", "Li-F", "F-F"]
    assert [(search.pressure_GPa, search.n_runs) for search in found.searches] == [(0.1, 2), (50.0, 2)]
    assert found.survival.n_runs == 2
    assert found.equivariance.worst_force_eV_per_A < 1e-9
    assert [done for _, done in parts] == [0.0, 0.2, 0.4, 0.6, 0.8]
    told = json.loads(json.dumps(plain_json(probes_json(found)), allow_nan=False))
    assert told["random_search"][1]["ci95"] == list(found.searches[1].ci95)
    assert probes_json(probe(model, structure, FEW)) | {"cpu_s": 0} == probes_json(found) | {"cpu_s": 0}


def test_a_molecule_has_no_random_cells(model: MaceModel) -> None:
    molecule = frame_from_atoms(Atoms("LiFNa", [[0, 0, 0], [1.6, 0.1, 0], [0.3, 2.6, 0.4]]))
    found = probe(model, molecule, FEW, elements=[3])
    assert found.searches == ()
    assert [dimer.name for dimer in found.dimers] == ["Li-Li"]
    assert found.equivariance.stress_slope_eV is None
    assert found.survival.n_runs == 2


def test_structures_depend_on_the_seed_alone() -> None:
    structure = frame_from_atoms(bulk("LiF", "rocksalt", a=4.0, cubic=True))

    def hashes(seed: int) -> list[str]:
        return [frame.hash for frame in probe_structures(structure, ProbeSettings(seed=(seed,)))[0]]

    assert hashes(1) == hashes(1)
    assert not set(hashes(1)) & set(hashes(2))


def test_hydrogen_takes_small_steps() -> None:
    assert timestep_for(frame_from_atoms(Atoms("OH2", np.eye(3)))) == 0.5
    assert timestep_for(frame_from_atoms(Atoms("LiF", np.eye(3)[:2]))) == 2.0


def test_energies_are_of_the_foundation_or_of_a_replay_head_only() -> None:
    foundation = load_foundation("mini-halides", device="cpu")
    records = probe_records()[:6]
    plain, own = forgetting(foundation, records), forgetting(foundation, records, is_foundation=True)
    assert plain.energy_rmse_eV_per_atom is None
    assert own.energy_rmse_eV_per_atom is not None
    assert own.force_rmse_eV_per_A == plain.force_rmse_eV_per_A > 0
    two = dataclasses.replace(TINY, heads=(TINY.heads[0], Head("replay", (-2.0, -4.0, -1.5))))
    replaying = MaceModel(two, build_module(two, seed=3))
    mine = [record for record in probe_records() if set(record.frame.numbers.tolist()) <= {3, 9, 11}][:3]
    found = forgetting(replaying, mine)
    assert found.energy_rmse_eV_per_atom is not None
    target = [prediction.forces for prediction in replaying.predict([record.frame for record in mine])]
    errors = np.concatenate([forces - record.label.forces for forces, record in zip(target, mine, strict=True)])
    assert found.force_rmse_eV_per_A != pytest.approx(np.sqrt((errors**2).mean()), rel=1e-6)


@pytest.fixture
def campaign(model: MaceModel, tmp_path: Path) -> Iterator[Context]:
    """A campaign whose round 0 has trained one member, with other weights than the foundation's."""
    folder = CampaignFolder(tmp_path / "lif", Path())
    model.save(folder.setup / "foundation")
    MaceModel(TINY, build_module(TINY, seed=4)).save(folder.round(0) / "model" / "member-0")
    write_json(folder.round(0) / "model" / "training.json", {"members": [{}]})
    content = {
        "system": {"structure": "lif-interstitial"},
        "label": {"kind": "classical", "model": "lif-fumi-tosi"},
        "explore": {"temperatures_K": [200, 300]},
        "measure": {"probes": {"structures": 1, "pressures_GPa": [20], "duration_ps": 0.1}},
        "run": {"device": "cpu"},
    }
    plan = build_plan(CampaignFile.model_validate(content), tmp_path)
    with acquire(folder.journal) as fence:
        display = Display(folder, Console(file=io.StringIO()))
        theory = make_labeller(plan.labeller).theory
        yield Context(plan, folder, theory, Journal(folder.journal, fence), SerialExecutor(), display)


def test_a_campaign_asks_every_model_the_same(campaign: Context) -> None:
    structure = frame_from_atoms(bulk("LiF", "rocksalt", a=4.0, cubic=True))
    foundation, member = (probe_round(campaign, round_, structure) for round_ in (-1, 0))
    assert foundation is not None
    assert member is not None
    for found in (foundation, member):
        assert found["hot_md"]["temperature_K"] == 450.0
        assert [(s["pressure_GPa"], s["n_runs"]) for s in found["random_search"]] == [(20.0, 1)]
    assert [d["wall_eV"] for d in foundation["dimers"]] != [d["wall_eV"] for d in member["dimers"]]
    places = (campaign.folder.setup, campaign.folder.round(0))
    headers = [read_json(place / "probes" / "md-0" / "header.json") for place in places]
    assert headers[0] | {"model": ""} == headers[1] | {"model": ""}
    assert headers[0]["model"] != headers[1]["model"]
    # What is there is not done again.
    n_events = len(read_log(campaign.folder))
    assert probe_round(campaign, 0, structure) == member
    assert len(read_log(campaign.folder)) == n_events > 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--structure", "kbr-vacancy"), r"asked about kbr-vacancy \(--structure\): does not know K, Br"),
        (("--elements", "Li,Xy"), "--elements: 'Xy' is not the symbol of an element"),
        (("--elements", "Li,Cs"), "does not know Cs"),
        (("--temperature-K", "-5"), "temperature_K must be positive"),
        (("--frames", "nothing.extxyz"), r"nothing\.extxyz"),
    ],
)
def test_bad_input_is_told(options: tuple[str, str], complaint: str, model: MaceModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    with pytest.raises(BadInput, match=complaint):
        CliRunner().invoke(app, ["probe", str(tmp_path), *options], catch_exceptions=False)


def test_frames_of_a_foundation_that_no_model_knows_are_not_asked_for(model: MaceModel, tmp_path: Path) -> None:
    silicon = dataclasses.replace(TINY, atomic_numbers=(14,), heads=(Head("target", (0.0,)),))
    models = {"model": MaceModel(silicon, build_module(silicon, seed=0)), "foundation": load_foundation("mini-halides")}
    assert _forgetting(models, None, "mini-halides") is None
    atoms = bulk("LiF", "rocksalt", a=4.0)
    atoms.info["REF_energy"], atoms.arrays["REF_forces"] = -1.0, np.zeros((2, 3))
    write(tmp_path / "lif.extxyz", atoms)
    with pytest.raises(BadInput, match="--frames: none of the frames holds only elements that the models know"):
        _forgetting(models, tmp_path / "lif.extxyz", "mini-halides")


def test_probes_may_be_switched_off() -> None:
    system = {"structure": "lif-interstitial"}
    on = CampaignFile.model_validate({"system": system}).measure.probes
    assert on is not None
    assert on.pressures_GPa == ProbeSettings().pressures_GPa
    assert (on.structures, on.trajectories, on.duration_ps) == (5, 1, 0.5)
    assert CampaignFile.model_validate({"system": system, "measure": {"probes": None}}).measure.probes is None


def test_the_foundation_to_compare_with_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model that was fine-tuned from another than the embedded one."""
    monkeypatch.setattr("curator.commands.probe._probed", lambda *_: {"random_search": [], "hot_md": {"reasons": []}})
    named = {"foundation": 64 * "0", "foundation_name": "mini-halides:0.2.0-small"}
    for metadata, hint in (
        (named, "--foundation mini-halides:0.2.0-small"),
        ({"foundation": 64 * "0"}, "--foundation NAME"),
        ({"foundation": None}, None),
    ):
        MaceModel(TINY, build_module(TINY, seed=3), metadata).save(tmp_path / "model")
        done = CliRunner().invoke(app, ["probe", str(tmp_path / "model")], catch_exceptions=False)
        assert done.exit_code == 0
        assert ("not compared with the foundation" in done.stdout) == (hint is not None)
        assert hint is None or hint in done.stdout


def test_an_edition_has_energies_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its foundation is told, and is none."""
    monkeypatch.setattr("curator.commands.probe._probed", lambda *_: {"random_search": [], "hot_md": {"reasons": []}})
    done = CliRunner().invoke(app, ["probe", "mini-halides:0.2.0-small", "--json"], catch_exceptions=False)
    told = json.loads(done.stdout)["forgetting"]
    assert 0 < told["model"]["energy_rmse_eV_per_atom"] < 0.1
