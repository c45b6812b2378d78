/**
 * Splits the output of a program into lines, with bounded memory and in linear time however long a line is.
 *
 * @module
 */

/** Longer lines are cut to this many characters. */
export const MAX_LINE = 2 ** 20;

/** Takes bytes piece by piece, and returns lines. */
export class LineSplitter {
  private readonly decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  private parts: string[] = [];
  private length = 0;

  /**
   * @param separator what ends a line: one character.
   * @param onLine gets each line, without what ends it; of one that is longer than {@link MAX_LINE}, `isCut`, its
   * beginning as soon as that is known.
   */
  constructor(
    private readonly separator: RegExp,
    private readonly onLine: (line: string, isCut: boolean) => void,
  ) {}

  write(bytes: Uint8Array): void {
    this.take(this.decoder.decode(bytes, { stream: true }));
  }

  /** Ends the last line. */
  close(): void {
    this.take(this.decoder.decode());
    this.end();
  }

  private take(text: string): void {
    text.split(this.separator).forEach((part, i) => {
      if (i > 0) this.end();
      const room = MAX_LINE - this.length;
      this.length += part.length;
      if (room < 0) return;
      if (part) this.parts.push(part.slice(0, room));
      if (part.length > room) this.emit(true);
    });
  }

  private end(): void {
    if (this.length <= MAX_LINE) this.emit(false);
    this.length = 0;
  }

  private emit(isCut: boolean): void {
    const line = this.parts.join("");
    this.parts = [];
    this.onLine(line, isCut);
  }
}
