"""The report, from campaign folders in every state, with made-up numbers that obey the physics they stand for."""

import html
import json
import math
import os
import re
import shutil
import subprocess
from collections import Counter
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from curator.errors import BadInput
from curator.report import write_report

KB = 8.617333262e-5
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
FIGURES = (
    "force_error",
    "barrier",
    "labels_by_reason",
    "barrier_path",
    "force_parity",
    "energy_parity",
    "learning_curve",
    "forgetting",
    "calibration",
    "selection_map",
    "mean_squared_displacement",
    "arrhenius",
    "activation_energy",
    "diffusivities",
    "timeline",
)


def round_row(idx: int, n_labels: int, verdict: str, diffusion: bool) -> dict[str, Any]:
    reference = 0.1268 + 0.0015 * math.sin(idx)
    barrier = reference - 0.031 * math.exp(-idx / 1.2) + 0.002
    images = np.sin(np.pi * np.linspace(0, 1, 7)) ** 2 * barrier
    row: dict[str, Any] = {
        "round": idx,
        "n_labels_total": n_labels,
        "n_new_labels": 34 if idx == 0 else 18,
        "n_train": n_labels - 16 - 2 * (idx + 1),
        "n_valid": 2 * (idx + 1),
        "n_test": 16,
        "labels_by_reason": {
            "random": 4 * (idx + 1),
            "uncertain": 9 * idx,
            "diverse": 12 + 3 * idx,
            "anchor": 2 * (idx + 1),
            "test": 16,
        },
        "force_rmse_eV_per_A": {"foundation": 0.1312, "model": 0.0205 + 0.05 * math.exp(-idx / 1.5)},
        "energy_rmse_eV_per_atom": {"foundation": 0.0041, "model": 0.0006 + 0.002 * math.exp(-idx / 2)},
        "fresh_force_rmse_eV_per_A": None if idx == 0 else 0.026 + 0.055 * math.exp(-(idx - 1) / 1.5),
        "probe_force_rmse_eV_per_A": {"foundation": 0.0183, "model": 0.0191 + 0.0008 * idx},
        "barrier_eV": barrier,
        "barrier_reference_eV": reference,
        "barrier_gap_eV": barrier - reference,
        "barrier_members_eV": [barrier, barrier + 0.008 * math.exp(-idx / 2)],
        "barrier_method": "ci-neb",
        "barrier_path_eV": images.tolist(),
        "barrier_reasons": [],
        "diffusion": [],
        "arrhenius": None,
        "n_explosions": 1 if idx == 1 else 0,
        "verdict": verdict,
        "reasons": [],
        "next_purchase": None,
        "cost": {"label_cpu_s": 36.0 * 18, "train_cpu_s": 310.0 + 40 * idx, "md_cpu_s": 520.0, "wall_s": 1100.0},
        "e0": {"values_eV": {"Li": -0.2973, "F": -0.5191}, "message": None},
    }
    if diffusion:
        Ea, ln_D0, error = 0.1421 + 0.02 * math.exp(-idx / 2), 3.905, 0.0083
        row["diffusion"] = [measured(temperature, Ea, ln_D0) for temperature in (500, 700, 1000)]
        row["diffusion"].insert(
            0,
            {
                "temperature_K": 400,
                "D_A2_per_ps": None,
                "error_A2_per_ps": None,
                "ci95_A2_per_ps": None,
                "D_cm2_per_s": None,
                "bound_A2_per_ps": 1.9,
                "tracer": None,
                "hops": 6.1,
                "time_ps": 40.0,
                "n_trajectories": 2,
                "pressure_GPa": 1.1,
                "status": "bound",
                "reasons": ["6 hops seen, 10 needed for a value"],
            },
        )
        row["arrhenius"] = {
            "Ea_eV": Ea,
            "error_eV": error,
            "ci95_eV": [Ea - 1.96 * error, Ea + 1.96 * error],
            "ln_D0": ln_D0,
            "error_ln_D0": 0.141,
            "covariance": [[0.141**2, 0.97 * error * 0.141], [0.97 * error * 0.141, error**2]],
            "n_trajectories": 6,
            "reasons": [],
            "chi2": 0.81,
            "dof": 1,
            "n_temperatures": 3,
            "temperatures_K": [500, 1000],
            "hops": 1210.0,
            "time_ps": 1500.0,
        }
    return row


