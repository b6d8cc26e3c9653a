#!/bin/sh
# Publishes the ledger as plain files: sh publish.sh <coordinator>/ledger <web folder>
# Any web server may serve the copy (tlog-tiles). Tiles go first, checkpoint and policy last and together, so that whoever reads the
# copy at any moment finds every tile that its checkpoint needs. Run it from cron, or put rsync with the same order in its place.
set -eu
from=$1 to=$2
mkdir -p "$to"
# Beside the published folder: what an interrupted run leaves must never lie among what is verified to the last byte.
new=$(mktemp -d "$(dirname "$to")/.publish.XXXXXX")
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM
# The checkpoint is read before the tiles are copied: what it covers is there by then. The policy is the one in force with it: it was
# the same before and a second after, and the coordinator writes the two within that.
while :; do
  rm -f "$new/policy"
  if [ -f "$from/policy" ]; then cp "$from/policy" "$new/policy"; fi
  cp "$from/checkpoint" "$new/checkpoint"
  sleep 1
  if [ -f "$new/policy" ]; then
    if cmp -s "$from/policy" "$new/policy"; then break; fi
  elif [ ! -f "$from/policy" ]; then
    break
  fi
done
cp -R "$from/tile" "$to/"
if [ -d "$from/certificate" ]; then cp -R "$from/certificate" "$to/"; fi
if [ -f "$new/policy" ]; then mv "$new/policy" "$to/policy"; fi
mv "$new/checkpoint" "$to/checkpoint"
