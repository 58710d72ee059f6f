#!/bin/bash
# peers.sh [--docker] [DIR]: a root folder with the programs that tests and `cargo xtask bench` compare with, and DIR/enter to run
# them in it. With --docker also Docker Engine and Docker Compose, which the benchmark of many services alone needs.
#
# Debian unstable has current ones; about 900 MB and 60 s, once. DIR is $DPACK_PEERS, else ~/.cache/dpack-peers. Needs root
# (mounts), and uses the package mirror that this machine already has. Prints DIR.
#
# `DIR/enter USER COMMAND...` runs a command as root or as the ordinary user `dev` (uid 1500, with subordinate IDs), in a
# private mount namespace: by pivot_root, because the kernel refuses user namespaces in a chroot (user_namespaces(7)), and
# with a pure cgroup v2 view, because crun refuses the mixed one.
set -euo pipefail
docker=; if [ "${1:-}" = --docker ]; then docker=yes; shift; fi
dir=${1:-${DPACK_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/dpack-peers}}
root=$dir/root
say() { echo "${0##*/}: $*" >&2; }
mkdir -p "$dir"
# whoever else wants it waits until it is complete
exec 9>"$dir/lock"
flock 9

if [ ! -x "$dir/enter" ]; then
  [ "$(id -u)" = 0 ] || { say "making \`$root\` needs root"; exit 1; }
  command -v mmdebstrap >/dev/null || apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -v security | head -n 1)
  say "making $root from $mirror"
  rm -rf "$root"
  mmdebstrap --quiet --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Retries "3"' \
    --include=bubblewrap,ca-certificates,crun,iperf3,iproute2,passt,podman,runc,rootlesskit,skopeo,slirp4netns,tcpdump,uidmap,zstd \
    sid "$root" "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$dir/mmdebstrap.log" 2>&1 ||
    { tail -n 20 "$dir/mmdebstrap.log" >&2; exit 1; }
  useradd -R "$root" -m -u 1500 -s /bin/bash dev
  for ids in subuid subgid; do grep -q ^dev: "$root/etc/$ids" || echo dev:100000:65536 >>"$root/etc/$ids"; done
  touch "$root/etc/hosts" # rootlesskit copies it
  chmod 1777 "$root/tmp" "$root/var/tmp"
  # last, so that its presence says that the root is complete
  cat >"$dir/enter.new" <<'ENTER'
#!/bin/sh
# enter USER COMMAND...
root=$(cd "$(dirname "$0")" && pwd)/root; user=$1; shift
exec unshare --mount sh -ec '
root=$1; user=$2; shift 2
mount --make-rprivate /; mount --bind "$root" "$root"; cd "$root"
mount --rbind /proc proc; mount --rbind /sys sys; mount --rbind /dev dev
umount -R sys/fs/cgroup 2>/dev/null || true; mount -t cgroup2 none sys/fs/cgroup
mkdir -p .old; pivot_root . .old; cd /; umount -l /.old; mount --make-rshared /
mkdir -p /run/user/1500; chown 1500:1500 /run/user/1500; chmod 700 /run/user/1500
if [ "$user" = root ]; then exec "$@"; fi
exec setpriv --reuid "$user" --regid "$user" --init-groups env -i HOME="/home/$user" XDG_RUNTIME_DIR=/run/user/1500 PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin "$@"
' sh "$root" "$user" "$@"
ENTER
  chmod +x "$dir/enter.new"; mv "$dir/enter.new" "$dir/enter"
fi
# into roots of before, too: nothing is taken from whoever works in them
if [ ! -x "$root/usr/bin/iperf3" ] || [ ! -x "$root/usr/bin/rootlesskit" ] || [ ! -x "$root/usr/bin/bwrap" ]; then
  say "adding what networks and starts are measured with"
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  "$dir/enter" root sh -ec 'apt-get update -qq; apt-get install -y -qq --no-install-recommends bubblewrap iperf3 rootlesskit slirp4netns' \
    >"$dir/network.log" 2>&1 </dev/null || { tail -n 20 "$dir/network.log" >&2; exit 1; }
fi
if [ "$docker" ] && [ ! -x "$root/usr/sbin/dockerd" ]; then
  say "adding Docker Engine and Docker Compose"
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  "$dir/enter" root sh -ec 'apt-get update -qq; apt-get install -y -qq --no-install-recommends docker.io docker-cli docker-compose iptables python3 busybox-static' \
    >"$dir/docker.log" 2>&1 </dev/null || { tail -n 20 "$dir/docker.log" >&2; exit 1; }
fi
echo "$dir"
