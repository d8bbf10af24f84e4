#!/usr/bin/env bash
# Deploys the MLflow proxy to ECS, and goes back by itself when that fails. Or goes back on demand (--rollback).
#
# Usage: scripts/deploy_proxy_routing_fix.sh [options]
#
# It builds the image from the commit that is checked out, pushes it to ECR, registers a revision of the task definition
# that differs in nothing but the image, has the service run it, waits until ECS says that this deployment is completed,
# and tests the registry from outside. If anything fails after the service was told, the revision that ran before is
# brought back, and it waits for that too. Nothing is asked of Terraform, and no listener rule is touched.
#
# What to deploy
#   --environment E      development (default), staging, production ...
#   --project P          first part of all names (default: hokusai)
#   --region R           (default: $AWS_REGION, $AWS_DEFAULT_REGION, us-east-1)
#   --repository NAME    the ECR repository (default: <project>-mlflow-proxy)
#   --image-tag T        (default: the commit, 12 digits)
#   --skip-build         deploy the image that ECR has under this tag
#   --allow-dirty        build although the working tree has changes; the tag says so
#   --from R             newest or current: from which revision of the task definition the new one is made. It must be
#                        said when terraform apply has registered one that does not run yet
#
# What to do
#   --dry-run            change nothing: show every command that would run, in order. It reads from AWS if it may.
#   --rollback           deploy nothing: go back to the last revision that ran before the one that runs, and is ACTIVE
#   --to-revision N      with --rollback: to this one
#   --yes                ask nothing
#
# What to check
#   --url U              where the registry is seen from outside (default for development and production:
#                        https://registry.hokus.ai)
#   --timeout S          how long ECS may take, each way (default: 1800; it waits for transfers to end, and watches the
#                        alarms for a while before it calls a deployment completed)
#   --poll S             seconds between two looks (default: 15)
#   --alarms A,B         alarms that end the deployment (default: those that Terraform gave the service)
#   --without-alarms     deploy although no alarm watches
#   --var-file F         values of Terraform's variables, for comparing the rules (terraform.tfvars is read in any case)
#   --skip-rules         do not compare the load balancer's live rules with the repository's
#   --skip-registration  do not register a model in the smoke test
#
# Environment
#   HOKUSAI_API_KEY      the key of the smoke test; given nowhere else, shown nowhere
#   INFRA_PYTHON         a Python with boto3 and hcl2 (default: .venv-infra/bin/python)
#   MLFLOW_PYTHON        a Python with mlflow (default: .venv-mlflow/bin/python)
#   AWS_PROFILE and all else that aws itself understands
#
# Exit code  what happened                                                     what serves
#   0        done; or nothing to do; or a dry run that found nothing missing   the revision asked for
#   1        the script failed by a fault of its own; the last lines say where see there
#   2        it could not begin: options, tools, inputs, credentials, AWS      as before
#   3        the live listener rules are not the repository's                  as before
#   4        building, pushing, registering or ordering failed                 as before
#   5        the deployment failed or took too long; gone back                 the revision before
#   6        the smoke test failed; gone back                                  the revision before
#   7        going back failed, or what we went back to fails the smoke test   look at once
#   8        out of sight: AWS stopped answering, or somebody else deployed    look at once
#   130, 143 interrupted (Ctrl-C, SIGTERM); it says in what state              see there
# A dry run ends with the code with which a real run would have stopped first.

set -Eeuo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CALLED_FROM=$PWD
cd "$ROOT"
LIB=scripts/lib
# shellcheck source=scripts/lib/terminal.sh
source scripts/lib/terminal.sh
# shellcheck source=scripts/lib/aws.sh
source scripts/lib/aws.sh
# shellcheck source=scripts/lib/inputs.sh
source scripts/lib/inputs.sh
# shellcheck source=scripts/lib/revisions.sh
source scripts/lib/revisions.sh
# shellcheck source=scripts/lib/service.sh
source scripts/lib/service.sh
# shellcheck source=scripts/lib/image.sh
source scripts/lib/image.sh
# shellcheck source=scripts/lib/ending.sh
source scripts/lib/ending.sh
# shellcheck source=scripts/lib/way_back.sh
source scripts/lib/way_back.sh

