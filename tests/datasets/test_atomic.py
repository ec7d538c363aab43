from pathlib import Path

import pytest

from curator.datasets.atomic import atomic_path, write_atomically


def test_replaces_text_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "Å")
    assert path.read_bytes() == "Å".encode()
    write_atomically(path, b"\0\xff")
    assert path.read_bytes() == b"\0\xff"
    assert list(tmp_path.iterdir()) == [path]


def test_old_content_survives_a_failure_and_nothing_is_left_over(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    write_atomically(path, "old")

    def write() -> None:
        with atomic_path(path) as aside:
            assert aside.parent == tmp_path
            assert aside.name.endswith(".tar.gz")
            aside.write_text("ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_body_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []
