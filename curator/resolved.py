"""What a campaign began with, in ``resolved.yaml``, and what of it may not change."""

import importlib.metadata
import platform
from dataclasses import asdict

import yaml
from pydantic import ValidationError

import curator
from curator.build import Plan
from curator.config import CampaignFile, HopFiles
from curator.datasets.atomic import write_atomically
from curator.datasets.frame import Frame
from curator.datasets.label import Theory
from curator.errors import BadInput
from curator.setup import foundation_hash
from curator.state import CampaignFolder, Json, plain_json

FIXED_KEYS = (
    "system",
    "foundation",
    "label.kind",
    "label.model",
    "seed",
    "learn.replay",
    "learn.replay_frames",
    "learn.replay_choice",
)
"""Keys that may not change once a campaign has begun: they would mix two campaigns."""
RECORDED_PACKAGES = (
    "ase",
    "chgnet",
    "mace-torch",
    "matscipy",
    "numpy",
    "parsl",
    "pymatgen",
    "quacc",
    "scikit-learn",
    "torch",
)


def check_same_campaign(folder: CampaignFolder, plan: Plan, theory: Theory) -> list[str]:
    """Sections of the campaign file that changed since the campaign last ran.

    Raises
    ------
    BadInput
        If one changed that would mix two campaigns in one folder.
    """
    if not folder.resolved.exists():
        return []
    resolved = yaml.safe_load(folder.resolved.read_text(encoding="utf-8"))
    now = plan.file.model_dump(mode="json")
    before = _in_words_of_today(resolved["campaign"], now)
    changed_for_good = [key for key in FIXED_KEYS if _value(before, key) != _value(now, key)]
    if not changed_for_good and resolved["theory"]["key"] != theory.key:
        changed_for_good = ["what label stands for"]
    if not changed_for_good and resolved["structures"] != _structure_hashes(plan):
        changed_for_good = ["a structure file of system"]
    if changed_for_good:
        raise BadInput(
            f"{folder.campaign_file}: {changed_for_good[0]} has changed since this campaign began, and would mix two "
            "campaigns; start a new one in another folder from this one's frames: curator export"
        )
    return sorted(key for key in now if before.get(key) != now[key])


def _in_words_of_today(before: Json, now: Json) -> Json:
    """A campaign file of some version of curator, with the keys that have been learnt since then at their defaults."""
    try:
        return CampaignFile.model_validate(before).model_dump(mode="json")
    except ValidationError:
        # It holds what is refused today; what it lacks is taken to be as it is now.
        return {
            key: {**value, **before[key]}
            if isinstance(value, dict) and isinstance(before.get(key), dict)
            else before.get(key, value)
            for key, value in now.items()
        }


def write_resolved(folder: CampaignFolder, plan: Plan, theory: Theory) -> None:
    """Write the campaign file with every default, and where everything comes from."""
    versions = {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES}
    content = {
        "campaign": plan.file.model_dump(mode="json"),
        "strategy": asdict(plan.strategy),
        "theory": {"key": theory.key, **asdict(theory)},
        "foundation": {"hash": foundation_hash(folder)},
        "structures": _structure_hashes(plan),
        "provenance": {
            "file": str(folder.campaign_file.resolve()),
            "curator": curator.__version__,
            "python": platform.python_version(),
            "versions": versions,
        },
    }
    write_atomically(folder.resolved, yaml.safe_dump(plain_json(content), sort_keys=False, allow_unicode=True))


def _structure_hashes(plan: Plan) -> list[str]:
    """Hashes of the structure and the hops that were read from files."""
    system, asked = plan.system, plan.file.system
    frames = [system.structure] if isinstance(system.structure, Frame) else []
    for files, hop in ((asked.hop, system.hop), (asked.heldout_hop, system.heldout_hop)):
        if isinstance(files, HopFiles) and hop is not None:
            frames += [hop.initial, hop.final]
    return [frame.hash for frame in frames]


def _value(content: Json, key: str) -> object:
    """Value at a key such as ``learn.replay``."""
    value: object = content
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