ENVIRONMENT=development PROJECT=hokusai REGION=${AWS_REGION:-${AWS_DEFAULT_REGION:-us-east-1}}
REPOSITORY='' TAG='' URL='' ALARM_NAMES='' TO_REVISION='' FROM=''
VAR_FILES=()
MODE=deploy SKIP_BUILD=no ALLOW_DIRTY=no ASSUME_YES=no WITHOUT_ALARMS=no SKIP_RULES=no SKIP_REGISTRATION=no
TIMEOUT=1800 POLL=15
INFRA_PYTHON=${INFRA_PYTHON:-.venv-infra/bin/python} MLFLOW_PYTHON=${MLFLOW_PYTHON:-.venv-mlflow/bin/python}
KEY='' WEIGHT=100 WORK=''
CURRENT_ARN='' NEW_ARN='' DEPLOYMENT='' ALARMS='[]'

read_options() {
    while (($#)); do
        case $1 in
            --environment | --project | --region | --repository | --image-tag | --to-revision | --url | --timeout | --poll | --alarms | --from | --var-file)
                (($# >= 2)) || { fault "$1 needs a value" && return; }
                take_option "$1" "$2"
                shift
                ;;
            --dry-run) DRY_RUN=yes ;;
            --rollback) MODE=rollback ;;
            --skip-build) SKIP_BUILD=yes ;;
            --allow-dirty) ALLOW_DIRTY=yes ;;
            --without-alarms) WITHOUT_ALARMS=yes ;;
            --skip-rules) SKIP_RULES=yes ;;
            --skip-registration) SKIP_REGISTRATION=yes ;;
            --yes) ASSUME_YES=yes ;;
            -h | --help) usage "scripts/$PROGRAM" && exit 0 ;;
            *) fault "${1@Q} is no option of this script (--help lists them)" ;;
        esac
        shift
    done
}

take_option() {
    case $1 in
        --environment) ENVIRONMENT=$2 ;;
        --project) PROJECT=$2 ;;
        --region) REGION=$2 ;;
        --repository) REPOSITORY=$2 ;;
        --image-tag) TAG=$2 ;;
        --to-revision) TO_REVISION=$2 ;;
        --url) URL=${2%/} ;;
        --timeout) TIMEOUT=$2 ;;
        --poll) POLL=$2 ;;
        --alarms) ALARM_NAMES=$2 ;;
        --from) FROM=$2 ;;
        --var-file) VAR_FILES+=(--var-file "$(from_caller "$2")") ;;
    esac
}

# The names that Terraform gives (infrastructure/terraform/ecs-proxy.tf and alb.tf; a test compares them).
set_names() {
    CLUSTER=$PROJECT-$ENVIRONMENT
    SERVICE=$PROJECT-mlflow-proxy-$ENVIRONMENT
    FAMILY=$SERVICE
    CONTAINER=mlflow-proxy
    BALANCER=$PROJECT-registry-$ENVIRONMENT
    TARGET_GROUP=$PROJECT-mlproxy-$ENVIRONMENT
    REPOSITORY=${REPOSITORY:-$PROJECT-mlflow-proxy}
    case $ENVIRONMENT in development | production) URL=${URL:-https://registry.hokus.ai} ;; esac
    set_region "$REGION"
}

# Step 1. Faults are noted, not told yet: step 2 may find more.
check_inputs() {
    step "Check tools, inputs and credentials"
    take_key
    need_tools aws jq git curl
    need_name --environment "$ENVIRONMENT"
    need_name --project "$PROJECT"
    need_name --region "$REGION"
    need_name --repository "$REPOSITORY"
    need_number --poll "$POLL"
    [[ $TIMEOUT =~ ^[1-9][0-9]*$ ]] || fault "--timeout must be a whole number of seconds above 0, not ${TIMEOUT@Q}"
    [[ $FROM =~ ^(newest|current)?$ ]] || fault "--from must be newest or current, not ${FROM@Q}"
    [[ -z $TO_REVISION || $MODE == rollback ]] || fault "--to-revision belongs to --rollback"
    [[ $TO_REVISION =~ ^([1-9][0-9]*)?$ ]] || fault "--to-revision must be the number of a revision, not ${TO_REVISION@Q}"
    if [[ -n $URL ]]; then need_url "$URL"; else fault "--url is needed: where is the registry of $ENVIRONMENT seen from outside?"; fi
    [[ $ASSUME_YES == yes || $DRY_RUN == yes || -t 0 ]] || fault "--yes is needed where nobody can be asked (stdin is no terminal)"
    if [[ $MODE == deploy ]]; then check_inputs_of_a_deployment; else check_inputs_of_a_rollback; fi
    command -v jq >/dev/null || begin # not even a dry run can do without
    need_credentials
    note "as $WHO"
}

