"""The exported page by mouse and by keyboard, against the record's own numbers."""

import numpy as np
import pytest

from mqa_lib import explorer
from mqa_lib.explorer import words
from mqa_lib.record import entropy
from tests.unhooked.explored import LARGE, SAID, STAGE, at_query, menu, now, opened, over, p5
from tests.unhooked.test_explorer import made


def test_hovering_previews_a_query_and_leaving_brings_back_the_one_before(page, seen):
    record, before = seen.layers[0], page.locator(SAID).inner_text()
    head = int(now(page)["head"])
    for query in (70, 71, 118):
        at_query(page, record, query)
        assert now(page)["query"] == str(query)
        assert page.locator(SAID).inner_text() == words.sentence(record, query, head)
    page.mouse.move(5, 5)
    assert page.locator(SAID).inner_text() == before


def test_a_click_locks_a_query_and_another_click_or_escape_frees_it(page, seen):
    record = seen.layers[0]
    x, y = at_query(page, record, 70)
    page.mouse.click(x, y)
    at_query(page, record, 118)
    assert (now(page)["query"], now(page)["locked"]) == ("70", "true")
    assert "locked" in page.locator(STAGE).get_attribute("aria-label")
    page.keyboard.press("Escape")
    at_query(page, record, 119)
    assert (now(page)["query"], now(page)["locked"]) == ("119", "false")
    page.mouse.click(*at_query(page, record, 70))
    page.mouse.click(x, y)
    assert now(page)["locked"] == "false"


def test_the_keyboard_reaches_every_query_through_one_tab_stop(page, seen):
    record = seen.layers[0]
    rows, columns = record.query_grid
    stage = page.locator(STAGE)
    assert stage.locator("[tabindex], button, input, select, a").count() == 0
    page.mouse.click(*at_query(page, record, 5 * columns + 6))
    moves = {
        "ArrowRight": (5, 7),
        "ArrowDown": (6, 7),
        "ArrowLeft": (6, 6),
        "ArrowUp": (5, 6),
        "Home": (5, 0),
        "ArrowLeft ": (5, 0),
        "End": (5, columns - 1),
        "Control+End": (rows - 1, columns - 1),
        "ArrowDown ": (rows - 1, columns - 1),
        "Control+Home": (0, 0),
    }
    for key, (row, column) in moves.items():
        page.keyboard.press(key.strip())
        assert now(page)["query"] == str(row * columns + column), key
    for key, locked in (("Enter", "false"), ("Enter", "true"), ("Escape", "false"), ("Space", "true")):
        page.keyboard.press(key)
        assert now(page)["locked"] == locked, key
    assert page.evaluate("document.activeElement.className").endswith("mx-stage")


def test_sliders_are_an_equal_way(page, seen):
    menu(page, "row").focus()
    for name, value in (("row", 4), ("column", 9)):
        menu(page, name).evaluate("(s, v) => { s.value = v; s.dispatchEvent(new Event('input')); }", value)
    assert now(page)["query"] == str(4 * 16 + 9)
    menu(page, "column").press("ArrowRight")
    assert now(page)["query"] == str(4 * 16 + 10)


def test_table_numbers_and_thumbnails_are_the_record_s_own(page, seen):
    record = seen.layers[0]
    page.mouse.click(*at_query(page, record, 70))
    assert page.locator("[role=radio] canvas").count() == record.num_heads + 1
    for head in range(record.num_heads):
        page.locator(".mx-heads [role=radio]").nth(head + 1).click()
        rows = page.locator(".mx-table").first.locator("tbody tr").all_inner_texts()
        expected = [(str(k.row), str(k.column), words.percent(k.share)) for k in record.top(70, head)]
        assert [(c[0], c[1], c[-1]) for c in (row.split() for row in rows)] == expected
        bits = f"Entropy {float(entropy(record.row(70, head))):.2f} bits"
        assert (
            bits in page.locator(".mqa-x").inner_text()
            and "sum to 100.0%" in page.locator(".mqa-x").inner_text()
        )
        assert words.sentence(record, 70, head) == page.locator(SAID).inner_text()
    page.locator(".mx-heads [role=radio]").first.click()
    mean = record.rows(70).mean(0)
    assert words.percent(mean.max()) in page.locator(".mx-table").first.locator("tbody tr").first.inner_text()
    page.keyboard.press("ArrowRight")
    assert now(page)["head"] == "0" and page.locator(".mx-heads [tabindex='0']").count() == 1


