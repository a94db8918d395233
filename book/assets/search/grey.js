// Reducing images of any depth to 8-bit grey: cbir_lib/images/grey.py, where the rules are explained.

import { toGrey } from "./images.js";

const TAIL = 0.005; // share of the pixels beyond each percentile
const FENCE = 0.5; // a pixel this share of their distance beyond the percentiles may be dead
const BORDER = 0.1; // a value, or values close together, on this share of the outermost pixels is a border
const BORDER_GAP = 0.05; // this share of the picture's range away from it
const NOISE = 0.08; // values of a border extend over this share of the image's range at most ...
const NOISE_GAP = 0.01; // ... without a gap as wide as this
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
 * (`isVoid`, one byte a pixel), borders, dead pixels and letters do not count.
 */
export function findLimits({ values, width, height, isVoid }) {
  const isKept = Uint8Array.from(values, (value, place) => !isVoid?.[place] && Number.isFinite(value));
  const whole = findExtremes(values, isKept);
  if (whole[0] === whole[1]) return whole;
  const step = Math.max(1, Math.floor(values.length / SAMPLE_PX));
  const takeSample = (counts) => values.filter((_, place) => place % step === 0 && counts[place]).sort();
  const ofKept = takeSample(isKept);
  const borders = findBorderValues(values, width, height, isKept, ofKept);
  const isInner = borders.length ? findInnerPixels(values, width, height, isKept, borders) : isKept;
  const extremes = findExtremes(values, isInner);
  if (extremes[0] > extremes[1]) return whole; // nothing but borders
  const sample = isInner === isKept ? ofKept : takeSample(isInner);
  const tail = Math.ceil(TAIL * sample.length + (2 * Math.max(width, height)) / step);
  let [low, high] = findLimitsWithoutDeadPixels(
    { values, width, height, isInner },
    sample,
    Math.min(tail, Math.floor(sample.length / 8)),
    extremes,
  );
  const levels = sample.reduce((count, value, place) => count + (value !== sample[place - 1]), 0);
  const gap = (high - low) * Math.max(BORDER_GAP, 1.5 / Math.max(1, levels - 1));
  for (const [darkest, brightest] of borders) {
    if (low - gap <= brightest && darkest < low) low = darkest;
    if (darkest <= high + gap && high < brightest) high = brightest;
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

/** Pairs of values, from the darkest to the brightest, that many of the outermost pixels have. */
function findBorderValues(values, width, height, isKept, sample) {
  const isOutermost = (_, place) => {
    const [x, y] = [place % width, Math.floor(place / width)];
    return x === 0 || y === 0 || x === width - 1 || y === height - 1;
  };
  const minimum = BORDER * values.filter(isOutermost).length;
  const edge = values.filter((value, place) => isKept[place] && isOutermost(value, place)).sort();
  const borders = splitWhere(edge, (step) => step > 0).filter(({ length }) => length >= minimum);
  const spread = computeQuantile(sample, 1 - TAIL) - computeQuantile(sample, TAIL);
  if (spread > 0 && spread < Infinity) {
    for (const close of splitWhere(edge, (step) => step > NOISE_GAP * spread)) {
      const range = close.at(-1) - close[0];
      if (close.length >= minimum && range > 0 && range <= NOISE * spread) borders.push(close);
    }
  }
  return borders.map((close) => [close[0], close.at(-1)]);
}

/** The parts of sorted values between two of which the step from one to the next is wide. */
function splitWhere(sorted, isWide) {
  const parts = [];
  let start = 0;
  for (let end = 1; end <= sorted.length; end++) {
    if (end < sorted.length && !isWide(sorted[end] - sorted[end - 1])) continue;
    parts.push(sorted.subarray(start, end));
    start = end;
  }
  return parts;
}

/** A quantile of sorted values, between two of them in proportion: numpy.quantile. */
function computeQuantile(sorted, share) {
  const place = share * (sorted.length - 1);
  const [below, above] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
  return below + (above - below) * (place - Math.floor(place));
}

/** The kept pixels that pixels of borders' values, or not kept, do not connect with the edge. */
function findInnerPixels(values, width, height, isKept, borders) {
  const isBorder = (value) =>
    borders.some(([darkest, brightest]) => {
      const more = (brightest - darkest) / 2;
      return value >= darkest - more && value <= brightest + more;
    });
  const isInner = isKept.slice();
  const isSeen = new Uint8Array(values.length);
  const todo = [];
  const visit = (x, y) => {
    const place = y * width + x;
    if (x < 0 || y < 0 || x >= width || y >= height || isSeen[place]) return;
    isSeen[place] = 1;
    if (isKept[place] && !isBorder(values[place])) return;
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
  const isWithin = image.isInner.map((counts, place) => counts && !isBeyond(image.values[place]));
  const marks = image.values
    .filter(
      (value, place) =>
        image.isInner[place] && isBeyond(value) && isBeyond(computeLocalMedian(image, place)),
    )
    .sort();
  [low, high] = findExtremes(image.values, isWithin);
  // A single value, far from all others, is of letters and marks.
  const [below, above] = [marks.filter((value) => value < least), marks.filter((value) => value > most)];
  if (below.length && (below[0] < below.at(-1) || low - below[0] <= fence)) low = below[0];
  if (above.length && (above[0] < above.at(-1) || above.at(-1) - high <= fence)) high = above.at(-1);
  return [low, high];
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
