#!/bin/sh
# packages.sh PACKAGE… : install those that are missing, as root. No service of the system is started by it.
set -eu
umask 022
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
no_cluster=/etc/postgresql-common/createcluster.d/dicomsys.conf
mark='# put here by dicomsys while it installs packages'

missing() {
    for package; do
        # A server from another repository has another package name; what counts is that it is there.
        if [ "$package" = postgresql ] && ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then continue; fi
        status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) || status=
        [ "$status" = installed ] || printf '%s ' "$package"
    done
}

tidy() {
    if grep -qsF "$mark" "$policy"; then rm -f "$policy"; fi
    rm -f "$no_cluster"
    rm -f "${log:-}"
}

if [ "${1:-}" = --missing ]; then
    shift
    missing "$@"
    exit 0
fi

exec 9>/run/dicomsys-packages.lock
flock 9
wanted=$(missing "$@")
[ -n "$wanted" ] || exit 0

log=$(mktemp)
trap tidy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
if [ ! -e "$policy" ] && [ ! -L "$policy" ]; then
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
    chmod 755 "$policy"
elif ! grep -qsF "$mark" "$policy"; then
    "$policy" rabbitmq-server start >/dev/null 2>&1 && answer=0 || answer=$?
    [ "$answer" = 101 ] || echo "note: this machine's own $policy lets new services start; it was left as it is"
fi
mkdir -p "${no_cluster%/*}"
printf "%s\ncreate_main_cluster = false\n" "$mark" >"$no_cluster"

tries=0 # another package manager may hold the lists; apt waits by itself for the other lock only
until apt-get update -q >"$log" 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -ge 5 ]; then
        echo "note: apt-get update failed; going on with the lists that are here"
        break
    fi
    sleep 3
done
# shellcheck disable=SC2086 # names of packages, split on purpose
if ! apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=600 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold $wanted >>"$log" 2>&1; then
    tail -n 30 "$log" >&2
    echo "apt-get could not install: $wanted" >&2
    exit 1
fi
# Nor shall they start with the machine: the instances of this project are private ones.
for service in rabbitmq-server orthanc; do
    case " $wanted" in
    *" $service "*) update-rc.d "$service" disable >/dev/null 2>&1 || true ;;
    esac
done
case " $wanted" in
*" rabbitmq-server "*) # brings Erlang's port mapper, which nothing of ours asks of the system
    ! command -v systemctl >/dev/null || systemctl disable epmd.socket epmd.service >/dev/null 2>&1 || true
    ;;
esac
