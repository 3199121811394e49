#!/usr/bin/env bash
# The quickstart on the kind cluster: its images and base model into the cluster's store, a run, followed to its end, and
# what it made in runs/kind.
cd "${BASH_SOURCE[0]%/*}/../.."
. k8s/kind/common.sh

need kind kubectl
kind get clusters 2>/dev/null | grep -qx "$CLUSTER" || fail "there is no cluster $CLUSTER: make kind-up makes it"
[ -e k8s/overlays/kind/store.env ] || fail "k8s/overlays/kind/store.env is not there: make kind-up makes it"

port=${STORE_PORT:-18333}
# Not by in_cluster: a function in the background is a shell of its own, and that is what would be killed.
kubectl --context "kind-$CLUSTER" -n kubeflow port-forward svc/seaweedfs "$port:8333" >/dev/null &
forward=$!
trap 'kill "$forward" 2>/dev/null || true' EXIT
for _ in $(seq 60); do
  (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
  kill -0 "$forward" 2>/dev/null || fail "the store cannot be reached; is port $port taken? STORE_PORT names another"
  sleep 0.5
done
set -a
# shellcheck source=/dev/null
. k8s/overlays/kind/store.env
set +a
export STORE_ENDPOINT_URL=http://127.0.0.1:$port

store=s3://defect-diffusion
images=runs/.local/kind-boards
[ -d "$images" ] || "$PYTHON" -m pipelines.quickstart.samples --out "$images"
"$PYTHON" -m pipelines dataset push --store "$store" "$images" boards
said=$("$PYTHON" -m pipelines mirror --store "$store" pipelines/quickstart/base)
printf "%s\n" "$said"
base=$(sed -n "s/^place *//p" <<<"$said")
[ -n "$base" ] || fail "the base model could not be copied into the store; what was said is above"
"$PYTHON" -m pipelines submit --profile kind --host "$URL" --context "kind-$CLUSTER" --set "store=$store" \
  --set "dataset=$store/datasets/boards" --set "base_model=$base" --set model_name=boards
"$PYTHON" -m pipelines outputs --host "$URL" --to runs/kind
