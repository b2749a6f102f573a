# The one script Towline brings to a host. POSIX sh; runs in dash, bash, busybox ash, mksh and zsh's sh mode.
#
#   control MARK JOB OWNER create|attach
#                            sourced by the shell that reads the channel: defines what its next lines ask for
#   follow MARK JOB LANE AT TOOLS
#                            sourced too where that is possible: sends a spool from an offset on, and what is appended, until standard input ends
#   lane JOB LANE            supervises steps one after the other, detached from every connection
#   next JOB LANE STEP       waits for the lane's next step, probably that one, and becomes it
#   alarm JOB LANE           ends the steps of a lane whose time is over
#   watch JOB STEP SECONDS   the same for one step with little time
#   ladder JOB STEP INT TERM ends a step's whole tree, with so many tenths of a second between the signals
#   collect DAYS             removes jobs that nobody came back to, ends supervisors whose job is gone, and lists them
#   sweep JOB ID             ends what carries the job's tracking id, and lists it
#
# A job's directory: owner, boot, <lane>.spool, <lane>.fifo, <lane>.sup, steps/<n>.{begun,pid,...}. The right to start step n is
# the creation of steps/<n>.begun; its second line says that the end is told. Files are few: each costs more than a step's other
# messages where inodes were freed a moment ago. A step's end is a line in its spool that begins with a byte 036 and a number that
# only this supervisor and the daemon know.

umask 077

case $0 in
*launcher-*) here=$0 ;;
*) here=$l ;;
esac
R=${here%/*}
case $R in
/*) ;;
*)
	# It goes into other directories.
	R=$(pwd)/$R
	here=$R/${here##*/}
	;;
esac
mode=$1
shift

# boot_identity: another value means that everything that ran here is gone.
boot_identity() {
	boot=
	if [ -r /proc/sys/kernel/random/boot_id ]; then
		read -r boot </proc/sys/kernel/random/boot_id
		started 1
		boot=$boot.$start
	else
		boot=$(sysctl -n kern.bootsessionuuid 2>/dev/null || sysctl -n kern.boottime 2>/dev/null)
		boot=$(printf %s "$boot" | tr -c 'A-Za-z0-9\n' -)
	fi
}

# started PID: when the process started, as one word, and its group; empty without the process.
started() {
	start=
	if { read -r start <"/proc/$1/stat"; } 2>/dev/null; then
		start=${start##*) }
		set -- $start
		[ $# -ge 20 ] || set -- ? ? ? 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 ?
		group=$3
		shift 19
		start=$1
	elif [ ! -e /proc/self/stat ]; then
		# Elsewhere ps knows. Whose language it speaks must not matter.
		start=
		set -- $(LC_ALL=C ps -o pgid= -o lstart= -p "$1" 2>/dev/null)
		group=${1-}
		while [ $# -gt 1 ]; do
			shift
			start=$start${start:+-}$1
		done
	else
		start=
	fi
}

# alive PID START: whether that very process is there.
alive() {
	kill -0 "$1" 2>/dev/null || return 1
	started "$1"
	[ "$start" = "$2" ]
}

# nap: a tenth of a second where sleep knows fractions, else a whole one; adds the tenths to `turns`.
nap() {
	if sleep 0.1 2>/dev/null; then
		turns=$((turns + 1))
	else
		sleep 1
		turns=$((turns + 10))
	fi
}

# say WORDS: an answer.
say() {
	printf '\036%s %s\n' "$mark" "$*"
}

# A shell reads this file as it goes: what a mode does not need stands behind the place where it begins.

# ----------------------------------------------------------------------------------------------------------------- follow

follow() {
	mark=$1
	J=$R/jobs/$2
	lane=$3
	if ! cd "$J" 2>/dev/null; then
		say gone
		exit 1
	fi
	boot_identity
	was=
	read -r was <boot
	if [ "$was" != "$boot" ]; then
		say rebooted
		exit 1
	fi
	if [ ! -e "$lane.spool" ]; then
		say absent
		exit 1
	fi
	# Followers of connections that broke without a word.
	for one in "$lane".follower.*; do
		[ -r "$one" ] || continue
		pid=
		began=
		read -r pid began <"$one"
		[ -z "$pid" ] || ! alive "$pid" "$began" || kill "$pid" 2>/dev/null
		rm -f "$one"
	done
	say following
	# Standard input ends with the connection; the reader of the spool ends with it and not on its own.
	exec 4<&0
	if [ "$5" = gnu ] || [ ! -d /proc ] || tail --version >/dev/null 2>&1 </dev/null; then
		tail -c "+$(($4 + 1))" -f "$lane.spool" &
	else
		{
			exec 3<"$lane.spool"
			tail -c "+$(($4 + 1))" <&3
			while cat <&3; do nap; done
		} &
	fi
	reader=$!
	trap 'kill "$reader" 2>/dev/null; rm -f "$J/$lane.follower.$$"; exit 0' TERM
	started $$
	echo "$$ $start" >"$lane.follower.$$" 2>/dev/null
	while read -r line <&4; do :; done
	kill "$reader" 2>/dev/null
	rm -f "$lane.follower.$$"
}

if [ "$mode" = follow ]; then
	follow "$@"
	exit
fi

# ------------------------------------------------------------------------------------------------------------------- lane

# The programs that make a process the leader of a session of its own.
own_session=
if command -v setsid >/dev/null 2>&1; then
	own_session=setsid
elif command -v perl >/dev/null 2>&1; then
	own_session=perl
elif command -v python3 >/dev/null 2>&1; then
	own_session=python3
fi
case $own_session in
perl) run_apart() { perl -MPOSIX=setsid -e 'setsid(); exec {$ARGV[0]} @ARGV' -- "$@"; } ;;
python3) run_apart() { python3 -c 'import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])' "$@"; } ;;
setsid) run_apart() { setsid "$@"; } ;;
*) run_apart() { "$@"; } ;;
esac