check_inputs_of_a_deployment() {
    need_commit
    [[ -n $TAG ]] || TAG=${COMMIT:0:12}$([[ $TREE == clean ]] || date -u +-dirty-%Y%m%d%H%M%S)
    [[ $TAG =~ ^[A-Za-z0-9_\<][A-Za-z0-9_.\>-]{0,127}$ ]] || fault "--image-tag must be at most 128 letters, digits and _ . -, not ${TAG@Q}"
    [[ $SKIP_BUILD == yes ]] || need_docker
    [[ $SKIP_RULES == yes ]] || need_python INFRA_PYTHON "$INFRA_PYTHON" boto3,hcl2 "run make infra-env, or give --skip-rules"
    if [[ $SKIP_REGISTRATION == no ]]; then
        need_key
        need_python MLFLOW_PYTHON "$MLFLOW_PYTHON" mlflow "run make env, or give --skip-registration"
    fi
    note "commit ${COMMIT:0:12}, tree $TREE, tag $TAG"
}

# An emergency: what only the smoke test needs keeps nobody from going back.
check_inputs_of_a_rollback() {
    if [[ -z $KEY && $SKIP_REGISTRATION == no ]]; then
        SKIP_REGISTRATION=yes
        note "HOKUSAI_API_KEY is not set: the smoke test will look at what is public, and register nothing"
    fi
}

# there_is_not FAULT: a dry run goes on with stand-ins, and so shows every command all the same.
there_is_not() {
    fault "$1"
    [[ $DRY_RUN == yes ]] || return 1
    CAN_READ=no
    stand_in service.json >"$WORK/service.json"
}

# Step 2: the service, its task definition, its alarms, and whatever stands in the way of a deployment.
read_what_runs() {
    [[ $CAN_READ == yes || $DRY_RUN == yes ]] || return 0
    step "Read what runs now"
    explain "which revision runs, how many tasks, whether a deployment is under way, which alarms watch"
    if ! DESCRIBE service.json; then
        there_is_not "$(service_name) cannot be read: $(reason)" || return 0
    fi
    if [[ $(value service.json '.services[0].status // ""') != ACTIVE ]]; then
        there_is_not "there is no active service $(service_name) in $REGION: terraform apply makes it" || return 0
    fi
    [[ $(value service.json '.services[0].deploymentController.type // "ECS"') == ECS ]] || fault "$(service_name) is not deployed by ECS itself: this script does not know how"
    CURRENT_ARN=$(value service.json '.services[0].taskDefinition')
    explain "its image and all its settings"
    if ! look current.json "${AWS[@]}" ecs describe-task-definition --task-definition "$CURRENT_ARN" --include TAGS; then
        fault "the task definition $(revision_of "$CURRENT_ARN") cannot be read: $(reason)"
        return
    fi
    note "$(revision_of "$CURRENT_ARN"), $(value service.json '.services[0] | "\(.runningCount) of \(.desiredCount) tasks running"')"
    note "image $(image_in current.json)"
    choose_alarms
    [[ $MODE == rollback ]] || check_state
}

# The proxy's image in a task definition.
image_in() { jq -r --arg container "$CONTAINER" '[.taskDefinition.containerDefinitions[] | select(.name == $container)][0].image // ""' "$WORK/$1"; }

check_state() {
    [[ -n $(image_in current.json) ]] || fault "$(revision_of "$CURRENT_ARN") has no container $CONTAINER"
    [[ $(value service.json '.services[0].desiredCount') != 0 ]] || fault "$(service_name) wants 0 tasks: nothing would show that the new revision works"
    ! under_way || fault "another deployment is under way: $(primary service.json taskDefinition | sed 's|.*/||'), $(primary service.json rolloutState)"
    choose_base
    check_alarms
    read_repository
}

under_way() { [[ $(primary service.json rolloutState) == IN_PROGRESS ]]; }

# Terraform gives the service its alarms; what is given here goes before.
choose_alarms() {
    if [[ -n $ALARM_NAMES ]]; then
        ALARMS=$(jq -nc --arg names "$ALARM_NAMES" '$names | split(",")')
    else
        ALARMS=$(jq -c '.services[0].deploymentConfiguration.alarms.alarmNames // []' "$WORK/service.json")
    fi
}

