#!/usr/bin/env bash
# A kind cluster with Kubeflow Pipelines and what this project needs beside it. Run again, it goes on where it was.
cd "${BASH_SOURCE[0]%/*}/../.."
. k8s/kind/common.sh

need docker kind kubectl git
docker info >/dev/null 2>&1 || fail "Docker does not answer: start it, or add yourself to the group docker"

images=$("$PYTHON" -m pipelines mirror-list images --profile kind)
for image in $images; do
  if ! docker image inspect "$image" >/dev/null 2>&1; then
    make images
    break
  fi
done

if kind get clusters 2>/dev/null | grep -qx "$CLUSTER"; then
  echo "the cluster $CLUSTER is there"
else
  kind create cluster --name "$CLUSTER" --config k8s/kind/cluster.yaml --wait 5m
fi
# All at once: layers that they share are written once.
# shellcheck disable=SC2086
kind load docker-image --name "$CLUSTER" $images

echo "Kubeflow Pipelines is fetched and started: some minutes"
in_cluster apply -k k8s/overlays/kind/kfp-cluster
in_cluster wait crd/applications.app.k8s.io --for condition=established --timeout=60s
in_cluster apply -k k8s/overlays/kind/kfp
if [ ! -e k8s/overlays/kind/store.env ]; then
  key=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
  (umask 077 && printf 'STORE_ACCESS_KEY_ID=defect-diffusion\nSTORE_SECRET_ACCESS_KEY=%s\n' "$key" \
    >k8s/overlays/kind/store.env)
fi
# A job cannot be changed, and is deleted five minutes after its end: made anew, and waited for before all else.
in_cluster -n kubeflow delete job defect-diffusion-bucket --ignore-not-found
in_cluster apply -k k8s/overlays/kind
in_cluster -n kubeflow wait job/defect-diffusion-bucket --for condition=complete --timeout=30m ||
  fail "the store's bucket was not made: kubectl -n kubeflow logs job/defect-diffusion-bucket says why"
in_cluster -n kubeflow wait deployment --all --for condition=Available --timeout=20m

echo "Kubeflow Pipelines is at $URL; make kind-run submits the quickstart to it"
