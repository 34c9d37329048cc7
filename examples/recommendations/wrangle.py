"""Keeps the cohort's ratings, holds one in five out for testing, and derives the regions.

wrangle.py USERS.tsv RATINGS: writes a folder with train.csv and test.csv.
"""

import csv
import json
import os
import sys
import zlib

users_path, ratings_path = sys.argv[1:3]
with open(users_path) as file:
    region_of = {row["user"]: row["region"] for row in csv.DictReader(file, delimiter="\t")}
if not region_of:
    sys.exit(f"{users_path}: no user in the cohort")

os.mkdir("split")
counts = {"train": 0, "test": 0}
with open(ratings_path) as source, \
        open("split/train.csv", "w") as train, open("split/test.csv", "w") as test:
    for file in train, test:
        file.write("user,movie,rating,region\n")
    for line in source:
        user, movie, rating, _ = line.strip().split("::")
        if user in region_of:
            held_out = zlib.crc32(f"{user}:{movie}".encode()) % 5 == 0
            counts["test" if held_out else "train"] += 1
            (test if held_out else train).write(f"{user},{movie},{rating},{region_of[user]}\n")

print(f"{len(region_of)} users, {counts['train']} ratings to train on, {counts['test']} held out")
with open(os.environ["MESON_OUTPUT"], "a") as out:
    out.write('ratings={"$file": "split"}\n')
    out.write(f"regions={json.dumps(sorted(set(region_of.values())))}\n")
