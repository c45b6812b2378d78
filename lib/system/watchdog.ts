/**
 * Notices programs that make no progress: that wait for something that never comes, or run in circles.
 *
 * @module
 */

import { readProc } from "./proc.ts";

/** How long a program may go without progress, in seconds. */
export interface Patience {
  /** Neither reading, writing nor computing. */
  readonly idle: number;
  /** Computing, but neither reading nor writing. */
  readonly busy: number;
}

/** What a program has done so far. Both only ever grow. */
export interface Activity {
  /** Bytes read and written, through pipes, too. */
  readonly bytes: number;
  /** Processor time, in any unit. */
  readonly cpu: number;
}

/**
 * Judges a program by samples of its activity. Processor time counts only for so long, since an endless loop takes it,
 * too.
 *
 * @returns a function that takes the time in seconds and a sample, and says what the program has done for too long:
 * `undefined` while all is well.
 */
export function newJudge({ idle, busy }: Patience): (now: number, activity: Activity) => string | undefined {
  let last: Activity = { bytes: -1, cpu: -1 };
  let moved = 0, computed = 0;
  return (now, activity) => {
    if (activity.bytes !== last.bytes) moved = computed = now;
    else if (activity.cpu !== last.cpu) computed = now;
    last = activity;
    if (now - computed >= idle) return `did nothing for ${duration(idle)}`;
    if (now - moved >= busy) return `neither read nor wrote anything for ${duration(busy)}`;
    return undefined;
  };
}

function duration(seconds: number): string {
  return seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

/** Time between samples, in milliseconds; less where patience is shorter. */
const SAMPLE_MS = 5000;

/**
 * Calls `onStuck` once when the process has made no progress for too long, until the returned function is called.
 * Where the kernel does not show its activity, it is never called.
 */
export function watchProgress(pid: number, patience: Patience, onStuck: (what: string) => void): () => void {
  const judge = newJudge(patience);
  const timer = setInterval(() => {
    const activity = activityOf(pid);
    const what = activity && judge(performance.now() / 1000, activity);
    if (what === undefined) return;
    clearInterval(timer);
    onStuck(what);
  }, Math.min(SAMPLE_MS, patience.idle * 250));
  return () => clearInterval(timer);
}

/** `/proc/PID/io` (proc_pid_io(5)) and `/proc/PID/stat` (proc_pid_stat(5)) of a process. */
function activityOf(pid: number): Activity | undefined {
  const io = readProc(`/proc/${pid}/io`), stat = readProc(`/proc/${pid}/stat`);
  if (io === undefined || stat === undefined) return undefined;
  const sum = (values: Iterable<string | undefined>) =>
    [...values].reduce((sum, each) => sum + Number(each), 0);
  // The name of the program, in parentheses, may have blanks in it. Then come state (field 3) … utime and stime (14, 15).
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return {
    bytes: sum([...io.matchAll(/^[rw]char: (\d+)$/gm)].map(([, value]) => value)),
    cpu: sum(fields.slice(11, 13)),
  };
}
