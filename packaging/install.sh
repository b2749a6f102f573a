#!/bin/sh
# Installs the files of this archive; run it as root in the directory it lies in. `./install.sh --prefix DIR` copies the
# files below DIR and starts nothing.
set -eu
cd "$(dirname "$0")"
prefix=
[ "${1:-}" != --prefix ] || prefix=${2:?--prefix wants a directory}
mkdir -p "$prefix/usr" "$prefix/etc/towline/conf.d"
cp -R usr/. "$prefix/usr/"
# What was configured before stays.
[ -e "$prefix/etc/towline/towline.toml" ] || cp etc/towline/towline.toml "$prefix/etc/towline/towline.toml"
[ -z "$prefix" ] || exit 0
systemd-sysusers towline.conf
systemd-tmpfiles --create towline.conf
systemctl daemon-reload
systemctl enable --now towline.socket towline-backup.timer
if systemctl is-active --quiet towline.service; then
    systemctl restart towline.service
else
    systemctl enable --now towline.service
fi
