# debian-packages.sh: Debian packages of any architecture, downloaded and unpacked, never installed.
#
# Sourced by ci/stub-toolchain.sh, tests/vm/prepare.sh and tests/images/unpack.sh. It uses the package sources that this
# machine has, with apt state of its own: no root, no `dpkg --add-architecture`, nothing outside $DPACK_DEV_CACHE.

: "${DPACK_DEV_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/dpack-dev}"
mkdir -p "$DPACK_DEV_CACHE"

say() { echo "${0##*/}: $*" >&2; }
die() { say "$*"; exit 1; }

# one_at_a_time NAME: the rest of this script runs alone; tests and builds may start it side by side.
one_at_a_time() { exec 9>"$DPACK_DEV_CACHE/$1.lock"; flock 9; }

# foreign ARCH TOOL ARGUMENT...: apt-get or apt-cache for one architecture
foreign() {
  local arch=$1 tool=$2 state=$DPACK_DEV_CACHE/apt-$1; shift 2
  mkdir -p "$state/lists/partial" "$state/archives/partial"; [ -e "$state/status" ] || : >"$state/status"
  "$tool" -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Sandbox::User=root \
    -o APT::Install-Recommends=false -o Acquire::Languages=none -o Acquire::Retries=3 -o Debug::NoLocking=1 \
    -o Dir::State="$state" -o Dir::State::Lists="$state/lists" -o Dir::State::status="$state/status" \
    -o Dir::Cache="$state" -o Dir::Cache::archives="$state/archives" "$@"
}

# update_lists ARCH: once a day. A list that fails (a mirror in mid-update) is not fatal: what is missing shows below.
update_lists() (
  stamp=$DPACK_DEV_CACHE/apt-$1/updated
  mkdir -p "${stamp%/*}"; exec 7>"$DPACK_DEV_CACHE/lists-$1.lock"; flock 7
  [ -z "$(find "$stamp" -mmin -1440 2>/dev/null)" ] || exit 0
  foreign "$1" apt-get update >"$DPACK_DEV_CACHE/apt-$1/update.log" 2>&1 || say "some package list for $1 failed; going on"
  touch "$stamp"
)

# unpack_only ARCH FOLDER PACKAGE...: these packages, without their dependencies
unpack_only() ( # a subshell: the lock ends with it
  arch=$1 into=$2; shift 2
  exec 8>"$DPACK_DEV_CACHE/apt-$arch.lock"; flock 8
  update_lists "$arch"; mkdir -p "$into"; download=$(mktemp -d "$DPACK_DEV_CACHE/download.XXXXXX")
  (cd "$download" && foreign "$arch" apt-get download "$@" >log 2>&1) || { cat "$download/log" >&2; die "failed to download $* for $arch"; }
  for deb in "$download"/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$into" --no-same-owner --keep-directory-symlink; done
  rm -rf "$download"
)

# unpack_all ARCH FOLDER PACKAGE...: these packages and everything they depend on
unpack_all() (
  arch=$1 into=$2; shift 2
  exec 8>"$DPACK_DEV_CACHE/apt-$arch.lock"; flock 8
  update_lists "$arch"; mkdir -p "$into"
  state=$DPACK_DEV_CACHE/apt-$arch
  foreign "$arch" apt-get -y --download-only install "$@" >"$state/download.log" 2>&1 || { tail -n 20 "$state/download.log" >&2; die "failed to download $* for $arch"; }
  # apt names the set in a simulation; an archive is called name_version_arch.deb, the colon of an epoch written %3a
  foreign "$arch" apt-get --simulate install "$@" 2>/dev/null | sed -n 's/^Inst \([^ :]*\)[^ ]* (\([^ ]*\) .*/\1 \2/p' |
    while read -r name version; do
      dpkg-deb --fsys-tarfile "$state/archives/${name}_${version//:/%3a}"_*.deb | tar -x -C "$into" --no-same-owner --keep-directory-symlink
    done
)
