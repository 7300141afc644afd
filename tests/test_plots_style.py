"""Figures that are redrawn while somebody waits make no garbage that others have to wait for."""

import gc
import weakref

import pytest

from mqa_lib import plots


def full_collections() -> int:
    return gc.get_stats()[2]["collections"]


def test_pictures_one_after_the_other_never_wait_for_a_collection_of_all_that_is_in_memory():
    drawn = []

    def redraw():
        with plots.drawn_without_a_pause():
            fig = plots.figure(columns=5)[0]
            plots.quick_png(fig)
            drawn.append(weakref.ref(fig))
            del fig

    redraw()
    gc.collect()
    before = full_collections()
    gc.disable()  # so that nobody else clears up
    try:
        for _ in range(13):
            redraw()
        alive = [figure() is not None for figure in drawn]
    finally:
        gc.enable()
    assert full_collections() == before
    assert not any(alive)


def test_a_drawing_that_fails_leaves_the_collector_as_it_was():
    for switch, is_on in ((gc.disable, False), (gc.enable, True)):
        switch()
        with pytest.raises(ZeroDivisionError), plots.drawn_without_a_pause():
            assert not gc.isenabled()
            raise ZeroDivisionError
        assert gc.isenabled() is is_on
