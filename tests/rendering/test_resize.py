"""Resampling."""

import numpy as np
import pytest

from apps.rendering.resize import fit, reduce, resize


def test_shrinking_averages_so_that_fine_patterns_do_not_alias():
    stripes = np.tile(np.array([0, 60000], np.uint16), (64, 32))  # the finest stripes there are
    small = resize(stripes, 16, 16)
    assert (small.min(), small.max()) == (30000, 30000)


def test_enlarging_keeps_the_ends_of_the_scale():
    edge = np.repeat(np.array([[0, 65535]], np.uint16), 8, axis=1).repeat(16, axis=0)
    large = resize(edge, 64, 64)
    assert large.dtype == np.uint16
    assert (large.min(), large.max()) == (0, 65535)


def test_one_way_smaller_and_the_other_larger():
    rows = np.arange(16, dtype=np.uint8).repeat(64).reshape(16, 64)
    assert resize(rows, 32, 64).shape == (64, 32)


@pytest.mark.parametrize(
    ("rows", "columns", "aspect", "expected"),
    [(512, 512, 1, (100, 100)), (100, 200, 1, (200, 100)), (100, 100, 2, (50, 100)), (1, 5000, 1, (200, 1))],
)
def test_the_largest_picture_that_fits(rows, columns, aspect, expected):
    assert fit(rows, columns, aspect, 200, 100) == expected


def test_a_reduction_averages_squares_until_it_fits():
    board = np.kron(np.array([[10, 20, 30], [40, 50, 60]], np.uint8), np.ones((4, 4), np.uint8))
    assert (reduce(np.pad(board, ((0, 1), (0, 1))), 4) == [[10, 20, 30], [40, 50, 60]]).all()
    assert reduce(board, 12) is board
