// What the explorer computes: numbers in, numbers and words out. Nothing here touches a page, so node can test it.

// Every fifth colour of the two tables; those between are on the way.
const CIVIDIS = "ACJOACZWACpfAC1oADBwCDNwFjdwIDpvJz5uLkFtNEVsOkhsP0xsRE9sSVNsTlZsU1ptV11tXGFuYGRvZWhwaWtxbW9ycnJ0dnZ2enp4fn14g4F5iIV4jYh4kox4lpB3m5R2oJh1pZx0qqBzr6Rxtahvuqxtv7BrxLRoybllz71i1MFf2sZb38pX5c9S6tNM8NhG9t0//OI2/ug4";
const VIRIDIS = "RAFURghcRxBjSBdpSB1vSCR1Ryp6RjB+RTeBQz2EQUKHP0iJPU6KOlOLOFmMNV6NM2ONMWiOLm2OLHGOKnaOKXuOJ4COJYSOI4mOIY6NIJKMH5eLHpyJH6GIIaWFJKqDKK6ALrN8Nbd5Pbx0RsBvUMRqWshkZctecM9XfNJQidVIldhAoto3sN0vvd8myuEf2OIZ5eQZ8eUd/ecl";

export const clip = (value, most, least = 0) => Math.min(Math.max(value, least), most);
export const peak = (values, least = 0) => values.reduce((a, b) => Math.max(a, b), least);
export const total = (values) => values.reduce((a, b) => a + b, 0);
const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

function between(knots) {
  return Uint8Array.from({ length: 768 }, (_, at) => {
    const from = 3 * Math.floor(at / 15) + (at % 3);
    const share = Math.floor(at / 3) / 5 - Math.floor(at / 15);
    return Math.round(knots[from] + share * ((knots[from + 3] ?? knots[from]) - knots[from]));
  });
}

// 256 colours as 768 bytes. All three get lighter all the way, so that order survives colour-vision deficiency and print.
export const COLOURS = {
  cividis: between(bytesOf(CIVIDIS)),
  viridis: between(bytesOf(VIRIDIS)),
  grey: Uint8Array.from({ length: 768 }, (_, place) => Math.floor(place / 3)),
};

// Half-precision numbers as single precision; Float16Array is younger than many browsers.
export function halves(buffer, at, count) {
  if (globalThis.Float16Array) return Float32Array.from(new Float16Array(buffer, at, count));
  const bits = new Uint16Array(buffer, at, count);
  return Float32Array.from(bits, (b) => {
    const exponent = (b >> 10) & 31;
    const fraction = b & 1023;
    const size =
      exponent === 0 ? fraction * 2 ** -24
        : exponent === 31 ? (fraction ? NaN : Infinity)
          : (1 + fraction / 1024) * 2 ** (exponent - 15);
    return b & 32768 ? -size : size;
  });
}

// What Python packed: four bytes with the length of a JSON text, the text, then the arrays; addresses count from there.
export function unpack(given) {
  const bytes = typeof given === "string" ? bytesOf(given)
    : new Uint8Array(given.buffer ?? given, given.byteOffset ?? 0, given.byteLength);
  const own = bytes.slice(); // halves need an even address
  const length = new DataView(own.buffer).getUint32(0, true);
  const base = 4 + length;
  const meta = JSON.parse(new TextDecoder().decode(own.subarray(4, base)));
  const array = ({ at, shape }) => halves(own.buffer, base + at, shape.reduce((a, b) => a * b, 1));
  for (const scene of meta.scenes) {
    for (const layer of scene.layers) {
      const [heads, queries, dim] = layer.q.shape;
      const sets = layer.k.shape[0];
      const keys = layer.k.shape[1];
      Object.assign(layer, { heads, queries, dim, sets, keys, size: [scene.height, scene.width] });
      const { q, k } = layer;
      // Decoded when first looked at: a page may hold many layers.
      layer.arrays = () => (layer.decoded ??= { q: array(q), k: array(k) });
    }
    if (scene.points) {
      scene.points.offsets = array(scene.points.offsets);
      scene.points.shape = scene.points.weights.shape;
      scene.points.weights = array(scene.points.weights);
    }
    const file = own.subarray(base + scene.photo.at, base + scene.photo.at + scene.photo.bytes);
    let text = "";
    for (let at = 0; at < file.length; at += 32768) text += String.fromCharCode(...file.subarray(at, at + 32768));
    scene.photo = `data:${scene.photo.type};base64,${btoa(text)}`;
  }
  return meta;
}

