# shellcheck shell=bash
# Sourced: a case by the command line, as an operator would. Needs common.sh and $lethe, $server.

# The value of a text field of a JSON document: the first of that name.
json_text() { grep -o "\"$2\" *: *\"[^\"]*\"" <<<"$1" | head -1 | sed 's/^[^:]*: *"//; s/"$//'; }

# Both are set by whoever sources this.
# shellcheck disable=SC2154
#
# What could not be told (exit 2) is asked again: no process need be there all the time. A command is then never carried out twice: lethe itself
# sends it again under one key once a server has answered, and until then nothing was sent.
call() {
  local from=$SECONDS status said
  said=$(mktemp "$folder/call.XXXXXX")
  while :; do
    status=0
    "$lethe" "$@" --server "$server" >"$said" 2>"$said.talk" || status=$?
    if [ "$status" -ne 2 ] || [ $((SECONDS - from)) -ge "$call_seconds_max" ]; then break; fi
    sleep 0.5
  done
  cat "$said"
  cat "$said.talk" >&2
  rm -f "$said" "$said.talk"
  return "$status"
}

# How long a question may go without an answer: a process that is killed, and started again, reads the log first.
call_seconds_max=90

# How long a case may take until it waits for a person or has ended.
case_seconds_max=150

# case_settled ID: the case as JSON, once it waits for a person or has ended.
case_settled() {
  local shown state from=$SECONDS
  while :; do
    shown=$(call case show "$1" --json) || return 1
    state=$(json_text "$shown" state)
    case $state in
      received | accepted | planned | acting | observing) ;;
      *) printf '%s\n' "$shown"; return 0 ;;
    esac
    [ $((SECONDS - from)) -lt "$case_seconds_max" ] || { say "case $1 is still $state after $case_seconds_max s"; return 1; }
    sleep 0.3
  done
}

# case_run OPENING...: opens a case, approves its plan by digest, waits for its end. Sets case_id and case_json.
case_run() {
  local opened digest state
  opened=$(call case open "$@" --json) || die "the case could not be opened"
  case_id=$(json_text "$opened" id)
  [ -n "$case_id" ] || die "the answer names no case: $opened"
  case_json=$(case_settled "$case_id") || die "no plan for case $case_id"
  state=$(json_text "$case_json" state)
  [ "$state" = awaiting_approval ] || die "case $case_id is $state, not awaiting approval: $(call case show "$case_id" 2>&1)"
  digest=$(json_text "$case_json" plan_digest)
  call case approve "$case_id" --plan "$digest" --json >/dev/null || die "the plan of case $case_id could not be approved"
  case_json=$(case_settled "$case_id") || die "case $case_id does not end: $(call case show "$case_id" 2>&1)"
  state=$(json_text "$case_json" state)
  [ "$state" = completed ] || die "case $case_id ended as $state, not completed: $(call case show "$case_id" 2>&1)"
}

# case_words JSON: its steps, one a line, in plain words.
case_words() {
  tr -d '\n' <<<"$1" | { grep -o '{[^{}]*"verb"[^{}]*}' || true; } | { grep '"dataset"' || true; } | while read -r one; do
    printf '      %s of %s in %s: %s%s\n' "$(json_text "$one" verb)" "$(json_text "$one" dataset)" "$(json_text "$one" system)" \
      "$(json_text "$one" state)" "$(sed -n 's/.*"records" *: *\([0-9][0-9]*\).*/, \1 records/p' <<<"$one")" >&2
  done
}
