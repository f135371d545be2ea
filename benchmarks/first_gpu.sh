#!/usr/bin/env bash
# What a GPU on which nfbench has not run yet should show first: the most valuable first, in at most 8 minutes.
#
#   benchmarks/first_gpu.sh [--again] [FOLDER]       (results/first-gpu)
#
# FOLDER gets results.jsonl, log.txt with all that the steps printed, steps.tsv with what became of them, and report.md.
# The same command goes on where it was: a step that passed is run again only with --again. A step that fails does not
# stop the others. SIGTERM and Ctrl-C end the step that runs, keep what there is and print the table.
# Ends with 0 where every step passed, else with 1.
#
#   PYTHON            the interpreter that has what nfbench needs (python); it runs `-m nfbench` of this checkout
#   NFBENCH_SECONDS   in the place of each --max-time; 1 shows only that things run
#   NFBENCH_ROUNDS    of each comparison (4); with fewer there is no interval
#   NFBENCH_PATIENCE  multiplies the steps' limits (1), where starting takes long
set -mu  # m: each step has a process group of its own, and what it starts does not ignore Ctrl-C
export PYTHONUNBUFFERED=1
unset CDPATH

again=""
if [ "${1:-}" = --again ]; then again=1 && shift; fi
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$root/results/first-gpu}
mkdir -p "$folder" && folder=$(cd "$folder" && pwd) && cd "$root" || exit 1
python=${PYTHON:-python}
rounds=${NFBENCH_ROUNDS:-4}
results=$folder/results.jsonl log=$folder/log.txt steps=$folder/steps.tsv
rows=$folder/step.jsonl printed=$folder/step.log  # of the step that runs

# --- how a step runs

names=() ends=0 child="" stopped="" simulated="" code=0

# What the step that ran wrote joins what there is of the others.
keep() {
  if [ -f "$rows" ]; then cat "$rows" >>"$results" && rm "$rows"; fi
  if [ -f "$printed" ]; then cat "$printed" >>"$log" && rm "$printed"; fi
}

# step NAME LIMIT JUDGE COMMAND...: run it for LIMIT seconds at most, and for what the steps before it left of theirs.
# JUDGE prints the figure and says by its exit code whether the step passed.
step() {
  local name=$1 limit=$(($2 * ${NFBENCH_PATIENCE:-1})) judge=$3 began=$SECONDS result=failed left figure
  shift 3
  names+=("$name") ends=$((ends + limit)) left=$((ends - SECONDS))
  if [ -n "$stopped" ] || grep -q "^$name"$'\t'passed "$steps"; then return; fi
  echo "== $name: $*" | tee "$printed"
  # 0 would be no limit
  timeout -k 5 $((left > 1 ? left : 1)) "$@" </dev/null >>"$printed" 2>&1 &
  child=$!
  # a signal ends the waiting before the step has ended
  while wait "$child" && code=0 || code=$?; kill -0 "$child" 2>/dev/null; do :; done
  child=""
  if grep -qs '"simulated":true' "$rows" "$results"; then simulated=1; fi
  figure=$("$judge") && [ "$code" -ne 124 ] && result=passed
  if [ "$code" -eq 124 ] || [ "$code" -eq 137 ]; then figure="out of time; $figure"; fi
  if [ -n "$stopped" ]; then result=stopped; fi
  keep
  printf '%s\t%s\t%s\t%s\n' "$name" "$result" $((SECONDS - began)) "$figure" | tee -a "$steps"
}

stop() {
  stopped=1
  if [ -n "$child" ]; then kill -TERM "$child" 2>/dev/null; fi
}

measure() { # NAME LIMIT JUDGE SECONDS COMMAND...: a step that times for so many seconds at most
  local name=$1 limit=$2 judge=$3 seconds=${NFBENCH_SECONDS:-$4}
  shift 4
  step "$name" "$limit" "$judge" "$python" -m nfbench "$@" --max-time "$seconds" --out "$rows" --quiet
}

# --- what a step shows

# columns KEYS FILE [OPTION...]: of the results in FILE, without the header
columns() {
  local keys=$1 file=$2
  shift 2
  "$python" -m nfbench table "$file" --noisy --format csv --columns "$keys" "$@" 2>/dev/null | tail -n +2
}

resnet50() { columns "$1" "$results" --where model=resnet50,batch=256 | tail -n 1; }

show_env() {
  grep -E '^(GPU|driver|torch)   ' "$printed" | tr -s ' ' | paste -sd , | sed 's/,/, /g'
  [ "$code" -eq 0 ]
}

show_times() {
  columns model,batch,micro_batch,step_time,status "$rows" | awk -F, '{
    printf "%s%s at %s", (NR > 1 ? ", " : ""), $1, $2
    if ($3 != $2) printf " in passes of %s", $3
    printf ($5 == "ok" ? ": %.4g ms" : ": " $5), 1000 * $4 }'
  [ "$code" -eq 0 ]
}

# a mean without nfbench, and how far from it nfbench's median is
show_plain() {
  awk -v plain="$(sed -n 's/.*"step_time": \([0-9.e-]*\).*/\1/p' "$printed")" \
    -v nfbench="$(resnet50 step_time)" -v simulated="$simulated" 'BEGIN {
      if (!plain || !nfbench) { print "no two times"; exit 1 }
      off = 100 * (nfbench / plain - 1)
      printf "%.4g ms; nfbench says %+.2f %%, ", 1000 * plain, off
      print simulated ? "not judged: simulated" : "within 2 % wanted"
      exit !(simulated || (-2 <= off && off <= 2)) }'
}

