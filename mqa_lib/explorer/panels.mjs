// The parts of the explorer that only show: the colour bar, the table, the right keys, the decoder's points, the check.
import { cellAt, clip, entropy, gridOf, onTheRightKey, peak, percent, place, scores, top, total } from "./core.mjs";
import { LEVEL_NAMES, button, c, cells, choice, controls, gradient, h, label, mark, menu, s } from "./parts.mjs";

export function colourBar() {
  const line = c("i", "uniform");
  const bar = h("span", { class: "mx-colours", role: "img" }, line);
  const [low, high, said] = [h("span"), h("span"), c("span", "quiet")];
  const node = c("div", "bar", low, bar, high, said);
  const draw = (largest, uniform, colours) => {
    bar.style.background = gradient(colours);
    line.style.left = `${Math.min((100 * uniform) / largest, 100)}%`;
    low.textContent = "0%";
    high.textContent = percent(largest);
    said.textContent = `line: every key alike, ${percent(uniform)}`;
    label(bar, `Colours from 0 to ${percent(largest)}; every key alike would be ${percent(uniform)}`);
  };
  return { node, draw };
}

// The five largest weights with the step before them: the score, which the softmax turns into a weight.
export function table() {
  const caption = h("caption");
  const head = h("tr");
  const body = h("tbody");
  const node = c("table", "table", caption, h("thead", {}, head), body);
  const draw = (layer, state, weights, name) => {
    const from = state.direction === "from";
    const grid = gridOf(from);
    const given = from && state.head >= 0 ? scores(layer, state.head, state.query) : null;
    caption.textContent = from ? `The keys that it reads most, ${name}` : `The queries that read this key most, ${name}`;
    const titles = ["row", "column", ...(given ? ["q·k × scale"] : []), from ? "weight" : "reads of it"];
    head.replaceChildren(...cells("th", titles));
    body.replaceChildren(...top(weights).map((at) => {
      const [r, c] = place(layer, grid, at);
      return h("tr", {}, cells("td", [r, c, ...(given ? [given[at].toFixed(2)] : []), percent(weights[at])]));
    }));
  };
  return { node, draw };
}

export function numbers(layer, state, weights) {
  if (state.direction === "to") {
    return `A query reads ${percent(total(weights) / weights.length)} of this key on average; every key alike would be ${percent(1 / layer.keys)}.`;
  }
  return `The ${layer.keys} weights sum to ${percent(total(weights))}. Entropy ${entropy(weights).toFixed(2)} bits, from 0 for a ` +
    `single key to ${Math.log2(layer.keys).toFixed(2)} for all alike, ${percent(1 / layer.keys)} each.`;
}

// On Keys & Locks the right answer is known, so that it can be counted.
export function truth(scene, go) {
  if (!scene.pairs?.length) return { node: h("div", { hidden: true }), draw: () => {} };
  const said = h("p");
  const known = {};
  const buttons = scene.pairs.map((pair) => button(`${pair.name} lock`, () => go(pair)));
  const node = h("section", { class: "mx-truth", "aria-label": "The right keys" },
    h("p", {}, h("b", {}, "The right key is known here. "), "Go to a lock: ", buttons), said);
  const draw = (layer, temperature, at) => {
    const all = (known[`${layer.id} ${temperature}`] ??= onTheRightKey(layer, scene.pairs, temperature));
    const bestOf = (found) => found.reduce((a, b) => (b.share > a.share ? b : a));
    const best = bestOf(all);
    const count = scene.pairs.length;
    let text = `Over the ${count} locks of this picture, the best head (${best.head}) puts ${percent(best.share)} on the right ` +
      `key, on average, and reads it most for ${best.hits} of ${count}. `;
    if (at) {
      const here = bestOf(onTheRightKey(layer, [at], temperature));
      text = `At this lock (${at.name}), the best head puts ${percent(here.share)} on the right key: head ${here.head}. ${text}`;
    }
    said.textContent = `${text}Blindly it would be ${percent(1 / layer.keys)}.`;
  };
  return { node, draw };
}

