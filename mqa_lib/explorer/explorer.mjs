// The attention explorer: point at a place of a picture, see what every head of a layer reads there.
// No dependencies, no requests. The host gives `model` (get, set, save_changes, on, off, send) and an element.
import { COLOURS, cellAt, clip, columns, entropy, footprint, gridOf, keyCentre, mean, part, peak, percent, place, queryCell, rightKeys,
  rows, sentence, top, unpack } from "./core.mjs";
import { c, choice, controls, fresh, h, heatMap, label, menu, put, slider, speaker, under } from "./parts.mjs";
import { check, colourBar, decoder, nearLock, numbers, table, truth } from "./panels.mjs";

const START = { scene: 0, layer: 0, query: -1, key: -1, locked: false, head: -1, direction: "from", temperature: 1,
  scale: "shared", colours: "cividis", beside: -1, detection: -1, decoder_layer: -1, guess: -2 };
const AVERAGE = -1;
const NO_GUESS = -2; // -1: asked for one, and the maps are hidden until it is given
const HELP = "Arrow keys move, Home and End go to the ends of the row, Enter or Space locks and frees, Escape frees.";

const headName = (head) => (head === AVERAGE ? "all heads on average" : `head ${head}`);
const middle = ([t, l, b, r]) => [(t + b) / 2, (l + r) / 2];

// What is shown: the state that host and reader share, checked, for a host may say anything.
function stateOf(model, data) {
  const state = {};
  for (const name of Object.keys(START)) state[name] = model.get(name) ?? START[name];
  const within = (name, count, otherwise) => {
    if (!(Number.isInteger(state[name]) && state[name] >= 0 && state[name] < count)) state[name] = otherwise;
  };
  within("scene", data.scenes.length, 0);
  const { layers, points } = data.scenes[state.scene];
  within("layer", layers.length, 0);
  within("beside", layers.length, -1);
  within("detection", points?.labels.length ?? 0, points ? 0 : -1);
  within("decoder_layer", points?.layers.length ?? 0, (points?.layers.length ?? 0) - 1);
  const layer = layers[state.layer];
  if (layer) {
    within("head", layer.heads, AVERAGE);
    within("query", layer.queries, layer.start);
    // a guess starts in the middle, away from the place that asks
    within("key", layer.keys, state.guess === -1 ? (layer.keys + layer.keyGrid[1]) >> 1
      : cellAt(layer, "keyGrid", ...middle(queryCell(layer, state.query))));
  }
  return state;
}

