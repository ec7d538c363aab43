"""The exam of a small campaign that has just ended: a vacancy in LiF, the classical teacher, the shipped model."""

import html
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contexts import opened

from curator import anchor
from curator.backends.base import LabellerSpec
from curator.backends.executor import SerialExecutor
from curator.backends.labellers import labeller_calculator
from curator.barriers.barrier import Barrier, find_barrier
from curator.choose import _frames_for_distance
from curator.config import CampaignFile
from curator.context import Context, buy_labels, labelled
from curator.datasets.label import Provenance
from curator.datasets.sources import Hop, build_seed
from curator.exam import take_exam, with_exam
from curator.learners.foundation import load_foundation
from curator.measure import records_for_test, round_numbers
from curator.report.page import write_report
from curator.round import _splits_before, records_for_training
from curator.setup import Setup
from curator.state import CampaignFolder, read_json, write_json
from curator.status import status_lines
from curator.tasks import ModelAt, TrainedMember, run_trajectory
from curator.trajectory import MDSettings, read_trajectory

FILE = {
    "seed": 3,
    "system": {"structure": "lif-vacancy", "supercell": [2, 2, 1]},
    "label": {"kind": "classical", "model": "lif-fumi-tosi"},
    "measure": {"diffusion": {"temperatures_K": [600], "equilibration_ps": 0.1}},
    "run": {"executor": "serial"},
}
SEED = build_seed("lif-vacancy", None, (2, 2, 1))
N_BOUGHT = 3
"""Labels bought before the exam: two to train on and one to test with."""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a campaign whose round 0 has trained and measured; its model is the foundation itself."""
    folder = CampaignFolder(tmp_path_factory.mktemp("exam") / "vacancy", Path())
    model = load_foundation("mini-halides", device="cpu")
    for place in (folder.setup / "foundation", folder.round(0) / "model" / "member-0"):
        place.mkdir(parents=True)
        model.save(place)
    write_json(folder.round(0) / "model" / "training.json", {"members": [{}]})
    md = MDSettings(temperature_K=600, duration_ps=0.3, frame_interval_fs=10)
    member = ModelAt(folder.round(0) / "model" / "member-0", "cpu")
    run_trajectory(member, SEED.frame, md, (1, 2), folder.round(0) / "measure" / "T600-r0")
    return folder.path


Open = Callable[..., Context]


@pytest.fixture
def campaign(ended: Path, tmp_path: Path) -> Iterator[Open]:
    """Open a copy of the campaign, as its driver does."""
    with opened(FILE, shutil.copytree(ended, tmp_path / "vacancy")) as context:
        rng = np.random.default_rng(0)
        frames = [
            replace(SEED.frame, positions=SEED.frame.positions + rng.normal(0, 0.05, (31, 3))) for _ in range(N_BOUGHT)
        ]
        bought = [Provenance(0, f"r{i}", f"r{i}", "train", "random") for i in range(2)]
        bought.append(Provenance(0, "t0", "t0", "test", "test"))
        buy_labels(context, list(zip(frames, bought, strict=True)), round_=0, stage="label")

        def open_with(max_labels: int = 300, executor: Any = None) -> Context:
            content = {**FILE, "stop": {"max_labels": max_labels}} if max_labels >= 100 else FILE
            file = CampaignFile.model_validate(content)
            stop = file.stop.model_copy(update={"max_labels": max_labels})
            changed = replace(context.plan, file=file.model_copy(update={"stop": stop}))
            return replace(context, plan=changed, executor=executor or context.executor)

        yield open_with


def setup(hop: Hop | None) -> Setup:
    return Setup(SEED.frame, SEED.hop, hop, None)


def exam_records(context: Context) -> list[Any]:
    return [record for record in labelled(context) if record.provenance.reason == "exam"]


def exam_of(context: Context) -> dict[str, Any]:
    return read_json(context.folder.round(0) / "exam.json")


ROW = {"round": 0, "n_labels_total": 3, "n_new_labels": 3, "n_test": 1, "labels_by_reason": {"random": 2, "test": 1}}
TRAINED = TrainedMember(1, 1, {}, (), {}, None, 0.0)
STANDS_STILL = Hop(SEED.frame, SEED.frame)


def test_barrier_and_force_error_are_compared_with_the_labeller(campaign: Open):
    context = campaign()
    take_exam(context, setup(SEED.hop), 0)
    exam, records = exam_of(context), exam_records(context)
    assert len(records) == exam["n_exam_labels"] == 12
    assert {record.provenance.split for record in records} == {"test"}

    energies = {record.provenance.source: record.label.energy for record in records}
    assert exam["barrier_heldout_eV"] is not None, exam["barrier_heldout_reasons"]
    assert exam["barrier_heldout_reference_eV"] == pytest.approx(energies["exam/saddle"] - energies["exam/minimum"])
    assert 0.2 < exam["barrier_heldout_reference_eV"] < 1.5

    fresh = [record for record in records if " ps" in record.provenance.source]
    assert exam["n_final_frames"] == len(fresh) == 10
    trajectory = read_trajectory(context.folder.round(0) / "measure" / "T600-r0")
    equilibrated = trajectory.positions[trajectory.times_ps >= 0.1]
    for record in fresh:
        assert np.abs(equilibrated - record.frame.positions).max(axis=(1, 2)).min() < 1e-7
    model = load_foundation("mini-halides", device="cpu")
    predicted = model.predict([record.frame for record in fresh])
    error = np.concatenate([p.forces - r.label.forces for p, r in zip(predicted, fresh, strict=True)])
    for name in ("foundation", "model"):
        assert exam["final_force_rmse_eV_per_A"][name] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)

    before = (context.folder.round(0) / "exam.json").stat().st_mtime_ns
    take_exam(context, setup(SEED.hop), 0)
    assert (context.folder.round(0) / "exam.json").stat().st_mtime_ns == before


def test_exam_frames_are_never_trained_on_nor_tested_with(campaign: Open):
    context = campaign()
    take_exam(context, setup(None), 0)
    exam = {record.frame.hash for record in exam_records(context)}
    assert len(exam) == 10
    trained = [record for part in records_for_training(context) for record in part]
    assert len(trained) == 2
    assert not exam & {frame.hash for frame in [*(r.frame for r in trained), *_frames_for_distance(context)]}
    assert _splits_before(context, 1) == {"r0": "train", "r1": "train"}
    assert [record.provenance.source for record in records_for_test(context)] == ["t0"]


def test_a_killed_exam_goes_on_where_it_was(campaign: Open):
    class Dies(SerialExecutor):
        """Dies in the middle of the labels."""

        def run(self, role: Any, tasks: Any, *, tick: Any = None) -> Any:
            for n, outcome in enumerate(super().run(role, tasks, tick=tick)):
                if role == "label" and n == 4:
                    raise KeyboardInterrupt
                yield outcome

    with pytest.raises(KeyboardInterrupt):
        take_exam(campaign(executor=Dies()), setup(None), 0)
    context = campaign()
    assert len(list(context.journal.read())) == N_BOUGHT + 4
    assert not (context.folder.round(0) / "exam.json").exists()
    # The labels that were bought count as its own: the budget pays for the other six and no more.
    context = campaign(max_labels=N_BOUGHT + 10)
    take_exam(context, setup(None), 0)
    assert exam_of(context)["n_final_frames"] == 10
    assert len(list(context.journal.read())) == len(labelled(context)) == N_BOUGHT + 10


def test_the_hop_of_a_killed_exam_is_not_searched_again(campaign: Open, monkeypatch: pytest.MonkeyPatch):
    """A second search ends a little elsewhere, where both labels would be bought again, beyond the budget."""
    searches: list[ModelAt] = []

    def barrier_of(model: ModelAt, hop: Hop) -> Barrier:
        searches.append(model)
        minimum, saddle = (
            replace(frame, positions=frame.positions + 1e-6 * len(searches) * np.sin(frame.positions))
            for frame in (hop.initial, hop.saddle or hop.final)
        )
        path, energies = (minimum, saddle, hop.final), (0.0, 0.31, 0.0)
        return Barrier(0.31, 0.31, minimum, saddle, path, energies, None, "symmetric", 1, 0.97, True, (), 7, 0.1)

    class Dies(SerialExecutor):
        """Dies once the hop has its labels."""

        def run(self, role: Any, tasks: Any, *, tick: Any = None) -> Any:
            yield from super().run(role, tasks, tick=tick)
            if role == "label":
                raise KeyboardInterrupt

    monkeypatch.setattr(anchor, "barrier_of", barrier_of)
    with pytest.raises(KeyboardInterrupt):
        take_exam(campaign(executor=Dies()), setup(SEED.hop), 0)
    context = campaign(max_labels=N_BOUGHT + 4)
    take_exam(context, setup(SEED.hop), 0)
    assert len(searches) == 1
    exam = exam_of(context)
    assert (exam["n_exam_labels"], exam["n_final_frames"]) == (4, 2)
    assert len(list(context.journal.read())) == N_BOUGHT + 4
    energies = {record.provenance.source: record.label.energy for record in exam_records(context)}
    assert exam["barrier_heldout_reference_eV"] == energies["exam/saddle"] - energies["exam/minimum"]


@pytest.mark.parametrize(("left", "n_final"), [(4, 4), (0, 0)])
def test_budget_is_never_exceeded(campaign: Open, left: int, n_final: int):
    context = campaign(max_labels=N_BOUGHT + left)
    take_exam(context, setup(STANDS_STILL), 0)
    exam = exam_of(context)
    assert exam["n_final_frames"] == exam["n_exam_labels"] == n_final
    assert len(labelled(context)) <= N_BOUGHT + left
    assert (exam["final_force_rmse_eV_per_A"] is None) == (n_final == 0)
    assert n_final or exam["final_test_reasons"] == ["no label is left in stop.max_labels"]


def test_a_saddle_that_is_none_gives_no_barrier_and_buys_no_label(campaign: Open):
    context = campaign()
    take_exam(context, setup(STANDS_STILL), 0)
    exam = exam_of(context)
    assert (exam["barrier_heldout_eV"], exam["barrier_heldout_reference_eV"]) == (None, None)
    assert "both end points relax to the same place" in " ".join(exam["barrier_heldout_reasons"])
    assert exam["n_exam_labels"] == 10


def test_without_md_there_are_no_fresh_frames(campaign: Open):
    context = campaign()
    shutil.rmtree(context.folder.round(0) / "measure")
    take_exam(context, setup(None), 0)
    exam = exam_of(context)
    assert exam["final_force_rmse_eV_per_A"] is None
    assert exam["n_exam_labels"] == 0
    assert exam["final_test_reasons"] == ["no molecular dynamics has measured a diffusivity in this round"]


def test_round_tells_what_its_exam_found_and_counts_its_labels(campaign: Open):
    context = campaign()
    before = with_exam(context.folder, ROW)
    assert before == ROW | {
        "barrier_heldout_eV": None,
        "barrier_heldout_reference_eV": None,
        "final_force_rmse_eV_per_A": None,
    }
    take_exam(context, setup(None), 0)
    row = with_exam(context.folder, ROW)
    assert (row["n_labels_total"], row["n_new_labels"], row["n_test"]) == (13, 13, 11)
    assert row["labels_by_reason"] == {"random": 2, "test": 1, "exam": 10}
    written_again = round_numbers(context, 0, [TRAINED], None)
    assert {key: written_again[key] for key in ROW} == ROW
    shown = row | {
        "force_rmse_eV_per_A": {"model": 0.1, "foundation": 0.2},
        "barrier_eV": None,
        "barrier_reference_eV": None,
        "diffusion": [],
    }
    error = f"{1000 * row['final_force_rmse_eV_per_A']['model']:.0f}"
    content = {"name": "vacancy", "verdict": "not_yet", "reasons": [], "rounds": [shown], "state": {"finished": True}}
    [line] = [line for line in status_lines(content) if line.startswith("  exam: ")]
    assert "no held-out barrier: no second hop is known" in line
    assert f"10 fresh frames {error} ({error}) meV/Å" in line


def test_held_out_hop_of_an_interstitial_crosses_a_proved_saddle():
    """In the classical model the centre of the face is a ridge, and the dumbbell beside it a saddle point below."""
    hop = build_seed("lif-interstitial").heldout
    assert hop is not None
    calculator = labeller_calculator(LabellerSpec("classical", "lif-fumi-tosi"))
    found = find_barrier(hop, calculator)
    assert (found.method, found.negative_modes) == ("symmetric", 1)
    assert found.barrier_eV is not None
    centre = replace(hop.initial, positions=(hop.initial.positions + hop.final.positions) / 2)
    ridge = find_barrier(replace(hop, saddle=centre), calculator, method="symmetric")
    assert ridge.negative_modes == 2
    assert ridge.energies_eV[1] > found.barrier_eV


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (
            {"barrier_heldout_eV": 0.35, "barrier_heldout_reference_eV": 0.359, "barrier_heldout_reasons": []},
            "the barrier of a second hop is 0.350 eV, 9 meV below the reference; the force error on 10 fresh frames of "
            "its own dynamics is 0.0210 eV/Å, 8.6 times smaller than the foundation's 0.180.",
        ),
        (
            {
                "barrier_heldout_eV": None,
                "barrier_heldout_reference_eV": None,
                "barrier_heldout_reasons": ["the symmetric point has 2 negative modes"],
                "final_force_rmse_eV_per_A": None,
                "final_test_reasons": ["no trajectory outlived its equilibration"],
            },
            "a second hop has no barrier to compare (the symmetric point has 2 negative modes); there are no fresh "
            "frames (no trajectory outlived its equilibration).",
        ),
    ],
)
def test_report_tells_of_the_newest_exam(tmp_path: Path, found: dict[str, Any], told: str):
    exam = {"n_exam_labels": 12, "n_final_frames": 10, "final_test_reasons": []}
    exam["final_force_rmse_eV_per_A"] = {"model": 0.021, "foundation": 0.18}
    rounds = [{"round": 0, "barrier_heldout_eV": None}, {"round": 1} | exam | found]
    write_json(tmp_path / "campaign.json", {"name": "lif", "verdict": "not_yet", "rounds": rounds})
    page = html.unescape(write_report(tmp_path).read_text())
    assert f"Exam of round 1, on what the model was never trained on: {told}" in page
    write_json(tmp_path / "campaign.json", {"name": "lif", "verdict": "not_yet", "rounds": rounds[:1]})
    assert "Exam of round" not in write_report(tmp_path).read_text()
