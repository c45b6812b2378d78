import assert from "node:assert/strict";
import { renderChart } from "./chart.ts";
import { INPUTS } from "./inputs.ts";
import { measure, median } from "./measure.ts";
import { type Race, ratio, renderRace, renderTargets, type Results, TARGETS } from "./results.ts";
import { renderSteps } from "./steps.ts";
import { missing, tempDir } from "../lab/helpers.ts";
import { RESULTS } from "../../tasks/tables.ts";

const sample = (wall: number) => ({ wall, cpu: wall, peak: 100 });

function race(samples: Record<string, number[]>): Race {
  return {
    ...{ input: "debian", summary: "a tree", entries: 1000, bytes: 5e6, cache: "warm" },
    samples: Object.fromEntries(Object.entries(samples).map(([name, walls]) => [name, walls.map(sample)])),
  };
}

function results(samples: Record<string, number[]>): Results {
  return { machine: { cores: 2 }, versions: {}, absent: {}, races: [race(samples)], start: [0.1] };
}

Deno.test("renderChart() draws a bar for each contender, as an image that stands alone", {
  permissions: "none",
}, () => {
  const chart = renderChart(results({ "disk-image raw": [2, 2], "mke2fs -d": [4, 4] }));
  assert.match(chart, /^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
  for (const name of ["disk-image raw", "mke2fs -d"]) assert.ok(chart.includes(name), name);
  assert.match(chart, /0\.50/);
});

Deno.test("The chart in the README is made from the results that its table is made from", async () => {
  const chart = await Deno.readTextFile(new URL("./bench.svg", import.meta.url));
  assert.equal(
    chart,
    renderChart(RESULTS),
    "deno task bench --json tests/bench/bench.json --chart tests/bench/bench.svg",
  );
});

Deno.test(
  "The results in the README are of all inputs and targets but those on request, and what it says of speed is true",
  {
    permissions: "none",
  },
  () => {
    const inputs = new Set(RESULTS.races.map(({ input }) => input));
    assert.deepEqual([...inputs, "files-1000000", "overlay"].sort(), Object.keys(INPUTS).sort());
    const measured = TARGETS.filter(({ input }) => inputs.has(input));
    // The others are the start and memory.
    assert.equal(renderTargets(RESULTS).length, 1 + measured.length + 2, "each target was measured");
    const debian = RESULTS.races.find(({ input, cache }) => input === "debian" && cache === "warm")!;
    assert(ratio(debian, "disk-image raw")! < 1);
  },
);

Deno.test("ratio() compares neighbours in time, not averages", { permissions: "none" }, () => {
  // The machine became ten times slower after the first round; who took part in one round only is compared in it.
  const found = race({ "ours": [1, 10, 10], "mke2fs -d": [2, 20, 20], "slow": [8] });
  assert.equal(ratio(found, "ours"), 0.5);
  assert.equal(ratio(found, "slow", "ours"), 8);
  assert.equal(ratio(found, "nobody"), undefined);
  assert.deepEqual(renderRace(found)[2]!.split(/ {2,}/), [
    "ours",
    "3",
    "10.00",
    "1.00 to 10.00",
    "10.00",
    "0.50",
    "0.50 to 0.50",
    "100",
  ]);
});

Deno.test("renderTargets() says which promise is kept", { permissions: "none" }, () => {
  const lines = renderTargets(results({
    "disk-image raw": [1.5],
    "disk-image qcow2": [3],
    "mke2fs -d": [2],
    "systemd-repart": [12],
  }));
  const row = (name: string) => lines.find((line) => line.startsWith(name))!;
  assert.match(row("raw disk "), /0\.750 +≤ 0\.75 +reached$/);
  assert.match(row("qcow2 to raw "), /2\.000 +≤ 1\.25 +MISSED$/);
  assert.match(row("systemd-repart "), /8\.000 +≥ 8 +reached$/);
  assert.match(row("peak memory"), /100 +≤ 400 +reached$/);
  assert(!lines.some((line) => line.startsWith("virt-make-fs")), "what was not measured is not judged");
  const few = { ...race({ "part-image ext4": [0.1, 0.11, 0.5] }), input: "files-300" };
  const [, seconds] = renderTargets({ ...results({}), races: [few] });
  assert.match(seconds!, /^ext4, 300 files, s +0\.110 +≤ 0\.12 +reached$/);
});

Deno.test("renderTargets() compares what further files take, not what a build takes to start", {
  permissions: "none",
}, () => {
  const scale = (walls: Record<number, number>): Results => ({
    ...results({}),
    races: Object.entries(walls).map(([entries, wall]) => ({
      ...race({ "part-image ext4": [wall] }),
      ...{ input: `files-${entries}`, entries: Number(entries) },
    })),
  });
  const growth = (walls: Record<number, number>) =>
    renderTargets(scale(walls)).find((line) => line.startsWith("time per file"));
  assert.match(
    growth({ 1000: 0.31, 10_000: 0.4, 100_000: 1.3, 1_000_000: 10.3 })!,
    / 1\.00 +≤ 1\.25 +reached$/,
  );
  assert.match(
    growth({ 1000: 0.31, 10_000: 0.4, 100_000: 1.3, 1_000_000: 19.3 })!,
    / 2\.00 +≤ 1\.25 +MISSED$/,
  );
  assert.equal(growth({ 1000: 0.31, 1_000_000: 10.3 }), undefined);
});

Deno.test("renderSteps() shows steps side by side in time", { permissions: "none" }, () => {
  const lines = renderSteps([
    { step: "root", event: "end", start: 1, end: 2, bytes: 5e6 },
    { step: "read", event: "end", start: 0, end: 1 },
  ]);
  assert.match(lines[1]!, /^read +0\.000 +1\.000 +1\.000 +#{20}$/);
  assert.match(lines[2]!, /^root +1\.000 +2\.000 +1\.000 +5\.0 +5 +#{20}$/);
});

Deno.test(
  "measure() counts what a program and its children take",
  { ignore: missing("/usr/bin/time") },
  () =>
    tempDir(async (dir) => {
      // A child of the child holds 64 MiB, and counts for a while.
      const script =
        "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; head -c 64M /dev/zero | tail -c 64M >/dev/null; sleep 0.2";
      const { wall, cpu, peak } = await measure(["sh", "-c", script], dir);
      assert(wall >= 0.2 + cpu / 4, `${wall} s`);
      assert(cpu > 0.05, `${cpu} s`);
      assert(peak >= 64 && peak < 200, `${peak} MiB`);
      await assert.rejects(measure(["sh", "-c", "echo why >&2; exit 3"], dir), /failed:\n(.*\n)*why/);
    }),
);

Deno.test("median() is the middle, or between the two in the middle", { permissions: "none" }, () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 3, 2]), 2.5);
});