# detach COMMAND...: started in a session of its own with default signals, and not waited for. An asynchronous list of the
# shell would leave SIGINT ignored in all that the steps start, so the fork is left to setsid, which forks when it leads a group.
detach() {
	case $own_session in
	setsid) setsid setsid "$@" ;;
	perl) perl -MPOSIX=setsid -e 'fork and exit; setsid(); exec {$ARGV[0]} @ARGV' -- "$@" ;;
	python3) python3 -c 'import os, sys; os.fork() and os._exit(0); os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])' "$@" ;;
	*) "$@" & ;;
	esac
}

# ended STEP: whether its end is told.
ended() {
	word=
	{ read -r word && read -r word; } 2>/dev/null <"steps/$1.begun" && [ "$word" = ended ]
}

# tell_ended: the second line of the step's begun file. What was never begun has an empty first one.
tell_ended() {
	{ [ -s "steps/$step.begun" ] || echo; } >>"steps/$step.begun" && echo ended >>"steps/$step.begun"
}

# make_room: the disk is full. The reserve is for the end of a step. Without a job there is nothing to write it into any more.
make_room() {
	[ -e owner ] || exit 1
	rm -f reserve
	nap
}

# end_mark: the step's end in its spool, with its command files when they are small enough to be written at once.
end_mark() {
	some=
	for one in env output path state summary; do
		[ ! -s "steps/$step.$one" ] || [ ! -f "steps/$step.$one" ] || some=$step
	done
	line="$nonce $step $kind $code"
	if [ -z "$some" ]; then
		until printf '\036%s 0 0 0 0 0\n' "$line" >>"$lane.spool"; do
			make_room
		done
	else
		sizes=
		total=0
		for one in env output path state summary; do
			size=0
			if [ -f "steps/$step.$one" ]; then
				size=$(wc -c <"steps/$step.$one")
				size=$((size))
			fi
			sizes="$sizes $size"
			total=$((total + size))
		done
		if [ "$total" -le 65000 ] && {
			printf '\036%s%s\n' "$line" "$sizes"
			for one in env output path state summary; do
				[ ! -s "steps/$step.$one" ] || [ ! -f "steps/$step.$one" ] || cat "steps/$step.$one"
			done
		} >"steps/$step.mark" && cat "steps/$step.mark" >>"$lane.spool"; then
			:
		else
			# Too much to be written in one piece beside what a left-over process may write: fetched from the files.
			until printf '\036%s apart%s\n' "$line" "$sizes" >>"$lane.spool"; do
				make_room
			done
		fi
	fi
	tell_ended || {
		rm -f reserve
		tell_ended
	}
	busy=
}

# next JOB LANE STEP: waits for its words and becomes the step. With the lane its input ends, and so does it.
next() {
	J=$1
	lane=$2
	expected=$3
	me=${BASHPID-$$}
	{
		echo 500 >/proc/self/oom_score_adj
		set -C
		# Never emptied: what is there may be another lane's.
		for s in env output path state summary artifacts; do true >"steps/$expected.$s"; done
		set +C
	} 2>/dev/null
	while read -r who number from; do
		case $who in
		"$me") break ;;
		any) [ "$number" != "$expected" ] || break ;;
		esac
	done <&4
	[ -n "$from" ] || exit 0
	p=$J/steps/$number.
	exec >>"$lane.spool" 2>&1 </dev/null 4<&-
	if [ "$who" = any ]; then
		# Nobody else knows who this is.
		started "$me"
		echo "$me $start" >"${p}pid"
	fi
	[ "$number" = "$expected" ] || for s in env output path state summary artifacts; do true >"$p$s"; done
	if [ -r "${p}start.$from" ]; then . "./steps/$number.start.$from"; fi
	echo "##[error]The start file of step $number is gone."
	echo >"${p}unstarted"
	exit 126
}

