# shellcheck shell=bash
# Questions to AWS. Each answer is a file in $WORK, so that a dry run shows the very commands. Sourced, never run.
#
# A dry run without credentials asks nothing: it goes on with stand-ins in pointed brackets.

export AWS_PAGER=''
CAN_READ=yes
AWS=(aws)

# Every call says its region: what is shown can be typed anywhere.
set_region() { AWS=(aws --region "$1" --output json); }

# need_credentials: credentials that AWS takes. Sets WHO, and CAN_READ=no without them.
need_credentials() {
    WHO='<who you are>'
    explain "with whose permissions all this is done"
    if ! command -v aws >/dev/null; then
        CAN_READ=no
    elif "${AWS[@]}" sts get-caller-identity >"$WORK/caller.json" 2>"$WORK/complaint"; then
        WHO=$(value caller.json .Arn)
    else
        CAN_READ=no
        fault "AWS takes no credentials of yours: $(reason)"
    fi
    [[ $DRY_RUN == no ]] || show "$(as_typed "${AWS[@]}" sts get-caller-identity) > \"\$WORK/caller.json\""
}

# look FILE COMMAND...: runs a command that only reads, its answer into $WORK/FILE. What it complained of is in `reason`.
look() {
    local file=$WORK/$1
    shift
    if [[ $DRY_RUN == yes ]]; then
        show "$(as_typed "$@") > $(as_typed "$file")"
        if [[ $CAN_READ == no ]]; then
            stand_in "${file##*/}" >"$file"
            return 0
        fi
    fi
    "$@" >"$file" 2>"$WORK/complaint"
}

# The last thing that a failed `look` or `change_into` complained of, on one line.
reason() {
    local text=''
    [[ ! -s $WORK/complaint ]] || text=$(grep -v '^[[:space:]]*$' "$WORK/complaint" | tail -n 1)
    printf '%s' "${text:-it gave no reason}"
}

# change_into FILE COMMAND...: as `change`, the answer into $WORK/FILE; a dry run puts a stand-in there.
change_into() {
    local file=$WORK/$1
    shift
    show "$(as_typed "$@") > $(as_typed "$file")"
    if [[ $DRY_RUN == yes ]]; then
        stand_in "${file##*/}" >"$file"
        return 0
    fi
    "$@" >"$file" 2>"$WORK/complaint"
}

# Whether the last complaint means that no further call will work either, however long one waits.
credentials_are_gone() {
    grep -Eq 'ExpiredToken|InvalidClientTokenId|UnrecognizedClient|InvalidSignature|AccessDenied|Unable to locate credentials|Token has expired|refresh failed' "$WORK/complaint"
}

# value FILE FILTER: a value of an answer, as plain text.
value() { jq -r "$2" "$WORK/$1"; }

# What a dry run knows of an answer that it did not ask for.
stand_in() {
    case $1 in
        caller.json) echo '{"Arn": "<who you are>"}' ;;
        service.json)
            jq -n --arg family "$FAMILY" '{services: [{status: "ACTIVE", desiredCount: "<wanted>", runningCount: "<running>",
                taskDefinition: "\($family):<current>", deployments: [], deploymentConfiguration: {alarms: {alarmNames:
                ["<alarms of the service>"], enable: true, rollback: true}}}]}'
            ;;
        current.json | chosen.json)
            jq -n --arg family "$FAMILY" --arg container "$CONTAINER" '{taskDefinition: {family: $family, taskDefinitionArn: "\($family):<current>", status: "ACTIVE",
                containerDefinitions: [{name: $container, image: "<image>"}]}}'
            ;;
        repository.json)
            jq -n --arg name "$REPOSITORY" '{repositories: [{repositoryUri: "<registry>/\($name)", imageTagMutability: "MUTABLE"}]}'
            ;;
        alarms.json) echo '{"MetricAlarms": [], "CompositeAlarms": []}' ;;
        history.json) echo '{"serviceDeployments": [{"targetServiceRevisionArn": "<service revision>"}]}' ;;
        ran.json)
            jq -n --arg family "$FAMILY" '{serviceRevisions: [{serviceRevisionArn: "<service revision>", taskDefinition: "\($family):<previous>"}]}'
            ;;
        revisions.json) jq -n --arg family "$FAMILY" '{taskDefinitionArns: ["\($family):<previous>"]}' ;;
        pushed.json) jq -n --arg image "${IMAGE:-}" '["\($image | sub(":[^:/]*$"; ""))@<digest>"]' ;;
        image.json) echo '{"imageDetails": [{"imageDigest": "<digest>"}]}' ;;
        registered.json) jq -n --arg family "$FAMILY" '{taskDefinition: {taskDefinitionArn: "\($family):<new>"}}' ;;
        updated.json) echo '{"service": {"deployments": [{"status": "PRIMARY", "id": "<deployment>"}]}}' ;;
        rules.json) echo '{"same": true, "proxy_weight": 100, "differences": []}' ;;
        balancer.json) echo '{"LoadBalancers": [{"LoadBalancerArn": "<load balancer>"}]}' ;;
        listeners.json) echo '{"Listeners": [{"Port": 443, "ListenerArn": "<listener>"}]}' ;;
        *) echo '{}' ;;
    esac
}
