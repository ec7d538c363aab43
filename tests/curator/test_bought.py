"""More molecular dynamics for a round of a small campaign: it is the same however it is bought."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.io import write
from contexts import opened, with_model
from histories import RULE, Campaign

from curator.backends.executor import SerialExecutor
from curator.campaign import _brought_up_to_date, _write_campaign
from curator.config import CampaignFile
from curator.config_measure import Diffusion
from curator.datasets.frame import Frame, atoms_from_frame
from curator.setup import Setup
from curator.state import CampaignFolder, Json, read_json, read_log, write_json
from curator.status import status_lines
from curator.summary import verdict_json
from curator.trajectory import read_trajectory
from curator.verdict.convergence import judge
from curator.verdict.purchase import MEASUREMENT, in_words, md_ps

PERIOD_A = 3.0
BARRIER_EV = 0.15
CORE_EV = 2.0
SETTLED_ROUNDS = 3


class Washboard(Calculator):
    """One lithium in a cosine potential along each axis, and one fluorine on a spring, which it cannot run into."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def calculate(self, atoms: Atoms, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        away = atoms.positions - CRYSTAL.positions
        phase = 2 * np.pi * away[0] / PERIOD_A
        x, y, z = height = (1 - np.cos(phase)) / 2
        slope = BARRIER_EV + CORE_EV * np.array([y * z, z * x, x * y])
        energy = BARRIER_EV * height.sum() + CORE_EV * x * y * z + 2 * (away[1] ** 2).sum()
        forces = np.array([-slope * np.pi / PERIOD_A * np.sin(phase), -4 * away[1]])
        self.results = {"energy": float(energy), "forces": forces}


CRYSTAL = Frame(
    np.array([3, 9]),
    np.array([[1.5, 1.5, 1.5], [0.0, 0.0, 0.0]]),
    PERIOD_A * np.eye(3),
    np.ones(3, dtype=bool),
)


@dataclass(frozen=True)
class Model:
    """Stands where a trained model stands."""

    hash: str = "washboard"

    def load(self) -> "Model":
        return self

    def calculator(self) -> Calculator:
        return Washboard()


class Killed(SerialExecutor):
    """Dies after its first task, as a driver does."""

    def outcomes(self, tasks, tick):
        yield next(super().outcomes(tasks, tick))
        raise KeyboardInterrupt


SETUP = Setup(CRYSTAL, None, None, None)


def campaign_file(
    duration_ps: float | list[float] = 18,
    temperatures_K: tuple[float, ...] = (500, 1000),
    tolerance_eV: float = 0.085,
    **stop: Any,
) -> CampaignFile:
    diffusion = {"temperatures_K": temperatures_K, "replicas": 1, "duration_ps": duration_ps, "timestep_fs": 10}
    return CampaignFile.model_validate(
        {
            "seed": 19,
            "system": {"structure": "crystal.extxyz", "mobile": "Li", "cell": "given"},
            "label": {"kind": "classical", "model": "lif-fumi-tosi"},
            "measure": {"barrier": False, "diffusion": diffusion | {"tolerance_eV": tolerance_eV}},
            "stop": {"max_rounds": SETTLED_ROUNDS, "diffusivity_factor": 3, **stop},
        }
    )


def begin(base: Path) -> None:
    """Write a campaign of three rounds that have settled and whose dynamics has become due."""
    write(base / "crystal.extxyz", atoms_from_frame(CRYSTAL))
    folder = CampaignFolder(base, base / "campaign.yaml")
    settings = campaign_file().model_dump(mode="json", include={"explore", "select", "learn", "measure"})
    write_json(folder.setup / "cell.json", {"cell_A": CRYSTAL.cell, "n_calls": 0})
    write_json(folder.setup / "inputs.json", {"foundation": "none"})
    history = Campaign(bias_eV=0.0)
    contents: list[Json] = []
    for k in range(SETTLED_ROUNDS):
        about = {"labels_by_reason": {}, "n_labels_total": 18 * (k + 1), "measured_with": None, "md_cpu_s_per_ps": None}
        contents.append(history.round(k) | about | {"force_rmse_eV_per_A": {"model": 0.03, "foundation": 0.2}})
        contents[-1] |= verdict_json(judge(contents, replace(RULE, barrier=False)))
        write_json(folder.round(k) / "round.json", contents[-1])
        write_json(folder.round(k) / "settings.json", settings)
        write_json(folder.round(k) / "model" / "training.json", {"members": [{"cpu_s": 1.0}]})
        np.savez(folder.round(k) / "evidence.npz", spread_kind=np.array("committee"))


