# Says in one line why nothing can be written under $d, and how to mend it. Needs no room on any disk.
said() { printf '\036%s trouble %s\n' "$mark" "$*"; }
me=$(id -un 2>/dev/null || echo "$USER")
sudo='sudo '
[ "$(id -u 2>/dev/null)" != 0 ] || sudo=
elsewhere='or choose another place: `root` of the host in the configuration, `--root` of `towline host add`'
at=$d
while [ ! -e "$at" ] && [ -n "${at%/*}" ]; do at=${at%/*}; done
[ -e "$at" ] || at=/
set -- $(df -Pk "$at" 2>/dev/null | tail -n 1)
room=${4-1000}
mount=${6-$at}
set -- $(df -Pi "$at" 2>/dev/null | tail -n 1)
files=${2-0}
free=${4-1}
case $room$files$free in *[!0-9]*) room=1000 files=0 ;; esac
options=
[ ! -r /proc/mounts ] || while read -r device where kind its rest; do
	[ "$where" != "$mount" ] || options=$its
done </proc/mounts
if [ "$room" -lt 64 ]; then
	said "the disk is full: $room KiB are free in $mount. Make room: \`${sudo}du -xk $mount | sort -n | tail\` shows what takes it"
elif [ "$files" -gt 0 ] && [ "$free" -lt 8 ]; then
	said "no inodes are left in $mount: it holds too many files. \`${sudo}du -x --inodes $mount | sort -n | tail\` shows where they are"
elif case $options in ro | ro,*) true ;; *) false ;; esac; then
	said "$mount is mounted read-only: \`${sudo}mount -o remount,rw $mount\`, $elsewhere"
elif [ "$d" != "${d#"$HOME"/}" ] && [ ! -d "$HOME" ]; then
	said "$me has no home: $HOME is not there. Make it: \`sudo install -d -o $me -m 700 $HOME\`, $elsewhere"
elif [ ! -d "$at" ]; then
	said "$at is in the way: it is no directory. Move it away: \`mv $at $at.old\`"
elif [ ! -w "$at" ]; then
	set -- $(ls -ld "$at" 2>/dev/null)
	said "$me may not write in $at ($1, owner $3): \`sudo chown $me $at\`, $elsewhere"
else
	said
fi
