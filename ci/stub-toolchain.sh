#!/bin/bash
# stub-toolchain.sh TRIPLE:DEBIAN-ARCHITECTURE...
#
# Rust's standard library for static musl targets, where `rustup target add` has not been or cannot be run. Debian's
# rustc-web has no such library but brings its source: it is compiled here, once, and musl and libunwind of Debian are put
# beside it, in the layout of rustup's rust-std. Nothing is installed and no toolchain is changed; the result is
#
#   <sysroot>/lib/rustlib/<triple>/lib/                 lib*.rlib
#   <sysroot>/lib/rustlib/<triple>/lib/self-contained/  crt1.o … libc.a libunwind.a
#
# for `--sysroot`; its path, in $DPACK_DEV_CACHE, is what this script prints. `cargo xtask stubs` calls this and installs what it needs before: rustc-web cargo-web rust-web-src
# lld-19 gcc binutils. Takes three minutes for three targets on two cores, and about 500 MB.
set -euo pipefail
. "$(dirname "$0")/debian-packages.sh"
one_at_a_time toolchain

host=x86_64-unknown-linux-gnu
rustc=/usr/bin/rustc
layout=2 # changes when this script makes another library: Cargo compiles again when the path of the sysroot is another
work=$DPACK_DEV_CACHE/toolchain-work
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET CARGO_TARGET_DIR RUSTC RUSTDOC RUSTC_WRAPPER

[ -x $rustc ] || die "no $rustc; install rustc-web, or run: rustup target add ${*%%:*}"
version=$($rustc -vV | sed -n 's/^release: //p')
commit=$($rustc -vV | sed -n 's/^commit-hash: //p')
source=/usr/src/rustc-$version
sysroot=$DPACK_DEV_CACHE/toolchain-$version-$layout
[ -e "$source/library/Cargo.lock" ] || die "no source of rustc $version in $source; install rust-web-src"
lld=$(command -v rust-lld || command -v ld.lld-19 || command -v ld.lld) || die "no lld; install lld-19"
mkdir -p "$sysroot/lib/rustlib/$host/bin" "$work"
ln -sfn "$lld" "$sysroot/lib/rustlib/$host/bin/rust-lld"

remap() { printf '\x1f--remap-path-prefix=%s' "$@"; }

# The library, for size: Rust's own is made to unwind, to symbolise backtraces (useless in a stripped program), and for speed
# where ours formats messages and starts processes. Bitcode is there for link-time optimisation.
build_std() { # TRIPLE
  local cargo_home=${CARGO_HOME:-$HOME/.cargo}
  local flags=-Zforce-unstable-if-unmarked$'\x1f'-Cembed-bitcode=yes$'\x1f'-Cpanic=abort$'\x1f'-Cforce-unwind-tables=no
  case $1 in armv7*) flags+=$'\x1f'-Ctarget-feature=+thumb-mode ;; esac # as in targets/src/table.rs
  RUSTC=$rustc RUSTC_BOOTSTRAP=1 CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=$work CARGO_PROFILE_RELEASE_OPT_LEVEL=s \
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 \
    CARGO_ENCODED_RUSTFLAGS="$flags$(remap "$source=/rustc/$commit" "$work=/std" "$cargo_home=/cargo")" \
    /usr/bin/cargo build --locked --quiet --manifest-path "$source/library/sysroot/Cargo.toml" --release \
    --target "$1" --no-default-features --features optimize_for_size >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; die "failed to compile the standard library for $1"; }
}

# What rustc wants in `self-contained` to link a static executable without any C toolchain
add_musl() { # TRIPLE ARCH FOLDER
  local debs=$work/debs-$2 into=$3 musl object
  rm -rf "$debs"; unpack_only "$2" "$debs" musl-dev libunwind-19-dev
  musl=$(echo "$debs"/usr/lib/*-linux-musl*); mkdir -p "$into"
  cp "$musl"/{crt1,Scrt1,rcrt1,crti,crtn}.o "$musl"/lib{c,dl,pthread}.a "$debs/usr/lib/llvm-19/lib/libunwind.a" "$into/"
  # rustc names gcc's start and end objects; a static program linked by lld has no use for what they do
  for object in crtbegin crtbeginS crtend crtendS; do printf '!<arch>\n' >"$into/$object.o"; done
  # Debian compiles libunwind against glibc: its messages before an abort call glibc's fortified fprintf
  printf '#![no_std]\n#[unsafe(no_mangle)] pub extern "C" fn __fprintf_chk() -> i32 { 0 }\n' |
    $rustc --edition 2024 --sysroot "$sysroot" --target "$1" --crate-name fortify --crate-type lib --emit obj \
      -C panic=abort --remap-path-prefix="$work=/std" -o "$work/fortify.o" -
  ar rcsD "$into/libunwind.a" "$work/fortify.o"
}

for pair; do
  triple=${pair%%:*} arch=${pair##*:} library=$sysroot/lib/rustlib/${pair%%:*}
  [ ! -e "$library/complete" ] || continue
  say "compiling the standard library of Rust $version for $triple"
  rm -rf "$library"; mkdir -p "$library/lib"
  build_std "$triple"
  cp "$work/$triple"/release/deps/*.rlib "$library/lib/"
  add_musl "$triple" "$arch" "$library/lib/self-contained"
  touch "$library/complete"
done
rm -rf "$work"
echo "$sysroot"
