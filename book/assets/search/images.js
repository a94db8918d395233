// Grey images as {width, height, pixels: Uint8Array}, and what the library does to them. Each function
// gives the bytes that its namesake in cbir_lib/images gives; OpenCV's order of operations is kept.

const { fround } = Math;

/** Round to the nearest whole number, halves to the even one, as NumPy and OpenCV do. */
export function roundHalfEven(value) {
  const low = Math.floor(value);
  const rest = value - low;
  return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1;
}

/** Round to a grey value, 0 to 255. */
export function toGrey(value) {
  return Math.min(255, Math.max(0, roundHalfEven(value)));
}

export function makeImage(width, height) {
  return { width, height, pixels: new Uint8Array(width * height) };
}

/** Fit an image to a black square of this side, its proportions kept: decoding.fit_to_square. */
export function fitToSquare(image, size) {
  const scale = size / Math.max(image.width, image.height);
  const width = Math.max(1, roundHalfEven(image.width * scale));
  const height = Math.max(1, roundHalfEven(image.height * scale));
  const fitted = scale < 1 ? shrink(image, width, height) : enlarge(image, width, height);
  const square = makeImage(size, size);
  const top = Math.floor((size - height) / 2);
  const left = Math.floor((size - width) / 2);
  for (let y = 0; y < height; y++) {
    square.pixels.set(fitted.pixels.subarray(y * width, (y + 1) * width), (top + y) * size + left);
  }
  return square;
}

/** Resize a square image as preprocessing.Preprocessing does. */
export function resizeSquare(image, size) {
  return image.width >= size ? shrink(image, size, size) : enlarge(image, size, size);
}

/** Average over the area of each new pixel: OpenCV's INTER_AREA. */
function shrink(image, width, height) {
  if (image.width === width && image.height === height) return image;
  const across = image.width / width;
  const down = image.height / height;
  const result = makeImage(width, height);
  if (Number.isInteger(across) && Number.isInteger(down)) {
    // The sum of whole numbers, scaled once.
    const share = fround(1 / (across * down));
    const even = across === 2 && down === 2;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        let sum = 0;
        for (let dy = 0; dy < down; dy++) {
          const start = (y * down + dy) * image.width + x * across;
          for (let dx = 0; dx < across; dx++) sum += image.pixels[start + dx];
        }
        result.pixels[y * width + x] = even ? (sum + 2) >> 2 : toGrey(fround(fround(sum) * share));
      }
    }
    return result;
  }
  const columns = areaShares(image.width, width);
  const rows = areaShares(image.height, height);
  const line = new Float32Array(width);
  const total = new Float32Array(width);
  rows.forEach((parts, y) => {
    total.fill(0);
    for (const [row, weight] of parts) {
      line.fill(0);
      columns.forEach((shares, x) => {
        for (const [column, share] of shares) {
          line[x] = fround(line[x] + fround(image.pixels[row * image.width + column] * share));
        }
      });
      for (let x = 0; x < width; x++) total[x] = fround(total[x] + fround(weight * line[x]));
    }
    for (let x = 0; x < width; x++) result.pixels[y * width + x] = toGrey(total[x]);
  });
  return result;
}

/** For each new pixel along one side: the old ones below it, each with its share. */
function areaShares(from, to) {
  const scale = from / to;
  return Array.from({ length: to }, (_, place) => {
    const start = place * scale;
    const end = start + scale;
    const width = Math.min(scale, from - start);
    let first = Math.ceil(start);
    let last = Math.min(Math.floor(end), from - 1);
    first = Math.min(first, last);
    const shares = [];
    if (first - start > 1e-3) shares.push([first - 1, fround((first - start) / width)]);
    for (let old = first; old < last; old++) shares.push([old, fround(1 / width)]);
    if (end - last > 1e-3) {
      shares.push([last, fround(Math.min(Math.min(end - last, 1), width) / width)]);
    }
    return shares;
  });
}

/** Interpolate between the four nearest pixels: OpenCV's INTER_LINEAR, in fixed point. */
function enlarge(image, width, height) {
  if (image.width === width && image.height === height) return image;
  const columns = linearShares(image.width, width);
  const rows = linearShares(image.height, height);
  const result = makeImage(width, height);
  rows.forEach(([above, below, low, high], y) => {
    columns.forEach(([left, right, near, far], x) => {
      const at = (row) =>
        image.pixels[row * image.width + left] * near + image.pixels[row * image.width + right] * far;
      // 8 bits of each weight's fraction, as OpenCV's bit-exact resizing has them.
      result.pixels[y * width + x] = Math.min(255, (at(above) * low + at(below) * high + 32768) >> 16);
    });
  });
  return result;
}

