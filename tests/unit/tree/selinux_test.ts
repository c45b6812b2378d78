import assert from "node:assert/strict";
import { openLabels } from "../../../lib/system/selinux.ts";
import { parseFileContexts, shapeOf, substitute } from "../../../lib/tree/file-contexts.ts";
import { inspectTree } from "../../../lib/tree/inspect.ts";
import { closeRoot } from "../../../lib/tree/root.ts";
import { openPolicy } from "../../../lib/tree/selinux.ts";
import { tempDir } from "../../lab/helpers.ts";
import { FEDORA, FEDORA_LABELS } from "../../lab/selinux.ts";

const encoder = new TextEncoder();

/** The look-up of a path, as its directory and its name. */
function labelOf(policy: ReturnType<typeof openPolicy>, path: string, mode: number): string | undefined {
  const at = path.lastIndexOf("/") + 1;
  return policy(path.slice(0, at))(path.slice(at), mode);
}

Deno.test.each([
  { expression: "/etc/passwd", prefix: "/etc/passwd", matches: "itself" },
  { expression: "/etc/\\.pwd\\.lock", prefix: "/etc/.pwd.lock", matches: "itself" },
  { expression: "/etc(/.*)?", prefix: "/etc", matches: "subtree" },
  { expression: "/lost\\+found/.*", prefix: "/lost+found/", matches: "all" },
  { expression: "/dev/sd[^/]*", prefix: "/dev/sd", matches: "names" },
  { expression: "/[^/]+", prefix: "/", matches: "names" },
  { expression: "/dev/sd[^/]+", prefix: "/dev/sd" },
  {
    expression: "/usr/(.*/)?bin",
    prefix: "/usr/",
    anywhere: "bin",
    name: "/bin/",
    matches: "itself",
    contains: ["bin"],
  },
  {
    expression: "/usr/(.*/)?bin(/.*)?",
    prefix: "/usr/",
    anywhere: "bin",
    name: "/bin/",
    matches: "subtree",
    contains: ["bin"],
  },
  { expression: "/usr/(.*/)?man/.*", prefix: "/usr/", anywhere: "man/", matches: "all", contains: ["man"] },
  { expression: "/usr/(.*/)?a/b", prefix: "/usr/", anywhere: "a/b", matches: "itself", contains: ["a", "b"] },
  { expression: "/usr/x(.*/)?bin", prefix: "/usr/x", contains: ["bin"] },
  { expression: "/usr/bin/z?sh", prefix: "/usr/bin/", contains: ["sh"] },
  { expression: "/usr/bin/z*", prefix: "/usr/bin/" },
  { expression: "/usr/bin/z+", prefix: "/usr/bin/z" },
  { expression: "/var/a{0,2}b", prefix: "/var/", contains: ["b"] },
  { expression: "/var/a\\.?b", prefix: "/var/a", contains: ["b"] },
  { expression: "/dev/[sh]d", prefix: "/dev/", contains: ["d"] },
  { expression: "/dev/[]|]d", prefix: "/dev/", contains: ["d"] },
  { expression: "/a/\\d+x", prefix: "/a/", contains: ["x"] },
  { expression: "/a(b|c)", prefix: "/a" },
  { expression: "/a((b|c)d)?e", prefix: "/a", contains: ["e"] },
  { expression: "/a.*/bc/d.*e?", prefix: "/a", contains: ["bc", "d"] },
  { expression: "/a|/b", prefix: "" },
  { expression: "/a(b)|/c", prefix: "" },
  { expression: "/a[(]b|/c", prefix: "" },
  { expression: "/ab{*|/c", prefix: "" },
  { expression: "/a{,2}b", prefix: "/", contains: ["b"] },
  { expression: "/a\\x{41}b", prefix: "" },
  { expression: "/a\\012", prefix: "" },
  { expression: "/a[b", prefix: "" },
  { expression: "/a\\", prefix: "" },
  { expression: "/a(?i)b", prefix: "" },
  { expression: "^/a", prefix: "", contains: ["a"] },
  { expression: ".*", prefix: "", matches: "all" },
])("shapeOf() of $expression is what all matches have in common", ({ expression, ...shape }) => {
  assert.deepEqual(shapeOf(expression), { matches: "unknown", contains: [], ...shape });
});

