/**
 * A policy like Fedora's, as far as labels go: its names, its ways to say things, and every file that has a say.
 *
 * @module
 */

import { dirname } from "node:path";
import type { PolicyFiles } from "../../lib/system/selinux.ts";

const label = (type: string) => `system_u:object_r:${type}:s0`;

const FILES = {
  "": [
    `/.*\t\t${label("default_t")}`,
    `/\t-d\t${label("root_t")}`,
    `/\t-l\t${label("root_link_t")}`,
    `/bin\t\t${label("bin_t")}`,
    `/boot\t-d\t${label("boot_t")}`,
    `/boot/.*\t\t${label("boot_t")}`,
    `/boot/efi(/.*)?\t\t${label("dosfs_t")}`,
    `/dev/.*\t\t${label("device_t")}`,
    `/dev/null\t-c\t${label("null_device_t")}`,
    `/etc(/.*)?\t\t${label("etc_t")}`,
    `/etc/shadow[-+]?\t--\t${label("shadow_t")}`,
    `/etc/\\.pwd\\.lock\t--\t${label("passwd_file_t")}`,
    `/etc/(rc\\.d/)?init\\.d/.*\t--\t${label("initrc_exec_t")}`,
    `/home\t-d\t${label("home_root_t")}`,
    `/lost\\+found\t-d\t${label("lost_found_t")}`,
    `/lost\\+found/.*\t\t<<none>>`,
    `/proc\t-d\t<<none>>`,
    `/run/.*\t\t${label("var_run_t")}`,
    `/usr/(.*/)?bin(/.*)?\t\t${label("bin_t")}`,
    `/usr/.*\\.so(\\..*)?\t--\t${label("lib_t")}`,
    `/usr/lib(/.*)?\t\t${label("lib_t")}`,
    `/usr/lib/ld-[^/]*\\.so(\\.[^/]*)*\t--\t${label("ld_so_t")}`,
    `/usr/lib/systemd/systemd\t--\t${label("init_exec_t")}`,
    `/usr/bin/bash\t--\t${label("shell_exec_t")}`,
    `/usr/bin/z?sh\t--\t${label("shell_exec_t")}`,
    `/usr/share/doc/x|/usr/share/y\t--\t${label("alternative_t")}`,
    `/usr/share(/.*)?\t\t${label("usr_t")}`,
    `/var(/.*)?\t\t${label("var_t")}`,
    `/var/lib/a{0,2}b\t--\t${label("counted_t")}`,
    `/var/log(/.*)?\t\t${label("var_log_t")}`,
    `/usr/(.*/)?man(/.*)?\t\t${label("man_t")}`,
    `/usr/(.*/)?man/log\t--\t${label("man_log_t")}`,
    `/dev/sd[^/]*\t\t${label("disk_t")}`,
    `/[^/]+\t--\t${label("etc_runtime_t")}`,
    `/var/log/journal(/.*)?\t\tsystem_u:object_r:var_log_t:s0:c1,c2`,
  ],
  ".homedirs": [
    `/home/[^/]+\t-d\tunconfined_u:object_r:user_home_dir_t:s0`,
    `/home/[^/]+/.+\t\tunconfined_u:object_r:user_home_t:s0`,
  ],
  ".local": [`/srv/www(/.*)?\t\t${label("httpd_sys_content_t")}`],
  ".subs": ["/opt/site /srv/www"],
  ".subs_dist": ["# the old names", "/usr/share", "/lib64 /usr/lib", "/usr/lib64 /usr/lib", "/var/run /run"],
};

const encoder = new TextEncoder();

export const FEDORA: PolicyFiles = new Map(
  Object.entries(FILES).map(([suffix, lines]) => [suffix, encoder.encode(`${lines.join("\n")}\n`)]),
);

