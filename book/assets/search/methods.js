// The methods that search: each describes an image by a vector, and gives its distance to every vector
// of the archive. The library's own are in cbir_lib/descriptors and cbir_lib/retrieval.

import { equalise, resizeSquare } from "./images.js";

/** The image as a method takes it: preprocessing.Preprocessing. */
export function preprocess(image, { size, tiles, clip_limit }) {
  const resized = resizeSquare(image, size);
  return tiles ? equalise(resized, tiles, clip_limit) : resized;
}

/** The grey histogram: how many pixels of each cell of a grid fall into each bin. */
export class GreyHistogram {
  constructor(settings, vectors) {
    this.settings = settings;
    this.archive = vectors; // counts, Uint8Array, image after image
    const pixels = settings.preprocessing.size ** 2;
    this.pixels = pixels;
    // n ln n of every count that a sum of two can have.
    this.entropy = Float64Array.from({ length: 2 * 256 }, (_, n) => (n ? n * Math.log(n) : 0));
  }

  async describe(image) {
    const { bins, grid, values, preprocessing } = this.settings;
    const { width: side, pixels } = preprocess(image, preprocessing);
    const counts = new Uint8Array(values);
    for (let y = 0; y < side; y++) {
      const row = Math.floor((y * grid) / side) * grid;
      for (let x = 0; x < side; x++) {
        const cell = row + Math.floor((x * grid) / side);
        counts[cell * bins + Math.floor((pixels[y * side + x] * bins) / 256)]++;
      }
    }
    return counts;
  }

  /** The vector as the library has it: shares of all pixels. */
  scale(counts) {
    return Float32Array.from(counts, (count) => count / this.pixels);
  }

  /** Jensen-Shannon: the sum of p ln(2p / (p + q)) + q ln(2q / (p + q)), here from counts. */
  distances(query) {
    const { entropy, archive, pixels } = this;
    const number = archive.length / query.length;
    const found = new Float32Array(number);
    const filled = Array.from(query.keys()).filter((bin) => query[bin]); // others add nothing
    for (let image = 0; image < number; image++) {
      const start = image * query.length;
      let sum = 2 * pixels * Math.LN2;
      for (const bin of filled) {
        const [p, q] = [query[bin], archive[start + bin]];
        sum += entropy[p] + entropy[q] - entropy[p + q];
      }
      found[image] = Math.max(0, sum / pixels);
    }
    return found;
  }
}

/** A trained network, executed by ONNX Runtime Web. */
export class Network {
  constructor(settings, vectors, ort, session) {
    Object.assign(this, { settings, ort, session });
    // Directions of length 1: the cosine distance is 1 minus their product.
    this.archive = new Float32Array(vectors.length);
    for (let start = 0; start < vectors.length; start += settings.values) {
      const vector = vectors.subarray(start, start + settings.values);
      this.archive.set(direction(vector), start);
    }
  }

  async describe(image) {
    const { width: side, pixels } = preprocess(image, this.settings.preprocessing);
    const input = new this.ort.Tensor("uint8", pixels, [1, side, side]);
    const { vectors } = await this.session.run({ images: input });
    return vectors.data;
  }

  scale(vector) {
    return vector;
  }

  distances(query) {
    const { archive } = this;
    const own = direction(query);
    return Float32Array.from({ length: archive.length / own.length }, (_, image) => {
      const start = image * own.length;
      let product = 0;
      for (let value = 0; value < own.length; value++) product += own[value] * archive[start + value];
      return Math.max(0, 1 - product);
    });
  }
}

function direction(vector) {
  let squares = 0;
  for (const value of vector) squares += value * value;
  const length = Math.sqrt(squares) || 1;
  return Float64Array.from(vector, (value) => value / length);
}

/** The first k of all, nearest first; equal distances keep the archive's order. */
export function rank(distances, k) {
  return Array.from(distances.keys())
    .sort((one, other) => distances[one] - distances[other] || one - other)
    .slice(0, k)
    .map((row) => ({ row, distance: distances[row] }));
}
