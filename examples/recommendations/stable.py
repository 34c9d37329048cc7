"""Stable: the global model beats guessing the mean, and its predictions move by less than a tenth of
their error when training starts elsewhere. Neither looks at which model has won.
"""

import json
import os

with open(os.environ["MESON_INPUT_SCORE"]) as file:
    score = json.load(file)
stable = score["rmse"] < score["baseline"] and score["spread"] < 0.1 * score["rmse"]
print("rmse {rmse:.4f}, baseline {baseline:.4f}, spread {spread:.4f}:".format(**score), "stable" if stable else "not yet stable")
with open(os.environ["MESON_OUTPUT"], "a") as out:
    out.write(f"stable={json.dumps(stable)}\n")
