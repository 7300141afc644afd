"""What the explorer's script computes in a browser is what PyTorch and the record say, to the last rectangle."""

import base64
import json
import re
from importlib import resources

import matplotlib as mpl
import numpy as np
import pytest
import torch
from torch import nn

from mqa_lib import MobileMQA, MultiHeadAttention2d, pictures, record, rtdetr
from mqa_lib.explorer import payload, words
from mqa_lib.explorer.seen import Match, Seen, gather
from tests.unhooked.explored import AIFI, GRIND, p95_and_bar, random_record
from tests.unhooked.test_explore import NANO, SCENE
from tests.unhooked.test_explorer import made

NAMES = (
    "COLOURS, cellAt, columns, entropy, footprint, keyCentre, mean, onTheRightKey, paint, queryCell, rightKeys, row, "
    "rows, sentence, softmax, top, unpack"
)
CORE = resources.files("mqa_lib.explorer").joinpath("core.mjs").read_text()
OPTIONS = [{"kv_stride": 1}, {"kv_stride": 2}, {"kv_stride": 3}, {"query_strides": (2, 3), "kv_stride": 4}]
TOLERANCE = 2e-3


def network(attention: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 2, 2), nn.BatchNorm2d(8))
    nn.init.normal_(
        stem[0].weight, std=0.4
    )  # scores as large as a trained layer's: the error grows with them
    nn.init.normal_(stem[1].weight, std=0.4)
    return nn.Sequential(*stem, attention).eval()


