#!/usr/bin/env bash
# Makes a package for Linux in target/packages, and prints its name: an archive, a Debian package
# with a systemd unit, or a container image. The binary is static: it runs on any Linux of this
# machine's architecture.
# Usage: scripts/package.sh archive|deb|image
# SKYFILL_BUILDER names the program that builds the image; podman, buildah or docker by default.
set -euo pipefail
wanted=${1:-}
case $wanted in archive | deb | image) ;; *) echo "usage: $0 archive|deb|image" >&2; exit 2 ;; esac
"$(dirname "$0")/setup.sh" package >&2
. "$(dirname "$0")/env.sh"

machine=$(uname -m)
case $machine in
  x86_64) debian_name=amd64 ;;
  aarch64) debian_name=arm64 ;;
  *) echo "packages are made for x86_64 and aarch64, not for $machine" >&2; exit 3 ;;
esac
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
out=target/packages
# The same commit makes the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

builder=${SKYFILL_BUILDER:-}
if [ "$wanted" = image ] && [ -z "$builder" ]; then
  for candidate in podman buildah docker; do
    if command -v "$candidate" >/dev/null; then builder=$candidate; break; fi
  done
  [ -n "$builder" ] || { echo "an image needs podman, buildah or docker; install one of them" >&2; exit 3; }
fi

target=$machine-unknown-linux-musl
rustup target list --installed | grep -qx "$target" || rustup target add "$target" >&2
# Without the feature pg-native, which would need a static libpq.
cargo build --release --locked -p skyfill --target "$target" >&2

# Everything that a package installs outside /etc, at the paths where it is installed.
install_below() {
  local root=$1 built=target/$target/release/skyfill
  rm -rf "$root"
  install -D -m 755 "$built" "$root/usr/bin/skyfill"
  # Names of functions stay, for the traces of panics.
  strip --strip-debug "$root/usr/bin/skyfill"
  "$built" man-pages "$root/usr/share/man/man1"
  gzip -9n "$root"/usr/share/man/man1/*.1
  mkdir -p "$root"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
  "$built" completions bash > "$root/usr/share/bash-completion/completions/skyfill"
  "$built" completions zsh > "$root/usr/share/zsh/vendor-completions/_skyfill"
  "$built" completions fish > "$root/usr/share/fish/vendor_completions.d/skyfill.fish"
  install -D -m 644 LICENSE-MIT "$root/usr/share/doc/skyfill/LICENSE-MIT"
  install -m 644 LICENSE-APACHE README.md CHANGELOG.md "$root/usr/share/doc/skyfill/"
}

mkdir -p "$out"
case $wanted in
  archive)
    name=skyfill-$version-$machine-linux
    install_below "$out/$name"
    tar -C "$out" --owner=0 --group=0 --sort=name --mtime="@$SOURCE_DATE_EPOCH" -c "$name" | gzip -9n > "$out/$name.tar.gz"
    (cd "$out" && sha256sum "$name.tar.gz" > "$name.tar.gz.sha256")
    echo "$out/$name.tar.gz"
    ;;
  deb)
    root=$out/deb package=$out/skyfill_${version}_$debian_name.deb
    install_below "$root"
    install -m 644 packaging/deb/copyright "$root/usr/share/doc/skyfill/"
    install -D -m 644 packaging/skyfill.service "$root/usr/lib/systemd/system/skyfill.service"
    # It may hold a password.
    install -D -m 640 packaging/skyfill.env "$root/etc/skyfill/skyfill.env"
    install -D -m 644 packaging/sysusers.conf "$root/usr/lib/sysusers.d/skyfill.conf"
    size=$(du -sk "$root" | cut -f1)
    mkdir "$root/DEBIAN"
    sed "s/@VERSION@/$version/; s/@ARCH@/$debian_name/; s/@SIZE@/$size/" packaging/deb/control > "$root/DEBIAN/control"
    install -m 644 packaging/deb/conffiles "$root/DEBIAN/"
    install -m 755 packaging/deb/{postinst,prerm,postrm} "$root/DEBIAN/"
    dpkg-deb --root-owner-group --build "$root" "$package" >&2
    echo "$package"
    ;;
  image)
    context=$out/image
    install_below "$context/root"
    install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$context/root/etc/ssl/certs/ca-certificates.crt"
    install -d -m 1777 "$context/root/tmp" "$context/root/data"
    cp packaging/Containerfile "$context/"
    # shellcheck disable=SC2086 # several options
    "$builder" build ${SKYFILL_IMAGE_OPTIONS:-} -t localhost/skyfill -f "$context/Containerfile" "$context" >&2
    echo localhost/skyfill
    ;;
esac
