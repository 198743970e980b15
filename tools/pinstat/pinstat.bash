# SPDX-License-Identifier: GPL-2.0
# bash completion of pinstat. The columns come from pinstat --list-columns itself.

_pinstat_columns()
{
	# $1: the word of the heading, as in "Columns of pinstat PID:"
	"${COMP_WORDS[0]}" --list-columns 2>/dev/null |
		sed -n "/^Columns of $1:\$/,/^\$/s/^ [* ]\([A-Z%/]*\) .*/\1/p"
}

_pinstat()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} subject=pinstat word before
	COMPREPLY=()

	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		case $word in
		check)
			case $prev in
			--backing-dir)
				compopt -o filenames
				mapfile -t COMPREPLY < <(compgen -d -- "$cur")
				return ;;
			-o|--output)
				subject='pinstat check'
				break ;;
			--qemu)
				mapfile -t COMPREPLY < <(compgen -W 'patched stock auto' -- "$cur")
				return ;;
			--libvirt)
				return ;;
			esac
			if [[ $cur == -* ]]; then
				mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" check --help 2>/dev/null |
					grep -o -- '--[a-z-]*' | sort -u)" -- "$cur")
			else
				compopt -o filenames
				mapfile -t COMPREPLY < <(compgen -f -X '!*.xml' -- "$cur"; compgen -d -- "$cur")
			fi
			return ;;
		selftest)
			case $prev in
			-d|--dir)
				compopt -o filenames
				mapfile -t COMPREPLY < <(compgen -d -- "$cur")
				return ;;
			esac
			if [[ $cur == -* ]]; then
				mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" selftest --help 2>/dev/null |
					grep -o -- '--[a-z-]*' | sort -u)" -- "$cur")
			else
				mapfile -t COMPREPLY < <(compgen -W "$(find /dev/vfio -name '[0-9]*' -printf '%f\n' 2>/dev/null)" -- "$cur")
			fi
			return ;;
		-c|--cgroup)
			subject='pinstat --cgroup' ;;
		[0-9]*)
			[[ $prev == "$word" ]] || subject='pinstat PID' ;;
		esac
	done

	case $prev in
	-o|--output)
		# A list: what stands before the last comma stays
		before=${cur%"${cur##*[,+]}"}
		compopt -o nospace
		mapfile -t COMPREPLY < <(compgen -P "$before" -W "$(_pinstat_columns "$subject")" -- "${cur##*[,+]}")
		return ;;
	-x|--sort)
		mapfile -t COMPREPLY < <(compgen -W "$(_pinstat_columns "$subject")" -- "$cur")
		return ;;
	-s|--sysroot)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return ;;
	-p|--pid)
		mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" -nr -o PID 2>/dev/null)" -- "$cur")
		return ;;
	-i|--interval)
		return ;;
	esac

	if [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W '--json --output --output-all --bytes --noheadings --raw --sort
			--pid --cgroup --interval --metrics --per-holder --sysroot --list-columns --help --version' -- "$cur")
	else
		mapfile -t COMPREPLY < <(compgen -W "check selftest $("${COMP_WORDS[0]}" -nr -o PID 2>/dev/null)" -- "$cur")
	fi
}
complete -F _pinstat pinstat
