"""Several levels of theory in one data set: choosing one, and comparing two where a frame has both."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from ase.data import atomic_numbers

from curator.datasets.label import Record, Theory


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two levels of theory on the frames that have labels of both.

    Attributes
    ----------
    theories
        Their keys.
    n_frames
        Frames that have both.
    force_rms_eV_per_A
        Root mean square difference of force components.
    energy_rms_eV_per_atom
        Root mean square of the differences of energy per atom, once what a sum of atomic energies explains is taken
        off; None where there are no more frames than independent compositions, and nothing would be left.
    """

    theories: tuple[str, str]
    n_frames: int
    force_rms_eV_per_A: float
    energy_rms_eV_per_atom: float | None


def count_theories(records: Iterable[Record]) -> dict[str, int]:
    """Labels of each level of theory, by its key, in order of arrival."""
    return dict(Counter(record.label.theory for record in records))


def united(theories: Iterable[Theory]) -> Theory | None:
    """One level of theory for several that differ by the elements whose pseudopotentials they name, and by no more.

    It names the pseudopotentials of all their elements, as a set-up that lists them does. None if the theories differ
    in anything else, or have different pseudopotentials of one element.
    """
    first, *others = theories
    whole = first
    for other in others:
        same = (whole.method, whole.code, whole.settings) == (other.method, other.code, other.settings)
        by_element = all(hashes and hashes.keys() <= atomic_numbers.keys() for hashes in (whole.hashes, other.hashes))
        agree = all(whole.hashes.get(symbol, digest) == digest for symbol, digest in other.hashes.items())
        if not (same and by_element and agree):
            return None
        whole = replace(merged(whole, other), hashes=dict(whole.hashes) | dict(other.hashes))
    return whole


def levels_of(keys: Iterable[str], known: Mapping[str, Theory]) -> dict[str, list[str]]:
    """Theories that are one level of theory, in order of arrival, by the key of what they are together.

    Parameters
    ----------
    keys
        Of theories.
    known
        Theories in full, by key; one that is not among them is a level of its own.
    """
    levels: list[tuple[Theory | None, list[str]]] = []
    for key in keys:
        theory = known.get(key)
        for idx, (level, members) in enumerate(levels):
            both = None if level is None or theory is None else united((level, theory))
            if both is not None:
                levels[idx] = (both, [*members, key])
                break
        else:
            levels.append((theory, [key]))
    return {members[0] if level is None else level.key: members for level, members in levels}


def choose_theory(
    counts: Mapping[str, int], wanted: str | None, where: str, known: Mapping[str, Theory] | None = None
) -> tuple[str, list[str]]:
    """Key of the level of theory that is meant, and those of the theories that it is made of.

    Parameters
    ----------
    counts
        Labels of each theory there is.
    wanted
        A key, also one that a level of theory had before its last parts came; or a method, if only one level of theory
        has it; None if there is only one level of theory.
    where
        What holds them, for the message.
    known
        Theories in full, by key.

    Raises
    ------
    ValueError
        If none is meant, or several may be; the text lists those there are.
    """
    levels = levels_of(counts, known or {})
    marks = marks_of({key: (known or {}).get(parts[0]) for key, parts in levels.items()})
    listed = "; ".join(
        f"{key} ({', '.join([f'{sum(counts[each] for each in parts)} labels', *marks[key]])})"
        for key, parts in levels.items()
    )
    if not counts:
        raise ValueError(f"{where}: holds no labels")
    if wanted is None:
        meant = list(levels)
    else:
        meant = [key for key, parts in levels.items() if wanted in (key, *parts, *_keys_before(parts, known or {}))]
        meant = meant or [key for key in levels if method_of(key) == wanted]
    if len(meant) == 1:
        return meant[0], levels[meant[0]]
    if not meant:
        raise ValueError(f"{where}: no labels of {wanted!r}; there are {listed}")
    raise ValueError(f"{where}: labels of several levels of theory; choose one with --theory: {listed}")


def _keys_before(parts: Sequence[str], known: Mapping[str, Theory]) -> list[str]:
    """Keys that a level of theory has had while its parts came, one after another."""
    wholes = (united(known[key] for key in parts[: n + 1]) for n in range(len(parts)) if len(parts) > 1)
    return [whole.key for whole in wholes if whole is not None]


