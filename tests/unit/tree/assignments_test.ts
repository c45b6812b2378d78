import assert from "node:assert/strict";
import { readAssignments } from "../../../lib/tree/assignments.ts";
import { missing, quiet } from "../../lab/helpers.ts";

const pure = { permissions: "none" } as const;

/** Scripts whose variables X and Y a shell and we read alike. */
const SCRIPTS = [
  "X=quiet",
  'X="a b"; Y=\'c "d"\'',
  'X=a # comment\n# X=b\nY="$X c"',
  'export X="a"\nX="$X ${Y}b"',
  'X="line\\\nbroken"\nY=un\\ quoted',
  'X="\\$HOME \\`x\\` \\\\ \\a \\""',
  "X='it'\"'\"'s' Y=two",
  "X=a true\nY=b",
  "X=a&&true;Y=b",
  'X=a\nf() { X=b; }\nY="$X"',
  "X=\nY=''",
  "X=a\\\nb",
  'X="$ a$"',
];

for (const script of SCRIPTS) {
  Deno.test(`readAssignments() reads what a shell would: ${JSON.stringify(script)}`, {
    ignore: missing("sh"),
  }, async () => {
    const variables = new Map<string, string>();
    readAssignments(script, variables);
    const shell = await quiet`sh -euc ${`X= Y=\n${script}\nprintf "%s\\n%s" "$X" "$Y"`}`;
    assert.equal(`${variables.get("X") ?? ""}\n${variables.get("Y") ?? ""}`, shell);
  });
}

Deno.test.each([
  ["X=$(reboot)", ["X"]],
  ["X=`reboot` Y=1", ["X"]],
  ['X="a $(echo ")")"', ["X"]],
  ["if [ -e /x ]; then X=b; fi", ["X"]],
  ["[ -e /x ] && X=b", ["X"]],
  ["[ -e /x ] || Y=b; X=c", ["Y"]],
  ["case $a in b) X=b;; esac", ["X"]],
  ["X=$(reboot)\nX=a", []],
])("readAssignments() does not guess what only a shell could tell: %s", pure, (script, unknown) => {
  assert.deepEqual(readAssignments(`${script}\nZ=1`, new Map()), unknown);
});

Deno.test("readAssignments() ends with any script", pure, () => {
  for (const script of ['X="', "X='", "X=`", "X=$(", "X=${", "X=\\", "(", "$", "fi", "X+=a"]) {
    readAssignments(script, new Map());
  }
});
