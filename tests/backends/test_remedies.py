"""What is tried again changes how an answer is found, never the answer."""

import pytest

from curator.backends.espresso_input import HOW_NOT_WHAT
from curator.backends.remedies import LADDERS, merged, next_remedy


def test_no_remedy_of_espresso_changes_the_level_of_theory():
    for remedy in LADDERS["espresso"]:
        for section, values in remedy.changes.items():
            assert set(values) <= set(HOW_NOT_WHAT[section]), remedy.name


@pytest.mark.parametrize("reason", ["scf", "memory", "crash", "walltime"])
def test_ladders_are_climbed_once_and_end(reason):
    for code, ladder in LADDERS.items():
        tried = []
        while (remedy := next_remedy(code, reason, tried)) is not None:
            assert reason in remedy.helps
            tried.append(remedy)
        assert len(set(map(id, tried))) == len(tried) <= len(ladder)
    assert next_remedy("espresso", "walltime", []) is None
    assert next_remedy("no such code", "scf", []) is None


def test_an_earlier_step_is_not_taken_after_a_later_one():
    scf = next_remedy("espresso", "scf", [])
    assert scf is not None
    assert next_remedy("espresso", "crash", [scf]) is not LADDERS["espresso"][0]


def test_later_input_wins():
    both = merged({"electrons": {"a": 1, "b": 1}}, {"electrons": {"b": 2}, "system": {"c": 3}})
    assert both == {"electrons": {"a": 1, "b": 2}, "system": {"c": 3}}
