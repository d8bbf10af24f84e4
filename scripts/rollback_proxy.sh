#!/usr/bin/env bash
# Goes back to an earlier revision of the MLflow proxy: scripts/deploy_proxy_routing_fix.sh --rollback, by a shorter name.
#
# Usage: scripts/rollback_proxy.sh [--environment E] [--to-revision N] [--dry-run] [--yes] [options of that script]
#
# Without --to-revision: to the last revision that ran before the one that runs, and is ACTIVE. It waits until that one
# serves, and looks at the registry from outside. The exit codes are those of that script (its --help lists them).

set -euo pipefail

for word in "$@"; do
    if [[ $word == -h || $word == --help ]]; then
        sed -n '/^#!/d; /^#/!q; s/^# \{0,1\}//; p' "$0"
        exit 0
    fi
done
exec "$(dirname "${BASH_SOURCE[0]}")/deploy_proxy_routing_fix.sh" --rollback "$@"
