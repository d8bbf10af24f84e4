# shellcheck shell=bash
# The ECS service: what it runs, a new revision of its task definition, a deployment and how it goes. Sourced, never run.
#
# In: CLUSTER, SERVICE, CONTAINER, POLL (seconds between looks), ALARMS (a JSON list of names), LIB.

PAUSED=''
SEEN_EVENTS='[]'
readonly MOST_MISSES=5 # failed looks in a row before a deployment counts as out of sight

DESCRIBE() { look "$1" "${AWS[@]}" ecs describe-services --cluster "$CLUSTER" --services "$SERVICE"; }

# `family:revision` of a task definition's ARN.
revision_of() { printf '%s' "${1##*/}"; }

# A value of the service's PRIMARY deployment in an answer: primary FILE FIELD.
primary() { jq -r --arg field "$2" '[(.services[0] // .service).deployments[] | select(.status == "PRIMARY")][0][$field] // ""' "$WORK/$1"; }

# Sleeps so that a signal is answered at once: bash holds traps back while a child in the foreground runs.
pause() {
    sleep "$1" >/dev/null 2>&1 &
    PAUSED=$!
    wait "$PAUSED" || true
    PAUSED=''
}

# register_revision IMAGE: registers what $WORK/$BASE describes with another image. Sets NEW_ARN.
register_revision() {
    local command=(jq --arg container "$CONTAINER" --arg image "$1" --from-file "$LIB/new_revision.jq" "$WORK/$BASE")
    explain "the same task definition with another image, and without the fields that AWS adds"
    show "$(as_typed "${command[@]}") > $(as_typed "$WORK/new.json")"
    "${command[@]}" >"$WORK/new.json" || return
    change_into registered.json "${AWS[@]}" ecs register-task-definition --cli-input-json "file://$WORK/new.json" || return
    NEW_ARN=$(value registered.json .taskDefinition.taskDefinitionArn)
}

# order REVISION ROLLBACK: has the service run a revision; ROLLBACK (true or false) is what guards.jq says. Sets DEPLOYMENT.
order() {
    local guards
    guards=$(guards "$2") || return
    change_into updated.json "${AWS[@]}" ecs update-service --cluster "$CLUSTER" --service "$SERVICE" \
        --task-definition "$1" --deployment-configuration "$guards" || return
    DEPLOYMENT=$(primary updated.json id)
    SEEN_EVENTS=$(events updated.json)
}

# The ids of ECS's messages in an answer, as a JSON list.
events() { jq -c '[((.services[0] // .service).events // [])[].id]' "$WORK/$1"; }

# The deployment configuration that belongs to an update; see guards.jq.
guards() { jq -c --argjson alarms "$ALARMS" --argjson rollback "$1" --from-file "$LIB/guards.jq" "$WORK/service.json"; }

# watch REVISION SECONDS: follows DEPLOYMENT until it has ended, with a line for every look. Sets ENDED to
#   completed   ECS says so, of this deployment
#   failed      ECS gave it up; WHY has ECS's reason
#   replaced    another deployment took its place; INSTEAD has that one's task definition
#   late        it took longer than SECONDS
#   lost        AWS does not answer any more; WHY has the reason
# `aws ecs wait services-stable` would not do: when ECS has gone back by itself, the service is stable as well.
watch() {
    local revision=$1 limit=$2 begun=$SECONDS misses=0
    ENDED='' WHY='' INSTEAD=''
    if [[ $DRY_RUN == yes ]]; then
        explain "every $POLL s, for at most $limit s, until ECS calls this deployment COMPLETED; ends at once when ECS gives it up"
        DESCRIBE watched.json
        ENDED=completed
        return
    fi
    while true; do
        if DESCRIBE watched.json && [[ -n $(primary watched.json id) ]]; then
            misses=0
            judge "$revision"
            progress "$((SECONDS - begun))" "$limit"
        else
            misses=$((misses + 1))
            WHY=$(reason)
            note "$(date +%H:%M:%S)  no answer ($misses of $MOST_MISSES): $WHY"
            if credentials_are_gone || ((misses >= MOST_MISSES)); then ENDED=lost; fi
        fi
        [[ -z $ENDED ]] || return 0
        if ((SECONDS - begun >= limit)); then
            ENDED=late
            return 0
        fi
        pause "$POLL"
    done
}

# Sets ENDED from the last look, if the deployment has ended.
judge() {
    local id state
    id=$(primary watched.json id)
    if [[ $id != "$DEPLOYMENT" ]]; then
        INSTEAD=$(primary watched.json taskDefinition)
        if [[ $INSTEAD != "$1" ]]; then
            WHY=$(jq -r --arg id "$DEPLOYMENT" '[.services[0].deployments[] | select(.id == $id)][0].rolloutStateReason // ""' "$WORK/watched.json")
            WHY=${WHY%.}
            ENDED=replaced
            return
        fi
        DEPLOYMENT=$id # ECS began anew with the same revision
    fi
    state=$(primary watched.json rolloutState)
    case $state in
        COMPLETED) ENDED=completed ;;
        FAILED) ENDED=failed WHY=$(primary watched.json rolloutStateReason) ;;
    esac
    WHY=${WHY%.}
}

# One line for the last look, and ECS's own messages that are new.
progress() {
    local line
    line=$(jq -r --arg id "$DEPLOYMENT" '[.services[0].deployments[] | select(.id == $id)][0] // {} |
        "\(.rolloutState // "GONE")  \(.runningCount // "?") of \(.desiredCount // "?") running, \(.pendingCount // "?") pending, \(.failedTasks // 0) failed"' \
        "$WORK/watched.json")
    note "$(printf '%s  %4d s of %d s  %s' "$(date +%H:%M:%S)" "$1" "$2" "$line")"
    jq -r --argjson seen "$SEEN_EVENTS" '[(.services[0].events // [])[] | select(.id as $id | $seen | index($id) | not)] | reverse | .[].message' \
        "$WORK/watched.json" | sed 's/^/                ECS: /'
    SEEN_EVENTS=$(events watched.json)
}

# The service as it would be named in a message.
service_name() { printf '%s' "$SERVICE in $CLUSTER"; }
