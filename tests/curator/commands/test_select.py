"""The command that chooses frames, by the shipped model."""

import json
from pathlib import Path
from typing import Any

import pytest
from ase.build import bulk
from ase.io import read, write
from typer.testing import CliRunner

from curator.commands.select import app
from curator.datasets.notice import Notice
from curator.errors import BadInput


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = []
    for seed in range(12):
        atoms = bulk("LiF", "rocksalt", a=4.05, cubic=True)
        atoms.rattle(0.1, seed=seed)
        images.append(atoms)
    path = tmp_path_factory.mktemp("pool") / "pool.extxyz"
    write(path, images)
    return path


def chosen(pool: Path, out: Path, *arguments: str | Path | float) -> dict[str, Any]:
    words = ["select", pool, "--out", out, "--json", *arguments]
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_frames_of_a_file_that_are_labelled_are_not_chosen_again(pool: Path, tmp_path: Path):
    write(tmp_path / "labelled.extxyz", read(pool, index="2:"))
    with pytest.warns(Notice, match="at least 4 frames are drawn at random, so 2 of 2 will be; give --n 8 or more"):
        content = chosen(pool, tmp_path / "out.extxyz", "--labelled", tmp_path / "labelled.extxyz")
    assert sorted(content["idx"]) == [0, 1]
    with pytest.raises(BadInput, match=r"pool\.extxyz: every frame is labelled in .*pool\.extxyz already"):
        chosen(pool, tmp_path / "out.extxyz", "--labelled", pool, "--n", 4)


@pytest.mark.parametrize(("arguments", "n_random"), [(("--n", 6), 4), (("--n", 3), 3)])
def test_it_is_said_where_the_floor_of_the_random_share_takes_most(
    pool: Path, tmp_path: Path, arguments: tuple[str | int, ...], n_random: int
):
    with pytest.warns(Notice, match=f"so {n_random} of {arguments[1]} will be"):
        assert chosen(pool, tmp_path / "out.extxyz", *arguments)["reasons"].count("random") == n_random


@pytest.mark.filterwarnings("error::curator.datasets.notice.Notice")
@pytest.mark.parametrize(
    ("arguments", "n_random"),
    [(("--n", 8), 4), (("--n", 6, "--random-share", 0), 0), (("--n", 3, "--random-share", 1), 3)],
)
def test_nothing_is_said_where_the_share_is_what_was_meant(
    pool: Path, tmp_path: Path, arguments: tuple[str | float, ...], n_random: int
):
    assert chosen(pool, tmp_path / "out.extxyz", *arguments)["reasons"].count("random") == n_random
