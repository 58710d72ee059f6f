#!/bin/bash
# unpack.sh IMAGE ARCHITECTURE FOLDER
#
# The files of a real image (busybox, redis, nginx, postgres, clients) for one Debian architecture, as FOLDER/base and FOLDER/app. Debian's
# packages are only unpacked: no maintainer script runs, so no foreign code does, and nothing needs root. Owners and
# settings are added by src/images/debian.rs.
set -euo pipefail
. "$(dirname "$0")/../../ci/debian-packages.sh"
image=$1 arch=$2 out=$3
one_at_a_time "images-$arch"
rm -rf "$out"; mkdir -p "$out"
packages=$(mktemp -d "$DPACK_DEV_CACHE/unpack.XXXXXX"); trap 'rm -rf "$packages"' EXIT

case $arch in
  amd64) multiarch=x86_64-linux-gnu;;
  arm64) multiarch=aarch64-linux-gnu;;
  armhf) multiarch=arm-linux-gnueabihf;;
esac

merged() { # FOLDER: the links of a merged /usr, so that /lib/x and /usr/lib/x are one file
  mkdir -p "$1"/usr/{bin,sbin,lib}; ln -s usr/bin usr/sbin usr/lib "$1/"
  [ "$arch" != amd64 ] || { mkdir "$1/usr/lib64"; ln -s usr/lib64 "$1/lib64"; }
}

# closure PATH...: copies programs from the packages to the app layer, with the libraries they name and their loader
closure() {
  local queue=("$@") path name folder; local -A seen=()
  while [ ${#queue[@]} -gt 0 ]; do
    path=${queue[0]}; queue=("${queue[@]:1}")
    [ -z "${seen[$path]:-}" ] || continue
    seen[$path]=1
    [ -e "$packages$path" ] || die "no $path in the packages of $image for $arch"
    mkdir -p "$out/app$(dirname "$path")"
    cp -L --preserve=mode "$packages$path" "$out/app$path"
    for name in $(readelf -dlW "$packages$path" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p; s/.*program interpreter: \(.*\)\]/\1/p'); do
      case $name in
        /*) queue+=("/usr${name#/usr}");;
        *) for folder in /usr/lib/$multiarch /usr/lib/$multiarch/nginx; do [ ! -e "$packages$folder/$name" ] || queue+=("$folder/$name"); done;;
      esac
    done
  done
}

base() { # a merged /usr with busybox under all its names: hard links, as in the well-known image
  local bin=$out/base/usr/bin applet
  merged "$out/base"
  mkdir -p "$out"/base/{dev,etc,home,proc,run,sys,tmp,root,var/tmp}; chmod 1777 "$out/base/tmp" "$out/base/var/tmp"; chmod 700 "$out/base/root"
  unpack_only "$arch" "$packages/busybox" busybox-static; cp "$packages/busybox/bin/busybox" "$bin/busybox"; chmod 755 "$bin/busybox"
  while read -r applet; do ln "$bin/busybox" "$bin/$applet"; done <"$(dirname "$0")/applets"
  cat >"$out/base/etc/passwd" <<'P'
root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
redis:x:999:999:redis:/data:/bin/sh
nobody:x:65534:65534:nobody:/:/usr/sbin/nologin
P
  cut -d: -f1,2,4 "$out/base/etc/passwd" | sed 's/nobody/nogroup/; s/$/:/' >"$out/base/etc/group"
  printf 'hosts: files dns\npasswd: files\ngroup: files\n' >"$out/base/etc/nsswitch.conf"
}

app() { # PACKAGE... -- PROGRAM...
  local names=(); while [ "$1" != -- ]; do names+=("$1"); shift; done; shift
  rm -rf "$packages"; mkdir "$packages"; merged "$packages"
  unpack_all "$arch" "$packages" "${names[@]}"
  mkdir "$out/app"
  closure "$@" /usr/lib/$multiarch/libnss_files.so.2 /usr/lib/$multiarch/libnss_dns.so.2
}

base
case $image in
  busybox) ;;
  redis)
    app redis-server util-linux -- /usr/bin/redis-server /usr/bin/redis-cli /usr/bin/setpriv
    mkdir "$out/data" ;;
  nginx)
    app nginx -- /usr/sbin/nginx
    mkdir -p "$out"/app/etc/nginx/conf.d "$out"/app/var/{log,lib}/nginx "$out/app/usr/share/nginx/html"
    cp "$packages/etc/nginx/mime.types" "$out/app/etc/nginx/" ;;
  postgres) # what initdb asks for beside its programs: templates, two modules, one time zone
    version=15 share=/usr/share/postgresql/15 lib=/usr/lib/postgresql/15
    app "postgresql-$version" util-linux tzdata -- $lib/bin/{postgres,initdb,psql} $lib/lib/{plpgsql,dict_snowball}.so /usr/bin/setpriv
    mkdir -p "$out/app/usr/share/postgresql" "$out/app/usr/share/zoneinfo/Etc" "$out/app/run/postgresql"
    cp -r "$packages$share" "$out/app/usr/share/postgresql/"
    rm -rf "$out/app$share"/{man,extension/[!p]*}
    cp -L "$packages/usr/share/zoneinfo/Etc/UTC" "$out/app/usr/share/zoneinfo/Etc/"
    cp "$out/base/etc/passwd" "$out/base/etc/group" "$out/app/" ;;
  clients)
    app iperf3 curl iputils-ping bind9-dnsutils -- /usr/bin/{iperf3,curl,ping,dig} ;;
  *) die "unknown image $image" ;;
esac
