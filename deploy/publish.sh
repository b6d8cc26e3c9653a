#!/bin/sh
# Publishes the ledger as plain files: sh publish.sh <coordinator>/ledger <web folder>
# Any web server may serve the copy (tlog-tiles). Tiles go first and the checkpoint last, so that whoever reads the copy at any
# moment finds every tile that its checkpoint needs. Run it from cron, or put rsync with the same order in its place.
set -eu
from=$1 to=$2
mkdir -p "$to"
put() { if [ -f "$from/$1" ]; then cp "$from/$1" "$to/.$1.new" && mv "$to/.$1.new" "$to/$1"; fi; }
# The checkpoint is read before the tiles are copied: what it covers is there by then.
cp "$from/checkpoint" "$to/.checkpoint.seen"
cp -R "$from/tile" "$to/"
if [ -d "$from/certificate" ]; then cp -R "$from/certificate" "$to/"; fi
put policy
mv "$to/.checkpoint.seen" "$to/checkpoint"
