#!/bin/bash
# prepare.sh ARCHITECTURE KERNEL-PACKAGE EMULATOR EMULATOR-PACKAGE
#
# Makes what a virtual machine boots from, once, in $DPACK_DEV_CACHE/vm: Debian's kernel for a Debian architecture as
# <arch>/kernel, and <arch>/initrd with BusyBox, the kernel modules that containers need, newuidmap, and guest-init. Where the
# emulator is not installed it is unpacked beside them and started by vm/<emulator>. Needs no root.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../../ci/debian-packages.sh"
arch=$1 kernel_package=$2 emulator=$3 emulator_package=$4
vm=$DPACK_DEV_CACHE/vm out=$DPACK_DEV_CACHE/vm/$arch
one_at_a_time vm

# What they load with modprobe while booting, and what the kernel asks for when a container needs it
boot_modules="virtio_mmio virtio_pci virtio_blk virtio_console virtio_net virtio_rng crc32c_generic ext4"
modules="$boot_modules overlay tun veth bridge fuse dummy loop nf_tables nft_chain_nat nft_masq nft_ct"

get_emulator() {
  local root=$vm/emulator loader libraries
  mkdir -p "$vm"
  if [ ! -e "$root/.complete-$emulator_package" ]; then
    mkdir -p "$root"/usr/{bin,sbin,lib,lib64}
    for link in bin sbin lib lib64; do ln -sfn "usr/$link" "$root/$link"; done
    unpack_all "$(dpkg --print-architecture)" "$root" "$emulator_package" seabios ipxe-qemu
    touch "$root/.complete-$emulator_package"
  fi
  # its libraries are its own: it is started by the loader that came with it, beside which it would look for its modules
  loader=$(echo "$root"/usr/lib*/ld-linux-*.so.*)
  libraries=$(dirname "$(find "$root/usr/lib" -name libc.so.6 | head -n 1)")
  cat >"$vm/$emulator" <<S
#!/bin/sh
export QEMU_MODULE_DIR='$libraries/qemu'
exec '${loader%% *}' --library-path '$libraries' '$root/usr/bin/$emulator' -L '$root/usr/share/qemu' -L '$root/usr/share/seabios' -L '$root/usr/lib/ipxe/qemu' "\$@"
S
  chmod 755 "$vm/$emulator"
}

get_kernel() { # the package named depends on the current kernel
  local current
  update_lists "$arch"
  current=$(foreign "$arch" apt-cache depends "$kernel_package" | sed -n 's/.*Depends: \(linux-image-[^ ]*\).*/\1/p' | head -n 1)
  [ -n "$current" ] || die "$kernel_package names no kernel"
  unpack_only "$arch" "$out.new/kernel-files" "$current"
  release=$(ls "$out.new/kernel-files/lib/modules")
  cp "$out.new/kernel-files/boot/vmlinuz-$release" "$out.new/kernel"
  depmod -b "$out.new/kernel-files" "$release"
}

copy_modules() { # TO: the modules listed above, with those they need, and an index of them
  local from=$out.new/kernel-files name module to=$1
  for name in $modules; do
    modprobe -d "$from" -S "$release" --show-depends "$name" 2>/dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p'
  done | sort -u | while read -r module; do
    module=${module#"$from"/}; mkdir -p "$to/$(dirname "$module")"; cp "$from/$module" "$to/$module"
  done
  cp "$from/lib/modules/$release"/modules.{builtin,order} "$from/lib/modules/$release/modules.builtin.modinfo" "$to/lib/modules/$release/"
  depmod -b "$to" "$release"
}

copy_newuidmap() { # TO: under /usr/lib/uidmap, whole; guest-init puts it on the search path when a test wants it there
  local packages=$out.new/uidmap-files to=$1 library
  mkdir -p "$packages"/usr/{bin,sbin,lib,lib64} "$to/usr/lib/uidmap"
  for link in bin sbin lib lib64; do ln -s "usr/$link" "$packages/$link"; done
  unpack_all "$arch" "$packages" uidmap
  cp "$packages"/usr/bin/new[ug]idmap "$to/usr/lib/uidmap/"; chmod 4755 "$to"/usr/lib/uidmap/new[ug]idmap
  mkdir -p "$to/lib64"
  for library in $(cd "$packages" && find usr/lib/*-linux-* -maxdepth 1 -name '*.so.*'; cd "$packages" && find usr/lib usr/lib64 -maxdepth 1 -name 'ld-linux*'); do
    mkdir -p "$to/$(dirname "${library#usr/}")"; cp -L "$packages/$library" "$to/${library#usr/}"
  done
}

make_initrd() {
  local root=$out.new/initrd-files folder
  for folder in bin sbin usr/bin usr/sbin etc proc sys dev root new; do mkdir -p "$root/$folder"; done
  unpack_only "$arch" "$out.new/busybox-files" busybox-static
  cp "$out.new/busybox-files/bin/busybox" "$root/bin/busybox"
  cp "$here/guest-init" "$root/init"; chmod 755 "$root/init"
  copy_modules "$root"
  copy_newuidmap "$root"
  (cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) | zstd -q -3 -T0 >"$out.new/initrd"
}

command -v "$emulator" >/dev/null || [ -x "$vm/$emulator" ] || get_emulator
version=$(cat "$0" "$here/guest-init" | sha256sum)
if [ "$(cat "$out/version" 2>/dev/null)" != "$version" ]; then
  rm -rf "$out.new"; mkdir -p "$out.new"
  get_kernel
  make_initrd
  rm -rf "$out.new"/*-files
  echo "$version" >"$out.new/version"
  rm -rf "$out"; mv "$out.new" "$out"
fi
