#!/usr/bin/env bash
# Unpacks Debian's Nsight Systems (non-free) into the folder $1. The system stays as it is, its list of sources too, and no
# root is needed: apt would install a driver's libraries with it and divert the system's OpenGL to them, on a machine that
# may have no GPU or another driver. About 172 MB to fetch and 600 MB on disk.
set -euo pipefail
into=$1
keys=/usr/share/keyrings/debian-archive-keyring.gpg
for program in apt-get dpkg-deb; do
  command -v "$program" >/dev/null || { echo "there is no $program: this is no Debian" >&2; exit 1; }
done
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
# shellcheck disable=SC2016  # the dollars are apt's
mirror=$(apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
  awk -v release="$release" '$1 ~ /debian/ && $2 == release && $3 == "main" { print $1; exit }')
[[ -n $mirror && -f $keys ]] || { echo "apt knows no mirror of Debian here" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/packages"
echo "deb [signed-by=$keys] $mirror $release main non-free" >"$work/sources.list"
apt=(apt-get -qq -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o "APT::Sandbox::User=$(id -un)"
     -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=-)
"${apt[@]}" update
(cd "$work/packages" && "${apt[@]}" download nsight-systems nsight-systems-target libssh-4)
rm -rf "$into.part"
mkdir -p "$into.part"
for package in "$work"/packages/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar -x -C "$into.part" --exclude './usr/share/doc'
done
"$into.part/usr/bin/nsys" --version
rm -rf "$into"
mv "$into.part" "$into"