def go_on(base: Path, file: CampaignFile, executor: SerialExecutor | None = None) -> Json:
    """Bring the newest round up to date, as ``curator run`` does, and return its JSON."""
    with opened(file, base, base) as found:
        context = with_model(found, Model(), executor=executor or found.executor)
        rounds = [read_json(found.folder.round(k) / "round.json") for k in range(SETTLED_ROUNDS)]
        rounds[-1] = _brought_up_to_date(context, SETUP, rounds)
        _write_campaign(context, SETUP, rounds, finished=True)
        return rounds[-1]


def newest(base: Path) -> Path:
    return base / "rounds" / f"{SETTLED_ROUNDS - 1:03d}" / "round.json"


def trajectories(base: Path) -> dict[str, np.ndarray]:
    places = newest(base).parent.glob("measure/T*")
    return {place.name: read_trajectory(place).positions for place in places}


def seeds(base: Path) -> dict[str, list[int]]:
    return {place.parent.name: read_json(place)["seed"] for place in newest(base).parent.glob("measure/T*/header.json")}


def same_trajectories(base: Path, other: Path) -> bool:
    mine, others = trajectories(base), trajectories(other)
    return mine.keys() == others.keys() and all(np.array_equal(mine[name], others[name]) for name in mine)


def without_times(value: Any) -> Any:
    """JSON without what differs from run to run: how long it took."""
    if isinstance(value, dict):
        timed = ("cost", "md_cpu_s_per_ps", "cpu_hours")
        return {key: without_times(item) for key, item in value.items() if key not in timed}
    return [without_times(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def undetermined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign that has ended because its trajectories are short, and may buy no more."""
    base = tmp_path_factory.mktemp("undetermined")
    begin(base)
    content = go_on(base, campaign_file())
    assert (content["verdict"], content["next_purchase"]["kind"]) == ("undetermined", "md")
    assert md_ps([content]) == pytest.approx(36, abs=0.3)
    return base


@pytest.fixture(scope="module")
def plan(undetermined: Path) -> Json:
    """What it is told to write."""
    return read_json(undetermined / "campaign.json")["md_plan"]


@pytest.fixture
def copied(undetermined: Path, tmp_path: Path) -> Path:
    return shutil.copytree(undetermined, tmp_path / "campaign")


@pytest.fixture(scope="module")
def bought(undetermined: Path, plan: Json, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same campaign once it was given the budget that its plan takes."""
    base = shutil.copytree(undetermined, tmp_path_factory.mktemp("bought") / "campaign")
    go_on(base, campaign_file(max_md_ps=plan["max_md_ps"]))
    return base


def test_the_error_shrinks_by_what_is_bought_and_the_verdict_gets_better(undetermined: Path, bought: Path, plan: Json):
    before, after = read_json(newest(undetermined)), read_json(newest(bought))
    assert before["arrhenius"]["error_eV"] > 1.5 * after["arrhenius"]["error_eV"]
    assert after["arrhenius"]["error_eV"] < 1.3 * plan["wanted_error_eV"]
    assert "too uncertain to agree with anything" in before["reasons"][0]
    # It can be compared now, and needs others to agree with.
    assert after["verdict"] == "not_yet"
    assert "in no earlier round" in after["reasons"][0]
    assert list(Diffusion.model_validate(after["measured_with"]).durations_ps) == plan["duration_ps"]
    assert after["cost"]["md_cpu_s"] > before["cost"]["md_cpu_s"]


def test_a_trajectory_that_exploded_while_exploring_holds_the_end_up(tmp_path: Path):
    begin(tmp_path)
    exploded = {"run": "start0/T900/r0", "status": "exploded", "reason": "a force of 900 eV/Å", "cpu_s": 1.0}
    write_json(newest(tmp_path).parent / "explore" / "candidates.json", {"runs": [exploded]})
    content = go_on(tmp_path, campaign_file())
    assert (content["n_explosions"], content["verdict"]) == (1, "not_yet")
    assert any("exploded" in reason for reason in content["reasons"])


def test_trajectories_are_continued_and_what_was_found_is_kept(undetermined: Path, bought: Path):
    before, after = read_json(newest(undetermined)), read_json(newest(bought))
    whole = trajectories(bought)
    for name, positions in trajectories(undetermined).items():
        assert len(whole[name]) > 2 * len(positions)
        assert np.array_equal(whole[name][: len(positions)], positions)
    assert after["measured_before"] == [{key: before[key] for key in after["measured_before"][0]}]
    untouched = set(after) - {*MEASUREMENT, "measured_before", "cost"}
    assert {key: after[key] for key in untouched} == {key: before[key] for key in untouched}


def test_status_report_and_log_tell_what_was_bought_and_what_it_brought(undetermined: Path, bought: Path, plan: Json):
    before, after = read_json(newest(undetermined)), read_json(newest(bought))
    told = status_lines(read_json(undetermined / "campaign.json"))
    write_this = f"measure.diffusion.duration_ps: {plan['duration_ps']} with temperatures_K: [500, 1000]"
    write_this += f", or stop.max_md_ps: {plan['max_md_ps']}"
    assert any(write_this in line for line in told)
    told = status_lines(read_json(bought / "campaign.json"))
    assert f"  MD of round 2: {in_words(before)}; then {in_words(after)}" in told
    (event,) = [event for event in read_log(CampaignFolder(bought, Path())) if event["event"] == "md_bought"][1:]
    assert (event["before"]["error_eV"], event["after"]["error_eV"]) == tuple(
        each["arrhenius"]["error_eV"] for each in (before, after)
    )
    assert "What more dynamics brought" in (bought / "report.html").read_text()


@pytest.mark.slow
def test_killed_and_bought_by_the_list_it_comes_to_the_same_end(copied: Path, bought: Path, plan: Json):
    """The budget buys what the planned list asks for, and a kill on the way leaves no trace."""
    before = newest(copied).read_bytes()
    with pytest.raises(KeyboardInterrupt):
        go_on(copied, campaign_file(max_md_ps=plan["max_md_ps"]), Killed())
    assert newest(copied).read_bytes() == before
    assert not same_trajectories(copied, bought)
    assert not read_json(copied / "campaign.json")["state"]["finished"]
    content = go_on(copied, campaign_file(plan["duration_ps"]))
    assert same_trajectories(copied, bought)
    assert without_times(content) == without_times(read_json(newest(bought)))


def test_a_budget_that_does_not_pay_for_the_plan_buys_nothing(copied: Path, plan: Json):
    before = newest(copied).read_bytes()
    limit_ps = plan["max_md_ps"] - 1
    go_on(copied, campaign_file(max_md_ps=limit_ps), Killed())
    assert newest(copied).read_bytes() == before
    campaign = read_json(copied / "campaign.json")
    assert campaign["budget"]["max_md_ps"] == limit_ps
    assert any(f"stop.max_md_ps: {plan['max_md_ps']}, not {limit_ps}" in line for line in status_lines(campaign))


def test_a_tolerance_holds_at_once(copied: Path, plan: Json):
    content = go_on(copied, campaign_file(tolerance_eV=0.17))
    assert content["md_plan"]["wanted_error_eV"] == pytest.approx(2 * plan["wanted_error_eV"], rel=0.01)
    assert content["measured_with"]["tolerance_eV"] == 0.085


def test_a_temperature_that_joins_leaves_the_others_as_they_are(copied: Path, undetermined: Path):
    content = go_on(copied, campaign_file(temperatures_K=(750, 500, 1000)))
    assert [point["temperature_K"] for point in content["diffusion"]] == [500, 750, 1000]
    assert content["diffusion"][::2] == read_json(newest(undetermined))["diffusion"]
    assert trajectories(copied).keys() - trajectories(undetermined).keys() == {"T750-r0"}
    # A seed is that of a temperature, not of a place in the list.
    assert seeds(copied) == {f"T{T}-r0": [19, 0, 5, 1000 * T, 0] for T in (500, 750, 1000)}


def test_trajectories_begun_with_seeds_by_place_are_continued(copied: Path, undetermined: Path):
    by_place = {"T500-r0": [19, 0, 5, 0], "T1000-r0": [19, 0, 5, 1000]}
    for name, seed in by_place.items():
        path = newest(copied).parent / "measure" / name / "header.json"
        write_json(path, read_json(path) | {"seed": seed})
    content = go_on(copied, campaign_file(duration_ps=20))
    assert seeds(copied) == by_place
    assert [point["time_ps"] for point in content["diffusion"]] == pytest.approx([20, 20], abs=0.2)
    before, after = trajectories(undetermined), trajectories(copied)
    assert all(np.array_equal(after[name][: len(before[name])], before[name]) for name in by_place)
