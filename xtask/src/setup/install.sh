#!/bin/sh
# install.sh PACKAGE... : as root, install packages of Debian or Ubuntu without starting a daemon,
# without making a PostgreSQL cluster and without asking anything. What is changed for that is
# undone at the end, also after a failure or Ctrl-C.
set -eu

export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C.UTF-8
policy=/usr/sbin/policy-rc.d
dropins=/etc/postgresql-common/createcluster.d
dropin=$dropins/pgherd-xtask.conf
units=/etc/systemd/system
# Packages whose daemon is not wanted: service and package.
daemons='etcd:etcd-server haproxy:haproxy'
marker='pgherd xtask, only while packages are being installed'

placed_policy=; made_dropins=; made_common=; masks=; new=

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null || true)" = installed ]; }
clusters() { ls -d /etc/postgresql/*/main 2>/dev/null || true; }

cleanup() {
    status=$?
    trap - EXIT
    trap '' INT TERM HUP
    [ -z "$placed_policy" ] || rm -f "$policy"
    rm -f "$dropin"
    # Ours only if nothing else has come to live there.
    [ -z "$made_dropins" ] || rmdir "$dropins" 2>/dev/null || true
    [ -z "$made_common" ] || rmdir /etc/postgresql-common 2>/dev/null || true
    if [ -n "$masks" ]; then
        rm -f $masks
        [ ! -d /run/systemd/system ] || systemctl daemon-reload || true
    fi
    # A package that we brought must not start its daemon at the next boot either.
    for daemon in $new; do
        service=${daemon%:*}; package=${daemon#*:}
        if [ -e "/lib/systemd/system/$service.service" ]; then
            # The variable: the helper insists on being called for a package.
            DPKG_MAINTSCRIPT_PACKAGE=$package deb-systemd-helper disable "$service.service" >/dev/null 2>&1 || true
        fi
        if [ -x "/etc/init.d/$service" ]; then
            # Only where an administrator's own policy let it start.
            [ -n "$placed_policy" ] || "/etc/init.d/$service" stop >/dev/null 2>&1 || true
            update-rc.d "$service" disable >/dev/null 2>&1 || true
        fi
    done
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# A policy of the administrator (or of a container's image) stays as it is; one that an earlier run
# of ours could not remove is taken over.
if [ ! -e "$policy" ] || grep -q "$marker" "$policy"; then
    placed_policy=yes
    printf '#!/bin/sh\n# %s\nexit 101\n' "$marker" >"$policy"
    chmod 755 "$policy"
fi

[ -d /etc/postgresql-common ] || made_common=yes
[ -d "$dropins" ] || made_dropins=yes
mkdir -p "$dropins"
printf '# %s\ncreate_main_cluster = false\n' "$marker" >"$dropin"

for daemon in $daemons; do
    service=${daemon%:*}; package=${daemon#*:}
    if installed "$package" || installed "$service"; then
        continue
    fi
    new="$new $daemon"
    mask=$units/$service.service
    if [ ! -e "$mask" ] && [ ! -L "$mask" ]; then
        mkdir -p "$units"
        masks="$masks $mask"
        ln -s /dev/null "$mask"
    fi
done

clusters_before=$(clusters)

apt-get install --yes --no-install-recommends \
    -o DPkg::Lock::Timeout=300 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
    "$@"

# A postgresql-common too old for the drop-in has made a cluster a moment ago, empty: away with it.
for cluster in $(clusters); do
    case " $(echo $clusters_before) " in
        *" $cluster "*) ;;
        *)
            version=$(basename "$(dirname "$cluster")")
            echo "removing the empty cluster $version/main that the package has just made"
            pg_dropcluster --stop "$version" main
            ;;
    esac
done
