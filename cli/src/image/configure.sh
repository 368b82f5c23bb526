# Makes an installed system of unpacked packages. The agent runs it as root, in the stock initramfs. Of the two disks,
# the one with partitions is the image, with its root on the second one; the other one is the bundle. $1 is "resume"
# once the bundle is unpacked. Lines that begin with "step: " are the tool's progress.
set -e
say() { echo "step: $*"; }
# Linux names disks in the order in which they answer.
image=/dev/sda bundle=/dev/sdb
[ -b ${image}2 ] || { image=/dev/sdb bundle=/dev/sda; }
root=/r
mkdir -p $root
open() {
    mount -t ext4 -o noinit_itable,noatime$1 ${image}2 $root
    cd $root
}
close() {
    cd /
    umount $root
}
dpkg=var/lib/dpkg
if [ "$1" != resume ]; then
    say unpacking
    open
    tar -xf $bundle
    # What is one file for all packages.
    cat $dpkg/hv/status >> $dpkg/status
    for file in $dpkg/hv/triggers/*; do
        [ ! -e "$file" ] || cat "$file" >> "$dpkg/triggers/${file##*/}"
    done
    rm -r $dpkg/hv
    : >> $dpkg/available
    close
    say configuring
fi
# If the machine is killed, what a package's script wrote is on the disk before dpkg's record that it ran.
open ,data=journal
mkdir -p proc sys dev run tmp boot/efi
chmod 1777 tmp
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -o bind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C HOME=/root
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
# What base-passwd and awk's alternative would make is needed before they are configured.
[ -s etc/passwd ] || cp usr/share/base-passwd/passwd.master etc/passwd
[ -s etc/group ] || cp usr/share/base-passwd/group.master etc/group
[ -L usr/bin/awk ] || ln -s mawk usr/bin/awk
# No service is started.
printf '#!/bin/sh\nexit 101\n' > usr/sbin/policy-rc.d
chmod 755 usr/sbin/policy-rc.d
# Busybox's chroot would run its own dpkg: paths are given whole.
chroot . /usr/sbin/ldconfig
# The kernel's package makes the initrd; a trigger at the end would make it once more.
conf=etc/initramfs-tools/update-initramfs.conf
if ! ls boot/initrd.img-* > /dev/null 2>&1 && [ -e $conf.dpkg-new ]; then
    sed 's/^update_initramfs=.*/update_initramfs=no/' $conf.dpkg-new > $conf
fi
# A system that is configured already has them.
first="base-passwd base-files libc6:arm64 dpkg perl-base mawk debconf"
chroot . /usr/bin/dpkg --configure --force-depends $first || true
chroot . /usr/bin/dpkg --configure -a --force-confold
audit=$(chroot . /usr/bin/dpkg --audit)
[ -z "$audit" ] || { echo "$audit"; exit 1; }
say ending
chroot . /usr/sbin/ldconfig
[ ! -e $conf ] || sed -i 's/^update_initramfs=.*/update_initramfs=yes/' $conf
rm -f $conf.dpkg-*
rm -f usr/sbin/policy-rc.d etc/ssh/ssh_host_*
# A machine without a network has no failed unit. Root has no password: on the console it needs none, ssh takes none.
chroot . /usr/bin/systemctl -q enable systemd-networkd.service
chroot . /usr/bin/systemctl -q disable systemd-networkd-wait-online.service
chroot . /usr/bin/passwd -q -d root
# systemd makes one at the first boot.
: > etc/machine-id
rm -f var/lib/dbus/machine-id
mkdir -p var/lib/dbus
ln -s /etc/machine-id var/lib/dbus/machine-id
umount tmp run dev sys proc
close
say done
