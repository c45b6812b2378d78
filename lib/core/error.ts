/**
 * The one class for expected failures. Anything else that is thrown is a bug and keeps its stack.
 *
 * @module
 */

/** `usage`: the request was wrong (exit code 2). `build`: the build failed (exit code 1). */
type ErrorKind = "usage" | "build";

interface BuildErrorOptions {
  readonly kind?: ErrorKind;
  /** What the user can do about it: one sentence, no final period. */
  readonly hint?: string | undefined;
  readonly cause?: unknown;
}

/**
 * A failure that the user can do something about.
 *
 * The message says what could not be done, and with which value
 * (`Cannot fit 812 MiB of files into SIZE_MB=512`); the hint says what to do.
 */
export class BuildError extends Error {
  override readonly name = "BuildError";
  readonly kind: ErrorKind;
  readonly hint: string | undefined;

  constructor(message: string, { kind = "build", hint, cause }: BuildErrorOptions = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.kind = kind;
    this.hint = hint;
  }
}

/** What another thread reports of an error: errors themselves lose their class on the way. */
export interface Reported {
  readonly message: string;
  readonly hint: string | undefined;
  /** Whether it is a {@link BuildError}. */
  readonly isExpected: boolean;
}

/** Makes a report of an error, for {@link thrown}. */
export function reported(error: unknown): Reported {
  const { message, stack } = error as Error;
  const isExpected = error instanceof BuildError;
  const hint = isExpected ? error.hint : undefined;
  return { message: isExpected ? message : stack ?? message, hint, isExpected };
}

/** Makes an error of a report. */
export function thrown({ message, hint, isExpected }: Reported): Error {
  return isExpected ? new BuildError(message, { hint }) : new Error(message);
}

/** Quotes an untrusted value on one line, so that no control characters reach a log or script. */
export function quote(value: string): string {
  return JSON.stringify(value).replace(
    /[\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
