// Pieces of a page. Words only ever become text nodes, so that a name from outside is shown and not obeyed.
import { COLOURS, cellAt, extent, paint } from "./core.mjs";

const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== ""));
  return node;
}

// JupyterLab takes the arrows from a node that has the focus, unless the node itself says that it needs them.
export function h(tag, attributes = {}, ...children) {
  const node = filled(document.createElement(tag), attributes, children);
  if (node.matches("input,select,button,[tabindex]")) node.dataset.lmSuppressShortcuts = "true";
  return node;
}
export const s = (tag, attributes = {}) => filled(document.createElementNS(SVG, tag), attributes, []);

// An element with a class: most are.
export const c = (tag, name, ...children) => h(tag, { class: `mx-${name}` }, ...children);
export const label = (node, text) => node.setAttribute("aria-label", text);
export const controls = (...children) => c("div", "controls", ...children);

export const button = (text, press) => h("button", { type: "button", onclick: press }, text);
export const cells = (tag, texts) => texts.map((text) => h(tag, tag === "th" ? { scope: "col" } : {}, String(text)));

let made = 0;
export const fresh = () => `mqa-${(made += 1)}`;

export function menu(called, options, value, pick) {
  const id = fresh();
  const select = h("select", { id, onchange: () => pick(JSON.parse(select.value)) },
    options.map(([key, text]) => h("option", { value: JSON.stringify(key), selected: key === value }, text)));
  return c("div", "field", h("label", { for: id }, called), select);
}

export function slider(called, [min, max, step], move) {
  const id = fresh();
  const input = h("input", { id, type: "range", min, max, step, oninput: () => move(Number(input.value)) });
  const said = h("output");
  const set = (value, text = String(value)) => {
    input.value = value;
    said.textContent = text;
    input.setAttribute("aria-valuetext", text);
  };
  return { node: c("div", "field mx-slider", h("label", { for: id }, called), input, said), set };
}

// One choice of several as buttons: one tab stop, arrows move.
export function choice(called, entries, value, pick) {
  const buttons = entries.map(([key, ...content]) => h("button", {
    type: "button", role: "radio", "aria-checked": String(key === value), tabindex: key === value ? 0 : -1,
    onclick: () => pick(key),
  }, ...content));
  const node = h("div", {
    role: "radiogroup", "aria-label": called,
    onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const at = buttons.indexOf(event.target);
      if (!step || at < 0) return;
      event.preventDefault();
      const next = (at + step + buttons.length) % buttons.length;
      buttons[next].focus();
      pick(entries[next][0]);
    },
  }, buttons);
  const set = (key) => buttons.forEach((button, at) => {
    button.setAttribute("aria-checked", String(entries[at][0] === key));
    button.tabIndex = entries[at][0] === key ? 0 : -1;
  });
  return { node, set };
}

// Put something over a part of the picture, [top, left, bottom, right] in its pixels.
export function put(node, part, [height, width]) {
  node.hidden = !part;
  if (!part) return;
  const [top, left, bottom, right] = part;
  const share = (at, most) => `${(100 * at) / most}%`;
  Object.assign(node.style, { top: share(top, height), left: share(left, width),
    height: share(bottom - top, height), width: share(right - left, width) });
}

// A map of weights over the dimmed photo. The canvas has a pixel for each cell; the page enlarges it.
export function heatMap(attributes = {}) {
  const canvas = h("canvas", { class: "mx-heat", "aria-hidden": "true" });
  const marks = { query: h("i", { class: "mx-query", hidden: true }), right: h("i", { class: "mx-right", hidden: true }) };
  const node = h("span", { class: "mx-map", ...attributes }, canvas, Object.values(marks));
  let pixels;
  const draw = (layer, grid, weights, largest, colours) => {
    const [height, width] = layer[grid];
    const context = canvas.getContext("2d");
    if (canvas.width !== width || canvas.height !== height || !pixels) {
      canvas.width = width;
      canvas.height = height;
      pixels = context.createImageData(width, height);
    }
    const known = `${layer.id} ${grid}`;
    if (canvas.dataset.grid !== known) {
      canvas.dataset.grid = known;
      put(canvas, extent(layer, grid), layer.size);
    }
    paint(pixels.data, weights, largest, COLOURS[colours]);
    context.putImageData(pixels, 0, 0);
  };
  return { node, draw, marks };
}

// The cell of a grid under a pointer.
export function under(event, node, layer, grid) {
  const box = node.getBoundingClientRect();
  return cellAt(layer, grid, ((event.clientY - box.top) / box.height) * layer.size[0],
    ((event.clientX - box.left) / box.width) * layer.size[1]);
}

export function gradient(colours) {
  const table = COLOURS[colours];
  const steps = Array.from({ length: 9 }, (_, at) => Array.from(table.subarray(3 * Math.round((255 * at) / 8)).subarray(0, 3)));
  return `linear-gradient(to right,${steps.map((rgb) => `rgb(${rgb})`)})`;
}

// Say no more than one thing in 300 ms, and always the last.
export function speaker(node) {
  let timer;
  let last = "";
  const say = (text) => {
    last = text;
    timer ??= setTimeout(() => {
      timer = undefined;
      if (node.textContent !== last) node.textContent = last;
    }, 300);
  };
  return { say, stop: () => clearTimeout(timer) };
}

const LEVELS = ["#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442"];
export const LEVEL_NAMES = ["circle", "square", "diamond", "triangle", "bar"];
const OUTLINES = [
  [[-0.89, -0.89], [0.89, -0.89], [0.89, 0.89], [-0.89, 0.89]],
  [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]],
  [[0, -1.56], [1.35, 0.78], [-1.35, 0.78]],
  [[-1.8, -0.44], [1.8, -0.44], [1.8, 0.44], [-1.8, 0.44]],
];

// A mark of the same area for every level of the decoder, of its own shape and colour.
export function mark(level, x, y, r) {
  const fill = LEVELS[level % 5];
  if (level % 5 === 0) return s("circle", { cx: x, cy: y, r, fill });
  const points = OUTLINES[(level % 5) - 1].map(([across, down]) => `${x + r * across},${y + r * down}`).join(" ");
  return s("polygon", { points, fill });
}