check_alarms() {
    local names=() missing
    mapfile -t names < <(jq -r '.[]' <<<"$ALARMS")
    if ((${#names[@]} == 0)); then
        [[ $WITHOUT_ALARMS == yes ]] || fault "no alarm watches deployments of $(service_name): terraform apply gives it some; or give --alarms, or --without-alarms"
        return
    fi
    explain "whether the alarms exist, and are quiet"
    if ! look alarms.json "${AWS[@]}" cloudwatch describe-alarms --alarm-types MetricAlarm CompositeAlarm --alarm-names "${names[@]}"; then
        fault "the alarms cannot be read: $(reason)"
    elif [[ $CAN_READ == yes ]]; then
        missing=$(jq -r --argjson wanted "$ALARMS" '$wanted - [(.MetricAlarms + .CompositeAlarms)[].AlarmName] | join(", ")' "$WORK/alarms.json")
        [[ -z $missing ]] || fault "there is no alarm of the name $missing"
        value alarms.json '(.MetricAlarms + .CompositeAlarms)[] | select(.StateValue == "ALARM") |
            "note: \(.AlarmName) is in ALARM already; ECS does not heed the alarms of this deployment then"' | notes
    fi
    note "watched by ${names[*]}"
}

# Step 3. Deploying behind other rules than the repository's would test, and show users, something else.
compare_rules() {
    step "Compare the load balancer's live rules with the repository's"
    if [[ $SKIP_RULES == yes ]]; then
        note "skipped, as asked; taken for granted: all requests for MLflow go to this proxy"
        return
    fi
    explain "exit code 0: same rules; 1: they differ, with a table; 2: it cannot tell"
    local command=("$INFRA_PYTHON" scripts/check_live_rules.py --project "$PROJECT" --environment "$ENVIRONMENT" --region "$REGION" "${VAR_FILES[@]}" --json "$WORK/rules.json")
    [[ $DRY_RUN == no ]] || show "$(as_typed "${command[@]}")"
    if [[ $CAN_READ == no ]]; then
        stand_in rules.json >"$WORK/rules.json"
    elif ! "${command[@]}" >"$WORK/table" 2>&1; then
        notes <"$WORK/table"
        would_stop 3 "the live rules are not the repository's: apply the rules first (terraform apply), or give --skip-rules"
        return
    else
        notes <"$WORK/table"
    fi
    WEIGHT=$(value rules.json '.proxy_weight // 100')
}

smoke_test() {
    step "Smoke test"
    [[ $MODE == deploy ]] || read_weight # a deployment knows it: it has compared the rules
    local command=(scripts/smoke_test.sh --url "$URL" --weight "$WEIGHT")
    [[ $SKIP_REGISTRATION == no ]] || command+=(--skip-registration)
    explain "health pages, the three mounts, a registration; scripts/smoke_test.sh --dry-run lists them"
    [[ -z $KEY && $SKIP_REGISTRATION == yes ]] || explain "it gets HOKUSAI_API_KEY by its environment"
    show "$(as_typed "${command[@]}")"
    [[ $DRY_RUN == no ]] || return 0
    HOKUSAI_API_KEY=$KEY MLFLOW_PYTHON=$MLFLOW_PYTHON "${command[@]}" 2>&1 | notes
}

deploy() {
    STEPS=8
    check_inputs
    read_what_runs
    begin
    compare_rules
    confirmed "Deploy $TAG to $(service_name)?" || stop 2 "not confirmed: nothing was done"
    obtain_image
    if [[ $BASE == current.json && $NEW_IMAGE == "$(image_in current.json)" ]]; then
        note "$(revision_of "$CURRENT_ARN") runs this very image already: there is nothing to deploy"
        finish "$DRY_CODE"
    fi
    step "Register a revision of the task definition"
    register_revision "$NEW_IMAGE" || stop 4 "the revision could not be registered: $(reason)"
    STAGE=registered
    note "$(revision_of "$NEW_ARN") is $(revision_of "$(value "$BASE" .taskDefinition.taskDefinitionArn)") with this image"
    step "Have the service run it"
    explain "if the new tasks fail, or an alarm goes off, ECS ends the deployment and goes back by itself"
    STAGE=ordered
    order "$NEW_ARN" true || order_failed
    step "Wait until the deployment has ended"
    watch "$NEW_ARN" "$TIMEOUT"
    case $ENDED in
        completed) ;;
        late) come_back 5 "the deployment took longer than $TIMEOUT s (--timeout)" ;;
        failed | replaced) come_back 5 "the deployment failed: ${WHY:-ECS gave no reason}" ;;
        lost) stop 8 "the deployment is out of sight: $WHY" ;;
    esac
    STAGE=completed
    smoke_test || come_back 6 "the smoke test failed (above)"
    [[ $DRY_RUN == no ]] || show_way_back
    succeeded
}

read_options "$@"
set_names
begin_work
if [[ $MODE == deploy ]]; then deploy; else go_back; fi