function linearShares(from, to) {
  const scale = from / to;
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale - 0.5;
    const first = Math.floor(centre);
    const far = roundHalfEven((centre - first) * 256);
    const inside = (value) => Math.min(Math.max(value, 0), from - 1);
    return [inside(first), inside(first + 1), 256 - far, far];
  });
}

/** Equalise contrast tile by tile (CLAHE), as OpenCV does; `tiles` must divide the side. */
export function equalise(image, tiles, clipLimit) {
  const { width: size, pixels } = image;
  const side = size / tiles;
  const area = side * side;
  const clip = Math.max(Math.trunc((clipLimit * area) / 256), 1);
  const scale = fround(255 / area);
  const tables = Array.from({ length: tiles * tiles }, (_, tile) => {
    const counts = new Int32Array(256);
    const top = Math.floor(tile / tiles) * side;
    const left = (tile % tiles) * side;
    for (let y = top; y < top + side; y++) {
      for (let x = left; x < left + side; x++) counts[pixels[y * size + x]]++;
    }
    let clipped = 0;
    for (let grey = 0; grey < 256; grey++) {
      clipped += Math.max(0, counts[grey] - clip);
      counts[grey] = Math.min(counts[grey], clip);
    }
    const each = Math.floor(clipped / 256);
    let rest = clipped - each * 256;
    for (let grey = 0; grey < 256; grey++) counts[grey] += each;
    const step = Math.max(Math.floor(256 / rest), 1);
    for (let grey = 0; grey < 256 && rest > 0; grey += step, rest--) counts[grey]++;
    let sum = 0;
    return Uint8Array.from(counts, (count) => toGrey(fround(fround((sum += count)) * scale)));
  });
  const place = Array.from({ length: size }, (_, pixel) => {
    const at = fround(fround(pixel * fround(1 / side)) - 0.5);
    const first = Math.floor(at);
    return [Math.max(first, 0), Math.min(first + 1, tiles - 1), fround(at - first)];
  });
  const result = makeImage(size, size);
  for (let y = 0; y < size; y++) {
    const [above, below, low] = place[y];
    for (let x = 0; x < size; x++) {
      const [left, right, far] = place[x];
      const grey = pixels[y * size + x];
      const near = fround(1 - far);
      const blend = (row) =>
        fround(
          fround(tables[row * tiles + left][grey] * near) +
            fround(tables[row * tiles + right][grey] * far),
        );
      const value = fround(fround(blend(above) * fround(1 - low)) + fround(blend(below) * low));
      result.pixels[y * size + x] = toGrey(value);
    }
  }
  return result;
}

/** Rotate counter-clockwise about the centre; what enters is black: perturbations.rotate. */
export function rotate(image, degrees) {
  const { width, height, pixels } = image;
  const angle = ((((degrees % 360) + 360) % 360) * Math.PI) / 180;
  const cos = Math.cos(angle);
  const sin = Math.sin(angle);
  const [middleX, middleY] = [(width - 1) / 2, (height - 1) / 2];
  const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : pixels[y * width + x]);
  const result = makeImage(width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      // Where this pixel was before the turn.
      const fromX = fround(middleX + cos * (x - middleX) - sin * (y - middleY));
      const fromY = fround(middleY + sin * (x - middleX) + cos * (y - middleY));
      const [left, top] = [Math.floor(fromX), Math.floor(fromY)];
      const [right, below] = [fround(fromX - left), fround(fromY - top)];
      const upper = at(left, top) + right * (at(left + 1, top) - at(left, top));
      const lower = at(left, top + 1) + right * (at(left + 1, top + 1) - at(left, top + 1));
      result.pixels[y * width + x] = toGrey(fround(upper + below * (lower - upper)));
    }
  }
  return result;
}

/** Scale the distances of grey values from their mean: perturbations.scale_contrast. */
export function scaleContrast(image, factor) {
  const mean = fround(image.pixels.reduce((sum, grey) => sum + grey, 0) / image.pixels.length);
  const pixels = image.pixels.map((grey) =>
    toGrey(fround(mean + fround(fround(factor) * fround(grey - mean)))),
  );
  return { ...image, pixels };
}

/** Add normal noise of this deviation, always the same: perturbations.add_noise. */
export function addNoise(image, deviation, noise) {
  const pixels = image.pixels.map((grey, place) =>
    toGrey(fround(grey + fround(fround(deviation) * noise[place]))),
  );
  return { ...image, pixels };
}

/** Rotate, scale the contrast and add noise; an image without a change is returned as it is. */
export function change(image, { rotation = 0, contrast = 1, noise = 0 }, noiseField) {
  let changed = image;
  if (rotation !== 0) changed = rotate(changed, rotation);
  if (contrast !== 1) changed = scaleContrast(changed, contrast);
  if (noise !== 0) changed = addNoise(changed, noise, noiseField);
  return changed;
}