# the table of compare: model,speedup,speedup_low,speedup_high,…
show_ratio() {
  if [ -n "$simulated" ]; then
    echo "not judged: simulated"
    [ "$code" -eq 0 ]
    return
  fi
  sed -n 's/^[a-z0-9-]*,\([0-9][0-9.e-]*\),\([0-9][0-9.e-]*\),\([0-9][0-9.e-]*\),.*/\1 \2 \3/p' "$printed" |
    awk -v itself="${1:-}" -v code="$code" '
      { printf "%.4g times as fast (%.4g to %.4g)", $1, $2, $3
        if (itself) print ", 1 or within 1 % of it wanted"
        # one interval of twenty leaves out what is true
        one = ($2 <= 1 && 1 <= $3) || (0.99 <= $1 && $1 <= 1.01) }
      END { exit !(NR == 1 && code == 0 && (!itself || one)) }'
}

show_itself() { show_ratio itself; }

show_tests() {
  for word in PASSED FAILED ERROR SKIPPED; do
    echo "$(grep -c "^tests/.* $word" "$printed") $word"
  done | grep -v '^0 ' | tr 'A-Z' 'a-z' | paste -sd ' '
  # where the fused clip does not run its tests are skipped
  [ "$code" -eq 0 ] && grep -q '^tests/gpu/test_agc_cuda.* PASSED' "$printed"
}

show_clip() {
  columns clipped,impl,time "$rows" | awk -F, -v simulated="$simulated" -v code="$code" '
    $1 == 0.5 { printf "%s%s %.4g ms", (n++ ? ", " : ""), $2, 1000 * $3; if ($2 == "fused") fused = 1 }
    END { exit !(code == 0 && n && (fused || simulated)) }'
}

# a row without a time has the command end with an error, which is right here
show_memory() { columns status "$rows" | grep -x out_of_memory; }

print_table() {
  printf '\n%-12s %-8s %5s  %s\n' step result s figure
  for name in "${names[@]}"; do
    line=$(grep "^$name"$'\t' "$steps" | tail -n 1)
    IFS=$'\t' read -r _ result seconds figure <<<"${line:-$name$'\t'not run}"
    printf '%-12s %-8s %5s  %s\n' "$name" "$result" "$seconds" "$figure"
  done
  printf '%s of %s steps passed. All of it: %s\n' "$(passed)" "${#names[@]}" "$folder"
}

passed() { grep -c $'^[^\t]*\tpassed\t' "$steps"; }

# --- the steps

trap stop TERM INT HUP
# a run that was killed left these
keep
touch "$steps"
if [ -n "$again" ]; then : >"$steps"; fi
# what did not pass is run again, and named once
grep $'^[^\t]*\tpassed\t' "$steps" >"$steps.new"
mv "$steps.new" "$steps"

step env 30 show_env "$python" -m nfbench env
measure step-time 30 show_times 12 step-time --model resnet50 --batch 256 --layout nhwc
read -r px precision <<<"$(resnet50 px,precision | tr , ' ')"
step plain-loop 25 show_plain "$python" benchmarks/bare_loop.py resnet50 --device cuda --batch 256 --layout nhwc \
  --px "${px:-224}" --precision "${precision:-bf16}" --warm-up 20 --seconds "${NFBENCH_SECONDS:-8}"
measure compare 95 show_ratio 40 compare nfnet-f0 bn-nfnet-f0 --batch 256 --layout nhwc --rounds "$rounds" --noisy \
  --format csv
measure itself 65 show_itself 25 compare nf-resnet50 nf-resnet50@px=224 --batch 256 --layout nhwc --rounds "$rounds" \
  --noisy --format csv
step tests 120 show_tests "$python" -m pytest -m gpu -v --tb=short -p no:cacheprovider \
  tests/gpu/test_agc_cuda.py tests/gpu/test_cuda.py
nets=(--model nf-resnet50 --model nfnet-f0 --model efficientnet-b4)
measure batch-256 28 show_times 3 step-time "${nets[@]}" --batch 256 --layout nhwc
measure batch-32 22 show_times 3 step-time "${nets[@]}" --batch 32 --layout nhwc
measure batch-4096 25 show_times 12 step-time --model nfnet-f0 --batch 4096 --layout nhwc
measure agc-cost 25 show_clip 2 agc-cost --model nf-resnet50 --batch 256
# half a terabyte, in no tensor that is too large to be indexed with 32 bits
measure memory 15 show_memory 2 step-time --model nfnet-f3 --batch 1024 --micro-batch 1024 --layout nhwc

print_table
if [ -z "$stopped" ] && [ $((ends - SECONDS)) -ge 10 ] && [ -f "$results" ]; then
  timeout $((ends - SECONDS)) "$python" -m nfbench report "$folder" --noisy --out "$folder/report.md" >>"$log" 2>&1 &
  child=$!
  wait "$child"
fi
[ "$(passed)" -eq "${#names[@]}" ]