def pixels(page, selector):
    return np.array(
        page.locator(selector).first.evaluate(
            "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
        )
    )


def test_a_map_has_a_pixel_for_each_key_and_one_scale_for_all_heads(page, seen):
    record = seen.layers[0]
    page.mouse.click(*at_query(page, record, 70))
    rows = record.rows(70).reshape(record.num_heads, -1)
    largest = max(rows.max(), 4 / rows.shape[1])
    for head in range(record.num_heads):
        shown = pixels(page, f".mx-heads [role=radio]:nth-child({head + 2}) canvas").reshape(-1, 4)
        np.testing.assert_allclose(shown[:, 3] / 255, 0.25 + 0.55 * rows[head] / largest, atol=0.01)
    assert words.percent(largest) in page.locator(".mx-bar").first.inner_text()
    menu(page, "scale").select_option(label="0 to 100%")
    shown = pixels(page, ".mx-heads [role=radio]:nth-child(2) canvas").reshape(-1, 4)
    np.testing.assert_allclose(shown[:, 3] / 255, 0.25 + 0.55 * rows[0], atol=0.01)


def test_a_key_under_the_pointer_is_named_with_its_weight_and_its_footprint(page, seen):
    record = seen.layers[0]
    page.mouse.click(*at_query(page, record, 70))
    head, key = int(now(page)["head"]), 28
    centre = record.key_centres()[key]
    over(page, LARGE, (*centre, *centre), record.image.shape)
    said = page.locator(".mx-hover").inner_text()
    assert f"Key row 3, column 4: {words.percent(record.row(70, head)[key])}" in said
    foot = page.locator(f"{STAGE} .mx-foot")
    places = foot.evaluate("n => [n.style.top, n.style.left, n.style.height, n.style.width]")
    top, left, bottom, right = record.footprint(key)
    expected = np.array([top, left, bottom - top, right - left]) / 128 * 100
    np.testing.assert_allclose([float(at[:-1]) for at in places], expected, atol=1e-3)


def test_the_reverse_view_says_who_reads_a_key(page, seen):
    record, key = seen.layers[0], 28
    menu(page, "direction").select_option(label="who reads a key")
    centre = record.key_centres()[key]
    page.mouse.click(*over(page, STAGE, (*centre, *centre), record.image.shape))
    head = int(now(page)["head"])
    column = record.weights(head)[0][:, key]
    row, at = divmod(int(column.argmax()), record.query_grid[1])
    most = words.percent(column.max())
    said = f"Key row 3, column 4, head {head}: read most by query row {row}, column {at}, {most}."
    assert page.locator(SAID).inner_text() == said
    assert f"reads {words.percent(column.mean())} of this key" in page.locator(".mqa-x").inner_text()


def test_temperature_changes_the_weights_and_says_that_they_are_not_the_layer_s(page, seen):
    record = seen.layers[0]
    page.mouse.click(*at_query(page, record, 70))
    slider = menu(page, "temperature")
    slider.evaluate("s => { s.value = 1; s.dispatchEvent(new Event('input')); }")
    head = int(now(page)["head"])
    scores = np.log(record.row(70, head).astype(float)) / 2
    assert words.percent((np.exp(scores) / np.exp(scores).sum()).max()) in page.locator(SAID).inner_text()
    assert "2.00 (not the layer's own)" in page.locator(".mqa-x").inner_text()


def test_layer_and_its_neighbour_are_shown_at_the_same_place_of_the_picture(page, seen):
    mobile, aifi = seen.layers[0], seen.layers[-1]
    page.mouse.click(*at_query(page, mobile, 70))
    menu(page, "beside it").select_option(index=len(seen.layers) - 1)
    top, left, bottom, right = mobile.query_cell_of(70)
    there = aifi.query_at(int((top + bottom) / 2), int((left + right) / 2))
    mean = aifi.rows(there).mean(0)
    said = page.locator(".mx-answer .mx-quiet").all_inner_texts()
    assert any(
        f"{words.percent(mean.max())}; entropy" in text and "all heads on average" in text for text in said
    )
    menu(page, "layer").focus()
    menu(page, "layer").select_option(index=len(seen.layers) - 1)
    assert now(page)["query"] == str(there) and aifi.kind == "AIFI"
    assert page.evaluate("document.activeElement.tagName") == "SELECT"


