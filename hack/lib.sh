# What the scripts in hack/ share; sourced, not run.

# The comment block at the head of a script is its help.
usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; }

# Under sudo, Rust is the caller's: rustup's is in that user's home, neither in sudo's PATH nor in
# root's home.
find_rust() {
  local home=$HOME
  if [ "$(id -u)" = 0 ] && [ "${SUDO_UID:-0}" != 0 ]; then
    home=$(getent passwd "$SUDO_UID" | cut -d: -f6)
  elif type -P cargo >/dev/null; then
    return
  fi
  [ -x "${CARGO_HOME:-$home/.cargo}/bin/cargo" ] || return 0
  export CARGO_HOME=${CARGO_HOME:-$home/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$home/.rustup}
  PATH=$CARGO_HOME/bin:$PATH
}
find_rust

# What root's cargo makes in somebody's checkout or ~/.cargo is that user's in the end, also if it
# is interrupted: the user's next `cargo build` could not write there. (Tests need root, so cargo
# cannot simply run as that user.)
cargo() {
  type -P cargo >/dev/null || { echo "${0##*/}: there is no cargo in PATH, nor in .cargo/bin of the user who called" >&2; return 127; }
  (
    [ "$(id -u)" != 0 ] || trap 'give_back "$top" target fuzz/target; give_back "${CARGO_HOME:-$HOME/.cargo}" .' EXIT
    command cargo "$@"
  )
}
give_back() { # folder, whose owner gets what is root's in these of its folders...
  local owner name
  owner=$(stat -c %u:%g "$1")
  [ "$owner" != 0:0 ] || return 0
  for name in "${@:2}"; do
    [ ! -d "$1/$name" ] || find "$1/$name" -xdev -user 0 -writable -exec chown -h "$owner" {} +
  done
}

# apt_install PACKAGE...: only what is missing, and only as root. Daemons among them are not started (policy-rc.d).
apt_install() {
  local missing=() package policy=/usr/sbin/policy-rc.d status=0
  for package; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || { echo "${0##*/}: these packages are needed: ${missing[*]}" >&2; return 1; }
  if [ -e "$policy" ]; then policy=; else printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod +x "$policy"; fi
  { DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y -qq "${missing[@]}" ||
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y -qq "${missing[@]}"; }; } >/dev/null 2>&1 ||
    status=1
  [ -z "$policy" ] || rm -f "$policy"
  [ "$status" = 0 ] || echo "${0##*/}: apt-get could not install ${missing[*]}" >&2
  return "$status"
}

# The package mirror that this machine's apt already uses.
apt_mirror() {
  local uri
  uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -1)
  [ -n "$uri" ] || { echo "${0##*/}: apt knows no package source" >&2; return 1; }
  echo "$uri"
}

# private_apt_setup DIR SUITE: an apt whose lists, cache and status are all in DIR, so that another suite's packages never
# reach the machine's own apt. private_apt DIR COMMAND... then uses it.
private_apt_setup() {
  local dir=$1 suite=$2 mirror
  mirror=$(apt_mirror)
  mkdir -p "$dir"/{lists/partial,cache/archives/partial,none}
  local from="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
  printf '%s\n' "deb $from" "deb-src $from" > "$dir/sources.list"
  printf '%s;\n' "Dir::State::lists \"$dir/lists\"" "Dir::Cache \"$dir/cache\"" "Dir::Etc::sourcelist \"$dir/sources.list\"" \
    "Dir::Etc::sourceparts \"$dir/none\"" "Dir::Etc::preferencesparts \"$dir/none\"" 'Dir::Etc::preferences "/dev/null"' \
    'Dir::State::status "/dev/null"' 'APT::Sandbox::User "root"' > "$dir/conf"
  private_apt "$dir" apt-get update -qq
}
private_apt() {
  local dir=$1
  shift
  APT_CONFIG=$dir/conf "$@"
}

# bootstrap SUITE TARGET PACKAGE... [--OPTION...]: a Debian of its own below TARGET (a folder, or a
# .tar), without what only people read. The options are mmdebstrap's.
bootstrap() {
  local suite=$1 target=$2 packages=() options=() argument
  shift 2
  for argument; do case $argument in --*) options+=("$argument") ;; *) packages+=("$argument") ;; esac; done
  apt_install mmdebstrap || return 1
  [ ${#packages[@]} = 0 ] || options+=("--include=$(IFS=,; echo "${packages[*]}")")
  # Whether a mirror's lists may be old is as on this machine; a root that is not complete is made
  # again, so that dpkg need not sync.
  mmdebstrap --quiet --variant=minbase --aptopt='Apt::Install-Recommends "false"' --aptopt="$(apt-config dump Acquire::Check-Valid-Until)" \
    --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    "${options[@]}" "$suite" "$target" "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(apt_mirror) $suite main"
}