function render({ model, el }) {
  const data = unpack(model.get("data")?.byteLength ? model.get("data") : model.get("text"));
  const root = h("div", { class: "mqa-x" });
  const speech = h("p", { class: "mx-speech", "aria-live": "polite" });
  const speak = speaker(speech);
  let state = stateOf(model, data);
  let preview = null; // the cell under the pointer, known to this view alone
  let view = {};
  let busy = false;

  const set = (changes) => {
    preview = null;
    busy = true; // hosts answer each change at once; draw when all are made
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    busy = false;
    model.save_changes();
    follow();
  };
  const scene = () => data.scenes[state.scene];
  const layer = () => scene().layers[state.layer];
  const asking = () => state.guess === -1;
  const built = () => [state.scene, state.layer, state.beside, state.direction, asking()].join();
  const reads = () => state.direction === "from";
  const picksKeys = () => !reads() || asking();
  const grid = () => gridOf(picksKeys());
  const picked = () => (reads() ? "query" : "key");
  // Where the reader points: a hovered cell until something is locked.
  const current = () => (asking() ? preview ?? state.key : state.locked ? state[picked()] : preview ?? state[picked()]);

  // Keep the place of the picture when the grid below it changes.
  const moveTo = (next, changes = {}) => {
    const spot = middle(queryCell(layer(), state.query));
    const to = scene().layers[next];
    set({ layer: next, query: cellAt(to, "queryGrid", ...spot), key: cellAt(to, "keyGrid", ...spot),
      head: state.head < to.heads ? state.head : AVERAGE, ...changes });
  };
  const point = (rowPixel, columnPixel, changes = {}) => set({ direction: "from", locked: true,
    query: cellAt(layer(), "queryGrid", rowPixel, columnPixel), ...changes });
  const turn = (direction) => {
    const spot = reads() ? middle(queryCell(layer(), state.query)) : keyCentre(layer(), state.key);
    set({ direction, query: cellAt(layer(), "queryGrid", ...spot), key: cellAt(layer(), "keyGrid", ...spot) });
  };

  const pick = (cell) => {
    if (asking()) set({ guess: cell });
    else set({ [picked()]: cell, locked: !(state.locked && state[picked()] === cell) });
  };
  const move = (cell) => (asking() ? set({ key: cell }) : set({ [picked()]: cell }));

  function onKey(event) {
    const [rowCount, columnCount] = layer()[grid()];
    let [r, c] = place(layer(), grid(), current());
    switch (event.key) {
      case "ArrowLeft": c -= 1; break;
      case "ArrowRight": c += 1; break;
      case "ArrowUp": r -= 1; break;
      case "ArrowDown": r += 1; break;
      case "Home": c = 0; if (event.ctrlKey) r = 0; break;
      case "End": c = columnCount - 1; if (event.ctrlKey) r = rowCount - 1; break;
      case "Enter": case " ": event.preventDefault(); pick(current()); return;
      case "Escape": event.preventDefault(); set({ locked: false }); return;
      default: return;
    }
    event.preventDefault();
    move(clip(r, rowCount - 1) * columnCount + clip(c, columnCount - 1));
  }

  function stageOf() {
    const marks = Object.fromEntries(["cell", "right", "best", "foot", "box"].map((name) =>
      [name, h("i", { class: `mx-${name === "cell" ? "query" : name}`, hidden: true })]));
    const lock = c("b", "lock", "locked · Esc frees");
    const frames = [...(reads() ? ["black and white the query", "orange what it reads most"] : ["black and white the key",
      "orange what reads it most"]), ...(reads() && scene().pairs.length ? ["dashed the right key"] : []),
      ...(state.guess === NO_GUESS ? [] : ["dotted your guess"]), ...(scene().points ? ["light blue the detection"] : [])];
    const help = h("p", { id: fresh(), class: "mx-quiet" }, `${HELP} Frames: ${frames.join(", ")}.`);
    const node = h("span", {
      class: "mx-map mx-stage", tabindex: "0", role: "application", "aria-roledescription": "grid of cells on the picture",
      "aria-describedby": help.id, onkeydown: onKey,
      onpointermove: (event) => {
        if (state.locked && !asking()) return;
        const cell = under(event, node, layer(), grid());
        if (cell !== preview) { preview = cell; draw(); }
      },
      onpointerleave: () => { if (preview !== null) { preview = null; draw(); } },
      onclick: (event) => pick(under(event, node, layer(), grid())),
    }, Object.values(marks), lock);
    return { node, marks, lock, help };
  }

  // Everything that depends on which layer of which picture is shown; numbers come with draw().
  function build() {
    const { layers } = scene();
    root.style.setProperty("--mx-photo", `url("${scene().photo}")`);
    root.style.setProperty("--mx-ratio", `${scene().width} / ${scene().height}`);
    root.style.setProperty("--mx-rendering", Math.max(scene().width, scene().height) <= 400 ? "pixelated" : "auto");
    view = { built: built() };
    const parts = [speech];
    view.picture = [];
    if (data.scenes.length > 1) {
      view.picture.push(menu("picture", data.scenes.map((entry, at) => [at, entry.name]), state.scene, (at) =>
        set({ scene: at, layer: 0, query: -1, key: -1, beside: -1, detection: -1, locked: false })));
    }
    view.decoder = decoder(scene(), state, (changes) => {
      const box = scene().points.boxes[changes.detection ?? -1];
      if (box && layers.length) point(...middle(box), changes);
      else set(changes);
    });
    parts.push(...(layers.length ? buildLayer(layers) : view.picture));
    root.replaceChildren(...parts, view.decoder.node, ...notes().filter(Boolean));
  }

  function buildLayer(layers) {
    const own = layer();
    const from = reads();
    const groups = layers.filter((entry, at) => layers.findIndex((other) => other.group === entry.group) === at);
    const strides = layers.filter((entry) => entry.group === own.group);
    const menus = controls(view.picture);
    if (groups.length > 1) {
      menus.append(menu("layer", groups.map((entry) => [entry.group, entry.title]), own.group, (group) =>
        moveTo(layers.findIndex((entry) => entry.group === group))));
    }
    if (strides.length > 1) {
      const buttons = choice("kv_stride", strides.map((entry) => [entry.at, String(entry.stride)]), own.at, (at) => moveTo(at));
      menus.append(c("div", "field", h("span", {}, "kv_stride"), buttons.node));
    }
    if (layers.length > 1) {
      menus.append(menu("beside it", [[-1, "nothing"], ...layers.filter((entry) => entry !== own)
        .map((entry) => [entry.at, `${entry.title}, kv_stride ${entry.stride}`])], state.beside, (beside) => set({ beside })));
    }
    if (!asking()) menus.append(
      menu("direction", [["from", "what a place reads"], ["to", "who reads a key"]], state.direction, turn),
      menu("scale", [["shared", "one for all heads"], ["full", "0 to 100%"], ["own", "each map its own"]], state.scale,
        (scale) => set({ scale })),
      menu("colours", Object.keys(COLOURS).map((name) => [name, name]), state.colours,
        (colours) => set({ colours })));

    view.stage = stageOf();
    const [rowCount, columnCount] = own[grid()];
    const unit = asking() ? "key " : "";
    view.row = slider(`${unit}row`, [0, rowCount - 1, 1], (at) => move(at * columnCount + (current() % columnCount)));
    view.column = slider(`${unit}column`, [0, columnCount - 1, 1], (at) =>
      move(Math.floor(current() / columnCount) * columnCount + at));
    view.temperature = slider("temperature", [-2, 2, 0.25], (at) => set({ temperature: 2 ** at }));
    view.hover = h("p", { class: "mx-quiet mx-hover" });
    view.large = heatMap({ role: "img",
      onpointermove: (event) => tell(under(event, view.large.node, own, gridOf(from))),
      onpointerleave: () => tell(null) });
    view.bar = colourBar();
    view.heads = [AVERAGE, ...Array(own.heads).keys()].map((head) => ({ head, map: heatMap(), said: h("span"),
      bits: c("i", "bits") }));
    view.choice = choice("head", view.heads.map((entry) => [entry.head, entry.map.node,
      c("span", "name", entry.head === AVERAGE ? "average" : `head ${entry.head}`), entry.said, entry.bits]),
    state.head, (head) => set({ head }));
    view.choice.node.classList.add("mx-heads");
    view.table = table();
    view.numbers = h("p");
    view.said = c("p", "said");
    view.truth = truth(scene(), (pair) => point(pair.lock[0] + 0.5, pair.lock[1] + 0.5));
    view.check = check(model, (entry) => moveTo(entry.layer, { query: entry.queries[0], locked: true, direction: "from" }));
    const asks = asking() ? "Guess: which part will it read? Click there" : from ? "Point at a place that asks" : "Point at a key";
    const figures = [
      h("figure", {}, h("figcaption", {}, h("b", {}, `1 · ${asks}`)), view.stage.node,
        controls(view.row.node, view.column.node)),
      c("figure", "answer", h("figcaption", {}, view.title = h("b")), view.large.node, view.bar.node, view.hover),
    ];
    if (state.beside >= 0) figures.push(buildBeside(layers[state.beside]));
    return [menus, c("p", "layer", own.said), c("div", "figures", figures), view.stage.help,
      view.said, view.truth.node, c("div", "answer", view.choice.node,
        from ? c("p", "quiet", "The bar under a head is its entropy: empty for a single key, full for all alike.") : ""),
      h("div", { class: "mx-side mx-answer" }, h("div", {}, view.table.node),
        h("div", {}, view.numbers, controls(view.temperature.node), caveat())), view.check.node];
  }

  function buildBeside(other) {
    const map = heatMap({ role: "img" });
    const bar = colourBar();
    const said = c("p", "quiet");
    view.beside = { other, map, bar, said };
    return c("figure", "answer", h("figcaption", {}, h("b", {}, `The same place in ${other.title}`)), map.node,
      bar.node, said);
  }

  function notes() {
    const real = layer()?.real ?? scene().points?.real ?? "";
    return [h("p", { class: "mx-quiet mx-real" }, real), layer() ? "" : caveat()];
  }

  const caveat = () => h("div", { class: "mx-caveat", role: "note", "aria-label": "How to read this" },
    data.caveat.map((text) => h("p", {}, text)));

  // What the cell of the large map under the pointer weighs, and which part of the picture it is made from.
  function tell(cell) {
    const from = reads();
    put(view.stage.marks.foot, cell === null ? null : part(from, layer(), cell), layer().size);
    if (cell === null) { view.hover.textContent = "Point at the map to read a weight."; return; }
    const [r, c] = place(layer(), gridOf(from), cell);
    const [t, l, b, right] = part(from, layer(), cell).map(Math.round);
    view.hover.textContent = `${from ? "Key" : "Query"} row ${r}, column ${c}: ${percent(view.weights[cell])}` +
      `, made from rows ${t} to ${b}, columns ${l} to ${right} of the picture.`;
  }

  const mapsOf = (of, at) => (reads() ? rows : columns)(of, at, state.temperature);
  const largestOf = (maps, shown, uniform) => (state.scale === "full" ? 1
    : state.scale === "own" ? peak(shown)
      : peak(maps.map((map) => peak(map)), 4 * uniform));

  function draw() {
    const own = layer();
    if (own && own.queries) drawLayer(own);
    view.decoder.draw(state);
  }

  function drawLayer(own) {
    const from = reads();
    const now = current();
    const shown = asking() ? { ...state } : { ...state, [picked()]: now };
    const maps = mapsOf(own, shown[picked()]);
    const weights = state.head === AVERAGE ? mean(maps) : maps[state.head];
    const uniform = 1 / own.keys;
    const cells = gridOf(from);
    const largest = largestOf(maps, weights, uniform);
    const marker = part(!from, own, shown[picked()]);
    const pair = from ? nearLock(scene(), own, shown.query) : undefined;
    const right = pair && !asking() ? footprint(own, rightKeys(own, pair)[0]) : null;
    view.weights = weights;
    for (const entry of view.heads) {
      const map = entry.head === AVERAGE ? mean(maps) : maps[entry.head];
      const own_ = state.scale === "own" ? peak(map) : largest;
      entry.map.draw(own, cells, map, own_, state.colours);
      put(entry.map.marks.query, marker, own.size);
      entry.said.textContent = from ? `${percent(peak(map))} · ${entropy(map).toFixed(1)} bits` : `at most ${percent(peak(map))}`;
      entry.bits.style.setProperty("--mx-share", from && own.keys > 1 ? entropy(map) / Math.log2(own.keys) : 0);
    }
    view.large.draw(own, cells, weights, largest, state.colours);
    put(view.large.marks.query, marker, own.size);
    put(view.large.marks.right, right, own.size);
    view.bar.draw(largest, uniform, state.colours);
    drawBeside(own, shown);
    drawStage(own, shown, weights, right);
    drawWords(own, shown, weights, pair);
  }

  function drawBeside(own, shown) {
    if (!view.beside) return;
    const { other, map, bar, said } = view.beside;
    const from = reads();
    const spot = from ? middle(queryCell(own, shown.query)) : keyCentre(own, shown.key);
    const cell = cellAt(other, gridOf(!from), ...spot);
    const maps = mapsOf(other, cell);
    const weights = mean(maps);
    const largest = largestOf([weights], weights, 1 / other.keys);
    map.draw(other, gridOf(from), weights, largest, state.colours);
    put(map.marks.query, part(!from, other, cell), other.size);
    bar.draw(largest, 1 / other.keys, state.colours);
    said.textContent = sentence(other, { ...shown, query: cell, key: cell }, headName(AVERAGE), weights);
    label(map.node, said.textContent);
  }

  function drawStage(own, shown, weights, right) {
    const { marks, node } = view.stage;
    const now = current();
    const best = top(weights, 1)[0];
    const from = reads();
    put(marks.cell, picksKeys() && !asking() ? footprint(own, now) : queryCell(own, shown.query), own.size);
    put(marks.best, asking() ? null : part(from, own, best), own.size);
    put(marks.right, right, own.size);
    const guess = asking() ? now : state.guess;
    put(marks.foot, guess >= 0 && from ? footprint(own, guess) : null, own.size);
    put(marks.box, scene().points?.boxes[state.detection], own.size);
    const [r, c] = place(own, grid(), now);
    label(node, `${picksKeys() ? "Key" : "Query"} row ${r}, column ${c}` +
      `${state.locked && !asking() ? ", locked" : ""}`);
    view.stage.lock.hidden = !state.locked || asking();
    view.row.set(r);
    view.column.set(c);
    const log = Math.log2(state.temperature);
    view.temperature.set(log, log === 0 ? "1 (the layer's own)" : `${state.temperature.toFixed(2)} (not the layer's own)`);
    Object.assign(root.dataset, { query: shown.query, key: shown.key, head: state.head, layer: state.layer,
      locked: state.locked, direction: state.direction });
  }

  function drawWords(own, shown, weights, pair) {
    const name = headName(state.head);
    let said = sentence(own, shown, name, weights);
    root.classList.toggle("mx-asking", asking());
    if (asking()) {
      const [r, c] = place(own, "queryGrid", state.query);
      said = `Query row ${r}, column ${c} asks. Guess the key that it reads most: click it, or move with the arrow keys and press Enter.`;
    } else if (state.guess >= 0 && reads()) {
      const [r, c] = place(own, "keyGrid", state.guess);
      said = `Your guess, key row ${r}, column ${c}, gets ${percent(weights[state.guess])}. ${said}`;
    }
    view.title.textContent = `2 · ${reads() ? "What it reads" : "Who reads it"}, ${name}`;
    label(view.large.node, said);
    view.said.textContent = said;
    speak.say(said);
    view.table.draw(own, shown, weights, name);
    view.numbers.textContent = numbers(own, state, weights);
    view.choice.set(state.head);
    view.truth.draw(own, state.temperature, pair);
    view.check.draw(scene(), own, shown.query, model.get("checks") === true);
  }

  function follow() {
    if (busy) return;
    state = stateOf(model, data);
    if (built() !== view.built) {
      const focused = root.contains(document.activeElement) ? document.activeElement : null;
      const name = (node) => node?.getAttribute("aria-label") ?? node?.firstChild.textContent;
      const called = name(focused?.closest(".mx-field,[role=radiogroup]"));
      const stage = focused === view.stage?.node;
      build();
      draw();
      // The reader's place must not be lost when what they hold is made anew.
      if (stage) view.stage.node.focus({ preventScroll: true });
      else if (called) [...root.querySelectorAll(".mx-field,[role=radiogroup]")].find((node) => name(node) === called)
        ?.querySelector("select,input,[tabindex='0']")?.focus({ preventScroll: true });
    } else {
      draw();
    }
  }

  // Some hosts drop the pixels of a canvas that was out of sight.
  const watch = new IntersectionObserver((seen) => {
    if (seen.some((entry) => entry.isIntersecting)) draw();
  });

  if (!h("canvas").getContext("2d")) {
    el.append(h("p", {}, "This browser draws no canvas, so that the explorer cannot run. The pictures say the same."));
    return () => {};
  }
  const changes = [...Object.keys(START), "checked"].map((name) => `change:${name}`);
  build();
  draw();
  if (view.hover) tell(null);
  el.append(root);
  changes.forEach((name) => model.on(name, follow));
  watch.observe(root);
  return () => {
    changes.forEach((name) => model.off(name, follow));
    watch.disconnect();
    speak.stop();
    root.remove();
  };
}

export default { render };
