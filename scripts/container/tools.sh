#!/bin/sh
# Installs what tests/container builds and runs with, where it is missing: podman with runc (crun does not know the mixed
# cgroups of some machines) and mmdebstrap, which makes the base. Needs root and Debian 12.
set -eu

missing=
for tool in podman runc mmdebstrap; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "The container test needs root, and from Debian's packages:$missing" >&2
    exit 1
fi
apt-get update -qq
# shellcheck disable=SC2086  # one argument for each name
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
