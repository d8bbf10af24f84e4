# shellcheck shell=bash
# Which revision of the task definition: the one that a new one is made from, and the one that we go back to. Sourced.
#
# Not every revision has run: terraform apply registers one whenever the task definition changes in the files, and the
# service does not take it (lifecycle in ecs-proxy.tf). So neither "the newest" nor "the one before" is right by itself.

TARGET_ARN=''
BASE=current.json

# All revisions that can be deployed, the newest first, into $WORK/revisions.json.
read_revisions() {
    explain "the revisions that can be deployed, the newest first"
    look revisions.json "${AWS[@]}" ecs list-task-definitions --family-prefix "$FAMILY" --status ACTIVE --sort DESC
}

# The newest revision of the family itself: a prefix may be that of another one.
newest_revision() {
    jq -r --arg family "$FAMILY" '[.taskDefinitionArns[] | select(test("(^|/)\($family):[0-9]+$"))][0] // ""' "$WORK/revisions.json"
}

# Step 2 of a deployment: from which revision the new one is made. Sets BASE.
choose_base() {
    local newest more
    if ! read_revisions; then
        fault "the revisions of $FAMILY cannot be read: $(reason)"
        return
    fi
    newest=$(newest_revision)
    [[ -n $newest && ${newest##*:} -gt ${CURRENT_ARN##*:} ]] || return 0
    explain "a newer revision than the one that runs: does it differ in more than the image?"
    if ! look newest.json "${AWS[@]}" ecs describe-task-definition --task-definition "$newest" --include TAGS; then
        fault "$(revision_of "$newest") cannot be read: $(reason)"
        return
    fi
    more=$(beside_the_image)
    [[ -n $more ]] || return 0
    case $FROM in
        newest)
            BASE=newest.json
            note "made from $(revision_of "$newest"), as asked; it differs from the one that runs in: $more"
            ;;
        current) note "$(revision_of "$newest") is newer, and left out, as asked; it differs in: $more" ;;
        *)
            fault "$(revision_of "$newest") is newer than the one that runs, and differs in more than the image ($more). \
Mostly terraform apply made it. Deploy that too: --from newest. Leave it: --from current"
            ;;
    esac
}

# In what the newest revision differs from the one that runs, image apart: names of fields.
beside_the_image() {
    jq -r --slurpfile other <(without_image newest.json) '. as $one | [$other[0] | (keys + ($one | keys) | unique)[] as $key
        | if $one[$key] == .[$key] then empty
          elif $key != "containerDefinitions" then $key
          else ([$one[$key], .[$key]] | map(map({key: .name, value: .}) | from_entries)) as [$a, $b]
            | ($a + $b | keys)[] as $name | (($a[$name] // {}) + ($b[$name] // {}) | keys)[] as $field
            | select($a[$name][$field] != $b[$name][$field]) | "\($field) of \($name)" end] | join(", ")' \
        <(without_image current.json)
}

without_image() { jq --arg container "$CONTAINER" --arg image '' --from-file "$LIB/new_revision.jq" "$WORK/$1"; }

# Step 3 of --rollback. Sets TARGET_ARN.
choose_target() {
    step "Choose the revision"
    if [[ -n $TO_REVISION ]]; then
        TARGET_ARN=${CURRENT_ARN%:*}:$TO_REVISION
    elif under_way; then
        # "The one before" would be one too far when ECS is going back itself.
        would_stop 2 "a deployment of $(revision_of "$(primary service.json taskDefinition)") is under way: say where to, with --to-revision N"
        TARGET_ARN="$FAMILY:<N>"
    else
        read_revisions || stop 2 "the revisions of $FAMILY cannot be read: $(reason)"
        read_history
        TARGET_ARN=$(last_that_ran)
        [[ -n $TARGET_ARN ]] || stop 2 "nothing older than $(revision_of "$CURRENT_ARN") is known to have run and can be deployed; --to-revision N names one"
    fi
    [[ $TARGET_ARN != "$CURRENT_ARN" ]] || stop 2 "the service runs $(revision_of "$CURRENT_ARN") already"
    [[ $TARGET_ARN != *'<N>' ]] || return 0
    explain "whether it can be deployed, and which image it has"
    look chosen.json "${AWS[@]}" ecs describe-task-definition --task-definition "$TARGET_ARN" ||
        stop 2 "$(revision_of "$TARGET_ARN") cannot be read: $(reason)"
    [[ $(value chosen.json .taskDefinition.status) == ACTIVE ]] || stop 2 "$(revision_of "$TARGET_ARN") is not ACTIVE: ECS does not deploy it any more"
    note "$(revision_of "$TARGET_ARN"), image $(image_in chosen.json)"
}

# What ran, the latest first, into $WORK/ran.json: ECS keeps 90 days of it. Without it every older revision will do.
read_history() {
    local arns=()
    explain "the deployments that succeeded, and their revisions: an ACTIVE revision need not have run ever"
    if look history.json "${AWS[@]}" ecs list-service-deployments --cluster "$CLUSTER" --service "$SERVICE" --status SUCCESSFUL --max-results 20; then
        mapfile -t arns < <(jq -r '.serviceDeployments[].targetServiceRevisionArn | select(.)' "$WORK/history.json")
        if ((${#arns[@]})) && look ran.json "${AWS[@]}" ecs describe-service-revisions --service-revision-arns "${arns[@]}"; then
            return
        fi
    fi
    note "ECS tells no history of deployments ($(reason)): the newest older revision is taken; look at its image below"
    echo '{}' >"$WORK/ran.json"
}

# The last revision that ran before the one that runs, and can be deployed.
last_that_ran() {
    jq -r --arg family "$FAMILY" --arg current "$CURRENT_ARN" --slurpfile history "$WORK/history.json" --slurpfile ran "$WORK/ran.json" '
        def number: sub(".*:"; "") | tonumber? // 0;
        [.taskDefinitionArns[] | select(test("(^|/)\($family):[0-9]+$") or test("<"))
            | select(($current | number) == 0 or number < ($current | number))] as $older
        | if $ran[0] == {} then $older[0]
          else [$history[0].serviceDeployments[].targetServiceRevisionArn as $arn
            | $ran[0].serviceRevisions[] | select(.serviceRevisionArn == $arn) | .taskDefinition
            | select(IN($older[]))][0] end // ""' "$WORK/revisions.json"
}
