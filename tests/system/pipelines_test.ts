import assert from "node:assert/strict";
import { BUILDERS } from "../../builders/mod.ts";
import { parseProject } from "../../lib/cli/raptor.ts";
import { builderImage, IMAGE, importTree, podman, stubPodman } from "../lab/containers.ts";
import { missing, quiet, tempDir, unprivileged } from "../lab/helpers.ts";
import { tinyTree } from "../lab/trees.ts";

const EXAMPLES = new URL("../../examples/", import.meta.url).pathname;
const ignore = missing("podman", "runc", "mmdebstrap", "git", "zstd") || unprivileged();

const example = (name: string) => Deno.readTextFile(EXAMPLES + name);

/** Runs a program with the tests' podman before all others on its `PATH`. */
async function run(dir: string, program: string, args: readonly string[], env: Record<string, string> = {}) {
  await stubPodman(dir);
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args: [...args],
    cwd: dir,
    env: { PATH: `${dir}:${Deno.env.get("PATH")}`, ...env },
    stdin: "null",
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code, out: out!, err: err! };
}

async function formatOf(image: string): Promise<string> {
  return JSON.parse(await quiet`qemu-img info --output=json ${image}`).format;
}

/** A program or script from npm that the project itself does not depend on. */
const fromNpm = (specifier: string, ...args: string[]) => [
  ...["run", "--allow-all", "--no-lock", "--no-config", "--quiet"],
  ...[specifier, ...args],
];

Deno.test("examples/github-actions.yml is valid", async () => {
  await tempDir(async (dir) => {
    const script = `import { validateWorkflow } from "npm:@action-validator/core@0.6.0";
      console.log(JSON.stringify(validateWorkflow(await new Response(Deno.stdin.readable).text())));`;
    await Deno.writeTextFile(`${dir}/validate.ts`, script);
    const validate = async (text: string) => {
      const child = new Deno.Command(Deno.execPath(), {
        args: fromNpm(`${dir}/validate.ts`),
        stdin: "piped",
        stdout: "piped",
      }).spawn();
      await new Blob([text]).stream().pipeTo(child.stdin);
      return JSON.parse(new TextDecoder().decode((await child.output()).stdout)).errors;
    };
    const text = await example("github-actions.yml");
    assert.deepEqual(await validate(text), []);
    assert.notDeepEqual(await validate(text.replace("runs-on", "runs_on")), []);
  });
});

Deno.test("examples/github-actions.yml builds what its matrix says", { ignore }, async (t) => {
  const text = await example("github-actions.yml");
  const script = /name: Build the image\n +run: \|\n((?: {10}.*\n)+)/.exec(text)![1]!.replaceAll(
    /^ {10}/gm,
    "",
  );
  const rows = [...text.matchAll(/^ +- \{ (.*) \}$/gm)].map(([, row]) =>
    new Map(row!.split(", ").map((pair) => pair.split(": ") as [string, string]))
  );
  assert.equal(rows.length, 2);
  await builderImage();
  await importTree(await tinyTree(), "localhost/os");
  for (const matrix of rows) {
    await t.step(matrix.get("file")!, async () => {
      await tempDir(async (dir) => {
        const command = script.replaceAll(/\$\{\{ matrix\.(\w+) \}\}/g, (_, name) => matrix.get(name)!);
        const { code, err } = await run(dir, "bash", ["-euo", "pipefail", "-c", command], {
          BUILDERS: IMAGE,
        });
        assert.equal(code, 0, err);
        assert.equal(await formatOf(`${dir}/output/${matrix.get("file")}`), matrix.get("format"));
        // Every line is JSON, and the last one sums up.
        const lines = err.trimEnd().split("\n").map((line) => JSON.parse(line));
        assert.ok(lines.length > 3);
      });
    });
  }
});

