#!/bin/sh
# Once: a certificate and an API key for the gateway, certificates for the processes among themselves, and a shop to look after. Again changes nothing.
set -eu
umask 077

if [ ! -e /run/lethe/server.pem ]; then
  # No authority: `lethe` takes no authority's certificate for a server's.
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=localhost \
    -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost,DNS:gateway -keyout /run/lethe/server.key -out /run/lethe/server.new 2>/dev/null
  key=$(openssl rand -hex 32)
  printf '%s\n' "$key" >/run/lethe/office.key
  printf 'office:%s\n' "$(printf %s "$key" | sha256sum | cut -d' ' -f1)" >/run/lethe/lethe.keys
  mv /run/lethe/server.new /run/lethe/server.pem
fi

if [ ! -e /run/lethe/cluster.pem ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj "/CN=the processes of lethe" \
    -keyout /run/lethe/cluster-ca.key -out /run/lethe/cluster-ca.pem 2>/dev/null
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=lethe -keyout /run/lethe/cluster.key \
    -out /run/lethe/cluster.csr 2>/dev/null
  printf 'subjectAltName=DNS:connectors\nbasicConstraints=CA:FALSE\n' >/run/lethe/cluster.ext
  openssl x509 -req -in /run/lethe/cluster.csr -CA /run/lethe/cluster-ca.pem -CAkey /run/lethe/cluster-ca.key -CAcreateserial -days 365 \
    -extfile /run/lethe/cluster.ext -out /run/lethe/cluster.new 2>/dev/null
  # Nobody else gets a certificate of this authority.
  rm /run/lethe/cluster-ca.key /run/lethe/cluster.csr /run/lethe/cluster.ext
  mv /run/lethe/cluster.new /run/lethe/cluster.pem
fi

if [ ! -e /run/lethe/world.json ]; then
  lethe-world seed --database postgres://lethe@postgres:5432/shop --people 2000 --out /run/lethe/world.new
  lethe-world logs --world /run/lethe/world.new --dir /var/log/shop --lines 20000
  mv /run/lethe/world.new /run/lethe/world.json
fi
