import assert from "node:assert/strict";
import { glob } from "node:fs/promises";
import { dirname, join, normalize } from "node:path";
import { BUILDERS } from "../../builders/mod.ts";
import config from "../../deno.json" with { type: "json" };
import { FLAGS } from "../../lib/cli/cli.ts";
import { JOB_FLAGS } from "../../lib/cli/suite.ts";
import { flagOf, type SettingName, SETTINGS } from "../../lib/plan/settings.ts";
import { namedTests } from "../proofs.ts";
import { BLOCKS, renderBlocks, renderMarkdown } from "../../tasks/tables.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

/** What the docs write like a setting, but is none: fields of os-release and the unit, variables of others, tables of the code. */
const OTHER_NAMES = [
  // A key of repart.d definitions.
  "UUID",
  ...["ID", "ID_LIKE", "VERSION_ID", "BUILD_ID", "IMAGE_ID", "IMAGE_VERSION", "NAME"],
  ...["GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT", "U_BOOT_PARAMETERS", "DENO_INSTALL_ROOT"],
  ...[
    "SHA256SUMS",
    "MB",
    "SETTINGS",
    "FORMATS",
    "FILESYSTEMS",
    "MAKERS",
    "PACKERS",
    "BOOTLOADERS",
    "ARCHITECTURES",
    "PROGRAMS",
  ],
  ...["FINDINGS", "SELINUXTYPE", "PACKERS"],
  ...["KEYS", "TMPDIR"],
];

/** The docs by their paths. */
const DOCS = new Map(
  await Promise.all(
    (await Array.fromAsync(glob(["*.md", "docs/*.md"], { cwd: ROOT })))
      .map(async (path) => [path, await Deno.readTextFile(ROOT + path)] as const),
  ),
);

Deno.test("the docs name only variables, tasks and files that exist", async () => {
  const known = new Set<string>([...Object.values(SETTINGS).map(({ env }) => env), ...OTHER_NAMES]);
  for (const [doc, text] of DOCS) {
    // What was removed may be named there.
    if (doc === "CHANGELOG.md") continue;
    for (const [, name] of text.matchAll(/`([A-Z][A-Z\d]*(?:_[A-Z\d]+)*)(?:=[^`]*)?`/g)) {
      assert(known.has(name!), `${doc}: ${name} is not a setting`);
    }
    for (const [, task] of text.matchAll(/deno(?:@[\d.]+)? task ([\w:]+)/g)) {
      assert(task! in config.tasks, `${doc}: ${task} is no task`);
    }
    for (const [, path] of text.matchAll(/`((?:lib|builders|tasks|tests|examples)\/[a-z\d./_-]+\.\w+)`/g)) {
      assert((await Deno.stat(ROOT + path)).isFile, `${doc}: ${path}`);
    }
  }
  for (const name of Object.keys(BUILDERS)) assert(DOCS.get("README.md")!.includes(`**\`${name}\`**`), name);
});

