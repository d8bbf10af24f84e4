# shellcheck shell=bash
# The way back to a revision that ran before: after a failed deployment, or on demand. Sourced, never run.

# come_back CODE WHAT: after something failed that came after the order. Ends the run.
come_back() {
    say >&2
    complain "$2"
    TARGET_ARN=$CURRENT_ARN
    STAGE=going_back STEP=0 STEPS=2
    why_tasks_stopped
    step "Go back to $(revision_of "$TARGET_ARN")"
    take_way_back "$2"
    step "Wait until it runs"
    watch "$TARGET_ARN" "$TIMEOUT"
    [[ $ENDED == completed ]] || stop "$(code_of_way_back)" "$2; and going back did not work: $(how_it_ended)"
    STAGE=back
    set_guards_again
    discard "$NEW_ARN"
    stop "$1" "$2; gone back to $(revision_of "$TARGET_ARN")"
}

# Orders the old revision, unless ECS does so already.
take_way_back() {
    DESCRIBE service.json || stop 8 "$1; and what runs now cannot be read: $(reason)"
    local id arn
    id=$(primary service.json id) arn=$(primary service.json taskDefinition)
    if [[ $id != "$DEPLOYMENT" && $arn == "$TARGET_ARN" ]]; then
        note "ECS goes back by itself"
        ORDERED_BACK=no DEPLOYMENT=$id
        SEEN_EVENTS=$(events service.json)
    elif [[ $id == "$DEPLOYMENT" || $arn == "$NEW_ARN" ]]; then
        ORDERED_BACK=yes
        order "$TARGET_ARN" false || stop 7 "$1; and the service could not be told to go back: $(reason)"
    else
        STAGE=foreign
        stop 8 "$1; but somebody else has deployed $(revision_of "$arn") meanwhile, which is left alone"
    fi
}

code_of_way_back() { if [[ $ENDED == lost ]]; then echo 8; else echo 7; fi; }

how_it_ended() {
    case $ENDED in
        late) echo "it took longer than $TIMEOUT s" ;;
        failed) echo "ECS gave it up: ${WHY:-no reason given}" ;;
        replaced) echo "the service runs $(revision_of "$INSTEAD") now" ;;
        lost) echo "AWS does not answer: $WHY" ;;
    esac
}

# The guards were lowered for the way back (guards.jq). A change of guards alone starts no deployment.
set_guards_again() {
    [[ ${ORDERED_BACK:-yes} == yes ]] || return 0
    local guards
    guards=$(guards true)
    explain "the circuit breaker and the alarms as before; this alone starts no deployment"
    change_into guarded.json "${AWS[@]}" ecs update-service --cluster "$CLUSTER" --service "$SERVICE" --deployment-configuration "$guards" ||
        note "the circuit breaker and the alarms could not be set again; the next deployment does it: $(reason)"
}

# An update-service that failed: refused, or carried out with its answer lost?
order_failed() {
    local why
    why=$(reason)
    DESCRIBE now.json || stop 8 "the service could not be told ($why), and what it runs now cannot be read: $(reason)"
    if [[ $(primary now.json taskDefinition) != "$NEW_ARN" ]]; then
        STAGE=registered
        stop 4 "the service could not be told: $why"
    fi
    DEPLOYMENT=$(primary now.json id)
    come_back 5 "the order's answer was lost: $why"
}

