"""What a campaign has come to, for a person and for a program."""

import math
import socket
import time
from pathlib import Path

from curator.config import read_campaign_file
from curator.datasets.fence import is_driven
from curator.errors import BadInput
from curator.quantities import duration, is_known
from curator.state import CampaignFolder, Json, campaign_folder, read_json
from curator.verdict.purchase import in_words, measurements, purchase_in_words

VERDICTS = {
    "converged": "converged",
    "not_yet": "not yet converged",
    "undetermined": "undetermined: the statistics cannot tell",
    None: "no verdict yet",
}


CHEAPER = 0.5
"""Other temperatures are worth a word if they take less than this share of the time."""


def campaign_status(target: Path) -> Json:
    """Content of ``campaign.json``, with what is running now under ``live``.

    Raises
    ------
    BadInput
        If there is no campaign.
    """
    folder = campaign_folder(target)
    if folder.evidence.exists():
        content = read_json(folder.evidence)
    else:
        content = {
            "name": read_campaign_file(folder.campaign_file).name,
            "verdict": None,
            "reasons": ["no round is finished"],
            "next_purchase": None,
            "state": {"round": 0, "finished": False},
            "calibration": None,
            "rounds": [],
        }
    content["live"] = _live(folder)
    return content


def _live(folder: CampaignFolder) -> Json | None:
    """What runs now, or None; what a killed driver left behind does not count.

    A driver holds a lock, and a file system may keep the locks of another host to itself. Where no lock is seen of a
    driver elsewhere, ``locked`` is false, and ``age_s`` tells when it last said something.
    """
    try:
        live = read_json(folder.live)
        age_s = max(0.0, time.time() - folder.live.stat().st_mtime)
    except (BadInput, OSError):
        return None
    locked = is_driven(folder.journal)
    if not locked and live["host"] == socket.gethostname():
        return None
    return live | {"locked": locked, "age_s": round(age_s, 1)}


def status_lines(content: Json) -> list[str]:
    """The same for a person."""
    lines = [f"{content['name']}: {VERDICTS.get(content['verdict'], content['verdict'])}"]
    lines += [f"  {reason}" for reason in content["reasons"]]
    purchase = content.get("next_purchase")
    if purchase and (bought := purchase_in_words(purchase, content)):
        lines.append(f"  next purchase: {bought}")
    setup = (content.get("setup") or {}).get("foundation")
    if setup and setup["barrier_eV"] is not None:
        lines.append(
            f"  foundation: barrier {_eV(setup['barrier_eV'])}, reference {_eV(setup['barrier_reference_eV'])}"
        )
    if content["rounds"]:
        lines.append("  round  labels  test forces (foundation) meV/Å  barrier (reference) eV")
    for item in content["rounds"]:
        force = item["force_rmse_eV_per_A"]
        n_labels = item["n_labels_total"] - (item.get("n_exam_labels") or 0)
        lines.append(
            f"  {item['round']:>5}  {n_labels:>6}  "
            f"{1000 * force['model']:>11.0f} ({1000 * force['foundation']:.0f})"
            f"{'':>12}{_eV(item['barrier_eV']):>10} ({_eV(item['barrier_reference_eV'])})"
        )
    failed = content.get("failed_labels")
    if failed:
        reasons = ", ".join(f"{n} {reason}" for reason, n in failed.items())
        lines.append(f"  without a label, in quarantine: {reasons}; curator label CAMPAIGN --retry tries them again")
    measured = next((item for item in reversed(content["rounds"]) if item["diffusion"]), None)
    for point in measured["diffusion"] if measured else []:
        lines.append(_diffusion_line(point))
    if measured and measured["arrhenius"]:
        fit = measured["arrhenius"]
        told = f"{fit['Ea_eV']:.3f} ± {fit['error_eV']:.3f} eV from {fit['n_temperatures']} temperatures"
        known = is_known(fit["Ea_eV"], fit["error_eV"])
        lines.append(f"  Ea = {told}" if known else f"  Ea is not known yet: {told}")
    lines += [
        f"  MD of round {item['round']}: {'; then '.join(in_words(each) for each in measurements(item))}"
        for item in content["rounds"]
        if item.get("measured_before")
    ]
    lines += _plan_lines(content)
    lines += [_exam_line(item) for item in content["rounds"][-1:] if "n_exam_labels" in item]
    live = content.get("live")
    if live:
        lines.append(_live_line(live))
    elif not content["state"]["finished"]:
        lines.append("  not running; curator run goes on where it stopped")
    return lines


