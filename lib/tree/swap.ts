/**
 * Swap files: the kernel refuses one with holes, and what `fallocate` made looks like one hole.
 *
 * https://man7.org/linux/man-pages/man8/mkswap.8.html
 *
 * @module
 */

/** The signature is at the end of the first page, whose size the machine decides. */
const PAGE_SIZES = [4096, 8192, 16384, 32768, 65536];

/** Bytes of the header that are read at most. */
export const SWAP_HEADER_SIZE = 65536;

const SIGNATURES = ["SWAPSPACE2", "SWAP-SPACE", "S1SUSPEND"];

/** Whether a file starts with the header that mkswap writes. */
export function isSwap(head: Uint8Array): boolean {
  return PAGE_SIZES.some((size) => {
    const text = String.fromCharCode(...head.subarray(size - 10, size));
    return SIGNATURES.some((signature) => text.startsWith(signature));
  });
}
