// DICOM files of projection radiography, shown as a viewer would: cbir_lib/images/dicom.py. The
// library dicom-parser reads the elements; values go through rescale, window or VOI LUT, inversion.

import { findLimits, stretch } from "./grey.js";
import { toGrey } from "./images.js";

const IMPLICIT = "1.2.840.10008.1.2";
const EXPLICIT = "1.2.840.10008.1.2.1";
const BIG_ENDIAN = "1.2.840.10008.1.2.2";
const JPEG = "1.2.840.10008.1.2.4.50"; // baseline, 8 bits, which browsers decode
const COMPRESSED = {
  "1.2.840.10008.1.2.1.99": "deflated",
  "1.2.840.10008.1.2.4.51": "JPEG of 12 bits",
  "1.2.840.10008.1.2.4.57": "lossless JPEG",
  "1.2.840.10008.1.2.4.70": "lossless JPEG",
  "1.2.840.10008.1.2.4.80": "JPEG-LS",
  "1.2.840.10008.1.2.4.81": "JPEG-LS",
  "1.2.840.10008.1.2.4.90": "JPEG 2000",
  "1.2.840.10008.1.2.4.91": "JPEG 2000",
  "1.2.840.10008.1.2.5": "RLE",
};
const OTHER_MODALITIES = {
  CT: "a computed tomography (CT)",
  MR: "a magnetic resonance image (MR)",
  US: "an ultrasound image (US)",
  NM: "a nuclear medicine image (NM)",
  PT: "a positron emission tomography (PT)",
};

export function isDicom(bytes) {
  return String.fromCharCode(...bytes.subarray(128, 132)) === "DICM";
}

/** Decode the first frame; `tools` are RefusedError, checkSize and decodePicture of decoding.js. */
export async function decodeDicom(bytes, facts, tools) {
  const { RefusedError } = tools;
  let file;
  try {
    const syntax = dicomParser.readPart10Header(bytes).string("x00020010")?.trim();
    if (![IMPLICIT, EXPLICIT, BIG_ENDIAN, JPEG].includes(syntax)) {
      throw new RefusedError(
        `This DICOM file is compressed (${COMPRESSED[syntax] ?? syntax}), which the page does not read; ` +
          "the library does: cbir index search.",
      );
    }
    file = { syntax, elements: dicomParser.parseDicom(bytes) };
  } catch (error) {
    if (error instanceof RefusedError) throw error;
    throw new RefusedError("This DICOM file is damaged.");
  }
  const { elements } = file;
  const modality = elements.string("x00080060")?.trim();
  if (modality && !(modality in facts.modalities)) {
    throw new RefusedError(
      `This is ${OTHER_MODALITIES[modality] ?? `of modality ${modality}`}, not a radiograph. The page ` +
        "compares projection radiographs only.",
    );
  }
  const [height, width] = [elements.uint16("x00280010"), elements.uint16("x00280011")];
  if (!height || !width || !elements.elements.x7fe00010) {
    throw new RefusedError("This DICOM file has no pixels.");
  }
  tools.checkSize(width, height, facts);
  try {
    return { width, height, pixels: await convert(file, bytes, width, height, tools) };
  } catch (error) {
    if (error instanceof RefusedError) throw error;
    throw new RefusedError("This DICOM file is damaged.");
  }
}

async function convert({ syntax, elements }, bytes, width, height, tools) {
  const { RefusedError } = tools;
  const kind = elements.string("x00280004")?.trim() ?? "MONOCHROME2";
  const samples = elements.uint16("x00280002") ?? 1;
  const bits = elements.uint16("x00280100") ?? 16;
  const pixels = elements.elements.x7fe00010;
  const count = width * height;
  if (syntax === JPEG) {
    const frame = dicomParser.readEncapsulatedPixelDataFromFragments(elements, pixels, 0);
    const picture = await tools.decodePicture(frame);
    if (picture.width !== width || picture.height !== height) throw new Error("another size");
    if (samples > 1) return picture.pixels;
    return display(elements, kind, { width, height }, Float64Array.from(picture.pixels), null);
  }
  if (![8, 16].includes(bits) || !(samples === 1 || (kind === "RGB" && bits === 8))) {
    throw new RefusedError(`This DICOM file has ${samples} × ${bits} bits a pixel (${kind}), which the page does not read.`);
  }
  if (pixels.length < (count * samples * bits) / 8) {
    throw new RefusedError("This DICOM file is damaged: pixels are missing.");
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset + pixels.dataOffset, pixels.length);
  if (samples === 3) return luminance(view, count, elements.uint16("x00280006") === 1);
  if (kind !== "MONOCHROME1" && kind !== "MONOCHROME2") {
    throw new RefusedError(`This DICOM file is in colour (${kind}), which the page does not read.`);
  }
  const raw = Float64Array.from({ length: count }, (_, place) =>
    bits === 8 ? view.getUint8(place) : view.getUint16(2 * place, syntax !== BIG_ENDIAN),
  );
  const stored = elements.uint16("x00280101") ?? bits;
  const high = elements.uint16("x00280102") ?? stored - 1;
  const signed = elements.uint16("x00280103") === 1;
  const values = raw.map((value) => {
    const number = (value >> (high + 1 - stored)) & (2 ** stored - 1);
    return signed && number >= 2 ** (stored - 1) ? number - 2 ** stored : number;
  });
  return display(elements, kind, { width, height }, values, findPadding(elements, values, signed));
}

