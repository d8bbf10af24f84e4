# shellcheck shell=bash
# What must be there before anything is begun. Every check notes a fault and goes on, so that all are told at once. Sourced.

# need_tools TOOL...: programs that must be found.
need_tools() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || fault "$tool is not installed, or not in PATH"
    done
}

# need_number NAME VALUE: seconds, with or without a fraction, above 0.
need_number() {
    [[ $2 =~ ^[0-9]+(\.[0-9]+)?$ && $2 =~ [1-9] ]] || fault "$1 must be a number of seconds above 0, not ${2@Q}"
}

# need_name NAME VALUE: a word that goes into names of AWS.
need_name() {
    [[ $2 =~ ^[A-Za-z0-9][A-Za-z0-9_./-]*$ ]] || fault "$1 must be a name of letters, digits and - _ . /, not ${2@Q}"
}

# need_url URL: an origin. A key never travels over plain http, except within this machine.
need_url() {
    if [[ ! $1 =~ ^https?://[A-Za-z0-9.-]+(:[0-9]+)?$ ]]; then
        fault "--url must be https://HOST, without a path: ${1@Q}"
    elif [[ $1 == http://* && ! $1 =~ ^http://(127\.0\.0\.1|localhost)(:|$) ]]; then
        fault "--url must be https, since the key travels over it: ${1@Q}"
    fi
}

# need_python NAME PROGRAM MODULES HINT: a Python that has these modules (separated by commas).
need_python() {
    "$2" -c "import importlib.util as u, sys; sys.exit(any(u.find_spec(m) is None for m in sys.argv[1].split(',')))" "$3" \
        >/dev/null 2>&1 || fault "$1: $2 is no Python with ${3//,/, }: $4"
}

# need_key: the key of the smoke test must be there; take_key has looked for it.
need_key() { [[ -n $KEY ]] || fault "HOKUSAI_API_KEY is not set, and the smoke test needs a key (or give --skip-registration)"; }

# The key arrives in the environment only. Sets KEY, and takes it out of the environment of all that is started from here.
take_key() {
    KEY=${HOKUSAI_API_KEY:-}
    export -n HOKUSAI_API_KEY
    unset HOKUSAI_API_KEY
    # It goes into a header: what cannot stand there is no key.
    [[ -z $KEY || $KEY =~ ^[A-Za-z0-9._~+/=-]+$ ]] || fault "HOKUSAI_API_KEY holds a character that no key has"
}