# Why the tasks of the new revision stopped, as far as ECS tells. Nothing depends on it.
why_tasks_stopped() {
    local tasks=()
    look stopped.json "${AWS[@]}" ecs list-tasks --cluster "$CLUSTER" --service-name "$SERVICE" --desired-status STOPPED || return 0
    mapfile -t tasks < <(jq -r '.taskArns[:10][]' "$WORK/stopped.json")
    ((${#tasks[@]})) || return 0
    look tasks.json "${AWS[@]}" ecs describe-tasks --cluster "$CLUSTER" --tasks "${tasks[@]}" || return 0
    jq -r --arg arn "$NEW_ARN" '[.tasks[] | select(.taskDefinitionArn == $arn)
        | "stopped task: \(.stoppedReason // "no reason given")" + ([.containers[] | select(.exitCode or .reason)
        | "; \(.name): exit code \(.exitCode // "none")" + (if .reason then ", \(.reason)" else "" end)] | join(""))] | unique[]' "$WORK/tasks.json" | notes
    note "its log lines: $(as_typed aws --region "$REGION" logs tail "/ecs/$SERVICE" --since 30m)"
}

# For a dry run: what would follow if the deployment or the smoke test failed.
show_way_back() {
    say
    say "If step 7 or 8 failed, it would go back, unless ECS does so already:"
    TARGET_ARN=$CURRENT_ARN
    explain "the alarms and ECS's own going back are off on this way: ECS would go back to what we are leaving"
    order "$TARGET_ARN" false
    watch "$TARGET_ARN" "$TIMEOUT"
    set_guards_again
    explain "so that no later rollback takes the revision that failed"
    discard "$NEW_ARN"
}

# Sets WEIGHT to what the live rules give this proxy: amid a rollout the old proxy answers the smoke test too. It does with
# the AWS CLI, since going back must need no Python. What cannot be read keeps nobody from going back.
read_weight() {
    local weight=''
    explain "how many of a hundred requests the load balancer gives to this proxy"
    if look balancer.json "${AWS[@]}" elbv2 describe-load-balancers --names "$BALANCER" &&
        look listeners.json "${AWS[@]}" elbv2 describe-listeners --load-balancer-arn "$(value balancer.json '.LoadBalancers[0].LoadBalancerArn')" &&
        look live.json "${AWS[@]}" elbv2 describe-rules --listener-arn "$(value listeners.json '[.Listeners[] | select(.Port == 443)][0].ListenerArn')"; then
        [[ $CAN_READ == yes ]] || return 0 # a dry run with stand-ins
        weight=$(live_weight)
        [[ -n $weight ]] || echo "no rule of $BALANCER leads to $TARGET_GROUP" >"$WORK/complaint"
    fi
    if [[ -n $weight ]]; then
        WEIGHT=$weight
        note "the load balancer gives this proxy $WEIGHT of 100 requests"
    else
        note "how many requests come to this proxy cannot be read ($(reason)): tested as if all did"
    fi
}

# The weight by $WORK/live.json; the least where rules do not agree, since that is asked most often. Nothing if none is ours.
live_weight() {
    jq -r --arg name ":targetgroup/$TARGET_GROUP/" 'def weight: map(.Weight // 1) | add;
        [.Rules[].Actions[] | select(.Type == "forward") | .ForwardConfig.TargetGroups // [{TargetGroupArn}]
            | map(select(.TargetGroupArn | contains($name))) as $ours | select($ours != [])
            | 100 * ($ours | weight) / ([weight, 1] | max) | floor] | min // ""' "$WORK/live.json"
}

# --rollback: to an earlier revision, on demand.
go_back() {
    STEPS=6
    check_inputs
    read_what_runs
    begin
    choose_target
    confirmed "Go back to $(revision_of "$TARGET_ARN")?" || stop 2 "not confirmed: nothing was done"
    NEW_ARN=$TARGET_ARN
    step "Have the service run it"
    explain "the alarms and ECS's own going back are off on this way: ECS would go back to what we are leaving"
    STAGE=going_back
    order "$TARGET_ARN" false || { STAGE=untouched && stop 4 "the service could not be told: $(reason)"; }
    step "Wait until the deployment has ended"
    watch "$TARGET_ARN" "$TIMEOUT"
    [[ $ENDED == completed ]] || stop "$(code_of_way_back)" "going back did not work: $(how_it_ended)"
    STAGE=back
    set_guards_again
    smoke_test || stop 7 "gone back to $(revision_of "$TARGET_ARN"), and the smoke test fails (above)"
    succeeded
}