# prepare: the process of the next step is there before the step is asked for. Only a shell that knows process groups can have
# it beside itself: elsewhere it would have SIGINT ignored, and so would all that a step starts. There it starts with the step.
prepare() {
	child=
	if [ -n "$ahead" ]; then
		# Two pipes by turns: the one before may not have heard its words yet.
		if [ "$side" = a ]; then side=b; else side=a; fi
		(next "$J" "$lane" "$((step + 1))") 3<&- 4<"$lane.words.$side" 5>&- 6>&- 8<&- &
		child=$!
		started "$child"
		child_start=$start
	fi
}

# last_words: a shell that cannot fork exits. A step that runs is waited for even so, and its end is told without any help.
last_words() {
	[ -n "$busy" ] || return
	kind=n
	code=254
	if [ -n "$running" ]; then
		kind=c
		wait "$running"
		code=$?
	fi
	line="$nonce $step $kind $code apart"
	for one in env output path state summary; do
		if [ -s "steps/$step.$one" ]; then line="$line 1"; else line="$line 0"; fi
	done
	printf '\036%s\n' "$line" >>"$lane.spool" && echo ended >>"steps/$step.begun"
}

# perform FROM LIMIT: the step, from its start to its end.
perform() {
	kind=c
	code=130
	running=
	if [ -e "steps/$step.cancelled" ]; then
		kind=x
		end_mark
		return
	fi
	if [ -n "$child" ]; then
		echo "$child $step $1" 1<>"$lane.words.$side"
		running=$child
		prepare
	else
		echo "any $step $1" 1<>"$lane.words.$side"
	fi
	case $2 in
	0 | watch) ;;
	*)
		read -r now rest </proc/uptime
		echo "$step $((${now%.*} + ${2%.*} + 1))" >>"$lane.deadline"
		;;
	esac
	if [ -n "$running" ]; then
		wait "$running"
		code=$?
	else
		# In the foreground its signals are as they should be.
		run_apart /bin/sh "$here" next "$J" "$lane" "$step" 3<&- 4<"$lane.words.$side" 5>&- 6>&- 8<&-
		code=$?
	fi
	if [ -e "steps/$step.unstarted" ]; then kind=n; fi
	if [ -e "steps/$step.timedout" ]; then
		kind=t
	elif [ -e "steps/$step.cancelled" ]; then
		kind=x
	fi
	case $kind in
	t | x)
		# The end is told when the whole tree is gone.
		turns=0
		until [ -e "steps/$step.swept" ] || [ "$turns" -ge 300 ]; do
			nap
		done
		;;
	esac
	end_mark
	# Emptied rather than removed: that starts no process, and the next step waits for it.
	for one in "steps/$step.start.$1" "steps/$step.mark" "steps/$step.clean"; do
		[ ! -e "$one" ] || true >"$one"
	done
	# What is said of the next step already is kept for its end.
	while [ -n "$script" ] || read -r of script <&8; do
		[ "$of" -le "$step" ] || break
		[ ! -f "$script" ] || [ -L "$script" ] || true >"$script"
		script=
	done 2>/dev/null
	[ "$2" != watch ] || for one in "steps/$step.watch."*; do
		[ -r "$one" ] || continue
		pid=
		began=
		read -r pid began <"$one"
		[ -z "$pid" ] || ! alive "$pid" "$began" || kill "$pid" 2>/dev/null
	done
}

# any_alive FILE...: whether one of the processes that these files name is there.
any_alive() {
	for one in "$@"; do
		[ -r "$one" ] || continue
		pid=
		began=
		read -r pid began <"$one"
		if [ -n "$pid" ] && alive "$pid" "$began"; then return 0; fi
	done
	return 1
}

# hear: the lane's next request. A shell that can looks about every 20 s while nothing runs: it has nothing more to wait for when
# its job is gone, or when nobody followed it for a week.
hear() {
	if [ -z "$looks" ]; then
		read -r verb number from limit nonce <&3
		return
	fi
	first=
	while [ -z "$first" ]; do
		# A request is written at once: after its first letter the rest is there.
		if IFS= read -r -t 20 -n 1 first <&3; then
			idle=0
			continue
		elif [ $? -le 128 ]; then
			return 1
		fi
		[ -e owner ] || return 1
		if any_alive "$lane".follower.*; then idle=0; else idle=$((idle + 1)); fi
		[ "$idle" -lt 30240 ] || return 1
	done
	read -r verb number from limit nonce <&3
	verb=$first$verb
}

