import numpy as np

from curator.learners.farthest import farthest_points


def test_farthest_points_covers_clusters_before_it_refines():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10]])
    points = np.concatenate([c + 0.1 * rng.standard_normal((50, 2)) for c in centres])
    idx, distance = farthest_points(points, centres[:1], 3)
    assert sorted(idx // 50) == [1, 2, 3]
    assert (distance > 9).all()
    assert (np.diff(distance) <= 0).all()


def test_farthest_points_breaks_ties_by_lowest_index_and_never_picks_copies():
    points = np.array([[1.0], [-1.0], [1.0], [0.0], [-1.0]])
    idx, _ = farthest_points(points, np.array([[0.0]]), 5)
    assert idx.tolist() == [0, 1]


def test_farthest_points_without_labelled_frames_starts_far_from_the_mean():
    nothing = np.empty((0, 1))
    idx, _ = farthest_points(np.array([[0.0], [1.0], [10.0], [2.0]]), nothing, 2)
    assert idx.tolist() == [2, 0]
    # The mean, 5.75, is no anchor: 5 is farther from 0 and 10 than 8 is.
    idx, distance = farthest_points(np.array([[0.0], [10.0], [5.0], [8.0]]), nothing, 4)
    assert idx.tolist() == [0, 1, 2, 3]
    assert distance.tolist() == [5.75, 10, 5, 2]
    assert farthest_points(np.ones((3, 2)), np.empty((0, 2)), 3)[0].tolist() == [0]
    assert farthest_points(np.empty((0, 2)), np.empty((0, 2)), 3)[0].tolist() == []
