# What the scripts in hack/ share; sourced, not run.

# The comment block at the head of a script is its help.
usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; }

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
