# shellcheck shell=bash
# The image: where it goes, how it is built and pushed, and the digest by which it is deployed. Sourced, never run.

# need_commit: a commit to build from. Sets COMMIT and TREE (clean or dirty).
need_commit() {
    COMMIT='' TREE=clean
    if ! COMMIT=$(git -C "$ROOT" rev-parse --verify HEAD 2>/dev/null); then
        COMMIT='<commit>'
        fault "$ROOT is no git repository with a commit"
    elif [[ -n $(git -C "$ROOT" status --porcelain) ]]; then
        TREE=dirty
        [[ $ALLOW_DIRTY == yes ]] || fault "the working tree has changes that are in no commit (git status shows them): commit them, or give --allow-dirty"
    fi
}

need_docker() {
    if ! command -v docker >/dev/null; then
        fault "docker is not installed, or not in PATH (--skip-build does without)"
    elif ! docker version --format '{{.Server.Version}}' >/dev/null 2>&1; then
        fault "docker has no daemon that answers (--skip-build does without)"
    fi
}

# Reads the repository. Sets REPOSITORY_URI and IMAGE; with --skip-build DIGEST too.
read_repository() {
    REPOSITORY_URI='<registry>/'$REPOSITORY
    explain "where images go"
    if ! look repository.json "${AWS[@]}" ecr describe-repositories --repository-names "$REPOSITORY"; then
        fault "the ECR repository $REPOSITORY cannot be read: $(reason)"
        return
    fi
    REPOSITORY_URI=$(value repository.json '.repositories[0].repositoryUri')
    IMAGE=$REPOSITORY_URI:$TAG
    if [[ $SKIP_BUILD == yes ]]; then
        explain "the digest of the image that ECR has"
        look image.json "${AWS[@]}" ecr describe-images --repository-name "$REPOSITORY" --image-ids "imageTag=$TAG" ||
            fault "--skip-build: ECR has no image $TAG in $REPOSITORY: $(reason)"
    elif [[ $(value repository.json '.repositories[0].imageTagMutability // ""') == IMMUTABLE ]] &&
        look image.json "${AWS[@]}" ecr describe-images --repository-name "$REPOSITORY" --image-ids "imageTag=$TAG"; then
        fault "ECR has an image $TAG already, and tags of $REPOSITORY cannot be moved: --skip-build deploys that image, --image-tag makes another"
    fi
}

# Step 4. Sets NEW_IMAGE, by digest: a tag can be moved, and tasks started later would run something else.
obtain_image() {
    if [[ $SKIP_BUILD == yes ]]; then
        step "Take the image that ECR has"
    else
        step "Build the image and push it"
        build_and_push
    fi
    NEW_IMAGE=$REPOSITORY_URI@$(value image.json '.imageDetails[0].imageDigest')
    note "image $NEW_IMAGE"
}

build_and_push() {
    local platform=linux/amd64
    [[ $(value current.json '.taskDefinition.runtimePlatform.cpuArchitecture // ""') != ARM64 ]] || platform=linux/arm64
    explain "commit and version go into labels, so that an image tells where it comes from; its date is the commit's"
    change docker build --pull --platform "$platform" --build-arg "REVISION=$COMMIT" --build-arg "VERSION=$(version)" \
        --build-arg "SOURCE_DATE_EPOCH=$(time_of_commit)" --tag "$IMAGE" . ||
        stop 4 "the image could not be built"
    explain "the password goes from one command to the other and nowhere else"
    log_in "${REPOSITORY_URI%%/*}" || stop 4 "docker could not log in to ${REPOSITORY_URI%%/*}"
    change docker push "$IMAGE" || stop 4 "the image could not be pushed"
    STAGE=pushed
    explain "the digest that was pushed, and the one that ECR has under the tag: they must be one"
    change_into pushed.json docker image inspect --format '{{json .RepoDigests}}' "$IMAGE" ||
        stop 4 "docker does not tell the digest: $(reason)"
    change_into image.json "${AWS[@]}" ecr describe-images --repository-name "$REPOSITORY" --image-ids "imageTag=$TAG" ||
        stop 4 "ECR does not tell the digest: $(reason)"
    [[ $(jq --slurpfile ecr "$WORK/image.json" --arg uri "$REPOSITORY_URI" \
        'index("\($uri)@\($ecr[0].imageDetails[0].imageDigest)") != null' "$WORK/pushed.json") == true ]] ||
        stop 4 "the tag $TAG is another image in ECR than the one that was pushed: somebody else pushes it too"
}

# The version that the health pages tell.
version() { sed -n 's/^VERSION = "\(.*\)"$/\1/p' app/__init__.py; }

# In seconds since 1970: BuildKit dates the image by it, and the Dockerfile what it writes.
time_of_commit() { git -C "$ROOT" show --no-patch --format=%ct "$COMMIT" 2>/dev/null || echo '<its time>'; }

log_in() {
    local ask=("${AWS[@]}" ecr get-login-password) take=(docker login --username AWS --password-stdin "$1")
    show "$(as_typed "${ask[@]}") | $(as_typed "${take[@]}")"
    [[ $DRY_RUN == yes ]] || "${ask[@]}" | "${take[@]}"
}