/** Paths of a Fedora tree with their modes, and with what the policy gives them. */
export const FEDORA_LABELS: readonly (readonly [path: string, mode: number, type: string | undefined])[] = [
  ["/", 0o40755, "root_t"],
  ["/bin", 0o120777, "bin_t"],
  ["/.readahead", 0o100644, "etc_runtime_t"],
  ["/dev/sda", 0o60660, "disk_t"],
  ["/usr/share/man/man1/x", 0o100644, "man_t"],
  ["/usr/share/man/log", 0o100644, "man_log_t"],
  ["/boot", 0o40755, "boot_t"],
  ["/boot/vmlinuz-6.12", 0o100755, "boot_t"],
  ["/boot/efi", 0o40755, "dosfs_t"],
  ["/dev/null", 0o20666, "null_device_t"],
  ["/dev/null2", 0o20666, "device_t"],
  ["/etc", 0o40755, "etc_t"],
  ["/etc/fstab", 0o100644, "etc_t"],
  ["/run", 0o40755, "default_t"],
  ["/sys", 0o40555, "default_t"],
  ["/tmp", 0o41777, "default_t"],
  ["/etc/shadow", 0o100000, "shadow_t"],
  ["/etc/shadow-", 0o100000, "shadow_t"],
  ["/etc/shadow", 0o40000, "etc_t"],
  ["/etc/.pwd.lock", 0o100600, "passwd_file_t"],
  ["/etc/xpwd.lock", 0o100600, "etc_t"],
  ["/etc/rc.d/init.d/x", 0o100755, "initrc_exec_t"],
  ["/etc/init.d/x", 0o100755, "initrc_exec_t"],
  ["/home", 0o40755, "home_root_t"],
  ["/home/anna", 0o40700, "user_home_dir_t"],
  ["/home/anna/a b\nc", 0o100644, "user_home_t"],
  ["/lost+found", 0o40700, "lost_found_t"],
  ["/lost+found/#12", 0o100644, undefined],
  ["/proc", 0o40555, undefined],
  ["/usr/bin/bash", 0o100755, "shell_exec_t"],
  ["/usr/bin/sh", 0o100755, "shell_exec_t"],
  ["/usr/bin/zsh", 0o100755, "shell_exec_t"],
  ["/usr/bin/sh", 0o120777, "bin_t"],
  ["/usr/libexec/bin/x", 0o100755, "bin_t"],
  ["/usr/lib/systemd/systemd", 0o100755, "init_exec_t"],
  ["/usr/lib/ld-linux.so.2", 0o100755, "ld_so_t"],
  ["/usr/lib/modules/6.12/kernel/fs/x.ko", 0o100644, "lib_t"],
  ["/usr/lib64", 0o40755, "lib_t"],
  ["/usr/lib64/ld-linux.so.2", 0o100755, "ld_so_t"],
  ["/usr/lib64/deep/er/x", 0o100755, "lib_t"],
  ["/lib64", 0o120777, "lib_t"],
  ["/usr/share/doc", 0o40755, "usr_t"],
  ["/usr/share/doc/x", 0o100644, "usr_t"],
  ["/var/lib/b", 0o100644, "counted_t"],
  ["/var/lib/aab", 0o100644, "counted_t"],
  ["/var/lib/aaab", 0o100644, "var_t"],
  ["/var/log/journal/x", 0o100644, "var_log_t"],
  ["/var/run/x", 0o100644, "var_run_t"],
  ["/opt/site/index.html", 0o100644, "httpd_sys_content_t"],
  ["/opt/site", 0o40755, "httpd_sys_content_t"],
  ["/opt/other", 0o40755, "default_t"],
  ["/usr", 0o40755, "default_t"],
];

/** A tree with the paths of a Fedora, and a policy with its names. */
export async function fedoraTree(dir: string): Promise<string> {
  const tree = `${dir}/fedora`;
  const contexts = `${tree}/etc/selinux/targeted/contexts/files`;
  await Deno.mkdir(contexts, { recursive: true });
  for (const [suffix, bytes] of FEDORA) await Deno.writeFile(`${contexts}/file_contexts${suffix}`, bytes);
  await Deno.writeTextFile(`${tree}/etc/selinux/config`, "SELINUX=enforcing\nSELINUXTYPE=targeted\n");
  // The first of each path.
  for (
    const [path, mode] of FEDORA_LABELS.filter(([path], i, all) => all.findIndex(([p]) => p === path) === i)
  ) {
    const type = mode & 0o170000;
    await Deno.mkdir(dirname(tree + path), { recursive: true });
    if (type === 0o40000) await Deno.mkdir(`${tree}${path}`, { recursive: true });
    else if (type === 0o100000) await Deno.writeTextFile(`${tree}${path}`, path);
  }
  await Deno.symlink("usr/bin", `${tree}/bin`);
  // Where the names of one file would get different labels, setfiles takes the one that it happens to see first.
  const modules = `${tree}/usr/lib/modules/6.12/kernel/fs`;
  await Deno.link(`${modules}/x.ko`, `${modules}/y.ko`);
  await Deno.writeTextFile(`${tree}/.autorelabel`, "");
  return tree;
}
