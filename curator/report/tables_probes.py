"""What probes found, in words: for the report's table, and for the command line."""

from curator.quantities import DASH, significant
from curator.report.evidence import Evidence, Tree, items, lookup, number
from curator.report.tables import Table

NOTE = (
    "Outside the training frames, with the first member of each round. Dimer holes: pairs of elements whose energy "
    "falls again when two atoms are pushed together, and the lowest wall before that. Holes: random cells that end "
    "with atoms on top of each other, with the 95 % interval of the rate; the same cells for every model. Broken "
    "symmetry: largest change of a force under rotation, reflection, shift and renumbering, in double precision."
)


def probe_cells(probes: object) -> dict[str, str]:
    """What the probes of one model found, by column."""
    cells = {"Dimer holes": _dimers(probes)}
    for search in items(probes, "random_search"):
        pressure = number(search, "pressure_GPa")
        cells[f"Holes at {DASH if pressure is None else f'{pressure:g}'} GPa"] = _share(search, "n_holes")
    hot = lookup(probes, "hot_md")
    temperature_K, duration_ps = number(hot, "temperature_K"), number(hot, "duration_ps")
    title = "Hot MD survived"
    if temperature_K is not None and duration_ps is not None:
        title = f"Survived {duration_ps:g} ps at {temperature_K:g} K"
    broken = number(probes, "equivariance", "worst_force_eV_per_A")
    slope = number(probes, "equivariance", "force_slope_eV_per_A")
    return cells | {
        title: _share(hot, "n_survived"),
        "Broken symmetry (eV/Å)": DASH if broken is None else significant(broken, 2),
        "Force less slope (eV/Å)": DASH if slope is None else significant(slope, 2),
    }


def probe_table(evidence: Evidence) -> Table:
    """A row of every round, and the foundation's first."""
    title = "Outside the training frames"
    foundation = lookup(evidence.campaign, "setup", "probes")
    rows = [(f"round {int(row['round'])}", lookup(row, "probes"), _forgotten(row, "model")) for row in evidence.rounds]
    if foundation is not None:
        known = next((error for row in evidence.rounds if (error := _forgotten(row, "foundation")) != DASH), DASH)
        rows.insert(0, ("foundation", foundation, known))
    cells = [
        (name, {"Probe force RMSE, of all and of the median frame (eV/Å)": error} | probe_cells(probes))
        for name, probes, error in rows
        if probes is not None
    ]
    if not cells:
        why = "measure.probes is switched off." if evidence.rounds else "no round is finished."
        return Table(title, (), [], f"Not probed: {why}")
    # Pressures and temperatures may have changed between rounds.
    columns = list(dict.fromkeys(column for _, each in cells for column in each))
    table = [[name, *(each.get(column, DASH) for column in columns)] for name, each in cells]
    return Table(title, ["Model", *columns], table, NOTE)


def _dimers(probes: object) -> str:
    dimers = items(probes, "dimers")
    if not dimers:
        return DASH
    walls = [number(dimer, "wall_eV") for dimer in dimers if number(dimer, "turnover_A") is not None]
    lowest = min((wall for wall in walls if wall is not None), default=None)
    return f"{len(walls)} of {len(dimers)}" + ("" if lowest is None else f", wall {significant(lowest, 2)} eV")


def _share(tree: object, key: str) -> str:
    n, n_runs = number(tree, key), number(tree, "n_runs")
    low, high = (number(tree, "ci95", end) for end in (0, 1))
    if n is None or n_runs is None:
        return DASH
    interval = "" if low is None or high is None else f" ({100 * low:.0f} to {100 * high:.0f} %)"
    return f"{n:.0f} of {n_runs:.0f}{interval}"


def _forgotten(row: Tree, model: str) -> str:
    errors = [
        number(row, key, model) for key in ("probe_force_rmse_eV_per_A", "probe_median_frame_force_rmse_eV_per_A")
    ]
    return ", ".join(significant(error) for error in errors if error is not None) or DASH