Deno.test("substitute() gives the path that libselinux looks up", () => {
  const contexts = parseFileContexts(
    new Map([
      [".subs", encoder.encode("/opt/site /srv/www\n/lonely\n /x / \n")],
      [".subs_dist", encoder.encode("# the old names\n/srv /usr\n/srv/www /var/log\n")],
    ]),
  );
  for (
    const [path, target] of [
      ["/opt/site", "/var/log"],
      ["/opt/site/a", "/var/log/a"],
      ["/opt/sites", "/opt/sites"],
      ["/srv/w", "/usr/w"],
      ["/lonely/a", "/lonely/a"],
      ["/x", "/"],
      ["/x/a", "/a"],
    ] as const
  ) {
    assert.equal(substitute(contexts, path), target, path);
  }
});

Deno.test("openPolicy() gives what a later file says about a path, whatever the version of libselinux", () => {
  const policy = openPolicy(
    new Map([
      ["", encoder.encode("/a\tu:r:one:s0\n/b\t-d\tu:r:one:s0\n/c\tu:r:one:s0\n/d\t--\tu:r:one:s0\n")],
      [".homedirs", encoder.encode("/b\tu:r:two:s0\n")],
      [".local", encoder.encode("/a\tu:r:three:s0\n/c\t-d\tu:r:three:s0\n/d\t-d\tu:r:three:s0\n")],
    ]),
    "x",
  );
  const types = ["/a", "/b", "/c", "/d"].map((path) =>
    [0o40755, 0o100644].map((mode) => labelOf(policy, path, mode)?.split(":")[2])
  );
  assert.deepEqual(types, [["three", "three"], ["two", "two"], ["three", "one"], ["three", "one"]]);
});

Deno.test("openPolicy() gives the labels of the policy, whatever is asked for first", () => {
  // Each order begins with other directories.
  for (const paths of [FEDORA_LABELS, FEDORA_LABELS.toReversed()]) {
    const policy = openPolicy(FEDORA, "targeted");
    for (const [path, mode, type] of paths) {
      assert.equal(labelOf(policy, path, mode)?.split(":")[2], type, `${path} ${mode.toString(8)}`);
    }
  }
});

Deno.test("openPolicy() answers as libselinux does with the whole policy", () => {
  const whole = openLabels(FEDORA, "targeted");
  const policy = openPolicy(FEDORA, "targeted");
  const names = [
    "",
    "a",
    "b",
    "aab",
    "sda",
    "bin",
    "man",
    "sh",
    "bash",
    "x.so",
    "x.so.1",
    "shadow",
    "shadow\n",
    "init.d",
  ];
  names.push("log", "lib64", "passwd", "\xc3\xa9", "\xe9", "a\nb", "www");
  const directories = ["/", ...FEDORA_LABELS.map(([path]) => `${path}/`.replace("//", "/"))];
  directories.push(
    "/usr/bin/man/",
    "/usr/a/bin/",
    "/srv/www/bin\n/",
    "/run/a/b/",
    "/run/b/",
    "/home/b/.cache/",
  );
  for (const directory of directories) {
    for (const name of names) {
      if (name === "" && directory !== "/") continue;
      const path = `${directory}${name}`;
      for (const mode of [0o40755, 0o100644, 0o120777]) {
        const said = `${JSON.stringify(path)} ${mode.toString(8)}`;
        assert.equal(policy(directory)(name, mode), whole(path, mode), said);
      }
    }
  }
});

Deno.test("openPolicy() does not take the root for something in it", () => {
  const policy = openPolicy(new Map([["", encoder.encode("/[^/]+\tu:r:a:s0\n")]]), "x");
  assert.equal(policy("/")("a", 0o40755), "u:r:a:s0");
  assert.equal(policy("/")("", 0o40755), undefined);
});