Deno.test("the docs call raptor-builders with builders and flags that exist", { permissions: "none" }, () => {
  let count = 0;
  for (const [doc, text] of DOCS) {
    for (const [, line] of text.matchAll(/(?:^|[`&] *)raptor-builders ([^\n`#&|]+)/gm)) {
      const [word = ""] = line!.split(" ");
      const builder: { settings: readonly SettingName[] } | undefined =
        (BUILDERS as Record<string, typeof BUILDERS[keyof typeof BUILDERS]>)[word];
      const flags = builder
        ? [...Object.keys(FLAGS), ...builder.settings.map(flagOf)]
        : Object.keys(JOB_FLAGS);
      for (const [, flag] of line!.matchAll(/--([\w-]+)/g)) {
        assert(flags.includes(flag!), `${doc}: --${flag}`);
      }
      count++;
    }
  }
  assert(count > 3);
});

/** The anchors of a page, as GitHub makes them of its headings. */
function anchorsOf(text: string): Set<string> {
  const prose = text.replaceAll(/^```.*?^```/gms, "");
  return new Set(
    [...prose.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
      heading!.toLowerCase().replaceAll(/[^\p{L}\p{N}\s_-]/gu, "").replaceAll(" ", "-")
    ),
  );
}

Deno.test("the links of the docs lead to files and headings that exist", async () => {
  let count = 0;
  for (const [doc, text] of DOCS) {
    for (const [, link] of text.matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
      const [path = "", anchor] = link!.split("#");
      const target = path === "" ? doc : normalize(join(dirname(doc), path));
      await assert.doesNotReject(Deno.stat(ROOT + target), `${doc}: ${link}`);
      if (anchor) assert(anchorsOf(DOCS.get(target)!).has(anchor), `${doc}: there is no heading for ${link}`);
      count++;
    }
  }
  assert(count > 30);
});

Deno.test("the README is short, and every page of the docs is linked", () => {
  const readme = DOCS.get("README.md")!;
  assert(readme.trimEnd().split("\n").length <= 150, "at most 150 lines");
  const pages = [...DOCS.keys()].filter((path) => path.startsWith("docs/"));
  const all = [...DOCS].filter(([path]) => path !== "CHANGELOG.md");
  for (const page of pages) {
    const name = page.slice("docs/".length);
    assert(
      all.some(([path, text]) => path !== page && text.includes(`${name})`)),
      `nothing links to ${page}`,
    );
  }
});

Deno.test("every page of the docs begins with what a reader can do after it, and with a command", () => {
  for (const [path, text] of DOCS) {
    if (!path.startsWith("docs/")) continue;
    const [title = "", opening = "", ...rest] = text.split("\n\n");
    assert.match(title, /^# .+$/, path);
    // One or two sentences, and then a command, before any heading or table.
    assert.match(opening, /^[A-Za-z`][^|]*[.:]$/, `${path}: ${opening}`);
    const block = rest.find((part) => /^(```|#|\|)/.test(part)) ?? "";
    assert.match(block, /^```(sh|console|ts)\n/, `${path}: ${block}`);
  }
});

Deno.test("renderBlocks() replaces what stands between the marks and nothing else", {
  permissions: "none",
}, () => {
  const marks = Object.keys(BLOCKS).map((name) =>
    `before\n\n<!-- ${name} -->\nto be replaced\n<!-- /${name} -->\nafter\n`
  );
  const once = renderBlocks(marks.join(""));
  assert(!once.includes("to be replaced"));
  assert.equal(once.match(/^before$/gm)!.length, marks.length);
  assert.equal(renderBlocks(once), once);
  assert.equal(renderBlocks("no marks"), "no marks");
  assert.throws(() => renderBlocks("<!-- settings -->\n"), /closing comment of settings/);
});

Deno.test("renderMarkdown() makes tables as deno fmt wants them", { permissions: "none" }, () => {
  assert.equal(
    renderMarkdown([["A", "Long head"], ["a|b", "x"]]),
    ["| A    | Long head |", "| ---- | --------- |", "| a\\|b | x         |"].join("\n"),
  );
});

/** The names of all tests, as patterns where they are made of something. */
async function testNames(): Promise<RegExp[]> {
  const names: RegExp[] = [];
  const tests = new URL("..", import.meta.url).pathname;
  for await (const path of glob("**/*_test.ts", { cwd: tests })) {
    const text = await Deno.readTextFile(`${tests}${path}`);
    for (const [, , found] of text.matchAll(/\bDeno\.test\(\s*(["`])(.+?)\1,/g)) {
      const parts = found!.split(/\$\{[^}]*\}/).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
      names.push(new RegExp(`^${parts.join(".+")}$`));
    }
  }
  return names;
}

Deno.test("the docs prove what works by tests that exist", async () => {
  const [names, named] = await Promise.all([testNames(), namedTests()]);
  assert(named.length > 20);
  for (const { file, test } of named) {
    assert.ok(names.some((name) => name.test(test)), `${file}: there is no test ${test}`);
  }
});
