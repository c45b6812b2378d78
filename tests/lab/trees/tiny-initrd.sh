#!/bin/sh
# The initrd of a tiny tree whose kernel has neither disk drivers nor ext4 built in: loads them, finds the root by
# what the kernel was told, and hands over.
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "$module"; done </modules
root=$(sed -E 's/.*root=PARTUUID=([^ ]*).*/\1/' /proc/cmdline)
device=
while [ -z "$device" ]; do
  sleep 0.1
  # The entry of each partition in the table has its UUID at byte 16.
  for dir in /sys/class/block/*/partition; do
    [ -e "$dir" ] || continue
    dir=${dir%/partition}
    disk=$(readlink -f "$dir/..")
    set -- $(od -An -v -tx1 -j $((1024 + ($(cat "$dir/partition") - 1) * 128 + 16)) -N 16 "/dev/${disk##*/}")
    [ "$4$3$2$1-$6$5-$8$7-$9${10}-${11}${12}${13}${14}${15}${16}" != "$root" ] || device=/dev/${dir##*/}
  done
done
mount -t ext4 "$device" /new
exec switch_root /new /sbin/init