// Where the decoder read the photo for one detection.
export function decoder(scene, state, set) {
  const points = scene.points;
  if (!points) return { node: h("div", { hidden: true }), draw: () => {} };
  const [layers, count, heads, levels, each] = points.shape;
  const svg = s("svg", { viewBox: `0 0 ${scene.width} ${scene.height}`, preserveAspectRatio: "none" });
  const map = h("span", { class: "mx-map mx-plain", role: "img" }, svg);
  const said = h("p");
  const which = menu("detection", points.labels.map((name, at) =>
    [at, `${at + 1}: ${name}, ${percent(points.scores[at])}`]), Math.max(state.detection, 0), (detection) => set({ detection }));
  const layer = choice("layer of the decoder", Array.from({ length: layers }, (_, at) => [at, `layer ${at}`]),
    state.decoder_layer, (at) => set({ decoder_layer: at }));
  const legend = c("p", "quiet", points.grids.map(([rows, columns], level) =>
    `${LEVEL_NAMES[level % 5]}: map of ${rows}×${columns} cells. `));
  const node = h("section", { class: "mx-decoder", "aria-label": "The decoder's points" },
    c("p", "title", "Where the decoder read for a detection"), controls(which, layer.node),
    c("div", "side", map, h("div", {}, said, legend)));
  const box = ([t, l, b, r], kind) => s("rect", { class: kind, x: l, y: t, width: r - l, height: b - t });
  // Only the surroundings of the detection, or its points would lie on each other.
  const zoom = (edges) => {
    const limits = [scene.height, scene.width];
    const side = Math.max(edges[2] - edges[0], edges[3] - edges[1]) * 1.2;
    const span = clip(side, Math.min(...limits), 16);
    const [t, l] = [0, 1].map((axis) =>
      clip((edges[axis] + edges[axis + 2] - span) / 2, limits[axis] - span));
    svg.setAttribute("viewBox", `${l} ${t} ${span} ${span}`);
    const across = (at, axis) => (limits[axis] > span ? (100 * at) / (limits[axis] - span) : 0);
    map.style.setProperty("--mx-size", `${(100 * scene.width) / span}% ${(100 * scene.height) / span}%`);
    map.style.setProperty("--mx-at", `${across(l, 1)}% ${across(t, 0)}%`);
    return span;
  };
  const draw = ({ detection, decoder_layer: at }) => {
    const d = Math.max(detection, 0);
    which.querySelector("select").value = String(d);
    layer.set(at);
    const start = (at * count + d) * heads * levels * each;
    const reference = points.references[at][d];
    const middle = [(reference[0] + reference[2]) / 2, (reference[1] + reference[3]) / 2];
    const weights = points.weights.subarray(start, start + heads * levels * each);
    const largest = peak(weights);
    const shares = Array(levels).fill(0);
    weights.forEach((weight, i) => { shares[Math.floor(i / each) % levels] += weight / heads; });
    const edges = [...points.boxes[d]];
    for (let i = 0; i < weights.length; i++) {
      [0, 1].forEach((axis) => {
        const place = clip(middle[axis] + points.offsets[2 * (start + i) + axis], [scene.height, scene.width][axis]);
        edges[axis] = Math.min(edges[axis], place);
        edges[axis + 2] = Math.max(edges[axis + 2], place);
      });
    }
    const radius = 0.05 * zoom(edges);
    const order = top(weights, weights.length); // small marks lie on large ones
    svg.replaceChildren(box(reference, "mx-shadow"), box(reference, "mx-start"), box(points.boxes[d], "mx-shadow"),
      box(points.boxes[d], "mx-box"), ...order.map((i) => mark(Math.floor(i / each) % levels,
        middle[1] + points.offsets[2 * (start + i) + 1], middle[0] + points.offsets[2 * (start + i)],
        radius * Math.sqrt(weights[i] / largest))));
    const text = `Layer ${at}: ${heads} heads read ${levels * each} points each, whose weights sum to 100% per head. ` +
      `The area of a mark is its weight, ${percent(largest)} the largest. ` +
      points.grids.map(([r, c], level) => `${percent(shares[level])} from the map of ${r}×${c}`).join(", ") +
      ". The dashed box is where the layer starts from, the solid one where the decoder ends.";
    said.textContent = text;
    label(map, text);
  };
  return { node, draw };
}

// Does what is read matter? Computed in Python: the score after masking the strongest keys, and after as many others.
export function check(model, go) {
  const node = h("section", { class: "mx-check", "aria-label": "Does it matter?", hidden: true });
  let shown;
  const row = (line) => h("tr", {}, cells("td", [line.count, line.top.toFixed(3), line.random.toFixed(3)]));
  const draw = (scene, layer, query, live) => {
    const made = (model.get("checked") ?? []).filter((entry) => entry.scene === scene.at);
    const all = [...scene.checks, ...made].filter((entry) => entry.layer === layer.at);
    const found = all.find((entry) => entry.queries.includes(query));
    const key = JSON.stringify([layer.id, found ?? query, all.length, live]);
    if (shown === key) return;
    shown = key;
    node.hidden = !all.length && !live;
    if (node.hidden) return;
    node.replaceChildren(c("p", "title", "Does it matter? Mask the strongest keys, or as many others"));
    if (found?.failed) node.append(h("p", { role: "alert" }, found.failed));
    else if (found) {
      node.append(h("p", {}, `${found.score} before: ${found.before.toFixed(3)}. ${found.said}`),
        h("div", { class: "mx-scroll", role: "region", tabindex: "0", "aria-label": "Masked keys" }, c("table", "table",
          h("thead", {}, h("tr", {}, cells("th", ["keys masked", "strongest masked", "random ones masked"]))), h("tbody", {}, found.rows.map((line) => row(line))))));
    } else if (live) {
      node.append(button("Ask the kernel for this place", ({ target }) => {
        target.disabled = true;
        target.textContent = "The kernel is masking keys ...";
        model.send({ check: { scene: scene.at, layer: layer.at, query } });
      }));
    }
    const others = all.filter((entry) => entry !== found && !entry.failed);
    if (others.length) {
      node.append(h("p", {}, "Made for: ", others.map((entry) => button(entry.name, () => go(entry)))));
    }
  };
  return { node, draw };
}

export const nearLock = (scene, layer, query) =>
  scene.pairs?.find((pair) => cellAt(layer, "queryGrid", ...pair.lock.map((at) => at + 0.5)) === query);
