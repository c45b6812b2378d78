#!/bin/sh
# The initrd of a tiny tree whose kernel has neither disk drivers nor ext4 built in: loads them, finds the root by
# what the kernel was told, and hands over.
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "$module"; done </modules
root=$(sed -E 's/.*root=([^ ]*).*/\1/' /proc/cmdline)
until device=$(busybox findfs "$root"); do sleep 0.1; done
mount -t ext4 "$device" /new
exec switch_root /new /sbin/init
