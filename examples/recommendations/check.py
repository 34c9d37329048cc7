"""The global model's error on held-out ratings, that of always guessing the mean, and how far its
predictions move when training starts elsewhere.
"""

import csv
import glob
import json
import os


def column(name, pattern):
    values = []
    for path in sorted(glob.glob(pattern)):
        with open(path) as file:
            values += [float(row[name]) for row in csv.DictReader(file)]
    return values


def rms(differences):
    return (sum(difference ** 2 for difference in differences) / len(differences)) ** 0.5


train = column("rating", f"{os.environ['MESON_INPUT_RATINGS']}/train.csv")
predictions = f"{os.environ['MESON_INPUT_MODEL']}/predictions/*.csv"
ratings, first, second = (column(name, predictions) for name in ("rating", "prediction", "second"))
mean = sum(train) / len(train)
score = {
    "model": "global",
    "ratings": len(ratings),
    "rmse": rms([rating - guess for rating, guess in zip(ratings, first)]),
    "baseline": rms([rating - mean for rating in ratings]),
    "spread": rms([one - other for one, other in zip(first, second)]),
}
print(json.dumps(score))
with open(os.environ["MESON_OUTPUT"], "a") as out:
    out.write(f"score={json.dumps(score)}\n")
