#!/bin/sh
# install.sh PACKAGE… : let root, or sudo, install the packages that are missing.
set -eu
packages=$(dirname -- "$0")/packages.sh
wanted=$(sh "$packages" --missing "$@")
[ -n "$wanted" ] || exit 0

began=$(date +%s)
echo "           installing system packages: $wanted…"
if [ "$(id -u)" = 0 ]; then
    sh "$packages" "$@"
elif command -v sudo >/dev/null; then
    # sudo drops the proxies that apt may need
    sudo env ${http_proxy:+"http_proxy=$http_proxy"} ${https_proxy:+"https_proxy=$https_proxy"} sh "$packages" "$@"
else
    echo "There is no sudo here. Ask an administrator to install: $wanted" >&2
    exit 1
fi
printf '  %5.1f s  system packages installed\n' "$(($(date +%s) - began))"
