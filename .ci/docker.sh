# Docker for the tests, sourced by .ci/run: the daemon that answers, or one of our own that leaves nothing behind.

# Where none answers and root may install one: a daemon with its data, socket and pid file in the folder $1.
start_docker() {
  if docker info >/dev/null 2>&1; then
    return 0
  fi
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "no Docker daemon answers, and none can be installed here; the docker tests will skip"
    return 1
  fi
  if ! command -v dockerd >/dev/null && ! apt_install docker.io iptables; then
    echo "docker.io could not be installed; the docker tests will skip"
    return 1
  fi
  mkdir -p "$1"
  dockerd --host "unix://$1/docker.sock" --pidfile "$1/pid" --data-root "$1/data" --exec-root "$1/exec" \
    >"$1/log" 2>&1 &
  export DOCKER_HOST="unix://$1/docker.sock"
  for _ in $(seq 60); do
    if docker info >/dev/null 2>&1; then
      return 0
    fi
    sleep 0.5
  done
  echo "dockerd did not start (it needs rights that a container rarely has); the docker tests will skip. It said:"
  tail -n 5 "$1/log"
  return 1
}

# The base that images are built from: here already, pulled, or made.
get_base_image() {
  base=python:3.11-slim
  if docker image inspect "$base" >/dev/null 2>&1 || timeout 120 docker pull --quiet "$base" >/dev/null 2>&1; then
    return 0
  fi
  if ! command -v debootstrap >/dev/null; then
    apt_install debootstrap || true
  fi
  docker/standin-base.sh "$base" || echo "no base image could be had; the docker tests will skip"
}

# All images, from a copy of the sources in the folder $1, with wheels from pip's own folder of them where it has one.
build_images() {
  mkdir -p "$1"
  cp -r components pipelines docker pyproject.toml requirements.lock .dockerignore "$1"
  cd "$1"
  wheels=()
  if compgen -G "${PIP_FIND_LINKS:-none}/*.whl" >/dev/null; then
    wheels=(--wheels "$PIP_FIND_LINKS")
  fi
  python3 -m pipelines.container_images build --tag ci "${wheels[@]}"
}

# Ends the daemon that start_docker started in the folder $1, by its own pid, and removes its data.
stop_docker() {
  if [ ! -r "$1/pid" ]; then
    return 0
  fi
  daemon=$(cat "$1/pid")
  kill "$daemon" || true
  for _ in $(seq 60); do
    kill -0 "$daemon" 2>/dev/null || break
    sleep 0.5
  done
  # Namespaces of containers on the host's network stay mounted.
  umount "$1"/exec/netns/* 2>/dev/null || true
  rm -rf "$1"
}
