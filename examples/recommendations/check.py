"""The global model's error on held-out ratings, in halves, beside that of always guessing the mean."""

import csv
import glob
import json
import os


def rows(pattern):
    for path in sorted(glob.glob(pattern)):
        with open(path) as file:
            yield from csv.DictReader(file)


def rmse(errors):
    return (sum(error * error for error in errors) / len(errors)) ** 0.5


ratings = os.environ["MESON_INPUT_RATINGS"]
train = [float(row["rating"]) for row in rows(f"{ratings}/train.csv")]
mean = sum(train) / len(train)
pairs = sorted(
    (int(row["user"]), int(row["movie"]), float(row["rating"]), float(row["prediction"]))
    for row in rows(f"{os.environ['MESON_INPUT_MODEL']}/predictions/*.csv")
)
errors = [rating - prediction for _, _, rating, prediction in pairs]
score = {
    "model": "global",
    "rmse": rmse(errors),
    "baseline": rmse([rating - mean for _, _, rating, _ in pairs]),
    "halves": [rmse(errors[0::2]), rmse(errors[1::2])],
}
print(json.dumps(score))
with open(os.environ["MESON_OUTPUT"], "a") as out:
    out.write(f"score={json.dumps(score)}\n")
