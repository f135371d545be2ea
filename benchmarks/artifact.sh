#!/usr/bin/env bash
# Checks six claims about nfbench itself, in under 15 minutes on 2 quiet CPU cores. docs/artifact.md says what each means.
#
#   benchmarks/artifact.sh [FOLDER]       (results/artifact)
#
# Prints "passed" or "failed" with the figure for each claim, and ends with 0 where all passed, else with 1. FOLDER keeps
# what was measured; a claim that passed is not checked again by the same command.
#
#   PYTHON            the interpreter that has what nfbench needs (python)
#   NFBENCH_CLAIMS    only these: "macs agc overhead parity coverage resume"
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "${1:-$root/results/artifact}" && folder=$(cd "${1:-$root/results/artifact}" && pwd) && cd "$root" || exit 1
code=0
for claim in ${NFBENCH_CLAIMS:-macs agc overhead parity coverage resume}; do
  kept=$folder/$claim.txt
  if grep -qs "^passed" "$kept"; then
    cat "$kept"
    continue
  fi
  if "${PYTHON:-python}" benchmarks/artifact.py "$claim" "$folder" >"$kept" 2>"$folder/$claim.log"; then
    sed -i.bak 's/^/passed  /' "$kept"
  else
    [ -s "$kept" ] || echo "$claim: see $folder/$claim.log" >"$kept"
    sed -i.bak 's/^/failed  /' "$kept"
    code=1
  fi
  rm -f "$kept.bak"
  cat "$kept"
done
exit $code