def _live_line(live: Json) -> str:
    """What runs, or what was last heard of it."""
    about = f"{live['place']}, {live['stage']}: {100 * live['fraction']:.0f} %"
    if not live["locked"]:
        ago = duration(live["age_s"])
        return f"  {live['host']} said {ago} ago: {about}; if it is gone, curator run goes on where it stopped"
    left = "" if live["left_s"] is None else f", about {live['left_s']:.0f} s left in this stage"
    at_work = ", ".join(f"{n} {role}" for role, n in live["running"].items() if n) or "nothing"
    return f"  now: {about}{left}; running: {at_work}"


def _plan_lines(content: Json) -> list[str]:
    """What the activation energy takes, where it is not known well enough yet."""
    plan = content.get("md_plan")
    if not plan or not plan["more_ps"]:
        return []
    errors, wanted = plan["errors_eV"], f"{plan['wanted_error_eV']:.3f} eV"
    today = "" if errors["sampling"] is None else f"; it is {errors['sampling']:.3f} eV now"
    scatter = f"; scatter between trainings adds {errors['seeds']:.3f} eV" if errors["seeds"] else ""
    gap = "" if errors["gap"] is None else f"; the barrier's gap to the reference is {errors['gap']:+.3f} eV"
    points = plan["temperatures"]
    enough = errors["sampling"] is not None and errors["sampling"] <= plan["wanted_error_eV"]
    times = ", ".join(
        f"{t['temperature_K']:g} K {t['time_ps']:.0f} of {math.ceil(t['needed_ps'] - 1e-9)}" for t in points
    )
    n = plan.get("workers") or 1
    hours = plan.get("wall_hours")
    pace = "" if hours is None else f"; {duration(3600 * hours)} with {n} worker{'s' * (n > 1)}"
    lines = [
        f"  to decide within {content['tolerance_eV']:g} eV, Ea needs a standard error of "
        f"{wanted}{today}{scatter}{gap}",
        f"  {'as much again' if enough else 'MD that reaches it'}, ps: {times}{pace}",
    ]
    best = plan["best"]
    if best and not enough and best["time_ps"] < CHEAPER * sum(t["needed_ps"] for t in points):
        at = ", ".join(f"{T:.0f}" for T in best["temperatures_K"])
        lines.append(
            f"  at {at} K it would take {best['time_ps']:.0f} ps in all; rounds agree only at the same temperatures, "
            "so a change begins the comparison anew"
        )
    return lines


def _exam_line(item: Json) -> str:
    """What the model was never trained on."""
    barrier = f"held-out barrier {_eV(item['barrier_heldout_eV'])} ({_eV(item['barrier_heldout_reference_eV'])}) eV"
    if item["barrier_heldout_eV"] is None:
        barrier = f"no held-out barrier: {'; '.join(item['barrier_heldout_reasons'])}"
    force = item["final_force_rmse_eV_per_A"]
    if force is None:
        final = f"no fresh frames: {'; '.join(item['final_test_reasons'])}"
    else:
        errors = f"{1000 * force['model']:.0f} ({1000 * force['foundation']:.0f}) meV/Å"
        final = f"forces on {item['n_final_frames']} fresh frames {errors}"
    return f"  exam: {barrier}; {final}"


def _diffusion_line(point: Json) -> str:
    hops = "" if point["hops"] is None else f"{point['hops']:.0f} hops in "
    about = f"{hops}{point['time_ps']:.0f} ps"
    if point.get("pressure_GPa") is not None:
        about += f", at {point['pressure_GPa']:.1f} GPa"
    if point["status"] == "measured":
        value = f"D = {point['D_A2_per_ps']:.3g} ± {point['error_A2_per_ps']:.2g} Å²/ps"
    elif point["status"] == "bound":
        value = f"D < {point['bound_A2_per_ps']:.3g} Å²/ps"
    else:
        value = f"refused: {'; '.join(point['reasons'])}"
    return f"  {point['temperature_K']:g} K: {value} ({about})"


def _eV(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
