#!/bin/sh
# What a Debian without systemd sees when it has booted, for report() in guests.ts; then it powers off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec >/dev/ttyS0 2>&1 </dev/null
# No message of the kernel within a line of ours.
echo 1 >/proc/sys/kernel/printk
echo
echo "=== begin"
echo "=== kernel"; uname -rm
echo "=== cmdline"; cat /proc/cmdline
echo "=== init"; cat /proc/1/comm
echo "=== mounts"; cut -d' ' -f1-4 /proc/mounts
echo "=== fstab"; cat /etc/fstab
echo "=== modules"; cut -d' ' -f1 /proc/modules
for dir in /boot /boot/efi; do
  echo "=== files $dir"; (cd "$dir" && find . -xdev -type f | sort)
done
echo "=== end"
sync
echo o >/proc/sysrq-trigger
sleep 60