# leave: there is no room for a supervisor. The next one, which is asked for soon, has the reserve.
leave() {
	rm -f reserve "$lane.sup"
	rmdir "$lane.lock"
	exit 1
}

lane() {
	J=$1
	lane=$2
	cd "$J" || exit 1
	# One supervisor to a lane: two would share out the bytes of one request. The creation of the lock decides, or, when its
	# owner is dead, the removal of its name.
	turns=0
	if ! mkdir "$lane.lock" 2>/dev/null; then
		while :; do
			pid=
			began=
			[ ! -r "$lane.sup" ] || read -r pid began <"$lane.sup"
			if [ -n "$pid" ]; then
				if alive "$pid" "$began"; then exit 0; fi
				mv "$lane.sup" "$lane.sup.$$" 2>/dev/null && break
			fi
			[ -d "$lane.lock" ] && [ "$turns" -lt 30 ] || exit 0
			nap
		done
	fi
	# What is said to the processes of steps; one that is left from a dead lane has another pipe.
	{ [ ! -e "$lane.words.a" ] && [ ! -e "$lane.words.b" ]; } || rm -f "$lane.words.a" "$lane.words.b"
	mkfifo "$lane.words.a" "$lane.words.b" && exec 5<>"$lane.words.a" 6<>"$lane.words.b" || leave
	# The files that go with the end of their step.
	: >>"$lane.temporary" && exec 8<"$lane.temporary" || leave
	script=
	side=a
	started $$
	# Who cannot be told from a dead one must not run.
	echo "$$ $start" >"$lane.sup" || leave
	ahead=
	if [ -n "${BASH_VERSION-}" ] && [ "$lane" = main ] && set -m 2>/dev/null; then ahead=yes; fi
	# The oldest cannot tell silence from an end.
	looks=
	case ${BASH_VERSION-} in '' | [123].*) ;; *) looks=yes ;; esac
	idle=0
	step=0
	prepare
	busy=
	running=
	trap 'last_words' EXIT
	while hear; do
		case $verb in
		step) ;;
		*) break ;;
		esac
		[ -n "$nonce" ] || continue
		set -C
		if { echo "$child ${child:+$child_start}" >"steps/$number.begun"; } 2>/dev/null; then
			set +C
			step=$number
			busy=yes
			perform "$from" "$limit"
			busy=
		elif [ -s "steps/$number.begun" ]; then
			set +C
			rm -f "steps/$number.start.$from"
		else
			# Nowhere to write, or no room in the file that was made: the step was not started, and its end says so.
			set +C
			step=$number
			kind=n
			code=254
			end_mark
		fi
	done
	trap - EXIT
	[ -z "$child" ] || kill "$child" 2>/dev/null
	pid=
	began=
	[ ! -r "$lane.alarm" ] || read -r pid began <"$lane.alarm"
	[ -z "$pid" ] || ! alive "$pid" "$began" || kill "$pid" 2>/dev/null
	rm -f "$lane.sup"
	rmdir "$lane.lock"
}

case $mode in
lane)
	lane "$@"
	exit
	;;
next)
	next "$@"
	exit
	;;
esac

# ---------------------------------------------------------------------------------------------------------------- control

# The requests are lines of shell themselves, each in braces so that one that was cut off is not run. A text that comes with a
# request is in `p`, the names of a step's temporary files in `t`; a text that is too long for that, or is none, is in the file that `fetch` left.

# fetch LENGTH: bytes from standard input into a file. The other side sends nothing before it is told to, so this shell has not
# read ahead, and nothing after them.
fetch() {
	say go
	if head -c "$1" >"incoming.$$" && [ "$(wc -c <"incoming.$$")" -eq "$1" ]; then
		say fetched
	else
		say failed "cannot write in $J: $(env echo 2>&1 >>"incoming.$$")"
	fi
}

# take FILE: what came with the request, into a file.
take() {
	if [ -n "$p" ]; then
		w "$p" >"$1"
	else
		mv -f "incoming.$$" "$1"
	fi
}

# w TEXT: says it as it is.
case ${KSH_VERSION-} in
*MIRBSD*) w() { print -rn -- "$1"; } ;;
*) w() { printf %s "$1"; } ;;
esac

# unable TEXT: says why nothing can be done, and waits for whoever wants to know more.
unable() {
	say failed "$*"
	exec /bin/sh
}

