// Reducing images of any depth to 8-bit grey: cbir_lib/images/grey.py, where the rules are explained.

import { toGrey } from "./images.js";

const TAIL = 0.005; // share of the pixels beyond each percentile
const FENCE = 0.5; // a pixel this share of their distance beyond the percentiles may be dead
const BORDER = 0.1; // a value on this share of the outermost pixels is a border
const BORDER_GAP = 0.05; // this share of the picture's range away from it
const SAMPLE_PX = 2 ** 20; // pixels from which the percentiles are estimated

/** Map low..high linearly to 0..255 and clip: grey.stretch. */
export function stretch(values, low, high) {
  const factor = 255 / (high - low || 1);
  return Uint8Array.from(values, (value) => (Number.isNaN(value) ? 0 : toGrey((value - low) * factor)));
}

export function convertTo8Bits(image) {
  return stretch(image.values, ...findLimits(image));
}

/**
 * The values of black and white of an image whose file names neither: grey.find_limits. Padding
 * (`isVoid`, one byte a pixel), constant borders and dead pixels do not count.
 */
export function findLimits({ values, width, height, isVoid }) {
  const isKept = Uint8Array.from(values, (value, place) => !isVoid?.[place] && Number.isFinite(value));
  const whole = findExtremes(values, isKept);
  if (whole[0] === whole[1]) return whole;
  const shared = findBorderValues(values, width, height, isKept);
  const isInner = shared.length ? findInnerPixels(values, width, height, isKept, shared) : isKept;
  const extremes = findExtremes(values, isInner);
  if (extremes[0] > extremes[1]) return whole; // nothing but borders
  const step = Math.max(1, Math.floor(values.length / SAMPLE_PX));
  const sample = values.filter((_, place) => place % step === 0 && isInner[place]).sort();
  const tail = Math.ceil(TAIL * sample.length + (2 * Math.max(width, height)) / step);
  let [low, high] = findLimitsWithoutDeadPixels(
    { values, width, height, isInner },
    sample,
    Math.min(tail, Math.floor(sample.length / 8)),
    extremes,
  );
  const levels = sample.reduce((count, value, place) => count + (value !== sample[place - 1]), 0);
  const gap = (high - low) * Math.max(BORDER_GAP, 1.5 / Math.max(1, levels - 1));
  for (const value of shared) {
    if (low - gap <= value && value < low) low = value;
    else if (high < value && value <= high + gap) high = value;
  }
  return [low, high];
}

/** The least and the largest value that counts; the first is larger where none does. */
function findExtremes(values, counts) {
  let [low, high] = [Infinity, -Infinity];
  values.forEach((value, place) => {
    if (!counts[place]) return;
    low = Math.min(low, value);
    high = Math.max(high, value);
  });
  return [low, high];
}

/** The values that many of the outermost pixels share, in rising order. */
function findBorderValues(values, width, height, isKept) {
  const counts = new Map();
  let edge = 0;
  values.forEach((value, place) => {
    const [x, y] = [place % width, Math.floor(place / width)];
    if (x > 0 && y > 0 && x < width - 1 && y < height - 1) return;
    edge += 1;
    if (isKept[place]) counts.set(value, (counts.get(value) ?? 0) + 1);
  });
  return [...counts.keys()].filter((value) => counts.get(value) >= BORDER * edge).sort((a, b) => a - b);
}

/** The kept pixels that pixels of these values, or not kept, do not connect with the edge. */
function findInnerPixels(values, width, height, isKept, shared) {
  const isBorder = new Set(shared);
  const isInner = isKept.slice();
  const isSeen = new Uint8Array(values.length);
  const todo = [];
  const visit = (x, y) => {
    const place = y * width + x;
    if (x < 0 || y < 0 || x >= width || y >= height || isSeen[place]) return;
    isSeen[place] = 1;
    if (isKept[place] && !isBorder.has(values[place])) return;
    isInner[place] = 0;
    todo.push(place);
  };
  for (let x = 0; x < width; x++) [0, height - 1].forEach((y) => visit(x, y));
  for (let y = 0; y < height; y++) [0, width - 1].forEach((x) => visit(x, y));
  while (todo.length) {
    const place = todo.pop();
    const [x, y] = [place % width, Math.floor(place / width)];
    visit(x - 1, y);
    visit(x + 1, y);
    visit(x, y - 1);
    visit(x, y + 1);
  }
  return isInner;
}

function findLimitsWithoutDeadPixels(image, sample, tail, [low, high]) {
  if (!tail) return [low, high];
  const [least, most] = [sample[tail], sample[sample.length - 1 - tail]];
  const fence = FENCE * (most - least);
  const isBeyond = (value) => value < least - fence || value > most + fence;
  if (!(fence > 0) || !(isBeyond(low) || isBeyond(high))) return [low, high];
  const isAlive = Uint8Array.from(
    image.values,
    (value, place) =>
      image.isInner[place] && (!isBeyond(value) || isBeyond(computeLocalMedian(image, place))),
  );
  return findExtremes(image.values, isAlive);
}

/** The median of the 5 x 5 pixels around a pixel, without borders. */
function computeLocalMedian({ values, width, height, isInner }, place) {
  const [x, y] = [place % width, Math.floor(place / width)];
  const around = [];
  for (let row = Math.max(0, y - 2); row <= Math.min(height - 1, y + 2); row++) {
    for (let column = Math.max(0, x - 2); column <= Math.min(width - 1, x + 2); column++) {
      if (isInner[row * width + column]) around.push(values[row * width + column]);
    }
  }
  around.sort((a, b) => a - b);
  const middle = around.length >> 1;
  return around.length % 2 ? around[middle] : (around[middle - 1] + around[middle]) / 2;
}