function dot(a, at, b, from, length) {
  let sum = 0;
  for (let i = 0; i < length; i++) sum += a[at + i] * b[from + i];
  return sum;
}

const keysFrom = (layer, head) => (layer.sets === 1 ? 0 : head * layer.keys * layer.dim);

// Scores q·k × scale of one query with every key of one head, before the softmax.
export function scores(layer, head, query) {
  const { q, k } = layer.arrays();
  const from = (head * layer.queries + query) * layer.dim;
  const base = keysFrom(layer, head);
  const out = new Float64Array(layer.keys);
  for (let key = 0; key < layer.keys; key++) out[key] = dot(q, from, k, base + key * layer.dim, layer.dim) * layer.scale;
  return out;
}

export function softmax(given, temperature = 1) {
  const most = peak(given, -Infinity);
  const out = new Float64Array(given.length);
  let sum = 0;
  for (let i = 0; i < given.length; i++) sum += out[i] = Math.exp((given[i] - most) / temperature);
  for (let i = 0; i < given.length; i++) out[i] /= sum;
  return out;
}

// How much of each key one query reads in one head; the weights sum to 1.
export const row = (layer, head, query, temperature = 1) => softmax(scores(layer, head, query), temperature);

// The same for every head.
export const rows = (layer, query, temperature = 1) =>
  Array.from({ length: layer.heads }, (_, head) => row(layer, head, query, temperature));

// What every query's softmax divides by, as a logarithm: with it, one key's column is as cheap as one query's row.
function normalisers(layer, temperature) {
  if (layer.sums?.temperature === temperature) return layer.sums.heads;
  const heads = Array.from({ length: layer.heads }, (_, head) =>
    Float64Array.from({ length: layer.queries }, (__, query) => {
      const given = scores(layer, head, query);
      const most = peak(given, -Infinity) / temperature;
      return most + Math.log(given.reduce((sum, score) => sum + Math.exp(score / temperature - most), 0));
    }));
  layer.sums = { temperature, heads };
  return heads;
}

// The reverse view: how much every query reads of one key, in every head.
export function columns(layer, key, temperature = 1) {
  const { q, k } = layer.arrays();
  return normalisers(layer, temperature).map((sums, head) =>
    Float64Array.from(sums, (sum, query) => {
      const at = (head * layer.queries + query) * layer.dim;
      const score = dot(q, at, k, keysFrom(layer, head) + key * layer.dim, layer.dim) * layer.scale;
      return Math.exp(score / temperature - sum);
    }));
}

export const mean = (maps) => maps[0].map((_, at) => total(maps.map((map) => map[at])) / maps.length);

// Numbers of the largest weights, the largest first; of equal ones, the first.
export const top = (weights, count = 5) =>
  Array.from(weights.keys()).sort((a, b) => weights[b] - weights[a] || a - b).slice(0, count);

// Bits: 0 for a single key, log2 of their number for all alike.
export const entropy = (weights) => weights.reduce((bits, w) => (w > 0 ? bits - w * Math.log2(w) : bits), 0);

export const place = (layer, grid, index) => [Math.floor(index / layer[grid][1]), index % layer[grid][1]];

function rectangle(origin, step, size, at, limits) {
  const start = [0, 1].map((axis) => origin[axis] + step[axis] * at[axis]);
  return [...start.map((from, axis) => clip(from, limits[axis])),
    ...start.map((from, axis) => clip(from + size[axis], limits[axis]))];
}

// [top, left, bottom, right] in pixels of the picture, cut at its border.
export const queryCell = (layer, query) =>
  rectangle(layer.queryOrigin, layer.queryCell, layer.queryCell, place(layer, "queryGrid", query), layer.size);
export const footprint = (layer, key) =>
  rectangle(layer.keyOrigin, layer.keyStep, layer.keySize, place(layer, "keyGrid", key), layer.size);