def measured(temperature: float, Ea: float, ln_D0: float) -> dict[str, Any]:
    D = math.exp(ln_D0 - Ea / (KB * temperature)) * (1 + 0.04 * math.sin(temperature))
    return {
        "temperature_K": temperature,
        "D_A2_per_ps": D,
        "error_A2_per_ps": 0.06 * D,
        "ci95_A2_per_ps": [0.89 * D, 1.13 * D],
        "D_cm2_per_s": 1e-4 * D,
        "bound_A2_per_ps": None,
        "tracer": {"D_A2_per_ps": 0.354 * D / 33, "error_A2_per_ps": 0.05 * D / 33},
        "haven_ratio": 0.354,
        "hops": 6 * D * 500 / 12.5,
        "time_ps": 500.0,
        "n_trajectories": 2,
        "pressure_GPa": 0.4 + 0.003 * temperature,
        "status": "measured",
        "reasons": [],
    }


def arrays(idx: int, row: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    forces = rng.normal(scale=0.9, size=(16 * 65, 3))
    energies = rng.normal(scale=0.012, size=16)
    true = np.exp(rng.normal(np.log(0.03), 0.6, size=18 * 65))
    calibrated = true * np.exp(rng.normal(0.0, 0.35, size=true.size))
    held: dict[str, Any] = {
        "test_forces_reference": forces,
        "test_forces_foundation": 0.88 * forces + rng.normal(scale=0.07, size=forces.shape),
        "test_forces_model": forces + rng.normal(scale=row["force_rmse_eV_per_A"]["model"], size=forces.shape),
        "test_energies_reference": energies,
        "test_energies_foundation": 0.8 * energies + rng.normal(scale=0.003, size=16),
        "test_energies_model": energies + rng.normal(scale=0.0007, size=16),
        "map_explained": np.array([0.61, 0.17]),
        "learning_epoch": np.arange(1, 61),
        "learning_valid_target": 0.02 + 0.1 * np.exp(-np.arange(60) / 12.0) + 0.001 * rng.random(60),
        "learning_valid_replay": 0.018 + 0.00002 * np.arange(60),
    }
    angle = rng.uniform(0, 2 * np.pi, 240)
    xy = np.stack([2.1 * np.cos(angle), 0.8 * np.sin(angle)], axis=1) * rng.uniform(0.2, 1, (240, 1))
    reasons = np.full(240, "", dtype="U12")
    far = np.argsort(-np.linalg.norm(xy, axis=1))
    reasons[far[:9]] = "uncertain"
    reasons[far[9:24:5]] = "diverse"
    reasons[rng.choice(far[30:], 4, replace=False)] = "random"
    held |= {"map_xy": xy, "map_reason": reasons, "map_labelled_xy": rng.normal(scale=(0.8, 0.3), size=(40, 2))}
    if idx > 0:
        held |= {"spread_eV_per_A": calibrated / 2.3, "calibrated_eV_per_A": calibrated, "error_eV_per_A": true}
        frame = np.arange(true.size) // 65
        held |= {"error_is_random": frame < 4, "error_frame": frame, "spread_is_known": np.array(True)}
    for result in row["diffusion"]:
        lag = np.geomspace(0.1, 100, 40)
        D = result["D_A2_per_ps"] or 0.6
        temperature = result["temperature_K"]
        msd = 6 * D * lag + 1.2 * (1 - np.exp(-lag / 0.15))
        held[f"msd_T{temperature:g}_lag_ps"] = lag
        held[f"msd_T{temperature:g}_A2"] = msd
        held[f"msd_T{temperature:g}_error_A2"] = 0.04 * msd * np.sqrt(1 + lag)
    return held


def events(n_rounds: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    clock = START
    plan = (
        ("md", "explore", 6, 95.0),
        ("md", "select: committee and descriptors", 2, 12.0),
        ("label", "label", 18, 36.0),
        ("train", "train 2 members on 34 frames", 2, 190.0),
        ("md", "measure diffusion", 6, 240.0),
    )
    for idx in range(n_rounds):
        for role, stage, n_tasks, seconds in plan:
            ends = [clock, clock]
            found.append({"time": clock.isoformat(), "event": "stage_started", "round": idx, "stage": stage})
            for task in range(n_tasks):
                took = seconds * (1 + 0.1 * math.sin(3 * task + idx))
                ends[task % 2] += timedelta(seconds=took)
                failed = role == "label" and task == 7 and idx == 1
                event = {"event": "task_failed", "error": "worker lost"} if failed else {}
                about = {"round": idx, "stage": stage, "role": role, "task": f"{stage.split()[0]} {task}"}
                event = {"time": ends[task % 2].isoformat(), "event": "task_finished", "seconds": took} | about | event
                found.append(event)
                if failed:
                    found.append(event | {"event": "label_failed", "reason": "walltime", "frame": "5be1" * 16})
            clock = max(ends)
            found.append({"time": clock.isoformat(), "event": "stage_finished", "round": idx, "stage": stage})
        if idx == 2:
            clock += timedelta(hours=14)
            found.append({"time": clock.isoformat(), "event": "resumed", "round": idx, "stage": "explore"})
    return found


def write_campaign(folder: Path, n_rounds: int = 5, verdict: str | None = "converged", mobile: str = "Li") -> Path:
    """Write a campaign folder with everything that a finished campaign leaves."""
    rng = np.random.default_rng(11)
    folder.mkdir(parents=True)
    n_labels = np.cumsum([34] + [18] * max(0, n_rounds - 1))
    rows = [
        round_row(idx, int(n_labels[idx]), "not_yet" if idx < n_rounds - 1 else str(verdict), diffusion=idx >= 2)
        for idx in range(n_rounds)
    ]
    reasons = {
        "converged": [
            "Activation energies of rounds 3 and 4, 0.146(8) and 0.145(8) eV, are less than 50 meV apart (95 %).",
            "The barrier is 2 meV from the reference; 25 meV is allowed.",
            "No trajectory exploded in the last 3 rounds.",
        ],
        "undetermined": ["The error of the activation energy, 31 meV, is too large for a tolerance of 50 meV."],
        "not_yet": ["The barrier still moves by 14 meV a round; 12 meV is allowed."],
    }
    purchases = {
        "converged": {"kind": "none", "amount": 0, "unit": ""},
        "undetermined": {"kind": "md", "amount": 1200, "unit": "ps"},
        "not_yet": {"kind": "labels", "amount": 16, "unit": "labels"},
    }
    campaign = {
        "name": "lif",
        "verdict": verdict,
        "reasons": reasons.get(str(verdict), []),
        "next_purchase": purchases.get(str(verdict)),
        "state": {"round": n_rounds, "finished": verdict == "converged"},
        "theory": "chgnet-r2scan@4f1c22e09ab1",
        "foundation": {"reference": "mini-halides", "hash": "9c41" * 16},
        "mobile": mobile,
        "n_labels_total": int(n_labels[-1]) if n_rounds else 0,
        "n_failed_labels": 1 if n_rounds > 1 else 0,
        "setup": {
            "cell_A": (8.181 * np.eye(3)).tolist(),
            "lattice_relaxation_calls": 14,
            "foundation": {
                "barrier_eV": 0.0894,
                "barrier_reference_eV": 0.1261,
                "barrier_method": "ci-neb",
                "reasons": [],
            },
        },
        "tolerance_eV": 0.05,
        "budget": {"max_rounds": 8, "max_labels": 300},
        "rounds": rows,
    }
    (folder / "campaign.json").write_text(json.dumps(campaign))
    settings = {
        "campaign": {
            "name": "lif",
            "seed": 7,
            "system": {"structure": "lif-interstitial", "supercell": [2, 2, 2], "mobile": mobile},
            "foundation": "mini-halides",
            "measure": {"barrier": True, "diffusion": {"temperatures_K": [500, 700, 1000], "tolerance_eV": 0.05}},
            "stop": {"max_rounds": 8, "max_labels": 300},
        },
        "strategy": {"name": "multihead_replay", "learning_rate": 0.001},
        "theory": {"key": "chgnet-r2scan@4f1c22e09ab1", "settings": {"task": "ef"}, "hashes": {"weights": "ab12" * 16}},
        "provenance": {"curator": "0.1.0", "python": "3.12.4", "versions": {"torch": "2.9.1", "mace-torch": "0.3.16"}},
    }
    (folder / "resolved.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events(n_rounds)))
    for idx, row in enumerate(rows):
        place = folder / "rounds" / f"{idx:03d}"
        place.mkdir(parents=True)
        (place / "round.json").write_text(json.dumps(row))
        (place / "explore").mkdir()
        runs = [{"run": "candidates-T900-r0", "status": "completed", "reason": None}]
        if row["n_explosions"]:
            runs.append(
                {"run": "candidates-T1200-r1", "status": "exploded", "reason": "a force of 41 eV/Å after 1.2 ps"}
            )
        (place / "explore" / "candidates.json").write_text(json.dumps({"runs": runs}))
        (place / "model" / "member-0").mkdir(parents=True)
        (place / "model" / "member-0" / "model.json").write_text(json.dumps({"hash": f"{idx:02d}fe" * 16}))
        np.savez(place / "evidence.npz", **arrays(idx, row, rng))
    return folder


class Outline(HTMLParser):
    """Checks that tags close in the order in which they opened, and remembers what matters here."""

    VOID = frozenset({"meta", "br", "img", "input", "link", "hr"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: Counter[str] = Counter()
        self.loads: list[str] = []
        self.figures: dict[str, str] = {}
        self.drawn: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        held = dict(attrs)
        if "id" in held:
            self.ids.append(str(held["id"]))
        self.loads += [str(held[name]) for name in ("src", "href", "srcset", "data", "action") if name in held]
        if tag == "figure":
            self.figures[str(held["id"]).removeprefix("fig-")] = ""
        if tag == "svg":
            self.drawn.add(list(self.figures)[-1])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes something else at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if "figure" in self.open and "svg" not in self.open:
            self.figures[list(self.figures)[-1]] += data


def outline(page: str) -> Outline:
    parsed = Outline()
    parsed.feed(page)
    parsed.close()
    assert not parsed.open
    return parsed


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_campaign(tmp_path_factory.mktemp("campaign") / "lif"))


def test_a_finished_campaign_shows_every_figure(finished: Path) -> None:
    page = outline(finished.read_text())
    assert tuple(page.figures) == FIGURES
    assert page.drawn == set(FIGURES)
    assert finished.stat().st_size < 2e6
    assert [path.name for path in finished.parent.iterdir() if path.name.startswith(".")] == []


def test_the_page_needs_nothing_but_itself(finished: Path) -> None:
    page = finished.read_text()
    parsed = outline(page)
    assert all(target.startswith(("#", "data:image/png;base64,")) for target in parsed.loads)
    assert not {"script", "link", "iframe", "object", "embed"} & set(parsed.tags)
    assert "http" not in page
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_identifiers_are_unique_and_every_reference_has_its_target(finished: Path) -> None:
    page = finished.read_text()
    ids = outline(page).ids
    assert len(ids) == len(set(ids))
    references = set(re.findall(r'(?:href="|url\()#([^")]+)', page))
    assert references <= set(ids)


def test_the_verdict_and_the_headline_numbers_come_first(finished: Path) -> None:
    text = " ".join(outline(finished.read_text()).text.split())
    order = [
        "Converged",
        "The diffusion of Li has converged within 50 meV.",
        "25 meV is allowed.",
        "nothing more is needed",
        "Activation energy 0.145(8) eV",
        "1 meV above the reference, 0.126 eV",
        "5.5 times smaller than the foundation's 0.131",
        "106 of 300",
        "What did each label buy?",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "1.69(10) × 10⁻⁴" in text
    assert "< 1.9 " in text
    assert "walltime: worker lost" in text
    assert "a force of 41 eV/Å after 1.2 ps" in text


@pytest.mark.parametrize(
    ("verdict", "word", "purchase"),
    [
        ("not_yet", "Not converged yet", "Next purchase: 16 labels."),
        ("undetermined", "Undetermined", "Next purchase: 1.20 ns of molecular dynamics."),
    ],
)
def test_an_open_campaign_says_what_to_buy_next(tmp_path: Path, verdict: str, word: str, purchase: str) -> None:
    page = outline(write_report(write_campaign(tmp_path / "lif", n_rounds=1, verdict=verdict)).read_text())
    assert word in page.text
    assert purchase in page.text
    missing = set(FIGURES) - page.drawn
    assert missing == {"calibration", "mean_squared_displacement", "arrhenius", "activation_energy", "diffusivities"}
    assert "bought when the barrier has settled" in page.figures["arrhenius"]


def test_a_campaign_without_a_round_explains_every_gap(tmp_path: Path) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=0, verdict=None)
    page = outline(write_report(folder, tmp_path / "elsewhere" / "page.html").read_text())
    assert page.drawn == set()
    assert "No verdict yet" in page.text
    for said in page.figures.values():
        assert re.search(r"\bNo \w+[^.]*(yet|measured)", said), said


def test_a_folder_with_nothing_but_the_campaign_file_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "campaign.yaml").write_text("system: {structure: lif-interstitial}\nmeasure: {diffusion: null}\n")
    page = outline(write_report(tmp_path).read_text())
    assert "measure.diffusion is switched off" in page.figures["arrhenius"]


def test_a_barrier_alone_is_not_called_diffusion(tmp_path: Path) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=2)
    settings = yaml.safe_load((folder / "resolved.yaml").read_text())
    settings["campaign"]["measure"]["diffusion"] = None
    (folder / "resolved.yaml").write_text(yaml.safe_dump(settings))
    page = outline(write_report(folder).read_text())
    assert "The migration barrier of Li has converged within 25 meV." in page.text
    assert "The diffusion of Li has converged" not in page.text


def test_a_folder_that_is_no_campaign_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a campaign folder"):
        write_report(tmp_path)


def test_broken_files_are_named_and_cost_only_what_they_held(tmp_path: Path) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=2, verdict="not_yet")
    evidence = folder / "rounds" / "001" / "evidence.npz"
    evidence.write_bytes(evidence.read_bytes()[:1000])
    (folder / "campaign.json").write_text('{"name": "lif", ')
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"time": "2026-03-')
    page = outline(write_report(folder).read_text())
    assert "001/evidence.npz could not be read" in page.text
    assert "campaign.json is not valid JSON" in page.text
    assert "1 line cut off" in page.text
    assert {"force_error", "force_parity", "timeline"} <= page.drawn
    assert "Round 0" in page.figures["force_parity"]


def test_arrays_that_make_no_sense_cost_one_figure(tmp_path: Path) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=1, verdict="not_yet")
    path = folder / "rounds" / "000" / "evidence.npz"
    held = dict(np.load(path))
    held["test_forces_model"] = held["test_forces_model"][:-1]
    np.savez(path, **held)
    page = outline(write_report(folder).read_text())
    assert "could not be drawn" in page.figures["force_parity"]
    assert "energy_parity" in page.drawn


