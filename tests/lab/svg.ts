/**
 * What all drawn pictures have: the frame of an SVG, and texts in it.
 *
 * @module
 */

/** A text for an element. */
export function escapeXml(text: string): string {
  return text.replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** An image of that size, in pixels. */
export function svg(
  title: string,
  [width, height]: readonly [number, number],
  style: string,
  lines: readonly string[],
): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    `<title>${escapeXml(title)}</title>`,
    `<style>${style}</style>`,
    ...lines,
    "</svg>",
    "",
  ].join("\n");
}
