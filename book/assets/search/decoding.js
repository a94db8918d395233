// From the bytes of a file to a grey image of 8 bits, as cbir_lib/images/decoding.py does it.

import { decodeDicom, isDicom } from "./dicom.js";
import { makeImage } from "./images.js";
import { convertTo8Bits } from "./grey.js";

/** Why a file is not searched with, in a sentence for the reader. */
export class RefusedError extends Error {}

const SMALLEST_PX = 8; // along a side
const OTHERS = {
  "a GIF": [0, "GIF8"],
  "a WebP file": [8, "WEBP"],
  "a bitmap": [0, "BM"],
  "a TIFF file": [0, "II*\0"],
  "a TIFF file ": [0, "MM\0*"],
  "a PDF": [0, "%PDF"],
  "a ZIP file": [0, "PK\x03\x04"],
  "a HEIF or AVIF picture or a video": [4, "ftyp"],
};

/** Decode a PNG, a JPEG or a DICOM file. `facts` has `largest_px` and `modalities`. */
export async function decode(bytes, facts) {
  if (!bytes.length) throw new RefusedError("The file is empty.");
  if (isDicom(bytes)) return decodeDicom(bytes, facts, { RefusedError, checkSize, decodePicture });
  const size = readSize(bytes);
  if (!size) {
    const starts = ([place, text]) => [...text].every((letter, i) => bytes[place + i] === letter.charCodeAt(0));
    const kind = Object.keys(OTHERS).find((name) => starts(OTHERS[name]));
    throw new RefusedError(
      `This is ${kind?.trim() ?? "not an image"}. The page reads PNG, JPEG and DICOM files.`,
    );
  }
  checkSize(size.width, size.height, facts);
  if (size.depth === 16) return decodeDeepPng(bytes, size);
  return decodePicture(bytes);
}

/** Refuse an image that is too large or too small, before anything is decoded. */
function checkSize(width, height, { largest_px: largest }) {
  if (width * height > largest) {
    const millions = (value) => Math.round(value / 1e6);
    throw new RefusedError(
      `This film has ${width} × ${height} = ${millions(width * height)} million pixels. The page takes up to ` +
        `${millions(largest)} million: reduce it first. The search compares 128 × 128 anyway.`,
    );
  }
  if (Math.min(width, height) < SMALLEST_PX) {
    throw new RefusedError(`This image has ${width} × ${height} pixels, too few to compare.`);
  }
}

/** Read width, height and depth from the header of a PNG or JPEG; null for other files. */
function readSize(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length > 29 && view.getUint32(0) === 0x89504e47) {
    const [depth, colour, interlaced] = [bytes[24], bytes[25], bytes[28]];
    return { width: view.getUint32(16), height: view.getUint32(20), depth, colour, interlaced };
  }
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return null;
  for (let place = 2; place + 9 < bytes.length && bytes[place] === 0xff; ) {
    const marker = bytes[place + 1];
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return { height: view.getUint16(place + 5), width: view.getUint16(place + 7), depth: 8 };
    }
    place += 2 + view.getUint16(place + 2);
  }
  throw new RefusedError("This JPEG is damaged: its header names no size.");
}

/** Let the browser decode a PNG or JPEG of 8 bits; transparent parts become black. */
async function decodePicture(bytes) {
  let picture;
  try {
    picture = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none" });
  } catch {
    throw new RefusedError("The file is damaged, or of a kind that this browser does not decode.");
  }
  const { width, height } = picture;
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  picture.close();
  const { data } = context.getImageData(0, 0, width, height);
  const image = makeImage(width, height);
  for (let pixel = 0, place = 0; pixel < image.pixels.length; pixel++, place += 4) {
    // ITU-R 601 in 16 bits, as Pillow has it.
    const luminance = data[place] * 19595 + data[place + 1] * 38470 + data[place + 2] * 7471;
    image.pixels[pixel] = (luminance + 0x8000) >> 16;
  }
  return image;
}

/** Decode a grey PNG of 16 bits, of which a canvas would keep the upper 8. */
async function decodeDeepPng(bytes, { width, height, colour, interlaced }) {
  if (colour !== 0 || interlaced) {
    throw new RefusedError("This PNG has 16 bits and colours or is interlaced: save it as grey.");
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts = [];
  for (let place = 8; place + 12 <= bytes.length; place += 12 + view.getUint32(place)) {
    if (view.getUint32(place + 4) === 0x49444154) {
      parts.push(bytes.subarray(place + 8, place + 8 + view.getUint32(place)));
    }
  }
  let data;
  try {
    const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
    data = new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new RefusedError("This PNG is damaged.");
  }
  const length = 2 * width;
  if (data.length < height * (length + 1)) throw new RefusedError("This PNG is damaged.");
  const values = new Float64Array(width * height);
  let above = new Uint8Array(length);
  for (let y = 0; y < height; y++) {
    const start = y * (length + 1);
    const line = data.subarray(start + 1, start + 1 + length);
    unfilter(line, above, data[start]);
    for (let x = 0; x < width; x++) values[y * width + x] = (line[2 * x] << 8) | line[2 * x + 1];
    above = line;
  }
  return { width, height, pixels: convertTo8Bits({ values, width, height }) };
}

/** Undo the filter of a line of a PNG, in place (PNG specification, section 9). */
function unfilter(line, above, filter) {
  for (let place = 0; place < line.length; place++) {
    const left = place > 1 ? line[place - 2] : 0;
    const corner = place > 1 ? above[place - 2] : 0;
    const up = above[place];
    const estimate = left + up - corner;
    const [a, b, c] = [left, up, corner].map((value) => Math.abs(estimate - value));
    const paeth = a <= b && a <= c ? left : b <= c ? up : corner;
    line[place] += [0, left, up, (left + up) >> 1, paeth][filter] ?? 0;
  }
}
