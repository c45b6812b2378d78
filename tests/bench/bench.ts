/**
 * `deno task bench`: how the builders compare with the usual alternatives, and with the limits
 * of the machine.
 *
 * Everything runs in one session, all contenders in turn, and only ratios of adjacent runs count: on a shared machine,
 * absolute times say nothing.
 *
 * @module
 */

import type { ParseArgsConfig } from "node:util";
import { readFlags } from "../../lib/cli/flags.ts";
import { BuildError } from "../../lib/core/error.ts";
import * as log from "../../lib/core/log.ts";
import { GiB, MiB } from "../../lib/core/units.ts";
import { isInstalled } from "../../lib/system/programs.ts";
import { choose, print, runTask } from "../../tasks/task.ts";
import { renderChart } from "./chart.ts";
import { type Contender, CONTENDERS, contendersOf, type Layout, REFERENCE, type Work } from "./contenders.ts";
import { type Input, type InputName, INPUTS } from "./inputs.ts";
import { inspectMachine, inspectVersions } from "./machine.ts";
import { dropCaches, measure, type Sample, timeToFirstLine, touchMemory, writeOut } from "./measure.ts";
import { type Race, renderRace, renderTargets, type Results } from "./results.ts";
import { printSteps } from "./steps.ts";
import { builderCommand, runBuilder } from "../lab/builds.ts";
import { useErofs } from "../lab/erofs.ts";
import { quiet, tempDir } from "../lab/helpers.ts";
import { onFilesystem, onOverlay } from "../lab/loop_filesystem.ts";

const OPTIONS = {
  quick: { type: "boolean", default: false },
  steps: { type: "boolean", default: false },
  input: { type: "string", multiple: true },
  tree: { type: "string" },
  compare: { type: "string" },
  only: { type: "string", multiple: true },
  rounds: { type: "string" },
  json: { type: "string" },
  chart: { type: "string" },
  help: { type: "boolean", short: "h", default: false },
} as const satisfies ParseArgsConfig["options"];

const HELP = `Compare the builders with what else makes images, and with the limits of the machine

Usage: deno task bench [--quick] [--input NAME]... [--only TEXT]... [--rounds N] [--json FILE] [--chart FILE]
       deno task bench --compare REV [--input NAME]... [--tree DIR] [--rounds N]
       deno task bench --steps [--input NAME]

  --quick         the Debian tree only, few rounds, nobody who takes long
  --input NAME    only this input: ${Object.keys(INPUTS).join(", ")}
                  (overlay and files-1000000 are measured only when they are named)
  --tree DIR      only this tree of your own
  --compare REV   the builders against those of another commit, and ${REFERENCE}, in turn
  --only TEXT     only contenders whose name has this text, and ${REFERENCE}
  --rounds N      so many rounds instead of those of the plan
  --json FILE     write what was found, all samples, as JSON
  --chart FILE    write a chart of the Debian tree as SVG
  --steps         run disk-image once per format and show when which step ran
  --help          show this text

The trees are made once and kept (RAPTOR_BUILDERS_TREES, or raptor-builders-trees in TMPDIR or /var/tmp).
As root all contenders can take part, and there are rounds with a cold cache.
`;

type Contenders = Readonly<Record<string, Contender>>;

interface Heat {
  readonly input: InputName | "own";
  readonly rounds: number;
  readonly cache?: "cold";
  /** Names of contenders, or parts of names. */
  readonly who?: readonly string[];
  /** Takes so long, or is so much like another one, that somebody must ask for it by its name. */
  readonly onRequest?: true;
}

const FILL = ["part-image ext4", "our ext4", REFERENCE] as const;
const DISK = ["disk-image raw", "disk-image qcow2"] as const;
const TAR = ["part-image tar", "tar --create"] as const;
const FAST = [...DISK, ...FILL, ...TAR, "loop", "read", "write"] as const;

/** What runs without further flags. */
const FULL: readonly Heat[] = [
  { input: "debian", rounds: 9 },
  { input: "debian", rounds: 5, cache: "cold", who: ["disk-image raw", ...FILL, ...TAR] },
  { input: "overlay", rounds: 5, who: ["disk-image raw", "part-image ext4", REFERENCE], onRequest: true },
  { input: "large", rounds: 3, who: FAST },
  { input: "tiny", rounds: 3, who: FAST },
  // mke2fs takes minutes.
  { input: "directory", rounds: 1, who: ["disk-image raw", ...FILL] },
  // Reading would read the holes.
  { input: "sparse", rounds: 3, who: [...DISK, ...FILL] },
  { input: "shared", rounds: 3, who: ["disk-image raw", "part-image ext4", REFERENCE] },
  { input: "files-300", rounds: 5, who: ["disk-image raw", ...FILL] },
  { input: "files-1000", rounds: 5, who: FILL },
  { input: "files-10000", rounds: 5, who: FILL },
  { input: "files-100000", rounds: 3, who: FILL },
  { input: "files-1000000", rounds: 3, who: ["part-image ext4"], onRequest: true },
];

