"""Finds the best point of the grid. A point that failed, as a few may, is null."""

import json
import os

with open(os.environ["MESON_INPUT_POINTS"]) as file:
    points = json.load(file)
best = min((point for point in points if point is not None), key=lambda point: point["rmse"])
print("best of {}: degree {degree}, ridge {ridge}, rmse {rmse:.4f}".format(len(points), **best))
with open(os.environ["MESON_OUTPUT"], "a") as out:
    for name in "degree", "ridge", "rmse":
        out.write(f"{name}={best[name]}\n")