def test_numbers_that_are_missing_are_dashes(tmp_path: Path) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=3)
    campaign = json.loads((folder / "campaign.json").read_text())
    for row in campaign["rounds"]:
        for key in set(row) - {"round", "diffusion"}:
            row[key] = None
    campaign["rounds"][2]["diffusion"] = [{"temperature_K": 500, "status": "refused", "reasons": ["the host melted"]}]
    (folder / "campaign.json").write_text(json.dumps(campaign))
    for place in (folder / "rounds").iterdir():
        (place / "evidence.npz").unlink()
        (place / "round.json").unlink()
    page = outline(write_report(folder).read_text())
    assert page.drawn == {"timeline"}
    assert "round 2 could not measure it at any temperature (the host melted)" in page.figures["arrhenius"]
    assert "–" in page.text


def test_what_users_write_is_text_and_never_markup(tmp_path: Path) -> None:
    nasty = "<script>alert('$x_1$ & \"y\"')</script>"
    folder = write_campaign(tmp_path / "lif", n_rounds=3, mobile=nasty)
    campaign = json.loads((folder / "campaign.json").read_text())
    campaign |= {"name": nasty, "reasons": [nasty], "theory": nasty}
    for row in campaign["rounds"]:
        row["labels_by_reason"][nasty] = 3
    (folder / "campaign.json").write_text(json.dumps(campaign))
    with (folder / "log.jsonl").open("a") as log:
        about = {"event": "task_failed", "round": 2, "role": nasty, "stage": nasty, "error": nasty, "seconds": 90}
        log.write(json.dumps({"time": START.isoformat()} | about) + "\n")
    page = outline(write_report(folder).read_text())
    assert "script" not in page.tags
    assert page.text.count(nasty) > 6
    assert page.drawn == set(FIGURES)


