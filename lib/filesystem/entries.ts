/**
 * The contents of a filesystem in a plan: the subtree, what is left out, and what is added.
 *
 * @module
 */

import type { Recipe } from "../efi/recipes.ts";

/** Plain data. Paths in `omit` and `add` are relative to the root of the filesystem, not of the tree. */
export interface Contents {
  /** The directory of the tree that becomes the filesystem's root; absent: an empty root directory. */
  readonly from?: string;
  /**
   * More of the tree: directories or files that become what is at `path`. Of directories with the same path, the contents
   * are joined; of two that are no directories, the later one wins.
   */
  readonly copies?: readonly { readonly from: string; readonly path: string }[];
  /** Paths to leave out with everything below; with a trailing slash, only what is below. Symlinks are not followed. */
  readonly omit: readonly string[];
  /** Rows of the tree to leave out wherever they are, with everything below. */
  readonly without?: ReadonlySet<number>;
  /** Entries to add to the subtree or replace. Missing parents are created (0755, root:root). */
  readonly add: readonly ExtraFile[];
}

export type ExtraFile =
  | {
    readonly path: string;
    readonly type: "directory";
    readonly mode?: number;
    /** Whether a symlink to a directory is one. */
    readonly follow?: true;
  }
  | { readonly path: string; readonly type: "file"; readonly mode?: number; readonly text: string }
  | { readonly path: string; readonly type: "symlink"; readonly target: string }
  /** Made from files of the tree when the filesystem is made. */
  | { readonly path: string; readonly type: "made"; readonly recipe: Recipe }
  /** A file of the tree under another name. Symlinks in `from` are resolved inside the tree. */
  | { readonly path: string; readonly type: "copy"; readonly from: string };

/** An entry that is not in the tree, or not with these attributes or contents. */
export interface ResolvedFile {
  readonly name: Uint8Array<ArrayBuffer>;
  /** Type and permissions, as `st_mode`. */
  readonly mode: number;
  /** The row it takes owner and xattrs from; without one, it belongs to root and has no xattrs. */
  readonly attributesFrom: number | undefined;
  /** The row it takes contents and modification time from. */
  readonly contentsFrom: number | undefined;
  /** The contents of a file that the plan wrote, or the target of such a symlink. */
  readonly text: Uint8Array<ArrayBuffer> | undefined;
  /** The recipe for the contents, and their size in bytes. */
  readonly made?: { readonly recipe: Recipe; readonly size: number };
}

/** SELinux labels of the entries of a filesystem, instead of those in the tree. */
export interface Labels {
  /** Each as the kernel stores it, with a NUL at its end. */
  readonly values: readonly Uint8Array<ArrayBuffer>[];
  /** The position in `values` of each entry, from 1; 0 if it has no label. */
  readonly of: Uint16Array<ArrayBuffer>;
  /** The position in `values` of the label for the `lost+found` that the filesystem adds. */
  readonly lostAndFound: number;
}
