#!/bin/bash
# debian-python.sh ARCHITECTURE FOLDER
#
# The files of the image that is measured with: FOLDER/base, Debian's essential programs, and FOLDER/python, an interpreter
# with its libraries on top. About 130 MB, the size and shape of many a real application. Packages are only unpacked.
set -euo pipefail
. "$(dirname "$0")/../../ci/debian-packages.sh"
arch=$1 out=$2
one_at_a_time "images-$arch"
rm -rf "$out"; mkdir -p "$out"
essential=(apt base-files bash bsdutils coreutils dash debianutils diffutils dpkg findutils grep gzip hostname libc-bin
  login mawk mount ncurses-base ncurses-bin passwd perl-base procps sed tar tzdata util-linux)

unpack_all "$arch" "$out/base" "${essential[@]}"
unpack_all "$arch" "$out/python" "${essential[@]}" python3

# a layer holds what is new in it
(cd "$out/base" && find . ! -type d -print0) | (cd "$out/python" && xargs -0 rm -f)
find "$out/python" -depth -type d -empty -delete
rm -rf "$out"/*/usr/share/{doc,info,locale,man} # what Debian's own slim images leave out
mkdir -p "$out"/base/{dev,proc,sys,tmp}
chmod 1777 "$out/base/tmp"
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$out/base/etc/passwd"
printf 'root:x:0:\n' >"$out/base/etc/group"
