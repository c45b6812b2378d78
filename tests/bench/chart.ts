/**
 * A chart of a benchmark as SVG: one bar per contender, as ratio to the reference, on a logarithmic scale.
 *
 * @module
 */

import { escapeXml, svg } from "../lab/svg.ts";
import { CONTENDERS, REFERENCE } from "./contenders.ts";
import { type Race, ratio, type Results } from "./results.ts";

const WIDTH = 720, NAME_WIDTH = 190, VALUE_WIDTH = 60, BAR = 16, GAP = 8, TOP = 52;

/** Readable on white and on black: an image in a README does not know its background. */
const STYLE = `
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 15px }
.note { font-size: 11px; fill: #6e7781 }
.ours { fill: #2f6feb }
.other { fill: #9aa4ae }
.limit { fill: #3f9b5c }
line { stroke: #9aa4ae; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .note { fill: #9aa4ae } }
`;

/** The chart of the Debian tree. */
export function renderChart(results: Results): string {
  const race = results.races.find(({ input, cache }) => input === "debian" && cache === "warm");
  if (!race) throw new Error("There are no results for the Debian tree");
  const bars = barsOf(race);
  const values = bars.map(({ value }) => value);
  const low = Math.log(Math.min(...values) / 1.6), high = Math.log(Math.max(...values));
  const room = WIDTH - NAME_WIDTH - VALUE_WIDTH;
  const length = (value: number) => Math.max(2, (Math.log(value) - low) / (high - low) * room);
  const height = TOP + bars.length * (BAR + GAP) + 8;
  const one = (NAME_WIDTH + length(1)).toFixed(1);
  const megabytes = Math.round(race.bytes / 1e6);
  const lines = bars.flatMap(({ name, value, style }, i) => {
    const y = TOP + i * (BAR + GAP), baseline = y + BAR - 3, width = length(value).toFixed(1);
    return [
      `<text x="${NAME_WIDTH - 8}" y="${baseline}" text-anchor="end">${escapeXml(name)}</text>`,
      `<rect class="${style}" x="${NAME_WIDTH}" y="${y}" width="${width}" height="${BAR}" rx="2"/>`,
      `<text x="${(NAME_WIDTH + length(value) + 6).toFixed(1)}" y="${baseline}">${value.toFixed(2)}</text>`,
    ];
  });
  const title = `Time to make an image, as ratio to ${REFERENCE}`;
  return svg(title, [WIDTH, height], STYLE, [
    `<text class="title" x="8" y="20">${escapeXml(title)}</text>`,
    `<text class="note" x="8" y="38">Shorter is faster; logarithmic. Debian 13, ${megabytes} MB in ${
      race.entries.toLocaleString("en")
    } entries, warm cache, ${results.machine.cores} cores.</text>`,
    `<line x1="${one}" y1="${TOP - 4}" x2="${one}" y2="${height - 8}"/>`,
    ...lines,
  ]);
}

function barsOf(race: Race): { name: string; value: number; style: string }[] {
  return Object.keys(race.samples).flatMap((name) => {
    const value = ratio(race, name);
    const contender = CONTENDERS[name];
    if (value === undefined || contender === undefined) return [];
    return [{ name, value, style: contender.kind === "limit" ? "limit" : contender.ours ? "ours" : "other" }];
  }).sort((a, b) => a.value - b.value);
}
