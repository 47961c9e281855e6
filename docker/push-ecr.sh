#!/usr/bin/env bash
# Builds the images for both architectures, pushes each as a multi-architecture image, and prints its digest.
# Deploy by the digest, which never changes.
#
#   docker/push-ecr.sh 123456789012.dkr.ecr.eu-central-1.amazonaws.com/grpc-suite [IMAGE…]
#
# The part after the host is optional. On ECR, a repository must exist for each image. Any other registry
# works, too: log in first. VERSION defaults to that of Cargo.toml, ARCHITECTURES to "amd64 arm64". SOURCE is
# the URL of the sources, for the label.
set -euo pipefail
registry=${1:?usage: docker/push-ecr.sh REGISTRY [IMAGE…]}
shift
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- route-guide greeter route-guide-client greeter-client
version=${VERSION:-$(sed -n '/^\[workspace.package\]/,/^version/s/^version = "\(.*\)"/\1/p' Cargo.toml)}
read -ra architectures <<<"${ARCHITECTURES:-amd64 arm64}"
# Without the attestations that some builders add: they would turn each image into an index.
export BUILDX_NO_DEFAULT_ATTESTATIONS=1

host=${registry%%/*}
if [[ $host =~ \.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com ]]; then
    aws ecr get-login-password --region "${BASH_REMATCH[1]}" |
        docker login --username AWS --password-stdin "$host"
fi
insecure=()
case $host in localhost:* | 127.*) insecure=(--insecure) ;; esac

builder=${BUILDER:-$(sed -n 's/^ARG BUILDER=//p' docker/Dockerfile)}
# An image built on this machine: in a registry, its tag may name a different image.
if id=$(docker image inspect --format '{{if not .RepoDigests}}{{.Id}}{{end}}' "$builder" 2>/dev/null) && [ "$id" ]; then
    built_with=$builder@$id
elif [[ $builder == *@sha256:* ]]; then
    built_with=$builder
else
    builder=$builder@$(docker buildx imagetools inspect --format '{{print .Manifest.Digest}}' "$builder")
    built_with=$builder
fi
echo "built with $built_with" >&2

for image; do
    tagged=$registry/$image:$version
    parts=()
    for architecture in "${architectures[@]}"; do
        part=$tagged-$architecture
        docker build --quiet --file docker/Dockerfile --target "$image" --tag "$part" \
            --platform "linux/$architecture" \
            --build-arg BUILDER="$builder" --label grpc-suite.builder="$built_with" \
            --build-arg VERSION="$version" \
            --build-arg REVISION="$(git describe --always --dirty --abbrev=40 --exclude '*')" \
            --build-arg SOURCE="${SOURCE:-unknown}" \
            --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" . >&2
        docker push --quiet "$part" >&2
        parts+=("$part")
    done
    docker manifest rm "$tagged" 2>/dev/null || true
    docker manifest create "${insecure[@]}" "$tagged" "${parts[@]}" >&2
    echo "$registry/$image@$(docker manifest push --purge "${insecure[@]}" "$tagged" | tail -1)"
done
