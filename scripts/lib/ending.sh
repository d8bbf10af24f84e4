# shellcheck shell=bash
# How a run ends: with a code that says what serves now, after a failure, by Ctrl-C, or by a fault of the script. Sourced.

STAGE=untouched # untouched, pushed, registered, ordered, completed, going_back, back, foreign
FINISHED=no
FAULTY_LINE=''
DRY_CODE=0

# Makes the folder for answers, which goes with the process, and sets the traps.
begin_work() {
    WORK=$(mktemp -d)
    trap at_exit EXIT
    trap 'FAULTY_LINE="${BASH_SOURCE[0]}, line $LINENO: $BASH_COMMAND"' ERR
    trap 'interrupted 130' INT
    trap 'interrupted 143' TERM
    [[ $DRY_RUN == yes ]] || return 0
    say "Dry run: nothing will be changed. Lines that begin with \$ are the commands of a real run, in its order, to be typed in"
    say "$ROOT. Those that only read are run now where your credentials allow it;"
    say "what only the others would tell stands in pointed brackets. WORK is a folder for answers: WORK=\$(mktemp -d)"
}

# Ends step 2: goes on if nothing is missing. A dry run tells what is missing, and goes on all the same.
begin() {
    local told
    if told=$(no_faults 2>&1); then return; fi
    if [[ $DRY_RUN == no ]]; then
        say
        say "$told"
        tell_state
        finish 2
    fi >&2
    say "$told" | notes
    would_stop 2 "see above"
    FAULTS=()
}

# Where a real run stops with CODE, and a dry run goes on.
would_stop() {
    if [[ $DRY_RUN == no ]]; then stop "$@"; fi
    note "A REAL RUN WOULD STOP HERE with code $1: $2"
    ((DRY_CODE)) || DRY_CODE=$1
}

# finish CODE
finish() {
    FINISHED=yes
    exit "$1"
}

# stop CODE MESSAGE: a failure that the script understands.
stop() {
    say >&2
    complain "$2 (code $1)"
    tell_state >&2
    discard_unused
    finish "$1"
}

# A revision that was never deployed must not be what a later --rollback finds.
discard_unused() { [[ $STAGE != registered ]] || discard "$NEW_ARN"; }

# discard REVISION: marks it INACTIVE. Tasks that run it go on.
discard() {
    if change_into discarded.json "${AWS[@]}" ecs deregister-task-definition --task-definition "$1"; then
        [[ $DRY_RUN == yes ]] || note "$(revision_of "$1") is marked INACTIVE, so that no rollback takes it"
    else
        note "$(revision_of "$1") could not be marked INACTIVE, a later --rollback may take it: $(reason)"
    fi
}

succeeded() {
    say
    if [[ $DRY_RUN == yes ]]; then
        if ((DRY_CODE)); then say "Dry run ended. A real run would stop early, with code $DRY_CODE: see above."; else say "Dry run ended: a real run can begin."; fi
        finish "$DRY_CODE"
    fi
    say "Done in $(duration "$SECONDS"): $(revision_of "$NEW_ARN") serves, in place of $(revision_of "$CURRENT_ARN")."
    say "  To go back:  scripts/rollback_proxy.sh $(names_as_options) --to-revision ${CURRENT_ARN##*:}"
    finish 0
}

# The options that name this service, for commands that a person shall type.
names_as_options() {
    printf -- '--environment %s --region %s' "$ENVIRONMENT" "$REGION"
    [[ $PROJECT == hokusai ]] || printf -- ' --project %s' "$PROJECT"
    case $ENVIRONMENT in development | production) ;; *) printf -- ' --url %s' "$URL" ;; esac
}

# What was left behind, and how to go on from there.
tell_state() {
    local new back
    new=$(revision_of "$NEW_ARN")
    back="scripts/rollback_proxy.sh $(names_as_options) --to-revision ${CURRENT_ARN##*:}"
    case $STAGE in
        untouched) say "Nothing was changed in AWS." ;;
        pushed) say "The service runs as before. The image $IMAGE is in ECR; nothing else was changed." ;;
        registered) say "The service runs as before. The revision $new is registered, and not deployed." ;;
        ordered)
            say "The service may have been told to run $new. From there ECS goes on by itself: if the new tasks fail, or an alarm"
            say "goes off, it goes back to the last deployment that completed. Nobody tests it from outside."
            say "  To look:     $(as_typed "${AWS[@]}" ecs describe-services --cluster "$CLUSTER" --services "$SERVICE" --query 'services[0].deployments')"
            say "  To test:     scripts/smoke_test.sh --url $URL --weight $WEIGHT"
            say "  To go back:  $back"
            ;;
        completed)
            say "$new serves; the smoke test did not end."
            say "  To test:     scripts/smoke_test.sh --url $URL --weight $WEIGHT"
            say "  To go back:  $back"
            ;;
        going_back) tell_way_back ;;
        back) say "$(revision_of "$TARGET_ARN") serves." ;;
        foreign) say "$(service_name) is in somebody else's hands: nothing more was done." ;;
    esac
}

tell_way_back() {
    say "The service may have been told to go back to $(revision_of "$TARGET_ARN"). ECS goes on by itself; if the tasks fail, it stops there,"
    say "with those that still run."
    say "  To look:     $(as_typed "${AWS[@]}" ecs describe-services --cluster "$CLUSTER" --services "$SERVICE" --query 'services[0].[deployments,events[:5]]')"
    say "  Log lines:   $(as_typed aws --region "$REGION" logs tail "/ecs/$SERVICE" --since 30m)"
    say "  To go on:    scripts/rollback_proxy.sh $(names_as_options) --to-revision ${TARGET_ARN##*:}"
    say "The alarms watch no deployment until the next one, by this script or by terraform apply, sets them again."
}

interrupted() {
    trap '' INT TERM
    [[ -z $PAUSED ]] || kill "$PAUSED" 2>/dev/null || true
    say >&2
    complain "interrupted"
    tell_state >&2
    FINISHED=yes
    rm -rf "$WORK"
    trap - EXIT
    exit "$1"
}

at_exit() {
    local code=$?
    trap - ERR
    # A signal that ends a child as well can end the script by errexit, before its trap has run.
    [[ $FINISHED == yes || ($code != 130 && $code != 143) ]] || interrupted "$code"
    if [[ $FINISHED == no ]]; then
        say >&2
        complain "stopped by a fault of its own (code $code): ${FAULTY_LINE:-no line is known}"
        tell_state >&2
        code=1
    fi
    rm -rf "$WORK"
    exit "$code"
}