def marks_of(theories: Mapping[str, Theory | None]) -> dict[str, list[str]]:
    """What tells each theory from others of its name: ``["ecutwfc 90.0"]``; nothing of one that is not known in full.

    Parameters
    ----------
    theories
        By their keys.
    """
    marks: dict[str, list[str]] = {key: [] for key in theories}
    for key, theory in theories.items():
        if theory is None:
            continue
        others = [other for other in theories.values() if other is not None and other.method == theory.method]
        own, theirs = _flat(theory.settings), [_flat(other.settings) for other in others]
        marks[key] += [f"{name} {value}" for name, value in own.items() if any(it.get(name) != value for it in theirs)]
        marks[key] += [
            f"file of {name} {digest[:8]}"
            for name, digest in theory.hashes.items()
            if any(other.hashes.get(name, digest) != digest for other in others)
        ]
    return marks


def _flat(settings: Mapping[str, object]) -> dict[str, object]:
    """Settings by the last part of their names, sections taken apart."""
    flat: dict[str, object] = {}
    for name, value in settings.items():
        flat |= _flat(value) if isinstance(value, Mapping) else {name: value}
    return flat


def method_of(key: str) -> str:
    """Name that a person knows a level of theory by, from its key."""
    return key.rpartition("@")[0]


def differences_of(one: Theory, other: Theory) -> list[str]:
    """Where the settings of two levels of theory contradict each other; what only one of them tells does not count.

    Settings must agree, and details only as far as they go by element: k-points belong to the cell.
    """
    told = [(name, one.settings[name], other.settings[name]) for name in one.settings if name in other.settings]
    for name, values in one.details.items():
        others = other.details.get(name)
        if isinstance(values, Mapping) and isinstance(others, Mapping):
            told += [
                (f"{name} of {element}", values[element], others[element]) for element in values if element in others
            ]
    return [f"{name}: {a} and {b}" for name, a, b in told if a != b]


def merged(one: Theory, other: Theory) -> Theory:
    """One level of theory, with what either tells: the newer versions and k-points, every element's potential."""
    details = dict(one.details) | dict(other.details)
    for name, values in one.details.items():
        others = other.details.get(name)
        if isinstance(values, Mapping) and isinstance(others, Mapping):
            details[name] = dict(values) | dict(others)
    settings, versions = dict(one.settings) | dict(other.settings), dict(one.versions) | dict(other.versions)
    return replace(one, settings=settings, versions=versions, details=details)


def compare_theories(records: Sequence[Record]) -> list[Comparison]:
    """Compare every two levels of theory that some frame has labels of."""
    labels: dict[str, dict[str, Record]] = {}
    for record in records:
        labels.setdefault(record.frame.hash, {})[record.label.theory] = record
    shared: dict[tuple[str, str], list[tuple[Record, Record]]] = {}
    order = list(count_theories(records))
    for held in labels.values():
        for a, b in combinations(sorted(held, key=order.index), 2):
            # Of one atom there is nothing to compare: its energy is a matter of convention.
            if len(held[a].frame) > 1:
                shared.setdefault((a, b), []).append((held[a], held[b]))
    return [_comparison(keys, pairs) for keys, pairs in shared.items()]


def _comparison(keys: tuple[str, str], pairs: Sequence[tuple[Record, Record]]) -> Comparison:
    forces = np.concatenate([(b.label.forces - a.label.forces).ravel() for a, b in pairs])
    elements = sorted({int(z) for a, _ in pairs for z in a.frame.numbers})
    n_atoms = np.array([len(a.frame) for a, _ in pairs], dtype=np.float64)
    shares = np.array([[np.count_nonzero(a.frame.numbers == z) for z in elements] for a, _ in pairs]) / n_atoms[:, None]
    energies = np.array([b.label.energy - a.label.energy for a, b in pairs]) / n_atoms
    atomic, _, rank, _ = np.linalg.lstsq(shares, energies, rcond=None)
    left = energies - shares @ atomic
    rms = float(np.sqrt(left @ left / (len(pairs) - rank))) if len(pairs) > rank else None
    return Comparison(keys, len(pairs), float(np.sqrt(np.mean(forces**2))), rms)
