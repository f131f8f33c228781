# shellcheck shell=bash
# Sourced: a private PostgreSQL cluster in a folder, on 127.0.0.1 only. Needs common.sh.

# PostgreSQL refuses to run as root: then it runs as `postgres`. In a checkout below a closed folder (root's home) that account cannot walk to its own
# data, so it is given the one capability that walks past, and nothing else of root's.
as_postgres() {
  if [ "$(id -u)" -ne 0 ]; then "$@"; return; fi
  if walkable "$postgres_folder"; then
    setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"
  else
    setpriv --reuid=postgres --regid=postgres --init-groups --inh-caps=+dac_override --ambient-caps=+dac_override -- "$@"
  fi
}

# postgres_start FOLDER PORT: makes the cluster and starts it. Its superuser is lethe, without a password, on the loopback only.
postgres_start() {
  postgres_folder=$1
  local port=$2 programs
  programs=$(postgres_programs)
  [ -n "$programs" ] || { say "no PostgreSQL server programs are installed"; return 1; }
  mkdir -p "$postgres_folder"
  if [ "$(id -u)" -eq 0 ]; then
    id postgres >/dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin postgres
    chown postgres: "$postgres_folder"
  fi
  (
    cd / || exit 1
    as_postgres "$programs/initdb" -D "$postgres_folder/data" -U lethe --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync \
      >"$postgres_folder.log" 2>&1 || exit 1
    # No sockets in /run, no TCP but the loopback.
    printf '%s\n' "port = $port" "listen_addresses = '127.0.0.1'" "unix_socket_directories = ''" "timezone = 'UTC'" \
      "max_connections = 60" "shared_buffers = '64MB'" >>"$postgres_folder/data/postgresql.conf"
    touch "$postgres_folder/server.log"
    [ "$(id -u)" -ne 0 ] || chown postgres: "$postgres_folder/server.log"
    as_postgres "$programs/pg_ctl" -D "$postgres_folder/data" -l "$postgres_folder/server.log" -w -t 60 start >>"$postgres_folder.log" 2>&1
  ) || { say "PostgreSQL does not start:"; tail -5 "$postgres_folder.log" "$postgres_folder/server.log" >&2; return 1; }
}

# postgres_stop FOLDER
postgres_stop() {
  postgres_folder=$1
  [ -f "$postgres_folder/data/postmaster.pid" ] || return 0
  (cd / && as_postgres "$(postgres_programs)/pg_ctl" -D "$postgres_folder/data" -m fast -w -t 20 stop) >/dev/null 2>&1 ||
    (cd / && as_postgres "$(postgres_programs)/pg_ctl" -D "$postgres_folder/data" -m immediate -w -t 5 stop) >/dev/null 2>&1
}
