/**
 * Manifest and SBOM, checked against other programs.
 *
 * @module
 */

import assert from "node:assert/strict";
import { packageUrl, parseApk, parseDpkg } from "../../../lib/make/sbom.ts";
import { parametersOf } from "../../../lib/plan/read-settings.ts";
import { SETTINGS } from "../../../lib/plan/settings.ts";
import { settingsOf } from "../../lab/facts.ts";

Deno.test("installed packages are read from the databases of dpkg and apk", {
  permissions: "none",
}, () => {
  const dpkg =
    "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1:2~3\nDescription: x\n .\n y\n\n" +
    "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: distroless\nVersion: 2\n";
  assert.deepEqual(parseDpkg(dpkg).map(({ name, version }) => [name, version]), [["a", "1:2~3"], [
    "distroless",
    "2",
  ]]);
  const [musl] = parseApk("C:Q1x=\nP:musl\nV:1.2.5-r0\nA:x86_64\nF:lib\nR:x\n\n");
  assert.equal(
    packageUrl(musl!, { ID: "alpine", VERSION_ID: "3.22.0" }),
    "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.22.0",
  );
});

Deno.test("a manifest never has a private key", { permissions: "none" }, () => {
  const secret = "-----BEGIN PRIVATE KEY-----\nMAUCAQAwAA==\n-----END PRIVATE KEY-----\n";
  const keys = Object.values(SETTINGS).map(({ env }) => env).filter((env) => env.endsWith("_KEY"));
  assert(keys.length > 0);
  const parameters = parametersOf(settingsOf(Object.fromEntries(keys.map((env) => [env, secret]))));
  assert.doesNotMatch(JSON.stringify(parameters), /MAUCAQAwAA|PRIVATE/);
  assert.equal(parameters.FREE_MB, 512);
});
