"""Whether the final model of a campaign holds out: long dynamics at each temperature at which diffusion was measured.

``python tests/benchmarks/survival.py CAMPAIGN [N_TRAJECTORIES [DURATION_PS]]``, five of 20 ps by default. Finished
chunks are kept in the campaign's folder ``survival``; it may be stopped and started again.
"""

import sys
from pathlib import Path

import torch
import yaml

from curator.datasets.frame import Frame
from curator.learners.mace import load_model
from curator.md import run_md
from curator.state import campaign_folder, read_json
from curator.trajectory import MDSettings


def main(target: Path, n_trajectories: int, duration_ps: float) -> None:
    """Print how many trajectories ran to their end, by temperature."""
    folder = campaign_folder(target)
    rounds = read_json(folder.evidence)["rounds"]
    last = folder.round(rounds[-1]["round"])
    settings = yaml.safe_load(folder.resolved.read_text())["campaign"]["measure"]["diffusion"]
    header = read_json(next(iter(sorted((last / "measure").glob("T*/header.json")))))
    start = Frame(**header["start"])
    model = load_model(last / "model" / "member-0")
    for temperature_K in settings["temperatures_K"]:
        ends = []
        for n in range(n_trajectories):
            md = MDSettings(temperature_K, duration_ps, timestep_fs=settings["timestep_fs"])
            where = folder.path / "survival" / f"T{temperature_K:g}-{n}"
            trajectory = run_md(start, model.calculator(), md, seed=(11, n), folder=where, model=model.hash)
            ends.append(trajectory.reason)
        bad = [reason for reason in ends if reason]
        print(f"{temperature_K:g} K: {len(ends) - len(bad)} of {len(ends)} x {duration_ps:g} ps ran to their end {bad}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(
        Path(sys.argv[1]),
        int(sys.argv[2]) if len(sys.argv) > 2 else 5,
        float(sys.argv[3]) if len(sys.argv) > 3 else 20.0,
    )
