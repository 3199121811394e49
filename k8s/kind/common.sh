# shellcheck shell=bash disable=SC2034
# Read by the scripts beside it. The variable CLUSTER names another cluster than defect-diffusion.
set -euo pipefail
CLUSTER=${CLUSTER:-defect-diffusion}
PYTHON=${PYTHON:-.venv/bin/python}
URL=http://localhost:8080

fail() {
  printf 'error: %s\n' "$@" >&2
  exit 2
}

# need PROGRAM…: all that are not on the PATH are named together.
need() {
  local program missing=()
  for program in "$@"; do
    command -v "$program" >/dev/null || missing+=("$program is not installed: $(where_from "$program")")
  done
  ((${#missing[@]} == 0)) || fail "${missing[@]}"
}

where_from() {
  case $1 in
    docker) echo "https://docs.docker.com/engine/install" ;;
    kind) echo "https://kind.sigs.k8s.io/docs/user/quick-start/#installation" ;;
    kubectl) echo "https://kubernetes.io/docs/tasks/tools/#kubectl" ;;
    git) echo "https://git-scm.com/downloads" ;;
  esac
}

in_cluster() {
  kubectl --context "kind-$CLUSTER" "$@"
}
