#!/bin/sh
# Prints what SELinux makes of a booted tree on its console, which report() in guests.ts reads, and powers off.
exec </dev/null >/dev/console 2>&1
state=$(systemctl is-system-running --wait)
dmesg --console-level 1 2>/dev/null
echo
echo "=== begin"
echo "=== state"; echo "$state"
echo "=== failed"; systemctl --failed --plain --no-legend | cut -d' ' -f1
echo "=== enforce"; getenforce
echo "=== own"; tr -d '\0' </proc/self/attr/current; echo
echo "=== pid1"; tr -d '\0' </proc/1/attr/current; echo
echo "=== restorecon"; restorecon -nvr / 2>&1
echo "=== denials"; dmesg | grep "avc: *denied"
echo "=== mounts"; findmnt --noheadings --list --output TARGET,FSTYPE,OPTIONS / /boot 2>&1; findmnt --noheadings --list --types ext4,vfat --output TARGET,FSTYPE,OPTIONS
echo "=== labels"; for path in / /boot /boot/efi /efi /lost+found /etc/fstab /etc/shadow; do ls --directory --context "$path"; done
echo "=== end"
sync
systemctl poweroff --force
