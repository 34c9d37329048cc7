#!/bin/sh
# Publishes a model: copies it beside a manifest that says what it is and how good.
#
# publish.sh WINNER COHORT
set -eu
mkdir -p "$MESON_ARTIFACT_PUBLISHED_MODEL"
cp -r "$MESON_INPUT_MODEL" "$MESON_ARTIFACT_PUBLISHED_MODEL/model"
cp "$MESON_INPUT_SCORES" "$MESON_ARTIFACT_PUBLISHED_MODEL/scores.json"
printf '{"winner": "%s", "cohort": "%s"}\n' "$1" "$2" >"$MESON_ARTIFACT_PUBLISHED_MODEL/manifest.json"
echo "published the $1 model of $2"
