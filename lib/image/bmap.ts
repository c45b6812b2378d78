/**
 * Block maps: where an image has data, with checksums, as bmaptool reads them to write only that.
 *
 * Format 2.0, as Debian's bmap-tools writes it: https://github.com/yoctoproject/bmaptool
 *
 * @module
 */

import { node } from "../core/node.ts";
import { alignUp } from "../core/units.ts";
import { dataExtents } from "./extents.ts";
import { imageSize, openImageFile, readPieces } from "./image.ts";

/** Bytes per block of a map. */
const BLOCK = 4096;

/** What the checksum of the whole map is computed with in its own place. */
const NO_SUM = "0".repeat(64);

/**
 * The map of a raw image: all that was ever written to it. What is left out are holes, such as the free space of
 * filesystems, which a device may hold anything in.
 */
export async function blockMap(path: string): Promise<string> {
  const size = imageSize(path);
  const ranges = mappedRanges(path, size);
  const lines: string[] = [];
  let mapped = 0;
  for (const [first, last] of ranges) {
    const hash = node.crypto.createHash("sha256");
    const start = first * BLOCK;
    for await (const piece of readPieces(path, start, Math.min(size, (last + 1) * BLOCK) - start)) {
      hash.update(piece);
    }
    lines.push(
      `        <Range chksum="${hash.digest("hex")}"> ${
        first === last ? first : `${first}-${last}`
      } </Range>`,
    );
    mapped += last - first + 1;
  }
  const text = [
    '<?xml version="1.0" ?>',
    '<bmap version="2.0">',
    `    <ImageSize> ${size} </ImageSize>`,
    `    <BlockSize> ${BLOCK} </BlockSize>`,
    `    <BlocksCount> ${Math.ceil(size / BLOCK)} </BlocksCount>`,
    `    <MappedBlocksCount> ${mapped} </MappedBlocksCount>`,
    "    <ChecksumType> sha256 </ChecksumType>",
    `    <BmapFileChecksum> ${NO_SUM} </BmapFileChecksum>`,
    "    <BlockMap>",
    ...lines,
    "    </BlockMap>",
    "</bmap>",
    "",
  ].join("\n");
  return text.replace(NO_SUM, node.crypto.createHash("sha256").update(text).digest("hex"));
}

/** The blocks with data, as first and last one. */
function mappedRanges(path: string, size: number): [first: number, last: number][] {
  using image = openImageFile(path);
  const ranges: [number, number][] = [];
  for (const { start, end } of dataExtents(image, { start: 0, end: size })) {
    const first = Math.floor(start / BLOCK), last = alignUp(end, BLOCK) / BLOCK - 1;
    const previous = ranges.at(-1);
    if (previous && first <= previous[1] + 1) previous[1] = last;
    else ranges.push([first, last]);
  }
  return ranges;
}
