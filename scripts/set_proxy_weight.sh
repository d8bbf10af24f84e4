#!/usr/bin/env bash
# Sets how many of a hundred requests for MLflow this proxy gets; the old proxy gets the others. For a gradual rollout.
#
# Usage: scripts/set_proxy_weight.sh N [options]
#
#   N                    a whole number from 0 to 100. Upwards in steps: 5, 25, 100. A jump over a step is refused without
#                        --yes. Downwards as far as you like at once: that is the way back.
#   --environment E      only for what it prints at the end (default: development); Terraform's variables decide
#   --folder F           where Terraform is applied (default: infrastructure/terraform), initialised and with its variables
#   --var-file F         passed on to terraform plan
#   --dry-run            show the commands, and run none
#   --yes                ask nothing, and allow a jump
#
# Terraform does it, not the AWS CLI: a weight that Terraform does not know of is turned back by the next apply, whoever
# runs it and for whatever reason, amid the rollout. It plans the weighted rules alone (-target), refuses the plan if it
# holds anything but weights, shows it, asks, and applies that very plan.
#
# Exit code: 0 done, or nothing to do; 1 Terraform failed; 2 it could not begin, or was told no: nothing was changed;
# 3 the plan would change more than weights: nothing was changed.

set -Eeuo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CALLED_FROM=$PWD
cd "$ROOT"
# shellcheck source=scripts/lib/terminal.sh
source scripts/lib/terminal.sh
# shellcheck source=scripts/lib/inputs.sh
source scripts/lib/inputs.sh

readonly ROLLOUT=(5 25 100) # docs/runbook.md
N='' NOW='' ENVIRONMENT=development FOLDER=infrastructure/terraform ASSUME_YES=no
VAR_FILES=()

read_options() {
    while (($#)); do
        case $1 in
            --environment | --folder | --var-file)
                (($# >= 2)) || { fault "$1 needs a value" && return; }
                case $1 in
                    --environment) ENVIRONMENT=$2 ;;
                    --folder) FOLDER=$(from_caller "$2") ;;
                    --var-file) VAR_FILES+=("-var-file=$(from_caller "$2")") ;;
                esac
                shift
                ;;
            --dry-run) DRY_RUN=yes ;;
            --yes) ASSUME_YES=yes ;;
            -h | --help) usage "scripts/$PROGRAM" && exit 0 ;;
            *) if [[ -z $N && $1 != --* ]]; then N=$1; else fault "${1@Q} is no option of this script (--help lists them)"; fi ;;
        esac
        shift
    done
}

check_inputs() {
    [[ $N =~ ^(0|[1-9][0-9]?|100)$ ]] || fault "the weight must be a whole number from 0 to 100, not ${N@Q}"
    [[ -d $FOLDER ]] || fault "there is no folder $FOLDER"
    if [[ $DRY_RUN == no ]]; then
        need_tools terraform jq
        [[ $ASSUME_YES == yes || -t 0 ]] || fault "--yes is needed where nobody can be asked (stdin is no terminal)"
        [[ -d $FOLDER/.terraform ]] || fault "Terraform is not initialised in $FOLDER: terraform -chdir=$FOLDER init"
    fi
    no_faults || exit 2
}

