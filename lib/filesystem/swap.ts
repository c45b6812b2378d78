/**
 * Swap space: a header, and nothing else.
 *
 * - https://man7.org/linux/man-pages/man8/mkswap.8.html
 * - `union swap_header` in include/linux/swap.h
 *
 * @module
 */

import { encodeText, fromHex } from "../core/bytes.ts";
import { KiB } from "../core/units.ts";
import type { FilesystemPlan, SwapPlan } from "./types.ts";

/** Bytes of a page: kernels with larger ones, such as some for arm64, cannot use swap that is made for 4 KiB. */
const PAGE = 4 * KiB;

/** What mkswap makes at least: ten pages. */
export const SMALLEST_SWAP = 10 * PAGE;

const MAX_LABEL = 16;

/** Offsets in the first page. The first KiB is for boot sectors. */
const HEADER = { version: 1024, lastPage: 1028, uuid: 1036, label: 1052, magic: PAGE - 10 } as const;

/** Plans swap of `size` bytes. The label is cut to 16 bytes. */
export function planSwap(
  { size, uuid, label, endian }: {
    readonly size: number;
    readonly uuid: string;
    readonly label: string;
    readonly endian: "little" | "big";
  },
): FilesystemPlan {
  const short = label.slice(0, MAX_LABEL);
  return {
    type: "swap",
    size,
    label: short,
    uuid,
    entries: 0,
    bytes: PAGE,
    findings: [],
    writer: { pages: Math.floor(size / PAGE), uuid, label: short, endian },
  };
}

/** The first page. Numbers have the byte order of the machine that swaps. */
export function swapHeader({ pages, uuid, label, endian }: SwapPlan): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(PAGE);
  const view = new DataView(bytes.buffer);
  view.setUint32(HEADER.version, 1, endian === "little");
  view.setUint32(HEADER.lastPage, pages - 1, endian === "little");
  bytes.set(fromHex(uuid), HEADER.uuid);
  bytes.set(encodeText(label), HEADER.label);
  bytes.set(encodeText("SWAPSPACE2"), HEADER.magic);
  return bytes;
}