/** With `--compare`: ours, and those of the other commit. */
const COMPARED = ["disk-image raw", "part-image ext4", ...TAR, REFERENCE] as const;

const QUICK: readonly Heat[] = [{ input: "debian", rounds: 3 }];

/** Contenders that take longer than this in a quick look are run once. */
const QUICK_ENOUGH_SECONDS = 5;

async function main(): Promise<void> {
  const { values } = readFlags({ args: Deno.args, options: OPTIONS });
  if (values.help) return await print(HELP);
  const inputs = (values.input ?? []).map((name) =>
    choose("input", name, Object.keys(INPUTS) as InputName[])
  );
  if (values.steps) {
    const input: Input = INPUTS[inputs[0] ?? "debian"];
    return await inPlace(input, (tree) => printSteps(tree));
  }
  const rounds = values.rounds === undefined ? undefined : Number(values.rounds);
  if (rounds !== undefined && !(rounds >= 1 && Number.isInteger(rounds))) {
    throw new BuildError(`Cannot use --rounds=${values.rounds}`, {
      kind: "usage",
      hint: "Accepted: 1, 2, 3 …",
    });
  }
  await using other = values.compare === undefined ? undefined : await checkOut(values.compare);
  const contenders = { ...CONTENDERS, ...other?.contenders };
  const own: Heat[] = values.tree === undefined ? [] : [{ input: "own", rounds: 5, who: FAST }];
  const compared: Heat[] = (inputs.length ? inputs : ["debian" as const]).map((input) => ({
    input,
    rounds: 9,
  }));
  const plan = (own.length ? own : other ? compared : values.quick ? QUICK : FULL)
    .filter(({ input, onRequest }) =>
      inputs.length === 0 ? !onRequest : inputs.some((name) => name === input)
    )
    .map((heat) => ({ ...heat, rounds: rounds ?? heat.rounds, ...other && { who: COMPARED } }));

  if (isInstalled("mkfs.erofs")) await useErofs();
  const { present, absent } = presentContenders(contenders, values.quick);
  const races: Race[] = [];
  for (const heat of plan) {
    const names = present.filter((name) =>
      (heat.who ?? [""]).some((part) => name.includes(part)) &&
      (values.only === undefined || name === REFERENCE || values.only.some((part) => name.includes(part)))
    );
    log.step(`Making ready the input ${heat.input}`);
    const input: Input = heat.input === "own" ? ownInput(values.tree!) : INPUTS[heat.input];
    const race = await inPlace(
      input,
      (tree, place) => run({ ...heat, summary: input.summary, tree, place }, contenders, names, values.quick),
    );
    if (!race) continue;
    races.push(race);
    await print([...renderRace(race), "", ""].join("\n"));
  }
  const command = [...await builderCommand("disk-image"), "--input=/nowhere"];
  const start: number[] = [];
  for (let i = 0; i < 5; i++) start.push(await timeToFirstLine(command));
  const results: Results = {
    machine: await inspectMachine(),
    versions: await inspectVersions(),
    absent,
    races,
    start,
  };
  await print([...renderTargets(results), ""].join("\n"));
  for (const [name, reason] of Object.entries(absent)) log.warn(`${name} did not take part: ${reason}`);
  if (values.json) await Deno.writeTextFile(values.json, JSON.stringify(results, null, 1) + "\n");
  if (values.chart) await Deno.writeTextFile(values.chart, renderChart(results));
}

/** Contenders that can take part here, and the reasons why others cannot. */
function presentContenders(
  contenders: Contenders,
  quick: boolean,
): { present: string[]; absent: Record<string, string> } {
  const absent: Record<string, string> = {};
  const present = Object.entries(contenders).flatMap(([name, contender]) => {
    const reason = quick && contender.slow ? "takes too long for a quick look" : contender.absent?.();
    if (reason === undefined) return [name];
    absent[name] = reason;
    return [];
  });
  return { present, absent };
}

function ownInput(tree: string): Input {
  return { summary: tree, make: () => Deno.realPath(tree) };
}

/** Room for the largest tree on a filesystem of its own, and an image of it, in bytes. */
const PLACE = 16 * GiB;

/** Gives `fn` the tree, and a directory for what is made of it; warns if there can be none here. */
async function inPlace<T>(
  { summary, on, overlay, make }: Input,
  fn: (tree: string, place: string) => Promise<T>,
): Promise<T | undefined> {
  if (on === undefined && !overlay) {
    const place = Deno.env.get("TMPDIR") ?? "/var/tmp";
    return await fn(await make(place), place);
  }
  let exists = false;
  const start = (tree: string, place: string) => {
    exists = true;
    return fn(tree, place);
  };
  try {
    return await tempDir(async (directory) => {
      if (on) return await onFilesystem(on, directory, async (at) => start(await make(at), at), PLACE);
      await Deno.mkdir(`${directory}/layer`);
      const layers = [`${directory}/layer`, await make(directory)];
      return await onOverlay(layers, (tree) => start(tree, directory));
    });
  } catch (error) {
    if (exists) throw error;
    log.warn(`Cannot measure ${summary}: ${(error as Error).message}`);
  }
}

