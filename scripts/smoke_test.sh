#!/usr/bin/env bash
# Tests the registry from outside, as its users see it: the health pages, the three mounts, and a registration.
#
# Usage: HOKUSAI_API_KEY=... scripts/smoke_test.sh [options]
#
#   --url U              where the registry is (default: https://registry.hokus.ai); its paths are added here
#   --skip-registration  do not register a model (test_real_registration.py); the rest takes a few seconds
#   --weight W           how many of a hundred requests the load balancer gives to this proxy (default: 100). Below 100
#                        each page is asked again until the right answer comes, as often as it takes for this proxy to be
#                        asked with a certainty of 99.9 %. The old proxy's right answers count too: it cannot tell them apart.
#   --dry-run            show what would be asked
#
# HOKUSAI_API_KEY is the key, taken from the environment only; without it, only what is public is asked, and nothing is
# registered. MLFLOW_PYTHON is a Python that has mlflow (default: .venv-mlflow/bin/python).
#
# Exit code: 0 all well, 1 something is not, 2 it could not begin (options, tools, no key without --skip-registration).

set -Eeuo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
# shellcheck source=scripts/lib/terminal.sh
source scripts/lib/terminal.sh
# shellcheck source=scripts/lib/inputs.sh
source scripts/lib/inputs.sh

URL=https://registry.hokus.ai
WEIGHT=100
SKIP_REGISTRATION=no
MLFLOW_PYTHON=${MLFLOW_PYTHON:-.venv-mlflow/bin/python}
KEY=''
MOUNTS=(/api/mlflow /mlflow '')
# What the health page asks of MLflow as well (app/probes.py): one call of each of the three APIs.
EXPERIMENTS='/api/2.0/mlflow/experiments/search?max_results=1'
MODELS='/api/2.0/mlflow/registered-models/search?max_results=1'
ARTIFACTS='/api/2.0/mlflow-artifacts/artifacts?path=hokusai-health-probe'
PASSED=0 FAILED=0

read_options() {
    while (($#)); do
        case $1 in
            --url | --weight)
                (($# >= 2)) || { fault "$1 needs a value" && return; }
                if [[ $1 == --url ]]; then URL=${2%/}; else WEIGHT=$2; fi
                shift
                ;;
            --skip-registration) SKIP_REGISTRATION=yes ;;
            --dry-run) DRY_RUN=yes ;;
            -h | --help) usage "scripts/$PROGRAM" && exit 0 ;;
            *) fault "${1@Q} is no option of this script (--help lists them)" ;;
        esac
        shift
    done
}

check_inputs() {
    need_tools curl jq
    need_url "$URL"
    [[ $WEIGHT =~ ^([0-9]|[1-9][0-9]|100)$ ]] || fault "--weight must be a whole number from 0 to 100, not ${WEIGHT@Q}"
    take_key
    if [[ $SKIP_REGISTRATION == no ]]; then
        need_key
        need_python MLFLOW_PYTHON "$MLFLOW_PYTHON" mlflow "run make env, or give --skip-registration"
    fi
    no_faults || [[ $DRY_RUN == yes ]]
}

# How often a page is asked at most, so that a proxy that gets WEIGHT of 100 requests is asked with 99.9 %.
tries() { jq -n --argjson weight "$1" 'if $weight >= 100 then 1 else ((0.001 | log) / ((100 - $weight) / 100 | log) | ceil) end'; }

