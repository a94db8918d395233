// The page that searches: loads the archive, reads the reader's file, shows what is nearest.

import { decode, RefusedError } from "./decoding.js";
import { change, fitToSquare, makeImage } from "./images.js";
import { GreyHistogram, Network, rank } from "./methods.js";

const SHOWN = 10; // answers of each method
const here = (path) => new URL(path, import.meta.url);
const find = (name) => document.getElementById(`search-${name}`);

// What the page knows. Exported, so that a test or a reader's console can look at it.
export const state = {
  facts: null, // search.json
  methods: [],
  faults: {}, // by name of a method: why it does not search
  noise: null,
  query: null, // the image, fitted to a square, before it is changed
  changed: null,
  vectors: {}, // by name of a method, as the library has them
  answers: {},
  milliseconds: null, // of the last search, drawing included
};

async function load() {
  const manifest = await fetch(here("data/search.json"));
  if (!manifest.ok) {
    throw new RefusedError("This book was built without the data of this page: make book builds both.");
  }
  state.facts = await manifest.json();
  const { network, "grey-histogram": histogram } = byName(state.facts.methods);
  const [noise, counts, sheet, samples, learned] = await Promise.all([
    loadCompressed("data/noise.f32.zst"),
    loadCompressed(`data/${histogram.vectors}`),
    loadBlob("data/thumbnails.webp"),
    Promise.all(state.facts.samples.map(({ file }) => loadBlob(`data/${file}`))),
    loadNetwork(network).catch((error) => {
      state.faults[network.name] = explainRuntime(error);
      return null;
    }),
  ]);
  state.noise = new Float32Array(noise.slice().buffer); // aligned, and of this length
  state.methods = [learned, new GreyHistogram(histogram, counts)].filter(Boolean);
  for (const method of state.methods) await warm(method);
  find("page").style.setProperty("--sheet", `url(${URL.createObjectURL(sheet)})`);
  drawSamples(samples);
}

const byName = (methods) => Object.fromEntries(methods.map((method) => [method.name, method]));

/** Describe and compare once: the first time is slow. */
async function warm(method) {
  method.distances(await method.describe(makeImage(state.facts.size, state.facts.size)));
}

/** Load the pretrained network, which few readers need, and search with it as well. */
async function add() {
  const button = find("add");
  button.disabled = true;
  const { pretrained } = byName(state.facts.methods);
  try {
    const method = await loadNetwork(pretrained);
    await warm(method);
    state.methods.push(method);
    button.hidden = true;
    await search();
  } catch (error) {
    find("pretrained-score").textContent = explainRuntime(error);
    button.disabled = false;
  }
}

async function loadBlob(path) {
  const answer = await fetch(here(path));
  if (!answer.ok) throw new RefusedError(`The host does not have ${path}: was the whole book copied?`);
  return answer.blob();
}

async function loadCompressed(path) {
  const blob = await loadBlob(path);
  return fzstd.decompress(new Uint8Array(await blob.arrayBuffer()));
}

async function loadNetwork(settings) {
  if (typeof WebAssembly !== "object") throw new RefusedError("WebAssembly is switched off");
  const [ort, runtime, graph, planes] = await Promise.all([
    import("./vendor/ort.wasm.bundle.min.mjs"),
    loadCompressed("vendor/ort-wasm-simd-threaded.wasm.zst"),
    loadBlob(`data/${settings.file}`),
    loadCompressed(`data/${settings.vectors}`),
  ]);
  ort.env.wasm.wasmBinary = runtime;
  ort.env.wasm.numThreads = 1; // more need headers that a plain host does not send
  const session = await ort.InferenceSession.create(await graph.arrayBuffer());
  const half = planes.length / 2; // first the low bytes, then the high ones
  const vectors = Float32Array.from({ length: half }, (_, i) => planes[i] + 256 * planes[half + i]);
  return new Network(settings, vectors, ort, session);
}

function explainRuntime(error) {
  if (error instanceof RefusedError && !error.message.startsWith("WebAssembly")) return error.message;
  console.warn(error);
  return (
    "A network needs WebAssembly, which is switched off in this browser or forbidden by the host. " +
    "The grey histogram searches without it."
  );
}

// The query

async function open(bytes, name, label) {
  say("");
  try {
    const image = await decode(bytes, state.facts);
    state.query = fitToSquare(image, state.facts.size);
    find("name").textContent = `${name}, ${image.width} × ${image.height} pixels`;
    find("region").value = label ?? "";
    reset();
  } catch (error) {
    if (!(error instanceof RefusedError)) console.error(error);
    say(error instanceof RefusedError ? error.message : "This file cannot be read.", true);
  }
}

async function openFile(file) {
  if (!file) return;
  document.querySelector("#search-samples [aria-pressed=true]")?.setAttribute("aria-pressed", "false");
  await open(new Uint8Array(await file.arrayBuffer()), file.name);
}

function drawSamples(blobs) {
  const buttons = state.facts.samples.map(({ view, label }, place) => {
    const button = document.createElement("button");
    const picture = document.createElement("img");
    picture.src = URL.createObjectURL(blobs[place]);
    picture.alt = view;
    button.type = "button";
    button.title = view;
    button.append(picture);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", async () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      const bytes = new Uint8Array(await blobs[place].arrayBuffer());
      await open(bytes, `A simulated radiograph: ${view}`, label);
    });
    return button;
  });
  find("samples").replaceChildren(...buttons);
}

const SLIDERS = {
  rotation: (value) => `${value}°`,
  contrast: (value) => `× ${value.toFixed(2)}`,
  noise: (value) => `${value} of 255`,
};

function readSliders() {
  return Object.fromEntries(Object.keys(SLIDERS).map((name) => [name, Number(find(name).value)]));
}

