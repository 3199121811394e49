#!/bin/sh
# A stand-in for python:3.11-slim, for machines that reach a Debian mirror and a package index but no container
# registry: Debian 12 with its own Python 3.11 and pip, imported into Docker. Needs root, debootstrap and docker.
#
#   docker/standin-base.sh [TAG]        TAG: python:3.11-slim
#
# pip's settings and the certificate authorities of this machine go into it, so that pip in a build reaches what pip
# reaches here. Folders of this machine do not: a build sees none (`make images WHEELS=folder` copies wheels).
set -eu

tag=${1:-python:3.11-slim}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip bookworm "$root" >"$root.log" 2>&1 || {
  tail -n 20 "$root.log" >&2
  exit 1
}
rm -f "$root.log"

if [ -r /etc/ssl/certs/ca-certificates.crt ]; then
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
fi
python3 - >"$root/etc/pip.conf" <<'PYTHON'
import ast, configparser, subprocess, sys

settings = {}
listed = subprocess.run(
    [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
).stdout
for line in sorted(listed.splitlines(), reverse=True):  # variables (:env:) last: they win over files
    key, _, value = line.partition("=")
    settings[key.rpartition(".")[2]] = ast.literal_eval(value)
# What names no folder of this machine.
conf = configparser.RawConfigParser()
conf["global"] = {
    name: settings[name] for name in ("index-url", "proxy", "trusted-host", "default-timeout") if name in settings
}
remote = [url for url in settings.get("extra-index-url", "").split() if not url.startswith("file:")]
if remote:
    conf["global"]["extra-index-url"] = " ".join(remote)
conf["global"]["cert"] = "/etc/ssl/certs/ca-certificates.crt"
conf["global"]["disable-pip-version-check"] = "true"
conf.write(sys.stdout)
PYTHON
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/doc "$root"/usr/share/man

tar -C "$root" --numeric-owner --one-file-system -c . | docker import \
  --change 'ENV LANG=C.UTF-8' --change 'CMD ["python3"]' - "$tag" >/dev/null
echo "made $tag"
