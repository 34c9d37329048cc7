"""A regional model's error beside that of guessing the region's mean.

check_regional.py REGION RMSE
"""

import csv
import json
import os
import sys

region, rmse = sys.argv[1], float(sys.argv[2])


def ratings(part):
    with open(f"{os.environ['MESON_INPUT_RATINGS']}/{part}.csv") as file:
        return [float(row["rating"]) for row in csv.DictReader(file) if row["region"] == region]


train, test = ratings("train"), ratings("test")
mean = sum(train) / len(train)
baseline = (sum((rating - mean) ** 2 for rating in test) / len(test)) ** 0.5
score = {"model": region, "ratings": len(test), "rmse": rmse, "baseline": baseline}
print(json.dumps(score))
with open(os.environ["MESON_OUTPUT"], "a") as out:
    out.write(f"score={json.dumps(score)}\n")
