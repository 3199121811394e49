#!/usr/bin/env bash
# Deletes the kind cluster, and with it all that is in its store.
cd "${BASH_SOURCE[0]%/*}/../.."
. k8s/kind/common.sh

need kind
kind delete cluster --name "$CLUSTER"
rm -f k8s/overlays/kind/store.env
