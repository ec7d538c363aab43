"""The campaign file: what a user may write, checked key by key.

Sections are frozen pydantic models. What is checked against files and other keys, :mod:`curator.build` checks; behind
it nothing is checked again.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from curator.config_label import Label
from curator.config_measure import Measure
from curator.datasets.sources import Mechanism
from curator.errors import BadInput
from curator.learners.strategies import REPLAY_FRAMES
from curator.section import Section, Temperatures
from curator.trajectory import check_explores

Method = Literal["uncertain+fps", "fps", "random"]

_UNITS = {"K": "K", "ps": "ps", "fs": "fs", "A": "Å", "eV": "eV", "Ry": "Ry", "GPa": "GPa", "h": "h"}
"""Units by the end of the names of keys."""
_LISTS = {"temperatures_K": "[600, 800, 1000]", "supercell": "[2, 2, 2]"}
_INSTEAD = {
    "run.executor": "one job of a cluster runs all of a campaign, see docs/cluster.md",
    "label.code": "any other program labels by its ASE calculator with code: ase, see docs/calculators.md",
}
"""What to do where a value is asked for that there is none of."""


class HopFiles(Section):
    """A hop of the mobile species, given by its two end points."""

    initial: str = Field(description="Structure file of the configuration before the hop.")
    final: str = Field(description="The same atoms, in the same order, after the hop.")
    saddle: str | None = Field(None, description="A guess of the saddle; tried before CI-NEB.")


class HopSearch(Section):
    """Hops of the mobile species in a perfect crystal, found by symmetry; the easiest in the foundation is followed."""

    mechanism: Mechanism = Field(description="vacancy, interstitial, or interstitialcy: it makes the defect, too.")
    max_length_A: float | None = Field(
        None, gt=0, description="Longest way of one atom in Å; by default to the nearest sites."
    )
    at_most: int = Field(
        10, ge=1, description="Distinct hops that are calculated in the foundation, shorter ones first."
    )


def _kind_of_hop(value: object) -> str:
    known = value.keys() if isinstance(value, dict) else ("mechanism",) if isinstance(value, HopSearch) else ()
    return _SEARCH if "mechanism" in known else _FILES


_FILES, _SEARCH = "files of a hop", "search for a hop"
AnyHop = Annotated[Annotated[HopFiles, Tag(_FILES)] | Annotated[HopSearch, Tag(_SEARCH)], Discriminator(_kind_of_hop)]


_POLICY, _VALUES = "policy of E0s", "E0s by element"
E0 = Annotated[
    Annotated[Literal["estimated", "foundation", "average"], Tag(_POLICY)] | Annotated[dict[str, float], Tag(_VALUES)],
    Discriminator(lambda value: _VALUES if isinstance(value, dict) else _POLICY),
]


class System(Section):
    """What diffuses, and in what."""

    structure: str = Field(
        description="A shipped builder such as lif-interstitial or nacl-vacancy, or a file (CIF, POSCAR, extxyz, ...)."
    )
    supercell: tuple[int, int, int] | None = Field(
        None,
        description="Repeats of the conventional cell; [2, 2, 2] for a shipped builder, [1, 1, 1] for a file, at least "
        "8 Å where hops are searched for.",
    )
    cell: Literal["labeller", "foundation", "given"] = Field(
        "labeller", description="The lattice is relaxed once, with this, and then fixed for all rounds and models."
    )
    expansion: float = Field(
        0.0,
        gt=-0.2,
        lt=0.2,
        description="Linear thermal expansion of the fixed lattice: 0.02 makes each of its vectors 2 % longer. Without "
        "it the dynamics is that of a cold lattice, under pressure.",
    )
    mobile: str | None = Field(None, description="Symbol of the diffusing element; the rest is the host.")
    charge: int = Field(0, description="Total charge in e.")
    multiplicity: int = Field(0, ge=0, description="Spin multiplicity; 0 leaves it to the labeller.")
    carriers: int | None = Field(
        None,
        ge=1,
        description="Defects that carry the diffusion; 1 where a hop is followed (not sure, if files give "
        "it), else every mobile ion.",
    )
    hop: AnyHop | None = Field(
        None,
        description="The hop whose barrier is followed: files of its end points, or the mechanism of a perfect "
        "crystal's hops. A shipped builder brings its own.",
    )
    heldout_hop: HopFiles | None = Field(
        None, description="Another hop that is never trained on and examines the model at the end."
    )

    @field_validator("supercell")
    @classmethod
    def _positive(cls, value: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if value is not None and min(value) < 1:
            raise ValueError("repeats must be at least 1")
        return value


class Explore(Section):
    """Molecular dynamics that proposes frames."""

    temperatures_K: Temperatures = Field((600.0, 900.0, 1200.0), description="Temperatures in K.")
    replicas: int = Field(2, ge=1, description="Runs per temperature.")
    duration_ps: float = Field(4.0, gt=0, description="Length of each run in ps.")
    timestep_fs: float = Field(2.0, gt=0, le=10, description="Time step in fs.")
    interval_ps: float = Field(0.1, gt=0, description="Time between candidates in ps.")
    structures: tuple[str, ...] = Field((), description="Further structure files to start from; their cells are kept.")

    @model_validator(mode="after")
    def _yields_candidates(self) -> Self:
        check_explores(self.duration_ps, self.interval_ps)
        return self


class Select(Section):
    """Which candidates are worth a label."""

    method: Method = Field("uncertain+fps", description="How frames are chosen.")
    uncertainty: Literal["last_layer", "committee"] = Field(
        "last_layer",
        description="What predicts the force error of a candidate; docs/uncertainty.md compares them. "
        "committee needs learn.members of 2 or more.",
    )
    labels_per_round: int = Field(16, ge=1, description="Labels bought each round, anchor not counted.")
    random_share: float = Field(
        0.125, ge=0, le=1, description="Share drawn at random, at least 4 frames unless 0: the control arm."
    )
    hop_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share from around the hop whose barrier is followed: thermal frames on its path. "
        "docs/defaults.md tells why it is off.",
    )
    test_frames: int = Field(16, ge=2, description="Test frames, drawn at random in round 0 and never trained on.")
    contact_labels: int = Field(
        6,
        ge=0,
        description="Frames with two atoms pushed together, labelled in round 0: they keep long MD from exploding.",
    )
    valid_share: float = Field(0.15, gt=0, lt=0.5, description="Share of trajectories kept for early stopping.")

    @model_validator(mode="after")
    def _shares_of_the_method(self) -> Self:
        if self.method == "random" and self.hop_share:
            raise ValueError("hop_share means nothing to method random, which draws from all frames alike; drop it")
        return self


class Learn(Section):
    """How the model is fine-tuned."""

    strategy: str = Field(
        "multihead_replay",
        description="Row of the strategy table: scratch, naive, freeze_interactions, freeze_products, lora, "
        "multihead_replay, pseudolabel_replay, replay_lora.",
    )
    defaults: Literal["paper", "small_data"] = Field("small_data", description="Column of the strategy table.")
    members: int = Field(
        2, ge=1, le=16, description="Models trained each round; more than one give a spread of barriers."
    )
    e0: E0 = Field(
        "estimated", description="Energies of isolated atoms: a policy, or values in eV by element; the rest estimated."
    )
    warm_start: bool = Field(True, description="Start from the last round's model instead of from the foundation.")
    replay_frames: int = Field(
        REPLAY_FRAMES, ge=1, description="Frames taken from the foundation's own training data, to replay."
    )
    replay_per_epoch: int | None = Field(
        None, ge=1, description="How many of them an epoch replays, drawn anew for each; overrides the table."
    )
    replay_choice: Literal["random", "farthest", "elements"] = Field(
        "random",
        description="How they are chosen: at random, far apart in features, or alike of each chemical system.",
    )
    replay: str | None = Field(
        None,
        description="extxyz file of replay frames (pseudolabel_replay: of structures); mini-halides and models of "
        "curator distil bring their own.",
    )
    epochs: int | None = Field(None, ge=1, description="Overrides the table.")
    learning_rate: float | None = Field(None, gt=0, description="Overrides the table.")
    batch_size: int | None = Field(None, ge=1, description="Overrides the table.")
    lora_rank: int | None = Field(None, ge=1, description="Rank of adapters; overrides the table.")
    lora_alpha: float | None = Field(None, gt=0, description="Scale of adapters times their rank; by default the rank.")
    difference: float | None = Field(
        None, ge=0, description="Weight of energy differences within a group such as the anchor; overrides the table."
    )
    train_on_anchor: bool = Field(
        True, description="Learn the labels of minimum, saddle and path once they have served as the reference."
    )


class Stop(Section):
    """The budget, and what counts as converged beside ``measure.diffusion.tolerance_eV``."""

    max_rounds: int = Field(8, ge=1, description="Most rounds.")
    max_labels: int = Field(300, ge=4, description="Most labels: training, validation, test and anchor alike.")
    max_md_ps: float | None = Field(
        None,
        gt=0,
        description="Most MD that measures, in ps, all rounds and trajectories together: up to there an undetermined "
        "round is measured longer, as planned; by default never longer than measure.diffusion says.",
    )
    window: int = Field(
        3, ge=2, description="Newest rounds over which the barrier must not move, nor anything show a trend."
    )
    n_compare: int = Field(
        2, ge=1, description="Earlier rounds with which activation energy and diffusivities must agree."
    )
    diffusivity_factor: float = Field(
        2.0, gt=1, description="Factor within which the diffusivities must agree at each temperature."
    )
    force_error_eV_per_A: float | None = Field(
        0.1, gt=0, description="Largest force error on random frames not yet trained on; null judges nothing by it."
    )
    force_error_fall: float = Field(
        0.3,
        gt=0,
        lt=1,
        description="Share of that error, lost since the models before on the same frames, that says it still falls.",
    )


class Run(Section):
    """Where the work runs."""

    executor: Literal["local", "serial"] = Field(
        "local", description="local: worker processes of Parsl; serial: in the driver."
    )
    workers: int = Field(2, ge=1, description="Worker processes, one thread each.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Device of the models.")

    @property
    def n_processes(self) -> int:
        """Tasks that run at once."""
        return 1 if self.executor == "serial" else self.workers


class CampaignFile(Section):
    """A campaign of active learning towards a diffusion property."""

    name: str = Field("campaign", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the campaign.")
    seed: int = Field(0, ge=0, description="Seed of everything random.")
    system: System
    foundation: str = Field(
        "mini-halides",
        description="mini-halides (or mini-halides:0.3.0-small, :0.2.0-small), mace:medium-mpa-0 and its kin, or a "
        "path; #<head> at the end chooses a head.",
    )
    explore: Explore = Explore()
    select: Select = Select()
    label: Label = Label()
    learn: Learn = Learn()
    measure: Measure = Measure()
    stop: Stop = Stop()
    run: Run = Run()


def read_campaign_file(path: Path) -> CampaignFile:
    """Read and check a campaign file.

    Raises
    ------
    BadInput
        If the file cannot be read, is not YAML, or holds a key or value that is not allowed; each line of the
        message names a key by its path and says what to do.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; write one with: curator init") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read as text ({error})") from None
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise BadInput(f"{path}{where}: not valid YAML ({getattr(error, 'problem', None) or error})") from None
    if content is None:
        raise BadInput(f"{path}: is empty; it needs at least system.structure. Write one with: curator init")
    if not isinstance(content, dict):
        raise BadInput(f"{path}: must hold keys and values, such as 'system:'; found {type(content).__name__}")
    return checked(content, path)


