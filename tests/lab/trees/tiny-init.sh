#!/usr/bin/sh
# Process 1 of the tiny tree: mounts what /etc/fstab says, prints what it sees, which report() in guests.ts
# reads, and powers off. Runs with busybox, in a virtual machine and in systemd-nspawn.
export PATH=/usr/bin
# systemd-nspawn sets $container.
if [ -z "$container" ]; then
  mount -t proc proc /proc
  mount -t sysfs sys /sys
  grep -q ' /dev ' /proc/mounts || mount -t devtmpfs dev /dev
  mount -t tmpfs run /run
  # No message of the kernel within a line of ours.
  echo 1 >/proc/sys/kernel/printk
  while read -r module; do insmod "$module"; done </etc/modules
  [ ! -d /sys/firmware/efi ] || mount -t efivarfs efivarfs /sys/firmware/efi/efivars
fi

# A GUID of a partition's entry in the GPT: type at 0, PARTUUID at 16.
guid() {
  disk=$(readlink -f "$1/..")
  set -- $(od -An -v -tx1 -j $((2 * $(cat "$1/../queue/logical_block_size") + ($(cat "$1/partition") - 1) * 128 + $2)) -N 16 "/dev/${disk##*/}")
  echo "$4$3$2$1-$6$5-$8$7-$9${10}-${11}${12}${13}${14}${15}${16}"
}
partitions() {
  for dir in /sys/class/block/*; do
    [ ! -e "$dir/partition" ] || echo "${dir##*/} $(guid "$dir" 16) $(guid "$dir" 0) $(cat "$dir/size") $(sed -n s/^PARTNAME=//p "$dir/uevent")"
  done
}
device() {
  case $1 in
    PARTUUID=*) partitions | grep -i " ${1#*=} " | sed -E 's|^([^ ]*) .*|/dev/\1|' ;;
    UUID=*) busybox findfs "$1" ;;
    *) echo "$1" ;;
  esac
}
options() {
  echo "$1" | sed -E 's/(^|,)(x-[^,]*|nofail|noauto|_netdev|defaults)//g; s/^,//'
}

echo "=== begin"
echo "=== fstab"
[ ! -e /etc/fstab ] || cat /etc/fstab
if [ -z "$container" ] && [ -e /etc/fstab ]; then
  echo "=== mount"
  grep -v '^ *#' /etc/fstab | while read -r what where type opts rest; do
    [ -n "$what" ] && [ "$where" != / ] && [ "$type" != swap ] || continue
    mount -t "$type" -o "$(options "$opts")" "$(device "$what")" "$where" 2>&1 || echo "failed: $what on $where"
  done
fi
echo "=== kernel"; uname -rm
echo "=== cmdline"; cat /proc/cmdline
# What an initrd left in the devices, which the kernel has only once.
echo "=== initrd"; [ ! -e /dev/.initrd ] || cat /dev/.initrd
echo "=== mounts"; cut -d' ' -f1-4 /proc/mounts
echo "=== partitions"
[ -n "$container" ] || partitions
echo "=== os-release"; cat /etc/os-release
echo "=== root"; ls -la /
for dir in /boot /boot/efi /efi; do
  [ ! -d "$dir" ] || { echo "=== files $dir"; cd "$dir"; find . -xdev -type f | sort; }
done
cd /
echo "=== entries"; find /boot /efi -path '*/loader/entries/*.conf' 2>/dev/null | while read -r file; do echo "# $file"; cat "$file"; done
echo "=== efi"
# Values are UTF-16 after four bytes of attributes: printable characters are enough here.
for name in LoaderDevicePartUUID LoaderInfo StubInfo LoaderEntrySelected LoaderFirmwareInfo; do
  for file in /sys/firmware/efi/efivars/$name-*; do
    [ ! -e "$file" ] || echo "$name=$(cat "$file" | od -An -v -tx1 -j4 | sed 's/ 00//g; s/ /\\x/g' | while read -r hex; do printf "$hex"; done)"
  done
done
for file in /sys/firmware/efi/efivars/SecureBoot-*; do
  [ ! -e "$file" ] || echo "SecureBoot=$(cat "$file" | od -An -tu1 -j4 | sed "s/ //g")"
done
echo "=== writable"
if (: >/var/tmp/probe) 2>/dev/null; then echo yes; else echo no; fi
echo "=== filesystem"; stat -f -c "%T %S %b %f" /
echo "=== end"
sync
[ -n "$container" ] || poweroff -f
exit 0
