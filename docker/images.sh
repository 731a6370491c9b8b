#!/usr/bin/env bash
# Builds the images `services` and `worker-cpu` without a container engine, and starts what they hold, as their user.
#
# Needs root on a Debian, and its packages buildah and mmdebstrap. No image registry is asked: the base is made of Debian's
# own packages and stands in under the name that the Dockerfile gives, so its Python is Debian's. BUILD_FLAGS are passed on
# to buildah, as where pip needs a mirror: BUILD_FLAGS="--volume=/etc/pip.conf:/etc/pip.conf:ro".
set -euo pipefail
cd "$(dirname "$0")/.."
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
base=docker.io/library/python:3.12-slim-bookworm
folder=build/images
mkdir -p "$folder"

step() { echo; echo "== $* ($(date +%T))"; }

if [ ! -e "$folder/base.tar" ]; then
  step "a base of Debian's packages"
  mmdebstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$folder/base.part"
  mv "$folder/base.part" "$folder/base.tar"
fi
if ! buildah inspect --type image "$base" >/dev/null 2>&1; then
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$folder/base.tar" / >/dev/null
  buildah run "$container" ln -s /usr/bin/python3 /usr/local/bin/python
  buildah commit --quiet --rm "$container" "$base" >/dev/null
fi
for target in services worker-cpu; do
  step "image $target"
  # shellcheck disable=SC2086
  buildah build --layers --pull=never --network=host ${BUILD_FLAGS:-} --file docker/Dockerfile --target "$target" \
    --tag "infaas/$target" .
done

# -- what they hold, as their user, on volumes as an engine would make them ------------------------------------------
in_image() { # TARGET COMMAND...: runs as the image's user
  local container
  container=$(buildah from --pull=never "infaas/$1")
  buildah run --network=host "$container" -- "${@:2}" || { buildah rm "$container" >/dev/null; return 1; }
  buildah rm "$container" >/dev/null
}
step "who they run as, and what they may write"
for target in services worker-cpu; do
  in_image "$target" sh -ec 'test "$(id -u)" = 10001; touch /artifacts/mine /var/lib/infaas/mine; ! touch /opt/infaas/x 2>/dev/null'
done
step "what they run"
in_image services infaas --version
in_image services python -c 'import zoo.samples; zoo.samples.labelled("digits"); print("the zoo is there")'
for module in selector autoscaler gateway jobs registrar; do
  in_image services python -m "$module" --help >/dev/null && echo "$module --help"
done
in_image worker-cpu python -m workers --help >/dev/null && echo "workers --help"
in_image worker-cpu python -c 'import onnxruntime; print("onnxruntime", onnxruntime.__version__)'
if [ -n "${INFAAS_KAFKA:-}" ] && [ -n "${INFAAS_POSTGRES:-}" ]; then
  step "whether they could start against $INFAAS_KAFKA"
  for module in selector autoscaler gateway jobs registrar; do
    in_image services env INFAAS_KAFKA="$INFAAS_KAFKA" INFAAS_POSTGRES="$INFAAS_POSTGRES" python -m "$module" --check | tail -2
  done
fi
step "done"
buildah images | grep -E 'infaas/|python' || true
