# shellcheck shell=bash
# What a person sees: numbered steps, the commands as one could type them, what is missing. Sourced, never run.

readonly PROGRAM=${0##*/}
DRY_RUN=no
STEP=0
STEPS=0
FAULTS=()

say() { printf '%s\n' "$*"; }

# A line within a step.
note() { printf '      %s\n' "$*"; }

# Several lines within a step, from stdin.
notes() { sed -u 's|^|      |'; }

# The headline of the next step.
step() {
    STEP=$((STEP + 1))
    printf '\n[%d/%d] %s\n' "$STEP" "$STEPS" "$*"
}

complain() { printf '%s: %s\n' "$PROGRAM" "$*" >&2; }

# Notes something that keeps the script from beginning; `no_faults` tells all of them at once.
fault() { FAULTS+=("$*"); }

# Tells what is missing, if anything is. False when something is.
no_faults() {
    ((${#FAULTS[@]})) || return 0
    local one
    complain "cannot begin, ${#FAULTS[@]} $( ((${#FAULTS[@]} == 1)) && echo thing || echo things) to put right:"
    for one in "${FAULTS[@]}"; do printf '  - %s\n' "$one" >&2; done
    return 1
}

# A command as one would type it into a shell; the folder for temporary files appears by its variable's name.
as_typed() {
    local word line=''
    for word in "$@"; do
        if [[ -n ${WORK:-} && $word == *"$WORK"* ]]; then
            word=\"${word//"$WORK"/\$WORK}\"
        elif [[ ! $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then
            word=${word@Q}
        fi
        line+=" $word"
    done
    printf '%s' "${line# }"
}

# Why the next command is there: for a dry run, where nothing shall stay unexplained.
explain() { [[ $DRY_RUN == no ]] || note "# $*"; }

show() { note "\$ $*"; }

# Runs a command that changes something. A dry run only shows it.
change() {
    show "$(as_typed "$@")"
    [[ $DRY_RUN == yes ]] || "$@"
}

# A path that was typed in the folder from which the script was called.
from_caller() { case $1 in /*) printf '%s' "$1" ;; *) printf '%s' "$CALLED_FROM/$1" ;; esac; }

# Minutes and seconds.
duration() { printf '%d min %02d s' "$(($1 / 60))" "$(($1 % 60))"; }

# Asks on the terminal, unless --yes was given. False for anything but a yes.
confirmed() {
    [[ $ASSUME_YES == no && $DRY_RUN == no ]] || return 0
    local answer=''
    read -r -p "      $1 [y/N] " answer || true
    [[ $answer == [yY] || $answer == [yY][eE][sS] ]]
}

# Prints the comment at the head of the script: its --help.
usage() { sed -n '/^#!/d; /^#/!q; s/^# \{0,1\}//; p' "$1"; }