# open_job OWNER create|attach: creates the job's directory, or looks at what is there.
open_job() {
	boot_identity
	how=attached
	if [ "$2" = attach ]; then
		if [ ! -d "$J" ]; then
			say gone
			exit 1
		fi
	elif mkdir "$J" "$J/steps" 2>/dev/null; then
		how=new
	elif [ ! -d "$J" ]; then
		mkdir -p "$R/jobs" && mkdir "$J" && how=new || unable "cannot make $J: $(mkdir -p "$J" 2>&1)"
	fi
	if [ -s "$J/owner" ]; then
		read -r owner <"$J/owner"
		if [ "$owner" != "$1" ]; then
			say foreign
			exit 1
		fi
	else
		{ [ -d "$J/steps" ] || mkdir "$J/steps"; } && echo "$boot" >"$J/boot" && echo "$1" >"$J/owner" &&
			true >>"$J/main.spool" ||
			unable "cannot write in $J: $(env echo "$1" 2>&1 >"$J/owner")"
	fi
	was=
	read -r was <"$J/boot"
	if [ "$was" != "$boot" ]; then
		say rebooted
		exit 1
	fi
	cd "$J" || exit 1
	[ -e reserve ] || printf %16384s '' >reserve 2>/dev/null
}

# open_lane LANE: the supervisor that takes this lane's steps runs, and file descriptor 7 is its mouth.
open_lane() {
	if [ "$1" = "$opened" ] && kill -0 "$supervisor" 2>/dev/null; then return 0; fi
	opened=
	[ -e "$1.spool" ] || : >>"$1.spool"
	[ -p "$1.fifo" ] || mkfifo "$1.fifo" 2>/dev/null || [ -p "$1.fifo" ] || return 1
	exec 7<>"$1.fifo"
	pid=
	began=
	[ ! -r "$1.sup" ] || read -r pid began <"$1.sup"
	case $launched in
	*" $1 "*) [ -n "$pid" ] || return 0 ;;
	esac
	if [ -z "$pid" ] || ! alive "$pid" "$began"; then
		launched="$launched $1 "
		with=/bin/sh
		[ "$1" != main ] || ! command -v bash >/dev/null 2>&1 || with=bash
		detach env -i PATH="$PATH" HOME="$HOME" "$with" "$here" lane "$J" "$1" 3<&7 7<&- </dev/null >/dev/null 2>>"$1.trouble"
	else
		# Known to be the one that is meant; a look asks again.
		opened=$1
		supervisor=$pid
	fi
}

# look LANE STEP: what is known of a step.
look() {
	begun=no
	over=no
	supervised=no
	opened=
	[ ! -e "steps/$2.begun" ] || begun=yes
	! ended "$2" || over=yes
	pid=
	began=
	[ ! -r "$1.sup" ] || read -r pid began <"$1.sup"
	# One that was started and is not there did not come far.
	if [ -n "$pid" ] && alive "$pid" "$began"; then supervised=yes; else launched=; fi
	say state "$begun" "$over" "$supervised" $(wc -c <"$1.spool")
}

control() {
	mark=$1
	launched=
	opened=
	guarded=
	attempt=0
	p=
	t=
	J=$R/jobs/$2
	# An answer that nobody hears ends nothing that was begun. A handler, since what is ignored would be ignored in all that starts.
	trap : PIPE
	# Shells that read their program byte by byte are spared long texts.
	pace=quick
	case ${BASH_VERSION-}${KSH_VERSION-}${ZSH_VERSION-} in ?*) pace=slow ;; esac
	if [ -n "$2" ]; then
		open_job "$3" "$4"
		say ready "$how" "$pace" "$J"
		# Meanwhile whoever asked has the spool followed. Whoever comes later finds it, or has it started with the first step that
		# is asked for.
		[ "$how" != new ] || open_lane main
	else
		J=$R/scratch
		mkdir -p "$J" && cd "$J" || unable "cannot make $J: $(mkdir -p "$J" 2>&1)"
		trap 'rm -f "$J"/*.$$' EXIT
		say ready scratch "$pace" "$J"
	fi
}

# start STEP LANE TIMEOUT NONCE: the step's start file comes with it
start() {
	attempt=$((attempt + 1))
	file=steps/$1.start.$$.$attempt
	if ! take "$file" 2>/dev/null; then
		say failed "cannot write $J/$file: $(env echo 2>&1 >>"$file")"
		rm -f "$file"
		return
	fi
	limit=$3
	case $3 in
	0) ;;
	*) if [ "${3%.*}" -lt 60 ] || [ ! -r /proc/uptime ]; then limit=watch; fi ;;
	esac
	if [ -e "steps/$1.begun" ]; then
		rm -f "$file"
		say begun
		# Whoever asked before may have ended with its connection before all of this was done.
		ended "$1" || guard "$@"
		return
	fi
	open_lane "$2" || {
		say failed "cannot make a pipe in $J"
		return
	}
	echo "step $1 $$.$attempt $limit $4" >&7
	[ "$2" = main ] || echo quit >&7
	say queued
	guard "$@"
}