def test_large_scatters_do_not_make_a_large_page(tmp_path: Path) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=1, verdict="not_yet")
    path = folder / "rounds" / "000" / "evidence.npz"
    rng = np.random.default_rng(3)
    forces = rng.normal(size=(40_000, 3))
    held = dict(np.load(path)) | {f"test_forces_{name}": forces for name in ("reference", "foundation", "model")}
    held["map_xy"], held["map_reason"] = rng.normal(size=(20_000, 2)), np.full(20_000, "")
    np.savez(path, **held)
    assert write_report(folder).stat().st_size < 1e6


PROBE = """
<body style="margin:0"><iframe id="page" style="border:0;width:WIDTHpx;height:900px" srcdoc="PAGE"></iframe>
<script>
onload = () => {
  const page = document.getElementById("page").contentDocument;
  const figures = [...page.querySelectorAll("figure")].map(figure => {
    const svg = figure.querySelector("svg"), at = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
    const marks = [...svg.querySelectorAll("path, use, image")];
    const shown = marks.filter(mark => { const r = mark.getBoundingClientRect(); return r.width + r.height > 1; });
    const words = [...svg.querySelectorAll("text")];
    const free = [...shown, ...words].filter(mark => !mark.closest("[clip-path], defs"));
    const boxes = free.map(mark => mark.getBoundingClientRect());
    const sides = b => [at.left - b.left, b.right - at.right, at.top - b.top, b.bottom - at.bottom];
    return {
      id: figure.id, width: at.width, height: at.height, n_shown: shown.length, n_words: words.length,
      font_px: Math.min(...words.map(word => parseFloat(getComputedStyle(word).fontSize) * at.width / view.width)),
      overhang_px: Math.max(...boxes.flatMap(sides)),
    };
  });
  const root = page.documentElement;
  const result = {figures, scroll: root.scrollWidth, client: root.clientWidth};
  document.body.innerHTML = "<pre id='result'>" + JSON.stringify(result) + "</pre>";
};
</script></body>
"""


