#!/bin/bash
# Signs a slot that build.sh has made, as an update for the cards of that image.
#
#   bundle.sh SLOT VERSION CERTIFICATE KEY BUNDLE
set -euo pipefail
t=$(mktemp -d "$(dirname "$5")/new.XXXXXX")
trap 'rm -rf "$t"' EXIT
mkdir "$t/bundle"
ln -f "$1" "$t/bundle/slot.img" 2>/dev/null || cp "$1" "$t/bundle/slot.img"
compatible=$(sed -n 's/^compatible=//p' "$(dirname "$0")/overlay/etc/rauc/system.conf")
printf '[update]\ncompatible=%s\nversion=%s\n[bundle]\nformat=verity\n[image.rootfs]\nfilename=slot.img\n' "$compatible" "$2" > "$t/bundle/manifest.raucm"
rauc --cert="$3" --key="$4" --keyring="$3" bundle "$t/bundle" "$t/new.raucb"
mv "$t/new.raucb" "$5"
