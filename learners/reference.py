"""How a model is named, and which frames come with it; nothing is loaded here."""

from pathlib import Path

from curator.datasets.mini_halides.frames import FRAMES, NAME, folder_of

MINI_HALIDES = NAME


def split_head(reference: str) -> tuple[str, str | None]:
    """Model and head of a reference such as ``mace:mh-1#omat_pbe``; the head is None if none is named."""
    name, _, head = reference.partition("#")
    return name, head or None


def is_mini_halides(reference: str) -> bool:
    """Whether a reference means an edition of the embedded model; it may be one that does not exist."""
    name, _ = split_head(reference)
    return name == MINI_HALIDES or name.startswith(f"{MINI_HALIDES}:")


def own_frames(reference: str) -> Path | None:
    """Store of the frames that a model learnt, for the embedded one and for what `curator distil` has made.

    Parameters
    ----------
    reference
        Name or path of the model, with or without a head.

    Returns
    -------
    Path or None
        None if the model brings none. The frames of the split ``test`` were never learnt.

    Raises
    ------
    ValueError
        If there is no edition of this name.
    """
    name, _ = split_head(reference)
    if is_mini_halides(name):
        return folder_of(name) / FRAMES.name
    folder = Path(name)
    frames = folder / FRAMES.name
    return frames if (folder / "model.json").is_file() and frames.is_file() else None