@pytest.mark.parametrize("width", [1366, 390])
def test_a_browser_draws_every_figure(finished: Path, tmp_path: Path, width: int) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        message = "no chromium on the path; install it to see the report drawn"
        if "chromium" in os.environ.get("CURATOR_REQUIRE", "").split(","):
            pytest.fail(message)
        pytest.skip(message)
    probe = tmp_path / "probe.html"
    page = html.escape(finished.read_text(), quote=True)
    probe.write_text(PROBE.replace("WIDTH", str(width)).replace("PAGE", page))
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += f" --disable-component-update --disable-sync --window-size=1600,1000 --user-data-dir={tmp_path}/profile"
    command = [browser, *flags.split(), "--dump-dom", probe.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r"<pre id=\"result\">(.*?)</pre>", dom)
    assert found, dom[-500:]
    result = json.loads(html.unescape(found[1]))
    assert [figure["id"] for figure in result["figures"]] == [f"fig-{name}" for name in FIGURES]
    for figure in result["figures"]:
        assert figure["width"] > 300, figure
        assert figure["height"] > 150, figure
        assert figure["n_shown"] > 10, figure
        assert figure["n_words"] > 5, figure
        assert figure["font_px"] >= 7.5, figure
        assert figure["overhang_px"] < 4, figure
    assert result["scroll"] <= result["client"], "the page scrolls sideways"
