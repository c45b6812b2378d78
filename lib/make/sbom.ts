/**
 * The packages in a tree as SPDX 2.3, from the package databases: for scanners and auditors.
 *
 * We run nothing from the tree and guess nothing, so we only read text databases: those of dpkg and apk. rpm has
 * a binary database, whose format depends on its version.
 *
 * - SPDX: https://spdx.github.io/spdx-spec/v2.3/
 * - Package URLs: https://github.com/package-url/purl-spec
 *
 * @module
 */

import { deriveUuid } from "../core/identity.ts";
import { MiB } from "../core/units.ts";
import type { OpenTree } from "../tree/inspect.ts";
import { lookup, type Nodes, typeOf } from "../tree/nodes.ts";
import { countIn, entriesIn } from "../tree/query.ts";
import { readFile, type Root } from "../tree/root.ts";

/** A package installed in a tree. */
interface InstalledPackage {
  /** The type of its package URL: `deb`, `apk`. */
  readonly type: string;
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
}

/** Where the databases are, and how to read them. */
const DATABASES = [
  { type: "deb", paths: ["/var/lib/dpkg/status"], directory: "/var/lib/dpkg/status.d", parse: parseDpkg },
  { type: "apk", paths: ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"], parse: parseApk },
] as const;

const RPM = ["/usr/lib/sysimage/rpm", "/var/lib/rpm"];

/** More than a database of 100,000 packages needs. */
const LIMIT = 256 * MiB;

/** The packages in a tree, sorted by name, and warnings about those that are not listed. */
export function findInstalled(
  { root, nodes }: { readonly root: Root; readonly nodes: Nodes },
): { packages: InstalledPackage[]; warnings: string[] } {
  const packages: InstalledPackage[] = [];
  const seen = new Set<number>();
  for (const { paths, parse, ...row } of DATABASES) {
    const listed = "directory" in row ? entriesIn(nodes, row.directory) : [];
    const found = [...paths.map((path) => lookup(nodes, path)), ...listed.map(({ node }) => node)];
    for (const node of found) {
      if (node === undefined || typeOf(nodes, node) !== "file" || seen.has(node)) continue;
      seen.add(node);
      // One by one: as arguments of a single call they would have to fit on the stack.
      const text = new TextDecoder().decode(readFile(root, nodes, node, { limit: LIMIT }));
      for (const one of parse(text)) packages.push(one);
    }
  }
  const hasRpm = RPM.some((path) => countIn(nodes, path) > 0);
  const order = (one: InstalledPackage) => `${one.name}\0${one.architecture}\0${one.version}`;
  packages.sort((a, b) => order(a) < order(b) ? -1 : 1);
  return {
    packages,
    warnings: hasRpm ? ["The SBOM does not list rpm packages: rpm's database is not a text file"] : [],
  };
}

/** Parses paragraphs of `Name: value` lines. A line that starts with a space continues the previous one. */
export function parseDpkg(text: string): InstalledPackage[] {
  return text.split(/\n\s*\n/).flatMap((paragraph) => {
    const field = (name: string) => new RegExp(`^${name}:[ \\t]*(.*)$`, "m").exec(paragraph)?.[1]?.trim();
    const [name, version, status] = [field("Package"), field("Version"), field("Status")];
    if (!name || !version || status !== undefined && !status.endsWith(" installed")) return [];
    return [{ type: "deb", name, version, architecture: field("Architecture") ?? "" }];
  });
}

/** Parses paragraphs of `X:value` lines. */
export function parseApk(text: string): InstalledPackage[] {
  return text.split("\n\n").flatMap((paragraph) => {
    const field = (letter: string) => new RegExp(`^${letter}:(.*)$`, "m").exec(paragraph)?.[1];
    const [name, version] = [field("P"), field("V")];
    return name && version ? [{ type: "apk", name, version, architecture: field("A") ?? "" }] : [];
  });
}

/** `pkg:deb/debian/bash@5.2.37-2?arch=amd64&distro=debian-13` */
export function packageUrl(
  { type, name, version, architecture }: InstalledPackage,
  { ID = type === "apk" ? "alpine" : "debian", VERSION_ID }: Readonly<Record<string, string>>,
): string {
  const encode = (text: string) => encodeURIComponent(text.toWellFormed());
  const qualifiers = [
    ...architecture ? [`arch=${encode(architecture)}`] : [],
    ...VERSION_ID ? [`distro=${encode(`${ID}-${VERSION_ID}`)}`] : [],
  ];
  const query = qualifiers.length ? `?${qualifiers.join("&")}` : "";
  return `pkg:${type}/${encode(ID)}/${encode(name.toLowerCase())}@${encode(version)}${query}`;
}

/** The SPDX document for an image and the packages that it contains. */
export function spdxDocument(
  { osRelease }: Pick<OpenTree, "osRelease">,
  packages: readonly InstalledPackage[],
  image: { readonly name: string; readonly sha256: string },
  { time, creator }: { readonly time: number; readonly creator: string },
): Record<string, unknown> {
  const unknown = {
    downloadLocation: "NOASSERTION",
    filesAnalyzed: false,
    licenseConcluded: "NOASSERTION",
    licenseDeclared: "NOASSERTION",
    copyrightText: "NOASSERTION",
  };
  const id = (number: number) => `SPDXRef-Package-${number}`;
  return {
    spdxVersion: "SPDX-2.3",
    dataLicense: "CC0-1.0",
    SPDXID: "SPDXRef-DOCUMENT",
    name: image.name,
    documentNamespace: `urn:uuid:${deriveUuid(image.sha256, "spdx")}`,
    creationInfo: {
      created: new Date(time * 1000).toISOString().replace(/\.\d+Z$/, "Z"),
      creators: [`Tool: ${creator}`],
    },
    packages: [
      {
        SPDXID: "SPDXRef-Image",
        name: image.name,
        ...osRelease.VERSION_ID && { versionInfo: osRelease.VERSION_ID },
        primaryPackagePurpose: "OPERATING-SYSTEM",
        checksums: [{ algorithm: "SHA256", checksumValue: image.sha256 }],
        ...unknown,
      },
      ...packages.map((one, number) => ({
        SPDXID: id(number),
        name: one.name,
        versionInfo: one.version,
        ...unknown,
        externalRefs: [{
          referenceCategory: "PACKAGE-MANAGER",
          referenceType: "purl",
          referenceLocator: packageUrl(one, osRelease),
        }],
      })),
    ],
    relationships: [
      {
        spdxElementId: "SPDXRef-DOCUMENT",
        relationshipType: "DESCRIBES",
        relatedSpdxElement: "SPDXRef-Image",
      },
      ...packages.map((_, number) => ({
        spdxElementId: "SPDXRef-Image",
        relationshipType: "CONTAINS",
        relatedSpdxElement: id(number),
      })),
    ],
  };
}
