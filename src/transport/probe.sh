# Says what this machine is and has: name=value lines, then the login environment.
say() { printf '%s=%s\n' "$1" "$2"; }
where() { command -v "$1" 2>/dev/null | { read -r path && case $path in /*) echo "$path" ;; esac; }; }
say os "$(uname -s)"
say arch "$(uname -m)"
pretty=
if [ -r /etc/os-release ]; then pretty=$(. /etc/os-release && echo "$PRETTY_NAME"); fi
say system "${pretty:-$(uname -sr)}"
say hostname "$(hostname 2>/dev/null || uname -n)"
say user "$(id -un 2>/dev/null)"
say uid "$(id -u)"
say home "$HOME"
root=$(cd .. && pwd)
say root "$root"
say cores "$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null)"
if [ -r /proc/meminfo ]; then
	while read -r name value rest; do
		if [ "$name" = MemTotal: ]; then
			say memory "$value"
			break
		fi
	done </proc/meminfo
else
	say memory "$(($(sysctl -n hw.memsize 2>/dev/null || sysctl -n hw.physmem 2>/dev/null || echo 0) / 1024))"
fi
df -Pk "$root" 2>/dev/null | { read -r line; read -r device size used free share mount; say disk "$free"; say mount "$mount"; }
df -Pi "$root" 2>/dev/null | { read -r line; read -r device size used free rest; [ "${size:-0}" -eq 0 ] 2>/dev/null || say inodes "$free"; }
missing=
for program in cat chmod env find grep head ln mkdir mkfifo mv rm rmdir sleep tail tr wc; do
	command -v $program >/dev/null 2>&1 || missing="$missing $program"
done
say missing "$missing"
if [ -r /proc/loadavg ]; then
	read -r load rest </proc/loadavg
	say load "$load"
fi
if [ "$(uname -s)" = Linux ]; then
	say libc "$( (getconf GNU_LIBC_VERSION || ldd --version) 2>&1 | head -n 1)"
	boot=
	{ read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null
	say boot "$boot"
else
	say boot "$(sysctl -n kern.bootsessionuuid 2>/dev/null || sysctl -n kern.boottime 2>/dev/null)"
fi
say clock "$(date +%s)"
say login_shell "$SHELL"
say bash "$(where bash)"
say pwsh "$(where pwsh)"
say python "$(where python3 || where python)"
if cat --version >/dev/null 2>&1 && tail --version >/dev/null 2>&1; then
	say coreutils gnu
elif cat --help 2>&1 | grep -qi busybox; then
	say coreutils busybox
else
	say coreutils bsd
fi
say git "$(git --version 2>/dev/null)"
say tar "$(where tar)"
if node=$(where node) && [ -n "$node" ]; then
	say node_path "$node"
	say node "$(node --version 2>/dev/null)"
fi
for engine in docker podman; do
	if [ -n "$(where $engine)" ] && $engine version >/dev/null 2>&1 </dev/null; then
		say containers $engine
		say containers_path "$(where $engine)"
		break
	fi
done
kills=no
for file in /etc/systemd/logind.conf /etc/systemd/logind.conf.d/*.conf /usr/lib/systemd/logind.conf.d/*.conf; do
	if [ -r "$file" ] && grep -qi '^KillUserProcesses *= *\(yes\|true\|1\|on\)' "$file" && [ "$(id -u)" != 0 ]; then kills=yes; fi
done
[ ! -e "/var/lib/systemd/linger/$(id -un)" ] || kills=no
say kills "$kills"
printf '#!/bin/sh\nexit 0\n' >"probe.$$" && chmod 700 "probe.$$" && if "./probe.$$" 2>/dev/null; then say executable yes; else say executable no; fi
rm -f "probe.$$"
printf '\nenvironment\n'
env -0 2>/dev/null || env | tr '\n' '\000'
