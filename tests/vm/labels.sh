#!/bin/bash
# labels.sh
#
# Makes what a device with AppArmor or SELinux is given by tests, once, in $DPACK_DEV_CACHE/vm/labels: `selinux`, the policy of
# selinux.conf in the kernel's form, and `apparmor`, the profile of apparmor.profile in the kernel's form. Debian's compilers are
# unpacked beside them. Needs no root.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../../ci/debian-packages.sh"
out=$DPACK_DEV_CACHE/vm/labels
one_at_a_time vm

version=$(cat "$0" "$here/selinux.conf" "$here/apparmor.profile" | sha256sum)
if [ "$(cat "$out/version" 2>/dev/null)" != "$version" ]; then
  tools=$out.new/tools
  rm -rf "$out.new"; mkdir -p "$tools"
  unpack_only "$(dpkg --print-architecture)" "$tools" checkpolicy apparmor
  # 33 is the newest version that Linux 6.1 reads; what the policy has no word for is allowed
  while IFS= read -r line; do
    case $line in
      CATEGORIES) for number in {0..1023}; do echo "category c$number;"; done ;;
      *) printf '%s\n' "$line" ;;
    esac
  done <"$here/selinux.conf" >"$out.new/selinux.conf"
  "$tools/usr/bin/checkpolicy" -M -U allow -c 33 -o "$out.new/selinux" "$out.new/selinux.conf" >"$out.new/log" 2>&1 ||
    { cat "$out.new/log" >&2; die 'failed to compile the SELinux policy'; }
  # this machine may have no AppArmor to take the features from: those of Debian's own kernel
  "$tools/sbin/apparmor_parser" --skip-kernel-load --skip-cache --quiet --base "$tools/etc/apparmor.d" \
    --config-file /dev/null \
    --policy-features "$tools/etc/apparmor.d/abi/3.0" --kernel-features "$tools/etc/apparmor.d/abi/3.0" --ofile "$out.new/apparmor" "$here/apparmor.profile"
  rm -rf "$tools"
  echo "$version" >"$out.new/version"
  rm -rf "$out"; mv "$out.new" "$out"
fi