def checked(content: dict[str, Any], path: Path) -> CampaignFile:
    """Keys and values of a campaign file, checked; ``path`` is where they stand.

    Raises
    ------
    BadInput
        If a key or value is not allowed; as `read_campaign_file` says it.
    """
    try:
        return CampaignFile.model_validate(content)
    except ValidationError as error:
        raise BadInput("\n".join(f"{path}: {line}" for line in explained(error))) from None


def explained(error: ValidationError, *within: str) -> list[str]:
    """Up to three lines that each name a key, ``within`` a section, and say what is wrong with it."""
    problems = error.errors(include_url=False)
    # A bad item makes its list look too short as well: only the deepest problem is worth a line.
    deepest = [p for p in problems if not any(q is not p and q["loc"][: len(p["loc"])] == p["loc"] for q in problems)]
    # A misspelt key is often the one that is missing: what is there comes first.
    deepest.sort(key=lambda problem: problem["type"] == "missing")
    lines = [_explained(problem, within) for problem in deepest]
    return lines[:3] if len(lines) <= 3 else [*lines[:2], f"and {len(lines) - 2} more problems"]


def _explained(problem: Any, within: tuple[str, ...]) -> str:
    tags = (_FILES, _SEARCH, _POLICY, _VALUES, "one", "each")
    location = [*within, *(str(part) for part in problem["loc"] if part not in tags)]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
        return f"{key}: unknown key; {hint}"
    if problem["type"] == "missing":
        return f"{key}: is missing; it must be given"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    name = next((part for part in reversed(location) if not part.isdigit()), "")
    if problem["type"] == "tuple_type":
        return f"{key}: must be a list, such as {_LISTS.get(name, f'[{given}]')}; got {given!r}"
    if problem["type"] == "float_parsing" and (unit := _unit(name)):
        return f"{key}: must be a number in {unit}, without the unit; got {given!r}"
    if problem["type"] == "literal_error" and key in _INSTEAD:
        return f"{key}: {message[0].lower() + message[1:]}; got {given!r}: {_INSTEAD[key]}"
    if isinstance(given, dict) and message:
        return f"{key}: {message}"  # of a whole section, which would be a page
    return f"{key}: {message[0].lower() + message[1:]}; got {given!r}" if message else f"{key}: got {given!r}"


def _unit(name: str) -> str:
    """Unit of a key, by the end of its name; empty where it has none."""
    above, per, below = name.rpartition("_per_")
    if per and below in _UNITS:
        return f"{_UNITS.get(above.rpartition('_')[2], 1)}/{_UNITS[below]}"
    return "" if per else _UNITS.get(name.rpartition("_")[2], "")


def _known_keys(location: list[str]) -> list[str]:
    models: list[type[BaseModel]] = [CampaignFile]
    for part in location:
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        models = [model for field in fields for model in _sections(field.annotation)]
    return [name for model in models for name in model.model_fields]


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """Sections that may stand where an annotation does."""
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for part in getattr(annotation, "__args__", ()) for model in _sections(part)]