# check WHO PATH STATUS FILTER: one page. WHO is public (no key) or key; FILTER says whether the answer's JSON is right.
check() {
    local who=$1 path=$2 wanted=$3 filter=$4 try answer status='' seconds
    if [[ $DRY_RUN == yes ]]; then
        say "$(as_typed curl -q "${CURL[@]}" "$URL$path")$([[ $who == public ]] || echo '   (with the key in a header)')   must answer $wanted, with JSON for which: $filter"
        return
    fi
    for ((try = 1; try <= TRIES; try++)); do
        answer=$(header "$who" | curl -q "${CURL[@]}" --config - --output "$WORK/body" --write-out '%{http_code} %{time_total}' "$URL$path" 2>"$WORK/complaint") || true
        read -r status seconds <<<"${answer:-000 0}"
        if [[ $status == "$wanted" ]] && jq -e "$filter" "$WORK/body" >/dev/null 2>&1; then
            PASSED=$((PASSED + 1))
            say "  ok  $status  $(milliseconds "$seconds")  $(who_asks "$who") $path"
            return
        fi
    done
    FAILED=$((FAILED + 1))
    say "  XX  $status  $(milliseconds "$seconds")  $(who_asks "$who") $path"
    say "      expected $wanted with JSON for which: $filter"
    say "      $(what_came "$status")"
}

# The key goes to curl by its stdin: the arguments of a process can be read by everybody on the machine.
header() { if [[ $1 == key ]]; then printf 'header = "Authorization: Bearer %s"\n' "$KEY"; fi; }

who_asks() { if [[ $1 == key ]]; then printf 'with a key   '; else printf 'without a key'; fi; }

milliseconds() { LC_ALL=C printf '%5.0f ms' "${1}e3"; }

what_came() {
    if [[ $1 == 000 ]]; then
        printf 'no answer: %s' "$(tail -n 1 "$WORK/complaint")"
    elif [[ -s $WORK/body ]]; then
        printf 'it said: %s' "$(head -c 300 "$WORK/body" | tr -s '[:space:][:cntrl:]' ' ')"
    else
        printf 'it said nothing'
    fi
}

check_public_pages() {
    local mount
    say "Health pages, and that nobody gets past the key"
    for mount in /api/mlflow /mlflow; do
        # The version tells this proxy from all that ever stood in its place.
        check public "$mount/health" 200 '.status == "ok" and (.version | type) == "string"'
        check public "$mount/health/mlflow" 200 '.status == "healthy"'
        check public "$mount/health/mlflow/detailed" 200 '.status == "healthy"'
    done
    for mount in "${MOUNTS[@]}"; do
        check public "$mount$EXPERIMENTS" 401 '.error_code == "UNAUTHENTICATED"'
    done
}

check_mounts() {
    local mount
    say "Experiments, models and artifacts on the three mounts"
    for mount in "${MOUNTS[@]}"; do
        check key "$mount$EXPERIMENTS" 200 'type == "object" and (has("error_code") | not)'
        check key "$mount$MODELS" 200 'type == "object" and (has("error_code") | not)'
        check key "$mount$ARTIFACTS" 200 'has("files") or . == {}'
    done
}

register() {
    local command=("$MLFLOW_PYTHON" test_real_registration.py)
    if [[ $DRY_RUN == yes ]]; then
        say "MLFLOW_TRACKING_URI=$URL/api/mlflow $(as_typed "${command[@]}")   (HOKUSAI_API_KEY in its environment)"
    elif HOKUSAI_API_KEY=$KEY MLFLOW_TRACKING_URI=$URL/api/mlflow "${command[@]}"; then
        PASSED=$((PASSED + 1))
    else
        FAILED=$((FAILED + 1))
    fi
}

main() {
    read_options "$@"
    check_inputs || exit 2
    if [[ $WEIGHT == 0 ]]; then
        say "The load balancer gives this proxy nothing (weight 0): nothing was tested from outside."
        exit 0
    fi
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
    TRIES=$(tries "$WEIGHT")
    CURL=(--silent --show-error --connect-timeout 5 --max-time 30 --proto '=http,https')
    check_public_pages
    if [[ -n $KEY || $DRY_RUN == yes ]]; then check_mounts; else say "  --  HOKUSAI_API_KEY is not set: nothing is asked that needs a key"; fi
    if [[ $SKIP_REGISTRATION == no ]]; then register; else say "  --  no model was registered, as asked"; fi
    [[ $DRY_RUN == no ]] || exit 0
    if ((FAILED)); then
        say "Smoke test FAILED: $FAILED of $((PASSED + FAILED)) checks"
        exit 1
    fi
    say "Smoke test passed: $PASSED checks"
}

main "$@"