interface Course extends Heat {
  readonly summary: string;
  readonly tree: string;
  /** A directory for what is made of it. */
  readonly place: string;
}

/** Runs all contenders in turn, round after round, each round in a different order. */
async function run(
  { input, summary, rounds, cache, tree, place }: Course,
  contenders: Contenders,
  names: readonly string[],
  quick: boolean,
): Promise<Race | undefined> {
  const directory = await Deno.makeTempDir({ dir: place, prefix: "raptor-bench-" });
  const failed = new Set<string>();
  const samples: Record<string, Sample[]> = Object.fromEntries(names.map((name) => [name, []]));
  try {
    const layout = await inspectLayout(tree, directory);
    // From the first round on, everything is in memory, if it fits.
    if (!cache) {
      await measure(await CONTENDERS["read all files"]!.command({ ...NO_WORK, tree, layout }), directory);
    }
    for (let round = 0; round < rounds; round++) {
      for (let i = 0; i < names.length; i++) {
        const name = names[(i + round) % names.length]!;
        const contender = contenders[name]!;
        const done = samples[name]!;
        const slow = quick && done.some(({ wall }) => wall > QUICK_ENOUGH_SECONDS);
        if (slow || failed.has(name) || round >= (contender.rounds ?? Infinity)) continue;
        log.detail(`${input}: round ${round + 1} of ${rounds}, ${name}`);
        const work: Work = { tree, image: `${directory}/image`, directory: `${directory}/work`, layout };
        await Deno.mkdir(work.directory);
        const command = await contender.command(work);
        await writeOut();
        await touchMemory(layout.contents + TOUCHED);
        if (cache === "cold") await chill();
        try {
          done.push(await measure(command, directory));
        } catch (error) {
          // If another program fails, ours are still measured.
          if (contender.ours || name === REFERENCE) throw error;
          failed.add(name);
          log.warn((error as Error).message);
        }
        await Deno.remove(work.directory, { recursive: true });
        await Deno.remove(work.image).catch(() => {});
      }
    }
    for (const name of failed) if (samples[name]!.length === 0) delete samples[name];
    const { entries, contents: bytes } = layout;
    return { input, summary, entries, bytes, cache: cache ?? "warm", samples };
  } catch (error) {
    // Most containers may not drop the kernel's caches, so there is no cold cache.
    if (cache !== "cold" || !(error instanceof Deno.errors.PermissionDenied)) throw error;
    log.warn(`${input}: cannot drop caches, so there are no rounds with a cold one`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Forgets the tree, but not the programs: they are part of the machine. */
async function chill(): Promise<void> {
  await dropCaches();
  await runBuilder("part-image", { args: ["--version"] });
  await new Deno.Command("mke2fs", { args: ["-V"], stdout: "null", stderr: "null" }).output();
}

/** Bytes of memory that a run needs besides the image, at most. */
const TOUCHED = 512 * MiB;

/** Another commit, in a directory of its own. */
async function checkOut(revision: string): Promise<AsyncDisposable & { readonly contenders: Contenders }> {
  const root = new URL("../..", import.meta.url).pathname;
  const directory = await Deno.makeTempDir({ dir: "/var/tmp", prefix: "raptor-bench-" });
  const git = (...args: string[]) => quiet`git -C ${root} ${args}`;
  await git("worktree", "add", "--quiet", "--detach", `${directory}/checkout`, revision);
  return {
    contenders: contendersOf(`${directory}/checkout/`, revision),
    async [Symbol.asyncDispose]() {
      await git("worktree", "remove", "--force", `${directory}/checkout`);
      await Deno.remove(directory);
    },
  };
}

const NO_WORK = { image: "", directory: "" } as const;

/** What our builders plan for a tree: the others get the same sizes. */
async function inspectLayout(tree: string, directory: string): Promise<Layout> {
  const plan = async (builder: string) => {
    const args = ["--input", tree, "--output", `${directory}/none`, "--dry-run", "--json"];
    const { code, stdout, stderr } = await runBuilder(builder, { args });
    if (code !== 0) throw new Error(stderr);
    return JSON.parse(stdout);
  };
  const [disk, part] = await Promise.all([plan("disk-image"), plan("part-image")]);
  const [esp, boot, root] = disk.partitions.map(({ size }: { size: number }) => size);
  const { entries, bytes: contents } = part.partitions[0].filesystem;
  return { esp, boot, root, part: part.size, entries, contents };
}

if (import.meta.main) await runTask(main);
