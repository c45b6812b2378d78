/**
 * The mount options that do not depend on the filesystem.
 *
 * - https://man7.org/linux/man-pages/man8/mount.8.html
 * - Those that mount(8) does not pass on: `libmount/src/optmap.c` in https://github.com/util-linux/util-linux
 *
 * @module
 */

/**
 * Options for programs: mount(8), its callers, and mountall of old Ubuntu releases. The others say what holds anyway, or
 * how much the kernel logs.
 */
const FOR_PROGRAMS = new RegExp(
  `^(?:${
    [
      ...["defaults", "remount", "(?:no)?(?:auto|users?|owner|group)", "user=.*", "nofail", "_netdev"],
      ...["[xX]-.*", "comment=.*", "u?helper=.*", "loop(?:=.*)?", "(?:offset|sizelimit|encryption)=.*"],
      ...["(?:no)?bootwait", "optional", "showthrough", "timeout=.*"],
      ...["silent", "loud", "nomand", "noiversion", "symfollow", "sub"],
    ].join("|")
  })$`,
);

/** Options that mount(8) turns into flags, and that the mount programs of initrds know, too. */
const FLAGS = /^(?:(?:no)?(?:dir|rel|strict)?atime|(?:no)?lazytime|(?:no)?(?:suid|exec|dev)|(?:a|dir)?sync)$/;

/** Flags that say what the kernel does anyway. */
const DEFAULT_FLAGS = /^(?:(?:dir|rel)?atime|nostrictatime|nolazytime|suid|exec|dev|async)$/;

/** Options that only mount(8) of util-linux understands: flags, other ways to mount, and dm-verity. */
const RARE =
  /^(?:nosymfollow|iversion|mand|nosub|r?bind|r?(?:unbindable|private|slave|shared)|verity\.\w+=.*)$/;

/** Whether an option is for programs: neither the kernel nor a filesystem knows it. */
export function isForPrograms(option: string): boolean {
  return FOR_PROGRAMS.test(option);
}

/** Whether an option becomes a flag, which every filesystem takes. */
export function isFlag(option: string): boolean {
  return FLAGS.test(option);
}

/** Whether an option is a flag that changes nothing. */
export function isDefaultFlag(option: string): boolean {
  return DEFAULT_FLAGS.test(option);
}

/** Whether only mount(8) of util-linux understands an option, not a smaller mount program such as busybox's. */
export function isRare(option: string): boolean {
  return RARE.test(option);
}