Deno.test("openPolicy() asks libselinux rarely: thousands of files share few answers", () => {
  let questions = 0;
  // Without the alternatives outside of parentheses, which no policy has: they would be asked about everywhere.
  const text = new TextDecoder().decode(FEDORA.get("")).replace(/^.*\|.*\n/gm, "");
  const policy = openPolicy(new Map([["", encoder.encode(text)]]), "targeted", (files, name) => {
    const label = openLabels(files, name);
    return (path, mode) => {
      questions++;
      return label(path, mode);
    };
  });
  for (let i = 0; i < 5000; i++) labelOf(policy, `/usr/share/doc/package-${i % 100}/file-${i}`, 0o100644);
  assert.equal(questions, 1);
});

Deno.test("openPolicy() says that an expression is broken, instead of leaving files without a label", () => {
  for (const line of ["/etc/(x", "/etc/x*+*"]) {
    const policy = openPolicy(
      new Map([["", encoder.encode(`/etc(/.*)?\tu:r:a:s0\n${line}\tu:r:b:s0\n`)]]),
      "x",
    );
    assert.throws(() => policy("/etc/")("x", 0o100644), {
      name: "BuildError",
      message: /^Cannot read the labels of the SELinux policy "x": Invalid (regular expression|argument)$/,
    });
  }
});

Deno.test("openLabels() says which policy it cannot read, and what to do", () => {
  assert.throws(
    () => openLabels(new Map([["", encoder.encode("/etc\n")]]), "targeted"),
    /Cannot read the labels of the SELinux policy "targeted": Invalid argument/,
  );
});

Deno.test("inspectTree() finds the policy of the tree, and no compiled file of it has a say", async () => {
  await tempDir(async (dir) => {
    const contexts = `${dir}/etc/selinux/targeted/contexts/files`;
    await Deno.mkdir(contexts, { recursive: true });
    await Deno.writeTextFile(
      `${dir}/etc/selinux/config`,
      "# SELINUXTYPE=no\nSELINUX=Enforcing\nSELINUXTYPE=mls\n SELINUXTYPE=targeted \n",
    );
    for (const [suffix, bytes] of FEDORA) await Deno.writeFile(`${contexts}/file_contexts${suffix}`, bytes);
    // libselinux takes a compiled file for the other one if it is newer, whatever is in it.
    for (const suffix of [".bin", ".homedirs.bin"]) {
      await Deno.writeTextFile(`${contexts}/file_contexts${suffix}`, "/.* system_u:object_r:compiled_t:s0\n");
    }
    const tree = await inspectTree(dir);
    try {
      assert.equal(tree.selinux?.type, "targeted");
      assert.equal(tree.selinux.enforcing, true);
      assert.equal(tree.selinux.labelsIn!("/etc/")("fstab", 0o100644), "system_u:object_r:etc_t:s0");
    } finally {
      closeRoot(tree.root);
    }
  });
});

Deno.test.each([
  { name: "no config", config: undefined, type: undefined },
  { name: "no type", config: "SELINUX=enforcing\n", type: undefined },
  { name: "a type that is a path", config: "SELINUXTYPE=../../x\n", type: undefined },
  { name: "a type without file_contexts", config: "SELINUXTYPE=default\n", type: "default" },
])("inspectTree() finds no labels: $name", async ({ config, type }) => {
  await tempDir(async (dir) => {
    await Deno.mkdir(`${dir}/etc/selinux`, { recursive: true });
    if (config !== undefined) await Deno.writeTextFile(`${dir}/etc/selinux/config`, config);
    const tree = await inspectTree(dir);
    try {
      assert.equal(tree.selinux?.type, type);
      assert.equal(tree.selinux?.labelsIn, undefined);
    } finally {
      closeRoot(tree.root);
    }
  });
});
