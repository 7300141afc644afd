"""The names of boxes can be read: inside the picture, and none over another."""

import itertools

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mqa_lib import plots

SIDE = 128
BOXES = [  # two neighbours whose names are longer than they are, then one in each corner
    (40.0, 60.0, 54.0, 74.0, "lock-vermillion", True),
    (60.0, 61.0, 74.0, 75.0, "lock-yellow", False),
    *((x, y, x + 14, y + 14, "lock-vermillion", True) for x in (1.0, 113.0) for y in (1.0, 113.0)),
]


def test_names_stay_in_the_picture_and_off_each_other():
    fig = plots.scenes([np.zeros((SIDE, SIDE, 3), dtype=np.uint8)] * 4, [BOXES] * 4)
    renderer = FigureCanvasAgg(fig).get_renderer()
    fig.draw(renderer)
    ax = fig.axes[0]
    names = [text.get_window_extent(renderer) for text in ax.texts]
    picture = ax.get_window_extent(renderer)
    assert len(names) == len(BOXES)
    for name in names:
        assert picture.x0 <= name.x0 and name.x1 <= picture.x1
        assert picture.y0 <= name.y0 and name.y1 <= picture.y1
    assert not any(one.overlaps(other) for one, other in itertools.combinations(names, 2))


def test_boxes_and_names_are_seen_on_a_white_picture():
    """White on white would leave nothing darker than the picture within it."""
    fig = plots.scenes(
        [np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)], [[(40.0, 60.0, 90.0, 100.0, "key", True)]]
    )
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    picture = fig.axes[0].get_window_extent(canvas.get_renderer())
    grey = np.asarray(canvas.buffer_rgba())[..., 0]
    high = grey.shape[0]
    inside = grey[
        int(high - picture.y1) + 3 : int(high - picture.y0) - 3, int(picture.x0) + 3 : int(picture.x1) - 3
    ]
    rows, columns = np.nonzero(inside < 128)
    share = np.array([np.ptp(columns) / inside.shape[1], np.ptp(rows) / inside.shape[0]])
    assert (share > np.array([50, 40]) / SIDE * 0.9).all()


def test_fewer_pictures_than_a_row_holds_leave_no_empty_room():
    one, two, five = (plots.scenes([np.zeros((7, 11, 3), np.uint8)] * count) for count in (1, 2, 5))
    assert [len(fig.axes) for fig in (one, two, five)] == [1, 2, 8]
    assert two.get_figwidth() == 2 * one.get_figwidth() == five.get_figwidth() / 2