def picture(height: int = 53, width: int = 67) -> np.ndarray:
    return np.random.RandomState(2).randint(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.fixture(scope="module", params=["own", "deleted"])
def tab(browser, request):
    """Open an empty page that holds the script's functions, with and without the browser's own half precision."""
    page = browser.new_page()
    if request.param == "deleted":
        page.add_init_script("delete globalThis.Float16Array")
    page.goto("data:text/html,<title>numbers</title>")
    page.add_script_tag(content=f"{CORE}\nglobalThis.core = {{ {NAMES} }};", type="module")
    page.wait_for_function("globalThis.core")
    yield page
    page.close()


def in_page(page, records, expression, **known):
    """Return what an expression of `layer`, `layers` and `scene` comes to in the page that got these records."""
    data = base64.b64encode(payload.pack(gather(records, known.pop("pairs", ())))).decode()
    code = (
        "([data, known]) => { const { "
        + NAMES
        + " } = core; const meta = unpack(data); const scene = meta.scenes[0];"
        "const layers = scene.layers; const layer = layers[0]; const plain = (given) => JSON.parse(JSON.stringify("
        f"given, (_, v) => ArrayBuffer.isView(v) ? Array.from(v) : v)); return plain({expression}); }}"
    )
    return page.evaluate(code, [data, known])


def all_weights(page, taken):
    return np.array(
        in_page(page, [taken], "Array.from({length: layer.queries}, (_, q) => rows(layer, q))")
    ).swapaxes(0, 1)


@pytest.mark.parametrize("options", OPTIONS)
def test_weights_are_those_of_the_layer_in_pytorch(tab, options):
    torch.manual_seed(1)
    model = network(MobileMQA(8, num_heads=3, key_dim=5, value_dim=7, **options))
    x = model[:3](torch.from_numpy(picture()).permute(2, 0, 1)[None] / 255)
    expected = model[3].weights(x)[0].detach().numpy()
    shown = all_weights(tab, record.capture(model, picture())[0])
    assert np.abs(shown - expected).max() <= TOLERANCE
    np.testing.assert_allclose(shown.sum(-1), 1, atol=1e-3)
    near_tie = np.sort(expected, -1)[..., -1] - np.sort(expected, -1)[..., -2] < TOLERANCE
    assert (near_tie | (shown.argmax(-1) == expected.argmax(-1))).all() and near_tie.mean() < 0.5


def test_weights_of_a_trained_detector_are_those_of_its_layers(tab):
    model, kept = rtdetr.load(NANO), {}
    scene = pictures.read(SCENE)
    names = ("model.5.attn", "model.8.attn")
    layers = {name: model.model.get_submodule(name) for name in names}
    hooks = [
        layer.register_forward_pre_hook(lambda _, x, name=name: kept.update({name: x[0]}))
        for name, layer in layers.items()
    ]
    seen = [entry for entry in record.capture(model, scene) if entry.layer in names]
    for hook in hooks:
        hook.remove()
    for entry in seen:
        expected = layers[entry.layer].eval().weights(kept[entry.layer])[0].detach().numpy()
        shown = all_weights(tab, entry)
        print(f"{entry.layer}: max |A_js - A_torch| = {np.abs(shown - expected).max():.1e}")
        assert np.abs(shown - expected).max() <= TOLERANCE
        assert (
            shown.argmax(-1) == expected.argmax(-1)
        ).mean() > 0.995  # two keys may be alike to the last bit


def test_heads_with_keys_of_their_own_are_not_mixed_up(tab):
    torch.manual_seed(1)
    taken = record.capture(network(MultiHeadAttention2d(8, num_heads=2, key_dim=3)), picture())[0]
    shown = all_weights(tab, taken)
    assert taken.k.shape[0] == 2
    np.testing.assert_allclose(shown, taken.weights(), atol=1e-5)
    assert (shown.argmax(-1) == taken.weights().argmax(-1)).all()
    assert np.abs(shown[0] - shown[1]).max() > 10 * TOLERANCE  # an average over heads would show none of this


def test_the_reverse_view_is_the_other_axis_of_the_same_weights_at_any_temperature(tab):
    taken = made(5, 7, heads=3)
    for temperature in (1, 0.5, 4):
        columns = in_page(tab, [taken], f"columns(layer, 11, {temperature})")
        rows = in_page(tab, [taken], f"Array.from({{length: 35}}, (_, q) => rows(layer, q, {temperature}))")
        np.testing.assert_allclose(np.array(columns), np.array(rows)[:, :, 11].T, atol=1e-12)


def test_a_temperature_divides_the_scores(tab):
    taken = made(5, 7)
    scores = taken.q[1, 17].astype(float) @ taken.k[0].T.astype(float) * taken.scale / 0.5
    expected = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(in_page(tab, [taken], "row(layer, 1, 17, 0.5)"), expected, atol=1e-9)


@pytest.mark.parametrize("options", OPTIONS)
def test_every_rectangle_is_the_record_s_own(tab, options):
    taken = record.capture(network(MobileMQA(8, num_heads=1, key_dim=5, **options)), picture())[0]
    feet = in_page(tab, [taken], "Array.from({length: layer.keys}, (_, k) => footprint(layer, k))")
    assert feet == [list(taken.footprint(key)) for key in range(taken.k.shape[1])]
    cells = in_page(tab, [taken], "Array.from({length: layer.queries}, (_, q) => queryCell(layer, q))")
    assert cells == [list(taken.query_cell_of(query)) for query in range(taken.q.shape[1])]
    centres = in_page(tab, [taken], "Array.from({length: layer.keys}, (_, k) => keyCentre(layer, k))")
    np.testing.assert_allclose(centres, taken.key_centres(), atol=1e-9)


def test_the_cell_under_a_pixel_is_the_record_s_own(tab):
    taken = record.capture(network(MobileMQA(8, num_heads=1, key_dim=5, kv_stride=2)), picture())[0]
    cell = "cellAt(layer, 'queryGrid', Math.floor(p / 67) + .5, p % 67 + .5)"
    expression = f"Array.from({{length: 53 * 67}}, (_, p) => {cell})"
    expected = [taken.query_at(row, column) for row in range(53) for column in range(67)]
    assert in_page(tab, [taken], expression) == expected


def test_words_table_and_entropy_are_those_of_the_record(tab):
    taken = made(5, 7)
    asked = "{query: 17, direction: 'from'}, 'head 1', row(layer, 1, 17))"
    assert in_page(tab, [taken], f"sentence(layer, {asked}") == words.sentence(taken, 17, 1)
    assert in_page(tab, [taken], "top(row(layer, 1, 17))") == [reading.key for reading in taken.top(17, 1)]
    assert in_page(tab, [taken], "entropy(row(layer, 1, 17))") == pytest.approx(
        float(taken.entropy()[1, 17]), abs=1e-5
    )


def test_the_right_key_is_counted_for_the_right_head(tab):
    taken = made(5, 7, heads=3)
    pairs = [Match("star", (15, 21), (9, 33)), Match("cross", (2, 3), (27, 39), near=6)]
    counted = in_page(tab, [taken], "onTheRightKey(layer, scene.pairs)", pairs=pairs)
    middles = taken.key_centres()
    for head, said in enumerate(counted):
        shares, hits = [], 0
        for pair in pairs:
            most = 3 if pair.near is None else pair.near
            right = np.abs(middles - np.array(pair.key) - 0.5).max(1) <= most
            row = taken.row(taken.query_at(*pair.lock), head)
            shares.append(row[right].sum())
            hits += bool(right[row.argmax()])
        assert said["share"] == pytest.approx(np.mean(shares), abs=1e-5) and said["hits"] == hits


@pytest.mark.parametrize(("rate", "bar"), [(1, 1.0), (6, 4.0)])
def test_one_query_in_every_head_takes_a_fraction_of_a_frame(tab, rate, bar):
    """The median of the rounds counts, against the machine as it is now."""
    session = tab.context.new_cdp_session(tab)
    session.send("Emulation.setCPUThrottlingRate", {"rate": rate})
    tab.evaluate(GRIND)
    clock = "(() => { const b = performance.now(); rows(layer, i % 400); return performance.now() - b; })()"
    times = f"Array.from({{length: 150}}, (_, i) => [{clock}, grind()])"
    rounds = [in_page(tab, [random_record(**AIFI)], times)[50:] for _ in range(5)]
    session.send("Emulation.setCPUThrottlingRate", {"rate": 1})
    p95, most = p95_and_bar(rounds, bar, rate)
    assert p95 <= most


def lightness(colours):
    """Return CIE L* of sRGB colours, from the standard's own formula."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 216 / 24389, 116 * np.cbrt(y) - 16, y * 24389 / 27)


@pytest.mark.parametrize("name", ["cividis", "viridis", "grey"])
def test_colours_get_lighter_evenly_and_are_the_known_tables(tab, name):
    table = np.array(in_page(tab, [made(5, 7)], f"COLOURS.{name}")).reshape(256, 3)
    light = lightness(table / 255)
    assert (np.diff(light) > -0.2).all() and (np.diff(light[::8]) > 0).all()
    assert np.corrcoef(np.arange(256), light)[0, 1] ** 2 > 0.99
    known = mpl.colormaps["gray" if name == "grey" else name](np.arange(256))[:, :3] * 255
    assert np.abs(table - known).max() <= 5


def test_the_script_is_one_module_of_at_most_40_kb_that_imports_nothing():
    script = payload.script()
    assert len(script.encode()) <= 40_000, len(script.encode())
    assert not re.search(r"\bimport\b\s*[{(\"']|https?://(?!www\.w3\.org)|\beval\b|innerHTML|fetch\(", script)
    assert script.count("export") == 1 and "export default { render }" in script
    assert len((payload.script() + payload.style()).encode()) < 50_000


def test_a_browser_keeps_the_script_in_one_byte_a_letter():
    """One letter beyond Latin-1 doubles what every widget that was ever shown keeps of it, 40 kB."""
    for text in (payload.script(), payload.style()):
        assert len(text.encode("latin-1")) == len(text)


def test_arrays_in_a_payload_lie_at_even_addresses_and_hold_the_record(tab):
    taken = made(5, 7)
    seen = Seen("<b>é</b>", taken.image, [taken, made(10, 14, cell=3, name="x")])
    data = payload.pack([seen])
    length = int.from_bytes(data[:4], "little")
    meta = json.loads(data[4 : 4 + length])
    for layer, kept in zip(meta["scenes"][0]["layers"], seen.layers, strict=True):
        at = 4 + length + layer["q"]["at"]
        assert at % 2 == 0
        np.testing.assert_array_equal(np.frombuffer(data, "<f2", kept.q.size, at), kept.q.ravel())
    assert in_page(tab, [seen], "scene.name") == "<b>é</b>"
