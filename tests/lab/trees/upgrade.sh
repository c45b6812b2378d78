#!/bin/sh
# What an administrator does to the kernels of a running system, once: install another, reinstall the one that
# runs, remove the other, and set up the boot loader again. Each line of the result has an exit code.
export DEBIAN_FRONTEND=noninteractive
run() {
  "$@"
  echo "result $? $*" >>/var/lib/upgraded
}
: >/var/lib/upgraded
run apt-get install --yes /root/other.deb
run grep -q 9.9.9-other /boot/grub/grub.cfg
run apt-get install --yes --reinstall /root/same.deb
run apt-get remove --yes linux-image-9.9.9-other
run test ! -e /boot/vmlinuz-9.9.9-other
run grub-install --target=x86_64-efi --no-nvram
sync
