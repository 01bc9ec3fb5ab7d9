#!/bin/sh
# Makes the journals of the version of batchrun whose `batchrun` is on the path.
set -u
cd "$(dirname "$0")"
for api in assistants responses chat; do
  for job in plain keyed turns matrix; do
    batchrun run $job.toml --api $api -o $api/$job.csv --max-attempts 1 --keep-going --quiet
  done
done
batchrun run cells.toml --api responses -o responses/cells.jsonl --quiet
batchrun run lists.toml --api responses -o responses/lists.jsonl --quiet
for journal in */*.journal; do
  sqlite3 "$journal" "PRAGMA journal_mode=DELETE; PRAGMA page_size=512; VACUUM;"
done
gzip -9n */*.journal
rm -f */*.lock */*.store*
