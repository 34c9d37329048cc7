"""Stable: the global model beats its baseline, and is as good on one half of the held-out ratings as
on the other, within a tenth."""

import json
import os

with open(os.environ["MESON_INPUT_SCORE"]) as file:
    score = json.load(file)
one, other = score["halves"]
stable = score["rmse"] < score["baseline"] and abs(one - other) < 0.1 * score["rmse"]
print(f"rmse {score['rmse']:.4f}, baseline {score['baseline']:.4f}, halves {one:.4f} and {other:.4f}: stable {stable}")
with open(os.environ["MESON_OUTPUT"], "a") as out:
    out.write(f"stable={json.dumps(stable)}\n")