def test_strides_that_exist_can_be_switched_and_others_are_not_offered(browser, tmp_path, seen):
    page = opened(browser, explorer.export_html([p5(1), p5(2)], tmp_path / "a.html"))
    buttons = page.locator("[aria-label=kv_stride] [role=radio]")
    assert buttons.all_inner_texts() == ["1", "2"]
    page.locator(STAGE).focus()
    page.keyboard.press("Home")
    before = now(page)["query"]
    buttons.nth(1).click()
    assert (now(page)["layer"], now(page)["query"]) == ("1", before)
    assert "10×10 keys" in page.locator(".mx-layer").inner_text()
    page.close()
    page = opened(browser, explorer.export_html([p5(2)], tmp_path / "b.html"))
    assert page.locator("[aria-label=kv_stride]").count() == 0
    page.close()


def test_the_right_key_is_outlined_and_counted(page, seen):
    record = seen.layers[0]
    page.get_by_role("button", name=f"{seen.pairs[1].name} lock").click()
    pair = seen.pairs[1]
    query = record.query_at(*pair.lock)
    assert now(page)["query"] == str(query)
    first, step = record.key_centres()[0], np.array(record.key_step)
    place = ((np.array(pair.key) + 0.5 - first) / step + 0.5).astype(int)  # the square that holds it
    nearest = place[0] * record.key_grid[1] + place[1]
    shares = record.rows(query).reshape(record.num_heads, -1)[:, nearest]
    text = page.locator(".mx-truth").inner_text()
    assert (
        f"the best head puts {words.percent(shares.max())} on the right key: head {shares.argmax()}" in text
    )
    assert f"Over the {len(seen.pairs)} locks" in text and words.percent(1 / 64) in text
    outline = page.locator(f"{STAGE} .mx-right")
    assert outline.is_visible() and outline.evaluate("n => parseFloat(n.style.top)") == pytest.approx(
        record.footprint(int(nearest)).top / 1.28, abs=1e-3
    )


def test_a_detection_moves_the_query_and_shows_the_decoder_s_points(page, seen):
    points = seen.points
    menu(page, "detection").select_option(index=1)
    top, left, bottom, right = points.box(1)
    assert now(page)["query"] == str(
        seen.layers[0].query_at(int((top + bottom) / 2), int((left + right) / 2))
    )
    page.get_by_role("radio", name="layer 1").click()
    shares = points.weights[1, 1].sum((0, 2)) / len(points.weights[1, 1])
    text = page.locator(".mx-decoder").inner_text()
    assert all(f"{words.percent(share)} from the map of" in text for share in shares)
    assert page.locator(".mx-decoder svg :is(circle, polygon)").count() == points.weights[0, 0].size
    largest = float(np.float16(points.weights[1, 1].max()))  # a page keeps weights in half precision
    assert f"{words.percent(largest)} the largest" in text


def test_the_stored_check_is_shown_for_its_place_and_offered_elsewhere(page, seen):
    check = seen.checks[0]
    text = page.locator(".mx-check").inner_text()
    assert check.score in text and f"{check.strongest[-1]:.3f}" in text and f"{check.before:.3f}" in text
    page.locator(STAGE).focus()
    page.keyboard.press("Control+Home")
    assert f"{check.strongest[-1]:.3f}" not in page.locator(".mx-check").inner_text()
    page.locator(".mx-check button").click()
    assert int(now(page)["query"]) == check.queries[0]


def test_the_live_region_speaks_the_sentence_and_at_most_once_in_300_ms(page, seen):
    page.evaluate(
        "globalThis.told = []; new MutationObserver(() => told.push(performance.now()))"
        ".observe(document.querySelector('[aria-live]'), {childList: true, characterData: true, subtree: true})"
    )
    page.locator(STAGE).focus()
    page.keyboard.press("Home")
    for _ in range(15):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(60)
    page.wait_for_timeout(700)
    times = page.evaluate("told")
    assert len(times) >= 2 and min(np.diff(times)) >= 299
    assert page.locator("[aria-live]").inner_text() == page.locator(SAID).inner_text()


def test_pictures_of_one_page_can_be_switched(browser, tmp_path, seen):
    other = explorer.gather(made(5, 7))[0]
    page = opened(browser, explorer.export_html([seen, other], tmp_path / "a.html"))
    menu(page, "picture").select_option(index=1)
    assert "5×7 queries" in page.locator(".mx-layer").inner_text()
    assert page.locator(STAGE).evaluate("n => getComputedStyle(n).aspectRatio") == "42 / 30"
    assert page.locator(".mx-decoder").count() == 0 and page.said == []
    page.close()