# guard STEP LANE TIMEOUT: what goes with a step that was asked for. Done again, it is done once.
guard() {
	[ -z "$t" ] || w "$t" >>"$2.temporary"
	case $limit in
	0) ;;
	watch) any_alive "steps/$1.watch."* || apart watch "$J" "$1" "$3" ;;
	*)
		if [ "$2" != "$guarded" ] || ! kill -0 "$guardian" 2>/dev/null; then
			pid=
			began=
			[ ! -r "$2.alarm" ] || read -r pid began <"$2.alarm"
			if [ -n "$pid" ] && alive "$pid" "$began"; then
				guarded=$2
				guardian=$pid
			else
				apart alarm "$J" "$2"
			fi
		fi
		;;
	esac
}

# apart MODE ARGUMENT...: this script, on its own.
apart() {
	detach /bin/sh "$here" "$@" </dev/null >/dev/null 2>&1 7<&-
}

# cancel STEP INT TERM, in tenths of a second
cancel() {
	[ -e "steps/$1.cancelled" ] || echo >"steps/$1.cancelled"
	if ended "$1"; then
		say ended
	else
		apart ladder "$J" "$1" "$2" "$3"
		say cancelling
	fi
}

# input: what came is the standard input of the next command
input() {
	take "input.$$" 2>/dev/null || say failed "cannot write in $J: $(env echo 2>&1 >>"input.$$")"
}

# become: what came is a script that this shell becomes; then the channel is its own
become() {
	if take "command.$$" 2>/dev/null; then
		say becoming
		exec /bin/sh "$J/command.$$" 7<&-
	fi
	say failed "cannot write in $J: $(env echo 2>&1 >>"command.$$")"
}

# run TOKEN STDIN: what came is a script; its output goes out as it comes, then the token
run() {
	if ! take "command.$$" 2>/dev/null; then
		say failed "cannot write in $J: $(env echo 2>&1 >>"command.$$")"
		return
	fi
	if [ "$2" = - ]; then from=/dev/null; else from=input.$$; fi
	/bin/sh "command.$$" <"$from" 7<&-
	status=$?
	printf '\036%s %s\n' "$1" "$status"
	printf '\036%s %s\n' "$1" "$status" >&2
}