# The rules that carry the weight, read from the files: there is no second list of them.
weighted_rules() {
    awk '/^resource "aws_lb_listener_rule"/ { gsub(/"/, "", $3); name = $3 } /weight *= *var\.proxy_weight/ { print "aws_lb_listener_rule." name }' \
        "$FOLDER"/*.tf
}

# What the plan would change beside weights: addresses, one a line.
beside_weights() {
    jq -r --args '
        def bare: [(.action // [])[] | .forward = [(.forward // [])[] | .target_group = ([.target_group[] | del(.weight)] | sort_by(.arn))]];
        .resource_changes[]? | select(.change.actions != ["no-op"] and .change.actions != ["read"])
        | select((.address | IN($ARGS.positional[])) and .change.actions == ["update"]
            and (.change.before | del(.action)) == (.change.after | del(.action))
            and (.change.before | bare) == (.change.after | bare) | not)
        | "\(.address): \(.change.actions | join(" and "))"' "${RULES[@]}" <"$WORK/plan.json"
}

# The weights that are live now, by the state that the plan has refreshed; more than one when the rules do not agree.
weights_now() {
    jq -r --args '
        def resources: .. | objects | select(has("address") and has("values"));
        ([.prior_state.values.root_module | resources | select(.address == "aws_lb_target_group.proxy")][0].values.arn) as $proxy
        | [.prior_state.values.root_module | resources | select(.address | IN($ARGS.positional[]))
            | .values.action[].forward[].target_group[] | select(.arn == $proxy) | .weight] | unique | map(tostring) | join(" ")' \
        "${RULES[@]}" <"$WORK/plan.json"
}

# Whether going from weight $1 to $2 leaves out no step of the rollout above $1. Down always fits.
is_one_step() {
    local next
    for next in "${ROLLOUT[@]}"; do
        if ((next > $1)); then
            (($2 <= next))
            return
        fi
    done
}

plan_it() {
    local targets=("${RULES[@]/#/-target=}")
    step "Plan the weighted rules, and nothing else"
    change terraform "-chdir=$FOLDER" plan -input=false -no-color -lock-timeout=60s "${VAR_FILES[@]}" "-var=proxy_weight=$N" "${targets[@]}" "-out=$WORK/plan" || {
        complain "terraform could not plan; nothing was changed"
        exit 1
    }
}

judge_it() {
    local more now
    step "See that nothing but weights would change"
    terraform "-chdir=$FOLDER" show -json "$WORK/plan" >"$WORK/plan.json" || exit 1
    more=$(beside_weights)
    if [[ -n $more ]]; then
        complain "the plan would change more than weights; apply that first, by itself. Nothing was changed."
        notes <<<"$more"
        exit 3
    fi >&2
    now=$(weights_now)
    if [[ -z $now ]]; then
        complain "Terraform's state holds no weighted rules yet: terraform apply makes them. Nothing was changed."
        exit 2
    fi
    NOW=${now%% *}
    note "weight now: ${now// / and }; then: $N"
    if [[ $now == "$N" ]]; then
        say "Nothing to do: the proxy gets $N of 100 already."
        exit 0
    fi
    if [[ $ASSUME_YES == no ]] && ! is_one_step "$NOW" "$N"; then
        complain "$N leaves out a step of the rollout (${ROLLOUT[*]}): --yes allows it. Nothing was changed."
        exit 2
    fi
}

main() {
    STEPS=3
    read_options "$@"
    check_inputs
    mapfile -t RULES < <(weighted_rules)
    ((${#RULES[@]})) || { complain "no rule in $FOLDER has a weight" && exit 2; }
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
    plan_it
    if [[ $DRY_RUN == no ]]; then judge_it; else
        step "See that nothing but weights would change"
        show "$(as_typed terraform "-chdir=$FOLDER" show -json "$WORK/plan") > $(as_typed "$WORK/plan.json")"
    fi
    confirmed "Give this proxy $N of 100 requests for MLflow?" || { complain "not confirmed: nothing was changed" && exit 2; }
    step "Apply that very plan"
    change terraform "-chdir=$FOLDER" apply -input=false -no-color "$WORK/plan" || {
        complain "terraform could not apply the plan; some of the rules may have changed. To see: scripts/check_live_rules.py"
        exit 1
    }
    [[ $DRY_RUN == no ]] || exit 0
    say
    say "This proxy gets $N of 100 requests for MLflow."
    say "  Now:         write proxy_weight = $N into terraform.tfvars, wherever Terraform is applied from: else the next apply"
    say "               turns it back to what stands there."
    say "  To compare:  scripts/check_live_rules.py --environment $ENVIRONMENT --proxy-weight $N"
    say "  To test:     scripts/smoke_test.sh --weight $N"
    say "  To go back:  scripts/set_proxy_weight.sh $NOW"
}

main "$@"
