# shellcheck shell=bash
# Sourced by the scripts of ops: talk, steps, what a call may say, and running things as an unprivileged person. All talk goes to stderr.

began=$SECONDS
# Server programs are there, which not everybody has on the path.
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "$*" >&2; }

# misused TEXT: what is wrong with how the script was called, in one line; 64 is EX_USAGE of sysexits.h.
misused() {
  say "ops/${0##*/}: $* (-h shows how it is called)"
  exit 64
}

# Fewer people have no room for the person, the namesake and the colleague: PEOPLE_MIN of tests/world. Nine digits fit into every counter of ours.
# shellcheck disable=SC2034
people_min=10 number_max=999999999

# number_given OPTION LEAST MOST [WORD]: the word after an option must be a whole number.
number_given() {
  if [[ ${4:-} =~ ^[0-9]{1,9}$ ]] && [ "$((10#$4))" -ge "$2" ] && [ "$((10#$4))" -le "$3" ]; then return; fi
  misused "$1 takes a whole number from $2 to $3"
}

# folder_given OPTION [WORD]: the word after an option must be a folder, or the path of one to be made.
folder_given() {
  case ${2:-} in "" | -*) misused "$1 takes a folder" ;; esac
  if [ -e "$2" ] && [ ! -d "$2" ]; then misused "$1 takes a folder, and $2 is none"; fi
}

# A step announces itself, and `ok` ticks it with the seconds since the start.
step() { current_step=$*; if [ -t 2 ]; then printf '  … %s' "$current_step" >&2; fi; }
ok() {
  local note=${1:-}
  if [ -t 2 ]; then printf '\r\033[K' >&2; fi
  printf '  ✓ %s%s  (%ds)\n' "$current_step" "${note:+: $note}" "$((SECONDS - began))" >&2
  current_step=""
}
die() {
  if [ -n "${current_step:-}" ]; then
    if [ -t 2 ]; then printf '\r\033[K' >&2; fi
    printf '  ✗ %s  (%ds)\n' "$current_step" "$((SECONDS - began))" >&2
  fi
  say "$*"
  exit 1
}

# Runs in the background and waits, so that a signal is heard at once and not when the child is done. The child leads a process group, so that what it
# started ends with it.
attended_pid=""
attended() {
  local status=0
  set -m
  "$@" &
  attended_pid=$!
  set +m
  wait "$attended_pid" || status=$?
  attended_pid=""
  return "$status"
}
attended_end() {
  if [ -n "$attended_pid" ]; then kill -TERM -- "-$attended_pid" 2>/dev/null || true; fi
}

have() { command -v "$1" >/dev/null 2>&1; }

# The newest folder with PostgreSQL's server programs.
postgres_programs() {
  local folder
  for folder in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV); do
    if [ -x "$folder/initdb" ]; then printf '%s\n' "$folder"; return; fi
  done
  if have initdb; then dirname "$(command -v initdb)"; fi
}

# A port of 127.0.0.1 that nobody listens at, below the range that the kernel hands out to clients.
free_port() {
  local port
  while :; do
    port=$((15000 + RANDOM % 16000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then printf '%s\n' "$port"; return; fi
  done
}

# Text as a JSON string.
json() {
  local text=$1
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  printf '"%s"' "$text"
}

# Whether another account could walk to the folder.
walkable() {
  local folder=$1 mode
  while [ "$folder" != / ]; do
    mode=$(stat -c %a "$folder") || return 1
    [ $((0$mode & 1)) -eq 1 ] || return 1
    folder=$(dirname "$folder")
  done
}