finish() {
	for one in *.fifo; do
		[ ! -p "$one" ] || echo quit 1<>"$one"
	done
	for one in *.follower.* *.alarm steps/*.watch.*; do
		[ -r "$one" ] || continue
		pid=
		began=
		read -r pid began <"$one"
		[ -z "$pid" ] || ! alive "$pid" "$began" || kill "$pid" 2>/dev/null
	done
	set --
	for one in *.temporary; do
		[ -s "$one" ] || continue
		while read -r step file; do set -- "$@" "$file"; done <"$one"
	done
	[ $# -eq 0 ] || rm -f "$@"
	cd /
	# The lane is about to end and may still make a file.
	turns=0
	until { rm -rf "$J" 2>/dev/null && [ ! -e "$J" ]; } || [ "$turns" -ge 50 ]; do nap; done
	if [ -e "$J" ]; then
		say failed "cannot remove $J: $(rm -rf "$J" 2>&1)"
	else
		say finished
	fi
	exit 0
}

if [ "$mode" = control ]; then
	control "$@"
	return
fi

# ------------------------------------------------------------------------------------------------------------------ alarm

# doze SECONDS: ends with this process when it is told to go.
sleeper=
doze() {
	# Each by itself: of a list, the number would be that of a shell, whose sleep stays when it goes.
	sleep "$1" 2>/dev/null &
	sleeper=$!
	wait "$sleeper" || {
		sleep 1 &
		sleeper=$!
		wait "$sleeper"
	}
	sleeper=
}

# ring: the step's time is over.
ring() {
	if [ -e owner ] && ! ended "$step"; then
		echo >"steps/$step.timedout"
		/bin/sh "$here" ladder "$J" "$step" 75 25
	fi
}

alarm() {
	J=$1
	lane=$2
	cd "$J" || exit 1
	trap '[ -z "$sleeper" ] || kill "$sleeper" 2>/dev/null; exit 0' TERM
	started $$
	echo "$$ $start" >"$lane.alarm"
	while [ -e owner ]; do
		step=
		until=
		left=10
		# The last line is the one that counts.
		[ ! -r "$lane.deadline" ] || while read -r number time; do
			step=$number
			until=$time
		done <"$lane.deadline"
		read -r now rest </proc/uptime
		if [ -n "$until" ] && ! ended "$step"; then
			left=$((until - ${now%.*}))
			if [ "$left" -le 0 ]; then
				ring
				left=1
			fi
		fi
		[ "$left" -le 10 ] || left=10
		doze "$left"
	done
}

watch() {
	J=$1
	step=$2
	cd "$J" || exit 1
	trap '[ -z "$sleeper" ] || kill "$sleeper" 2>/dev/null; exit 0' TERM
	started $$
	echo "$$ $start" >"steps/$step.watch.$$"
	# Its time counts from its start, or the start that is asked for again.
	until [ -e "steps/$step.begun" ] || [ ! -e owner ]; do doze 0.1; done
	ended "$step" || doze "$3"
	ring
	rm -f "steps/$step.watch.$$"
}

# ----------------------------------------------------------------------------------------------------------------- ladder

grep_sees=

# tagged TEXT: the processes whose environment holds the text.
tagged() {
	if [ -r /proc/self/environ ]; then
		if [ -z "$grep_sees" ]; then
			# busybox's sees nothing behind a NUL.
			grep_sees=first
			[ -z "$(printf 'a\000b\n' | grep -cF b | grep 1)" ] || grep_sees=all
		fi
		if [ "$grep_sees" = all ]; then
			found=$(grep -lsF -- "$1" /proc/[0-9]*/environ)
		else
			found=
			for one in /proc/[0-9]*/environ; do
				if [ -r "$one" ] && tr '\000' '\n' 2>/dev/null <"$one" | grep -qF -- "$1"; then found="$found $one"; fi
			done
		fi
		pids=
		for one in $found; do
			one=${one#/proc/}
			pids="$pids ${one%/environ}"
		done
	else
		pids=$(ps axeww -o pid= -o command= 2>/dev/null | grep -F -- "$1" | grep -v 'grep -F' |
			while read -r one rest; do echo "$one"; done)
	fi
}

# signal_container SIGNAL: what runs in a container is reached by the step's own script, which may not hold up the ladder.
# With 0 it tells whether anything is there.
signal_container() {
	rm -f "$J/steps/$n.signalled"
	{
		/bin/sh "$J/steps/$n.signal" "$1"
		echo $? >"$J/steps/$n.signalled.$$"
		mv -f "$J/steps/$n.signalled.$$" "$J/steps/$n.signalled"
	} </dev/null >/dev/null 2>&1 &
	waits=0
	while [ ! -e "$J/steps/$n.signalled" ] && [ "$waits" -lt 50 ]; do
		sleep 0.1 2>/dev/null || sleep 1
		waits=$((waits + 1))
	done
	# Whoever counts tenths of a second counts these too: an engine may take its time.
	turns=$((turns + waits))
	answer=1
	[ ! -e "$J/steps/$n.signalled" ] || read -r answer <"$J/steps/$n.signalled"
	return "$answer"
}

# find_leader: who the step's process is: its supervisor knew before it began, or it said so itself.
find_leader() {
	leader=
	begun_at=
	[ ! -r "$J/steps/$n.begun" ] || read -r leader begun_at <"$J/steps/$n.begun"
	[ ! -r "$J/steps/$n.pid" ] || read -r leader begun_at <"$J/steps/$n.pid"
}

# tree: the living processes of the step: its group, and what carries the name of its command files.
tree() {
	find_leader
	if [ -n "$leader" ]; then
		# Another process may have its number by now; without a process the group may still have others.
		started "$leader"
		[ -z "$start" ] || [ "$start" = "$begun_at" ] || leader=
	fi
	group_alive=
	if [ -n "$leader" ] && kill -0 "-$leader" 2>/dev/null; then group_alive=yes; fi
	tagged "$J/steps/$n."
	others=
	for one in $pids; do
		[ "$one" != $$ ] || continue
		group=
		started "$one"
		[ -n "$start" ] || continue
		if [ -z "$leader" ] || [ "$group" != "$leader" ]; then others="$others $one"; fi
	done
	[ -z "$group_alive$others" ] || return 0
	# The engine's client is gone: what it started may not be.
	[ -s "$J/steps/$n.signal" ] && signal_container 0
}

signal_tree() {
	if [ -s "$J/steps/$n.signal" ]; then
		signal_container "$1"
		# The engine's client ends when what it waits for has ended, and tells how.
		[ "$1" = KILL ] || return 0
	fi
	[ -z "$group_alive" ] || kill "-$1" "-$leader" 2>/dev/null
	[ -z "$others" ] || kill "-$1" $others 2>/dev/null
}

