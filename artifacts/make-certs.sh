#!/usr/bin/env bash
# Copyright The coredump authors.
# SPDX-License-Identifier: Apache-2.0

# Makes the serving certificate of coredump-apiserver, signed by an authority of its own:
#
#   artifacts/make-certs.sh DIR
#
# DIR/ca.crt ca.key    the authority, for ten years; made once and then used again, so that a new serving
#                      certificate does not break what trusts the old one. Keep ca.key to yourself.
# DIR/tls.crt tls.key  the serving certificate, for a year; made anew every time.
set -euo pipefail

if [ $# -ne 1 ] || [ "${1#-}" != "$1" ]; then
  echo "usage: make-certs.sh DIR" >&2
  exit 2
fi
name=coredump-apiserver.coredump-system.svc # the name that kube-apiserver checks
umask 077
mkdir -p "$1"
cd "$1"

if ! [ -s ca.key ] || ! [ -s ca.crt ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -keyout ca.key -out ca.crt \
    -subj /CN=coredump-ca -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
fi
work=$(mktemp -d "$PWD/.make-certs.XXXXXX")
trap 'rm -rf "$work"' EXIT
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$work/tls.key" -out "$work/csr" -subj "/CN=$name" 2>/dev/null
cat >"$work/extensions" <<EXTENSIONS
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
subjectAltName=DNS:$name,DNS:$name.cluster.local
EXTENSIONS
openssl x509 -req -in "$work/csr" -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 16)" -days 365 -extfile "$work/extensions" -out "$work/tls.crt" 2>/dev/null
openssl verify -CAfile ca.crt "$work/tls.crt" >/dev/null
mv "$work/tls.key" "$work/tls.crt" .
echo "certificate of $name in $PWD, until $(openssl x509 -noout -enddate -in tls.crt | cut -d= -f2)" >&2
