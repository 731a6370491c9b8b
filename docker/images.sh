#!/usr/bin/env bash
# Builds the images `services` and `worker-cpu` without a container engine, and starts their services as their user.
#
# Needs root on a Debian, and its packages buildah and mmdebstrap. No image registry is asked: the base is made of Debian's
# own packages and stands in under the name that the Dockerfile gives, so its Python is Debian's. BUILD_FLAGS are passed on
# to buildah, as where pip needs a mirror: BUILD_FLAGS="--volume=/etc/pip.conf:/etc/pip.conf:ro". Where INFAAS_KAFKA and
# INFAAS_POSTGRES name servers, which nobody else should use, each service runs on them for a while.
set -euo pipefail
cd "$(dirname "$0")/.."
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
base=docker.io/library/python:3.12-slim-bookworm
folder=build/images
mkdir -p "$folder"

step() { echo; echo "== $* ($(date +%T))"; }

if [ ! -e "$folder/base.tar" ]; then
  step "a base of Debian's packages"
  mmdebstrap --variant=minbase --include=python3,python3-venv,ca-certificates,bubblewrap bookworm "$folder/base.part"
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

# -- services of the images, as their user, on volumes like those of an engine ---------------------------------------
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
in_image services python -c 'import infaas_zoo.samples; infaas_zoo.samples.labelled("digits"); print("the zoo is there")'
for module in selector autoscaler gateway gateway.jobs registry.service; do
  in_image services python -m "infaas.$module" --help >/dev/null
  echo "$module --help"
done
in_image worker-cpu python -m infaas.workers --help >/dev/null
echo "workers --help"
in_image worker-cpu python -c 'import onnxruntime; print("onnxruntime", onnxruntime.__version__)'
for target in services worker-cpu; do
  in_image "$target" python -c 'import obstore; print("obstore", obstore.__version__)'
done

# -- whether they run as the compose file says: root read only, no capabilities, what they write in memory --------------
as_composed() { # TARGET COMMAND...
  local container root own env=(INFAAS_ARTIFACTS=/artifacts INFAAS_GATEWAY_GRPC_PORT=8001)
  container=$(buildah from --pull=never "infaas/$1")
  root=$(buildah mount "$container")
  own=$(buildah inspect --type image --format '{{range .OCIv1.Config.Env}}{{.}} {{end}}' "infaas/$1")
  env+=(INFAAS_KAFKA="$INFAAS_KAFKA" INFAAS_POSTGRES="$INFAAS_POSTGRES")
  # shellcheck disable=SC2016,SC2086
  unshare --mount --pid --fork --kill-child bash -ec '
    mount --bind "$0" "$0"
    mount --rbind /dev "$0/dev"
    mount -t proc proc "$0/proc"
    for folder in /tmp /var/lib/infaas /artifacts; do mount -t tmpfs -o mode=1777 tmpfs "$0$folder"; done
    mount -o remount,bind,ro "$0"
    exec chroot "$0" setpriv --reuid=infaas --regid=infaas --clear-groups --bounding-set=-all --no-new-privs "$@"
  ' "$root" env -i $own "${env[@]}" "${@:2}" || { buildah rm "$container" >/dev/null; return 1; }
  buildah rm "$container" >/dev/null
}
if [ -n "${INFAAS_KAFKA:-}" ] && [ -n "${INFAAS_POSTGRES:-}" ]; then
  step "whether they run on $INFAAS_KAFKA"
  as_composed services infaas db upgrade
  for module in selector autoscaler gateway gateway.jobs registry.service; do
    as_composed services timeout --foreground --preserve-status 10 python -m "infaas.$module"
  done
  as_composed worker-cpu timeout --foreground --preserve-status 10 python -m infaas.workers
fi
step "done"
buildah images | grep -E 'infaas/|python' || true