/** The luminance of RGB of 8 bits, by pixels or by planes. */
function luminance(view, count, planar) {
  const at = (pixel, sample) => view.getUint8(planar ? sample * count + pixel : 3 * pixel + sample);
  return Uint8Array.from({ length: count }, (_, pixel) =>
    toGrey(0.299 * at(pixel, 0) + 0.587 * at(pixel, 1) + 0.114 * at(pixel, 2)),
  );
}

/** Which pixels are padding, one byte each; null where the file names none. */
function findPadding(elements, values, signed) {
  const read = (tag) => (signed ? elements.int16(tag) : elements.uint16(tag));
  const first = read("x00280120");
  if (first === undefined) return null;
  const last = read("x00280121") ?? first;
  const [low, high] = [Math.min(first, last), Math.max(first, last)];
  const isVoid = Uint8Array.from(values, (value) => value >= low && value <= high);
  return isVoid.every((value) => value) ? null : isVoid;
}

/** From stored values to the grey values that a viewer shows. */
function display(elements, kind, size, values, isVoid) {
  const slope = elements.floatString("x00281053") ?? 1;
  const intercept = elements.floatString("x00281052") ?? 0;
  const rescaled = values.map((value) => value * slope + intercept);
  const stored = elements.uint16("x00280101") ?? 16;
  const [low, high] = findLimits({ values: rescaled, ...size, isVoid });
  const signed = elements.uint16("x00280103") === 1;
  const asTheyAre = stored <= 8 && !signed && slope === 1 && intercept === 0;
  const shown =
    applyLut(elements, rescaled) ??
    applyWindow(elements, rescaled) ??
    (asTheyAre ? stretch(rescaled, 0, 2 ** stored - 1) : stretch(rescaled, low, high));
  const flat = low < high && shown.every((grey, place) => isVoid?.[place] || grey === shown[0]);
  const picture = flat ? stretch(rescaled, low, high) : shown;
  const shape = elements.string("x20500020")?.trim().toUpperCase();
  const inverted = kind === "MONOCHROME1" || shape === "INVERSE";
  return picture.map((grey, place) => (isVoid?.[place] ? 0 : inverted ? 255 - grey : grey));
}

/** Apply the first window (PS3.3, C.11.2.1.2); null where there is none. */
function applyWindow(elements, values) {
  const centre = elements.floatString("x00281050", 0);
  const width = elements.floatString("x00281051", 0);
  if (centre === undefined || !(width >= 0)) return null;
  const shape = elements.string("x00281056")?.trim().toUpperCase() ?? "LINEAR";
  if (shape === "SIGMOID") {
    return Uint8Array.from(values, (value) => toGrey(255 / (1 + Math.exp((-4 * (value - centre)) / width))));
  }
  const [middle, span] = shape === "LINEAR_EXACT" ? [centre, width] : [centre - 0.5, width - 1];
  return Uint8Array.from(values, (value) => {
    if (value <= middle - span / 2) return 0;
    if (value > middle + span / 2) return 255;
    return toGrey(((value - middle) / span + 0.5) * 255);
  });
}

/** Apply the first VOI LUT (PS3.3, C.11.2.1.1); null where there is none. */
function applyLut(elements, values) {
  const item = elements.elements.x00283010?.items?.[0]?.dataSet;
  if (!item) return null;
  const [entries, bits] = [item.uint16("x00283002", 0) || 65536, item.uint16("x00283002", 2)];
  let first = item.uint16("x00283002", 1);
  if (elements.uint16("x00280103") === 1 && first >= 32768) first -= 65536;
  const wide = item.elements.x00283006.length >= 2 * entries;
  const at = (place) =>
    wide
      ? item.uint16("x00283006", place)
      : item.byteArray[item.elements.x00283006.dataOffset + place];
  return Uint8Array.from(values, (value) => {
    const place = Math.round(Math.min(Math.max(value - first, 0), entries - 1));
    return toGrey((at(place) * 255) / (2 ** bits - 1));
  });
}
