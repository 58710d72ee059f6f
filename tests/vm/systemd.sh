#!/bin/bash
# systemd.sh ARCHITECTURE
#
# Makes what a virtual machine needs to be run by systemd with sessions, once: Debian's systemd, logind, its module for PAM and
# the message bus, with their libraries, as $DPACK_DEV_CACHE/vm/systemd-<arch>.tar. guest-init unpacks it. Needs no root.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../../ci/debian-packages.sh"
arch=$1 out=$DPACK_DEV_CACHE/vm/systemd-$1
one_at_a_time vm

packages="systemd libpam-systemd libpam-modules libpam0g dbus dbus-bin dbus-daemon dbus-system-bus-common"
# named one by one: what they depend on brings Perl along
libraries="libdbus-1-3 libsystemd-shared libsystemd0 libc6 libacl1 libapparmor1 libaudit1 libcap-ng0 libblkid1 libcap2 libcrypt1
  libcryptsetup12 libfdisk1 libgcrypt20 libgpg-error0 libip4tc2 libkmod2 liblz4-1 liblzma5 libmount1 libseccomp2 libselinux1 libssl3
  libzstd1 libpcre2-8-0 libexpat1 libdevmapper1.02.1 libargon2-1 libjson-c5 libuuid1 libudev1"

version=$(sha256sum <"$0")
if [ "$(cat "$out.version" 2>/dev/null)" != "$version" ]; then
  root=$out.new
  rm -rf "$root"; mkdir -p "$root"/usr/{bin,sbin,lib,lib64}
  for link in bin sbin lib lib64; do ln -s "usr/$link" "$root/$link"; done
  # shellcheck disable=SC2086 # they are lists
  unpack_only "$arch" "$root" $packages $libraries
  rm -rf "$root"/usr/share/{man,doc,locale,bash-completion,zsh} "$root"/usr/lib/*/gconv
  # the guest's own /bin and /lib are folders
  tar -c -f "$out.tar.new" --owner=0 --group=0 -C "$root" usr etc
  mv "$out.tar.new" "$out.tar"; rm -rf "$root"
  echo "$version" >"$out.version"
fi
