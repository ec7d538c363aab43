"""Campaign folders in every state, with made-up numbers that obey the physics they stand for."""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

KB = 8.617333262e-5
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def write_campaign() -> Callable[..., Path]:
    """Write a campaign folder with everything that a finished campaign leaves."""
    return campaign_folder


def fresh_error(idx: int) -> float:
    """Force error of the model of a round on frames new to it, eV/Å."""
    return 0.026 + 0.055 * math.exp(-idx / 1.5)


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
        "fresh_force_rmse_eV_per_A": None if idx == 0 else fresh_error(idx - 1),
        "fresh_force_rmse_of_earlier_eV_per_A": [fresh_error(j) for j in (idx - 2, idx - 3) if j >= 0],
        "probe_force_rmse_eV_per_A": {"foundation": 0.0183, "model": 0.0191 + 0.0008 * idx},
        "probe_median_frame_force_rmse_eV_per_A": {"foundation": 0.0091, "model": 0.0093 + 0.0002 * idx},
        "barrier_eV": barrier,
        "barrier_reference_eV": reference,
        "barrier_gap_eV": barrier - reference,
        "barrier_members_eV": [barrier, barrier + 0.008 * math.exp(-idx / 2)],
        "barrier_method": "ci-neb",
        "barrier_path_eV": images.tolist(),
        "barrier_reasons": [],
        "probes": probes(n_holes=idx),
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


def probes(n_holes: int) -> dict[str, Any]:
    return {
        "dimers": [
            {"pair": "Li-Li", "turnover_A": 1.02, "depth_eV": 8.0, "wall_eV": 13.4},
            {"pair": "Li-F", "turnover_A": None, "depth_eV": None, "wall_eV": 57.2},
            {"pair": "F-F", "turnover_A": 1.0, "depth_eV": None, "wall_eV": 12.3},
        ],
        "random_search": [
            {
                "pressure_GPa": pressure,
                "n_runs": 10,
                "n_holes": n,
                "rate": n / 10,
                "ci95": [0.0, 0.28],
                "holes": ["a pair distance of 0.43 covalent radii sums is below 0.5"] * n + [None] * (10 - n),
            }
            for pressure, n in ((0.1, 0), (50.0, n_holes))
        ],
        "hot_md": {
            "temperature_K": 1800.0,
            "duration_ps": 0.5,
            "n_runs": 1,
            "n_survived": 1,
            "ci95": [0.21, 1.0],
            "reasons": [None],
        },
        "equivariance": {"worst_force_eV_per_A": 1.6e-13, "force_slope_eV_per_A": 1.3e-7},
        "cpu_s": 17.0,
    }


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
        held |= {"spread_kind": np.array("last_layer"), "map_outside": np.isin(np.arange(240), far[:20])}
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
        ("md", "select: uncertainty and descriptors", 2, 12.0),
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


def campaign_folder(folder: Path, n_rounds: int = 5, verdict: str | None = "converged", mobile: str = "Li") -> Path:
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
    plan = {
        "temperatures": [
            {"temperature_K": T, "time_ps": 500.0, "needed_ps": needed, "cpu_hours": (needed - 500) / 250}
            for T, needed in ((500.0, 1500.0), (700.0, 500.0), (1000.0, 700.0))
        ],
        "duration_ps": [750, 250, 350],
        "more_ps": 1200.0,
        "wanted_error_eV": 0.0114,
        "errors_eV": {"sampling": 0.031, "seeds": 0.0034, "gap": 0.002},
        "buy": "md",
        "best": None,
        "workers": 2,
        "wall_hours": 2.4,
    }
    campaign = {
        "name": "lif",
        "md_plan": plan if verdict == "undetermined" else None,
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
            "probes": probes(n_holes=0),
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