Deno.test("examples/gitlab-ci.yml is valid and builds its formats", { ignore }, async (t) => {
  await tempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/.gitlab-ci.yml`, await example("gitlab-ci.yml"));
    const git = (...args: string[]) =>
      run(dir, "git", ["-c", "user.name=x", "-c", "user.email=x@x", ...args]);
    await git("init", "--quiet", "--initial-branch=main");
    await git("remote", "add", "origin", "git@example.com:group/project.git");
    await git("add", ".gitlab-ci.yml");
    await git("commit", "--quiet", "--message=x");
    const local = (...args: string[]) =>
      run(dir, Deno.execPath(), fromNpm("npm:gitlab-ci-local@4.75.1", "--no-color", ...args));
    await t.step("a schema check with all jobs of the matrix", async () => {
      const { code, out, err } = await local("--list-json");
      assert.equal(code, 0, out + err);
      assert.deepEqual(JSON.parse(out).map((job: { name: string }) => job.name), [
        "build-tree",
        ...["raw", "qcow2", "vmdk"].map((format) => `build-images: [${format}]`),
      ]);
    });
    await t.step("one of its jobs", async () => {
      const text = (await example("gitlab-ci.yml")).split("build-images:")[1]!;
      const script = /script:\n((?: {4}.*\n)+)/.exec(text)![1]!.replaceAll(/^ {4}#.*\n/gm, "")
        // A list of commands, of which a long one goes on in the next lines.
        .replaceAll(/\n {6}/g, " ").replaceAll(/^ {4}- /gm, "");
      await builderImage();
      const archive = `${dir}/rootfs.tar.zst`;
      await quiet`tar --create --zstd --file=${archive} --directory=${await tinyTree()} --numeric-owner .`;
      const env = { BUILDERS: IMAGE, OUTPUT_FORMAT: "qcow2" };
      const { code, out, err } = await run(dir, "bash", ["-euo", "pipefail", "-c", script], env);
      assert.equal(code, 0, out + err);
      assert.equal(await formatOf(`${dir}/output/disk.qcow2`), "qcow2");
    });
  });
});

/** The pod that the Job controller makes for one index, for a podman that knows no Job yet. */
function podOf(text: string, index: number): string {
  const [configMap = "", job = ""] = text.split("\n---\n");
  const template = /^ {4}spec:\n((?: {6}.*\n)+)/m.exec(job)![0].replaceAll(/^ {4}/gm, "");
  const pod = `apiVersion: v1\nkind: Pod\nmetadata:\n  name: images-${index}\n${template}`;
  // Such a podman makes an emptyDir a volume of the same name, which would be that of the other pods.
  const own = pod.replaceAll("$(JOB_COMPLETION_INDEX)", String(index)).replaceAll(
    /\bscratch\b/g,
    `scratch-${index}`,
  );
  return `${configMap}\n---\n${own}`;
}

Deno.test("examples/kubernetes.yaml builds every job of its Raptor.toml in a pod of its own", {
  ignore,
}, async () => {
  const text = await example("kubernetes.yaml");
  const toml = /Raptor\.toml: \|\n((?:(?: {4}.*)?\n)+)/.exec(text)![1]!.replaceAll(/^ {4}/gm, "");
  const { jobs } = parseProject(toml, "Raptor.toml", Object.keys(BUILDERS));
  assert.equal(Number(/completions: (\d+)/.exec(text)![1]), jobs.length);

  await builderImage();
  await tempDir(async (dir) => {
    const volumes = { trees: crypto.randomUUID(), images: crypto.randomUUID() };
    const must = async (...args: string[]) => {
      const { code, out, err } = await podman(args);
      assert.equal(code, 0, `podman ${args.join(" ")}: ${out}${err}`);
      return out.trim();
    };
    const mine = text.replaceAll("registry.example.com/raptor-builders:latest", `${IMAGE}:latest`)
      .replaceAll(
        /claimName: (trees|images)/g,
        (_, name: keyof typeof volumes) => `claimName: ${volumes[name]}`,
      );
    const pods = jobs.map((_, index) => `${dir}/${index}.yaml`);
    try {
      for (const volume of Object.values(volumes)) await must("volume", "create", volume);
      const place = (volume: string) => must("volume", "inspect", "--format={{.Mountpoint}}", volume);
      await quiet`cp --archive ${await tinyTree()} ${await place(volumes.trees)}/debian`;
      for (const [index, file] of pods.entries()) await Deno.writeTextFile(file, podOf(mine, index));
      // All at once, as the cluster would.
      await Promise.all(pods.map((file) => must("kube", "play", "--network=none", file)));
      for (const [index, job] of jobs.entries()) {
        const container = `images-${index}-builder`;
        const code = await must("wait", container);
        assert.equal(code, "0", (await podman(["logs", container])).err);
        const image = `${await place(volumes.images)}/${job.output.split("/").at(-1)}`;
        assert.equal(await formatOf(image), job.env.OUTPUT_FORMAT ?? "raw");
      }
    } finally {
      for (const file of pods) await podman(["kube", "down", file]);
      for (const volume of Object.values(volumes)) await podman(["volume", "rm", "--force", volume]);
    }
  });
});