# wait_gone TENTHS
wait_gone() {
	turns=0
	while [ "$turns" -lt "$1" ]; do
		tree || return 0
		nap
	done
	return 1
}

ladder() {
	J=$1
	n=$2
	cd / || exit 1
	# A step that was begun this moment tells its process soon.
	turns=0
	find_leader
	while [ -e "$J/steps/$n.begun" ] && [ -z "$leader" ] && ! (cd "$J" && ended "$n") && [ "$turns" -lt 20 ]; do
		nap
		find_leader
	done
	if tree; then
		signal_tree INT
		if ! wait_gone "$3"; then
			tree
			signal_tree TERM
			wait_gone "$4"
		fi
	fi
	quiet=0
	turns=0
	while [ "$quiet" -lt 2 ] && [ "$turns" -lt 50 ]; do
		if tree; then
			quiet=0
			signal_tree KILL
			nap
		else
			quiet=$((quiet + 1))
		fi
		turns=$((turns + 1))
	done
	[ "$quiet" -ge 2 ] || printf '%s\n' "$leader $others" >"$J/steps/$n.survivors"
	echo >"$J/steps/$n.swept"
}

# ------------------------------------------------------------------------------------------------------------------ sweep

sweep() {
	quiet=0
	turns=0
	seen=" "
	while [ "$quiet" -lt 2 ] && [ "$turns" -lt 50 ]; do
		tagged "RUNNER_TRACKING_ID=$2"
		quiet=$((quiet + 1))
		for one in $pids; do
			[ "$one" != $$ ] || continue
			kill -0 "$one" 2>/dev/null || [ -d "/proc/$one" ] || continue
			case $seen in
			*" $one "*) ;;
			*)
				seen="$seen$one "
				name=
				{ read -r name <"/proc/$one/comm"; } 2>/dev/null || name=$(ps -o comm= -p "$one" 2>/dev/null)
				echo "killed $one $name"
				;;
			esac
			quiet=0
			kill -KILL "$one" 2>/dev/null
		done
		[ "$quiet" -gt 0 ] || nap
		turns=$((turns + 1))
	done
	[ "$quiet" -ge 2 ] || for one in $pids; do echo "survived $one"; done
}

# ---------------------------------------------------------------------------------------------------------------- collect

# collect DAYS: removes jobs without a sign of anyone for so long, and ends supervisors whose job is gone; lists both.
collect() {
	boot_identity
	now=$boot
	R=$(cd "$R" && pwd)
	for J in "$R"/jobs/*; do
		if [ ! -d "$J" ] || [ -L "$J" ]; then continue; fi
		[ -z "$(find "$J" "$J/steps" "$J"/*.spool -prune -mtime "-$1" 2>/dev/null)" ] || continue
		was=
		{ read -r was <"$J/boot"; } 2>/dev/null
		busy=
		if [ "$was" = "$now" ]; then
			for one in "$J"/*.sup; do
				pid=
				began=
				{ read -r pid began <"$one"; } 2>/dev/null
				if [ -n "$pid" ] && alive "$pid" "$began"; then busy=maybe; fi
			done
			[ -z "$busy" ] || for one in "$J"/steps/*.begun; do
				[ -e "$one" ] || continue
				one=${one##*/}
				(cd "$J" && ended "${one%.begun}") || busy=yes
			done
		fi
		[ "$busy" != yes ] || continue
		[ -z "$busy" ] || for one in "$J"/*.fifo; do
			[ ! -p "$one" ] || echo quit 1<>"$one"
		done
		turns=0
		until { rm -rf "$J" 2>/dev/null && [ ! -e "$J" ]; } || [ "$turns" -ge 20 ]; do nap; done
		[ -e "$J" ] || echo "removed job ${J##*/}"
	done
	[ -r /proc/self/cmdline ] || return 0
	for one in $(grep -lsaF -- "$R/launcher-" /proc/[0-9]*/cmdline 2>/dev/null); do
		pid=${one#/proc/}
		pid=${pid%/cmdline}
		tr '\000' '\n' 2>/dev/null <"$one" | {
			read -r program && read -r script && read -r role && read -r place || exit 0
			case $role in
			lane | next | alarm | watch) [ -d "$place" ] || { kill "$pid" 2>/dev/null && echo "ended $role $pid"; } ;;
			esac
		}
	done
}

case $mode in
alarm) alarm "$@" ;;
watch) watch "$@" ;;
ladder) ladder "$@" ;;
sweep) sweep "$@" ;;
collect) collect "$@" ;;
esac
