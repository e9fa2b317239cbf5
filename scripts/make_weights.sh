#!/bin/sh
# Makes the weights in the package, fra_dist/weights/small-synthetic.safetensors, from nothing: renders faces, trains by
# configs/weights_small.yaml, measures on rendered faces that training did not see, writes the file, its model card and
# its checksum. Stopped at any point, the same command resumes. About an hour of processor time on a CPU with AMX.
#
#   scripts/make_weights.sh [WORK] [--scores DIR]      WORK: folder of shards, run and scores (default: runs/weights)
#
# DIR, with results of `fra-dist eval TASK --out DIR/...` for the run, goes into the card in place of those on rendered
# faces. Set PATH so that fra-dist is the one of this checkout (. .venv/bin/activate).
set -eu
cd "$(dirname "$0")/.."
work=${1:-runs/weights}
run="$work/weights_small"
out=fra_dist/weights/small-synthetic.safetensors

fra-dist shards make synthetic:24000@72:wild --seed 2 --out "$work/wild"
fra-dist shards make synthetic:24000@72:face --seed 5 --out "$work/face"
fra-dist shards make synthetic:600@72/120:face --seed 1 --out "$work/test"
fra-dist pretrain weights_small data.shards="[$work/wild, $work/face]" output="$run"
[ -f "$work/scores/result.json" ] ||
  fra-dist eval regions --checkpoint "$run" --dataset shards --data "$work/test" --beside none --out "$work/scores"
scores="$work/scores"
[ "${2:-}" != --scores ] || scores=$3
fra-dist export "$run" --format network --overwrite --out "$out" --scores "$scores" \
  --data "Faces rendered by fra_dist.synthetic, of nobody: no photo of a real person was used." \
  --terms "Apache-2.0, as the package."
(cd fra_dist/weights && sha256sum ./*.safetensors | sed 's|\./||' > SHA256SUMS && cat SHA256SUMS)
