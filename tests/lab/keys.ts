/**
 * Keys for tests that sign.
 *
 * @module
 */

import { quiet } from "./helpers.ts";

/** Makes a key and its certificate in a directory, and returns the settings that name them. */
export async function makeKey(dir: string): Promise<{ VERITY_KEY: string; VERITY_CERT: string }> {
  const [key, certificate] = [`${dir}/key.pem`, `${dir}/cert.pem`];
  await quiet`openssl req -x509 -newkey rsa:2048 -nodes -keyout ${key} -out ${certificate} -subj ${"/CN=test"}
    -days 2`;
  return { VERITY_KEY: key, VERITY_CERT: certificate };
}
