#!/bin/sh
# set-up.sh evaluation|check PACKAGE… : system packages, service user, code and virtual environment; what is there stays.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
kind=$1
shift

install() {
    wanted=$(sh "$here/packages.sh" --missing "$@")
    [ -n "$wanted" ] || return 0
    since=$(date +%s)
    echo "           installing system packages: $wanted…"
    if [ "$(id -u)" = 0 ]; then
        sh "$here/packages.sh" "$@" || return 1
    elif command -v sudo >/dev/null; then
        # sudo drops the proxies that apt may need
        sudo env ${http_proxy:+"http_proxy=$http_proxy"} ${https_proxy:+"https_proxy=$https_proxy"} \
            sh "$here/packages.sh" "$@" || return 1
    else
        echo "There is no sudo here. Ask an administrator to install: $wanted" >&2
        return 1
    fi
    printf '  %3d   s  system packages installed: %s\n' "$(($(date +%s) - since))" "$wanted"
}

if [ "$(id -u)" = 0 ] && ! id dicomsys >/dev/null 2>&1; then
    # Under the same lock as the packages: their scripts make users, too.
    flock /run/dicomsys-packages.lock sh -c 'id dicomsys >/dev/null 2>&1 || useradd --system --user-group \
        --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin dicomsys'
fi

install python3 python3-venv
trap 'wait; exit 130' INT
install "$@" &
code=0
/usr/bin/python3 -I "$here/prepare.py" "$kind" set-up || code=$?
wait $! || code=$?
exit "$code"