function reset() {
  for (const name of Object.keys(SLIDERS)) find(name).value = find(name).defaultValue;
  search();
}

// The answers

let searching = null; // the search at work; while it is, the last wish waits
let waiting = false;

/** Search with the query as the sliders have it. */
export function search() {
  if (!state.query) return searching;
  waiting = true;
  searching ??= (async () => {
    while (waiting) {
      waiting = false;
      await searchOnce();
    }
    searching = null;
  })();
  return searching;
}

async function searchOnce() {
  const started = performance.now();
  const changes = readSliders();
  for (const [name, write] of Object.entries(SLIDERS)) {
    find(`${name}-value`).textContent = write(changes[name]);
  }
  state.changed = change(state.query, changes, state.noise);
  drawQuery(state.changed);
  for (const method of state.methods) {
    const { name } = method.settings;
    const vector = await method.describe(state.changed);
    state.vectors[name] = method.scale(vector);
    state.answers[name] = rank(method.distances(vector), SHOWN);
  }
  drawAnswers();
  state.milliseconds = performance.now() - started;
  const { labels } = state.facts.archive;
  find("time").textContent =
    `${labels.length.toLocaleString("en")} images compared in ${Math.ceil(state.milliseconds)} ms, here in your browser.`;
}

function drawQuery({ width, height, pixels }) {
  const canvas = find("canvas");
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  pixels.forEach((grey, place) => picture.data.set([grey, grey, grey, 255], 4 * place));
  Object.assign(canvas, { width, height });
  context.putImageData(picture, 0, 0);
}

function drawAnswers() {
  const label = find("region").value;
  for (const { name } of state.facts.methods) {
    const answers = state.answers[name];
    if (!answers) continue;
    find(`${name}-answers`).replaceChildren(...answers.map((answer) => drawAnswer(answer, label)));
    find(`${name}-score`).textContent = summarise(answers, label);
  }
}

function summarise(answers, label) {
  if (label === "") return "Choose the region of your radiograph to see which answers are relevant.";
  const relevant = answers.filter(({ row }) => state.facts.archive.labels[row] === Number(label)).length;
  return `${relevant} of ${answers.length} of the same region`;
}

function drawAnswer({ row, distance }, label) {
  const { classes, archive, views, thumbnail } = state.facts;
  const [own, view] = [archive.labels[row], views[archive.views[row]]];
  const relevant = label === "" ? null : own === Number(label);
  const item = document.createElement("li");
  const picture = document.createElement("span");
  const lines = Math.ceil(archive.labels.length / thumbnail.columns);
  const share = (place, count) => `${count > 1 ? (100 * place) / (count - 1) : 0}%`;
  picture.className = "picture";
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", view);
  picture.title = view;
  picture.style.backgroundSize = `${100 * thumbnail.columns}% ${100 * lines}%`;
  picture.style.backgroundPosition =
    `${share(row % thumbnail.columns, thumbnail.columns)} ${share(Math.floor(row / thumbnail.columns), lines)}`;
  const mark = document.createElement("span");
  mark.className = "region";
  mark.textContent = relevant === null ? classes[own] : `${relevant ? "✓" : "✗"} ${classes[own]}`;
  const number = document.createElement("span");
  number.className = "distance";
  number.textContent = distance.toFixed(3);
  if (relevant !== null) item.className = relevant ? "relevant" : "irrelevant";
  item.append(picture, mark, number);
  return item;
}

function describeMethods() {
  const { facts, faults } = state;
  const hows = {
    network: ({ run, layer }) => `${run}, layer ${layer}`,
    pretrained: ({ layer, pooling, size }) => `EfficientNet-Lite0, ${layer}, ${pooling}, ${size} px`,
    "grey-histogram": ({ bins, grid }) => `${bins} bins in each of ${grid} × ${grid} cells`,
  };
  for (const method of facts.methods) {
    const { name, title, distance, values, measured, bytes } = method;
    const how = hows[name](method);
    const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;
    find(`${name}-title`).textContent = title;
    find(`${name}-facts`).textContent =
      `${how}: ${values.toLocaleString("en")} values, ${distance} distance. For ${measured.queries} test images, the ` +
      `first answer shows the same region in ${percent(measured["P@1"])}, the first ten in ${percent(measured["P@10"])}.`;
    if (faults[name]) find(`${name}-score`).textContent = faults[name];
    if (name === "pretrained") find("add").textContent = `Search with it too: loads ${(bytes / 1e6).toFixed(1)} MB`;
  }
  const options = facts.classes.map((name, label) => new Option(name, label));
  find("region").replaceChildren(new Option("not known", ""), ...options);
}

function say(text, isFault = false) {
  const status = find("status");
  status.textContent = text;
  status.hidden = !text;
  status.classList.toggle("fault", isFault);
}

function listen() {
  const [file, drop] = [find("file"), find("drop")];
  file.addEventListener("change", async () => {
    await openFile(file.files[0]);
    file.value = ""; // so that the same file can be opened again
  });
  for (const name of Object.keys(SLIDERS)) find(name).addEventListener("input", search);
  find("region").addEventListener("change", drawAnswers);
  find("reset").addEventListener("click", reset);
  find("add").addEventListener("click", add);
  const page = find("page");
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    page.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    });
  }
  page.addEventListener("drop", (event) => openFile(event.dataTransfer.files[0]));
}

try {
  await load();
  describeMethods();
  listen();
  say("");
  document.querySelector("#search-samples button").click();
  find("page").dataset.ready = "true";
} catch (error) {
  console.error(error);
  say(
    error instanceof RefusedError
      ? error.message
      : "The page could not load its data. Load it again; if that does not help, the browser may be too old.",
    true,
  );
}
