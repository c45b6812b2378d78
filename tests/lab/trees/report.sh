#!/bin/sh
# Prints the state of a booted Debian tree on its console, which report() in guests.ts reads, and powers off.
exec </dev/null >/dev/console 2>&1
state=$(systemctl is-system-running --wait)
# No message of the kernel within a line of ours.
dmesg --console-level 1 2>/dev/null
echo
echo "=== begin"
echo "=== state"; echo "$state"
echo "=== failed"; systemctl --failed --plain --no-legend | cut -d' ' -f1
echo "=== logs"
for unit in $(systemctl --failed --plain --no-legend | cut -d' ' -f1); do journalctl --boot --unit="$unit" --no-pager --lines=9; done
echo "=== virtualization"; systemd-detect-virt
echo "=== version"; systemctl --version | head -n 1
echo "=== kernel"; uname -rm
echo "=== cmdline"; cat /proc/cmdline
echo "=== os-release"; cat /etc/os-release
echo "=== fstab"; cat /etc/fstab
# What an automount has not mounted yet is mounted by looking into it.
ls /boot /boot/efi /efi >/dev/null 2>&1
for dir in / /boot /boot/efi /efi; do
  echo "=== findmnt $dir"
  findmnt --json --bytes --types noautofs --mountpoint "$dir" --output TARGET,SOURCE,FSTYPE,OPTIONS,SIZE,LABEL,PARTLABEL,PARTUUID
done
echo "=== lsblk"; lsblk --json --bytes --output NAME,SIZE,PARTTYPE,PARTLABEL,PARTUUID,FSTYPE,LABEL,UUID,MOUNTPOINT
for dir in /boot /boot/efi /efi; do
  [ ! -d "$dir" ] || { echo "=== files $dir"; (cd "$dir" && find . -xdev -type f | sort); }
done
echo "=== efi"
for name in LoaderDevicePartUUID LoaderInfo LoaderEntrySelected; do
  for file in /sys/firmware/efi/efivars/$name-*; do
    # Values are UTF-16 after four bytes of attributes.
    [ ! -e "$file" ] || echo "$name=$(cat "$file" | tail -c +5 | tr -d '\000')"
  done
done
echo "=== end"
sync
systemctl poweroff --force
