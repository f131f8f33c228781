# shellcheck shell=bash
# Sourced: what a bare Debian machine lacks. Needs common.sh.

# The oldest Rust that builds the workspace; the exact one is in rust-toolchain.toml.
rust_min=1.95

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; return; fi
  have sudo || die "root or sudo is needed to install packages: run as root, install sudo, or use ops/demo --light"
  sudo "$@"
}

# machine_packages PACKAGE...: installs those that are missing, after saying so, without starting their services or making a cluster.
machine_packages() {
  local package missing=()
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  have apt-get || die "missing: ${missing[*]}; only Debian and its relatives are known here"
  say "  installing by apt-get: ${missing[*]}"
  local no_start=/usr/sbin/policy-rc.d no_cluster=/etc/postgresql-common/createcluster.d/lethe-none.conf made_no_start="" status=0
  if [ ! -e "$no_start" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$no_start" >/dev/null
    as_root chmod 755 "$no_start"
    made_no_start=1
  fi
  as_root mkdir -p "$(dirname "$no_cluster")"
  printf 'create_main_cluster = false\n' | as_root tee "$no_cluster" >/dev/null
  { attended as_root apt-get update -qq && attended as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "${missing[@]}"; } >&2 || status=$?
  [ -z "$made_no_start" ] || as_root rm -f "$no_start"
  as_root rm -f "$no_cluster"
  [ "$status" -eq 0 ] || die "apt-get failed"
}

rust_new_enough() {
  local version
  version=$(cargo --version 2>/dev/null | cut -d' ' -f2) || return 1
  [ -n "$version" ] && [ "$(printf '%s\n' "$rust_min" "$version" | sort -V | head -1)" = "$rust_min" ]
}

# machine_rust: cargo on the path, new enough.
machine_rust() {
  if [ -d "$HOME/.cargo/bin" ]; then PATH="$HOME/.cargo/bin:$PATH"; fi
  if rust_new_enough; then return; fi
  say "  installing Rust $rust_min by rustup into $HOME/.cargo (none here is new enough)"
  if have rustup; then
    attended rustup toolchain install >&2 || die "rustup could not install the toolchain"
  else
    curl --proto '=https' --tlsv1.2 -fsS https://sh.rustup.rs -o "$1/rustup-init.sh" || die "rustup could not be fetched"
    attended sh "$1/rustup-init.sh" -y --profile minimal --no-modify-path >&2 || die "rustup failed"
    PATH="$HOME/.cargo/bin:$PATH"
  fi
  rust_new_enough || die "cargo is still older than $rust_min"
}

# machine_target: the folder that cargo builds into.
machine_target() {
  cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}
