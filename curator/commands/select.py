"""The command line: which frames are worth a label."""

import warnings
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from curator.cli import AsJson, Trust, app
from curator.commands.arguments import Seed, Theory, check_known, load, show
from curator.datasets.frame import Frame
from curator.datasets.notice import Notice
from curator.errors import BadInput, bad_input


@app.command()
def select(
    candidates: Annotated[Path, typer.Argument(help="Frames to choose from.")],
    n: Annotated[int, typer.Option("--n", min=1, help="How many.")] = 16,
    out: Annotated[Path, typer.Option("--out", help="extxyz file of the chosen frames, without labels.")] = Path(
        "selected.extxyz"
    ),
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="Its features tell frames apart; mini-halides by default. Several are members of a committee.",
        ),
    ] = None,
    labelled: Annotated[
        Path | None,
        typer.Option("--labelled", help="Frames that have a label, to be different from; of a data set, of --theory."),
    ] = None,
    theory: Theory = None,
    random_share: Annotated[
        float, typer.Option("--random-share", min=0.0, max=1.0, help="Drawn at random, at least 4 frames unless 0.")
    ] = 0.125,
    seed: Seed = 0,
    as_json: AsJson = False,
    trust: Trust = False,
) -> None:
    """Choose frames: a random share, then what is different; of several models, first what they disagree about."""
    from ase.io import write

    from curator.dataset import frames_named, is_dataset, read_labelled
    from curator.datasets.atomic import atomic_path
    from curator.datasets.frame import atoms_from_frame
    from curator.selection import N_RANDOM_MIN, frame_descriptor
    from curator.selection import select as choose
    from curator.uncertainty import committee_spread, frame_score

    with bad_input():
        frames = frames_named(candidates)
        known = [] if labelled is None else frames_named(labelled)
        if labelled is not None and is_dataset(labelled):
            has_label = {record.frame.hash for record in read_labelled(labelled, theory)}
            known = [frame for frame in known if frame.hash in has_label]
        hashes = {frame.hash for frame in known}
        places = [i for i, frame in enumerate(frames) if frame.hash not in hashes]
        frames = [frames[i] for i in places]
        if not frames:
            raise BadInput(f"{candidates}: every frame is labelled in {labelled} already")
    n = min(n, len(frames))
    if 0 < random_share < 1 and round(random_share * n) < N_RANDOM_MIN and n < 2 * N_RANDOM_MIN:
        text = (
            f"at least {N_RANDOM_MIN} frames are drawn at random, so {min(n, N_RANDOM_MIN)} of {n} will be; "
            f"give --n {2 * N_RANDOM_MIN} or more, or --random-share 0"
        )
        warnings.warn(Notice(text), stacklevel=2)
    references = model or ["mini-halides"]
    members = [load(reference, trust) for reference in references]
    for reference, member in zip(references, members, strict=True):
        check_known(member, np.concatenate([frame.numbers for frame in [*frames, *known]]), reference)
    elements = sorted({int(number) for frame in [*frames, *known] for number in frame.numbers})

    def descriptors(part: list[Frame]) -> list[NDArray[np.float64]]:
        features = [p.node_features for p in members[0].predict(part, ("energy", "forces", "node_features"))]
        pairs = zip(features, part, strict=True)
        return [frame_descriptor(found, frame.numbers, elements) for found, frame in pairs if found is not None]

    scores = None
    if len(members) > 1:
        forces = [member.predict(frames) for member in members]
        spreads = [committee_spread(np.array([m[i].forces for m in forces])) for i in range(len(frames))]
        scores = np.array([frame_score(spread) for spread in spreads])
    with bad_input():
        chosen = choose(
            descriptors(frames),
            descriptors(known) if known else [],
            scores,
            n_select=n,
            random_share=random_share,
            rng=np.random.default_rng(seed),
        )
    images = []
    for idx, reason in zip(chosen.idx, chosen.reasons, strict=True):
        atoms = atoms_from_frame(frames[idx])
        atoms.info["reason"] = reason
        images.append(atoms)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as aside:
        write(aside, images, format="extxyz")
    chosen_idx = [places[idx] for idx in chosen.idx]
    content = {"idx": chosen_idx, "reasons": chosen.reasons, "scores": chosen.scores, "out": out}
    lines = [f"{idx:>6}  {reason}" for idx, reason in zip(chosen_idx, chosen.reasons, strict=True)]
    show(as_json, content, [*lines, f"wrote {len(images)} frames to {out}"])