// The same for whichever the grid holds.
export const gridOf = (ofKeys) => (ofKeys ? "keyGrid" : "queryGrid");
export const part = (ofKeys, layer, at) => (ofKeys ? footprint : queryCell)(layer, at);

export const keyCentre = (layer, key) => place(layer, "keyGrid", key)
  .map((at, axis) => layer.keyOrigin[axis] + layer.keySize[axis] / 2 + layer.keyStep[axis] * at);

// Where a map of a grid's cells lies on the picture; for keys, around their middles, one step each.
export function extent(layer, grid) {
  const [rowCount, columnCount] = layer[grid];
  const step = grid === "keyGrid" ? layer.keyStep : layer.queryCell;
  const first = grid === "keyGrid" ? keyCentre(layer, 0).map((at, axis) => at - step[axis] / 2) : layer.queryOrigin;
  return [first[0], first[1], first[0] + rowCount * step[0], first[1] + columnCount * step[1]];
}

// The cell of a grid that holds a point of the picture, or else lies nearest to it.
export function cellAt(layer, grid, rowPixel, columnPixel) {
  const [firstRow, firstColumn, lastRow, lastColumn] = extent(layer, grid);
  const [rowCount, columnCount] = layer[grid];
  const down = Math.floor(((rowPixel - firstRow) / (lastRow - firstRow)) * rowCount);
  const across = Math.floor(((columnPixel - firstColumn) / (lastColumn - firstColumn)) * columnCount);
  return clip(down, rowCount - 1) * columnCount + clip(across, columnCount - 1);
}

export const percent = (share) => `${(100 * share).toFixed(share < 0.00995 ? 2 : 1)}%`;

export function sentence(layer, { query, key, direction }, name, weights) {
  const [best] = top(weights, 1);
  if (direction === "to") {
    const [r, c] = place(layer, "keyGrid", key);
    const [qr, qc] = place(layer, "queryGrid", best);
    return `Key row ${r}, column ${c}, ${name}: read most by query row ${qr}, column ${qc}, ${percent(weights[best])}.`;
  }
  const [r, c] = place(layer, "queryGrid", query);
  const [kr, kc] = place(layer, "keyGrid", best);
  return `Query row ${r}, column ${c}, ${name}: strongest key row ${kr}, column ${kc}, ${percent(weights[best])}; ` +
    `entropy ${entropy(weights).toFixed(2)} of at most ${Math.log2(layer.keys).toFixed(2)} bits.`;
}

// Keys & Locks knows the right answer. The keys of the layer that lie at a lock's own key: their middles are at most
// `near` pixels away, down and across; if not given, the one whose square holds it.
export function rightKeys(layer, pair) {
  const middle = pair.key.map((at) => at + 0.5);
  if (typeof pair.near !== "number") return [cellAt(layer, "keyGrid", ...middle)];
  const found = [];
  for (let key = 0; key < layer.keys; key++) {
    if (keyCentre(layer, key).every((at, axis) => Math.abs(at - middle[axis]) <= pair.near)) found.push(key);
  }
  return found.length ? found : [cellAt(layer, "keyGrid", ...middle)];
}

// For every head: the weight that the locks put on their own keys, on average, and how many put their largest there.
export function onTheRightKey(layer, pairs, temperature = 1) {
  return Array.from({ length: layer.heads }, (_, head) => {
    let share = 0;
    let hits = 0;
    for (const pair of pairs) {
      const query = cellAt(layer, "queryGrid", ...pair.lock.map((at) => at + 0.5));
      const weights = row(layer, head, query, temperature);
      const right = rightKeys(layer, pair);
      share += total(right.map((key) => weights[key]));
      hits += right.includes(top(weights, 1)[0]);
    }
    return { head, share: share / pairs.length, hits };
  });
}

// Weights as pixels: colour by share of `largest`, and the more is read, the less the photo shines through.
export function paint(pixels, weights, largest, colours) {
  for (let at = 0; at < weights.length; at++) {
    const share = Math.min(weights[at] / largest, 1);
    const from = 3 * Math.round(255 * share);
    pixels[4 * at] = colours[from];
    pixels[4 * at + 1] = colours[from + 1];
    pixels[4 * at + 2] = colours[from + 2];
    pixels[4 * at + 3] = Math.round(255 * (0.25 + 0.55 * share));
  }
}
