"""The exported page in Firefox and in WebKit, by mouse and by keyboard, where they are installed."""

import json

import pytest

from mqa_lib.explorer import words
from tests.unhooked import engines

STATE = "return {...document.querySelector('.mqa-x').dataset}"


@pytest.fixture(scope="module", params=["Firefox", "WebKit"])
def engine(request, file, tmp_path_factory):
    if reason := engines.missing(request.param):
        pytest.skip(reason)
    with engines.running(request.param, tmp_path_factory.mktemp("profile")) as browser:
        browser.open(file.as_uri())
        yield browser


def state(engine):
    return engine.run(STATE)


def said(engine):
    return engine.run("return document.querySelector('.mx-said').textContent")


def point(engine, selector, down, across, click=False):
    code = (
        f"const n = document.querySelector({json.dumps(selector)}); n.scrollIntoView({{block: 'center'}}); "
        "const r = n.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]"
    )
    x, y, width, height = engine.run(code)
    engine.point(x + width * across, y + height * down, click)


def at_query(engine, record, query, click=False):
    (top, left, bottom, right), (height, width) = record.query_cell_of(query), record.image.shape[:2]
    point(engine, ".mx-stage", (top + bottom) / 2 / height, (left + right) / 2 / width, click)


@pytest.mark.slow
def test_pointer_and_keys_move_lock_and_free_a_query_and_the_numbers_are_the_record_s(engine, seen):
    """Slow: a browser has to start."""
    record, start = seen.layers[0], state(engine)["query"]
    for query in (85, 171):
        at_query(engine, record, query)
        assert state(engine)["query"] == str(query)
        assert said(engine) == words.sentence(record, query, int(state(engine)["head"]))
    engine.point(3, 3)
    assert state(engine)["query"] == start
    at_query(engine, record, 85, click=True)
    at_query(engine, record, 171)
    assert (state(engine)["query"], state(engine)["locked"]) == ("85", "true")
    for key, query in (
        ("ArrowRight", 86),
        ("ArrowDown", 102),
        ("ArrowLeft", 101),
        ("Home", 96),
        ("End", 111),
    ):
        engine.press(key)
        assert state(engine)["query"] == str(query), key
    for key, locked in (("Escape", "false"), ("Enter", "true")):
        engine.press(key)
        assert state(engine)["locked"] == locked, key
    assert said(engine) == words.sentence(record, 111, int(state(engine)["head"]))


@pytest.mark.slow
def test_sliders_heads_and_the_reverse_view_work_and_every_map_is_drawn(engine, seen):
    at_query(engine, seen.layers[0], 111, click=True)
    engine.run("document.querySelectorAll('.mx-slider input')[1].focus()")
    engine.press("ArrowLeft")
    assert state(engine)["query"] == "110"
    point(engine, ".mx-slider input", 0.5, 0.1, click=True)
    assert int(state(engine)["query"]) // 16 < 4
    point(engine, ".mx-heads [role=radio]:nth-child(3)", 0.5, 0.5, click=True)
    assert state(engine)["head"] == "1"
    engine.press("ArrowRight")
    assert state(engine)["head"] == "2"
    menu = "[...document.querySelectorAll('.mx-field')].find(n => n.textContent.startsWith('direction'))"
    choose = "menu.value = '\"to\"'; menu.dispatchEvent(new Event('change', {bubbles: true}))"
    engine.run(f"const menu = {menu}.querySelector('select'); {choose}")
    before = state(engine)["key"]
    point(engine, ".mx-stage", 0.75, 0.2, click=True)
    assert state(engine)["key"] != before and said(engine).startswith("Key row ")
    column = seen.layers[0].weights(2)[0][:, int(state(engine)["key"])]
    assert words.percent(column.max()) in said(engine)
    any_colour = "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v)"
    shown = engine.run(f"return [...document.querySelectorAll('.mqa-x canvas')].map(c => {any_colour})")
    assert len(shown) == seen.layers[0].num_heads + 2 and all(shown)
