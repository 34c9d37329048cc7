"""Picks what predicts the held-out ratings better: the global model, or each region's own."""

import json
import os
import shutil


def read(name):
    with open(os.environ[f"MESON_INPUT_{name}"]) as file:
        return json.load(file)


everywhere, regional = read("GLOBAL"), read("REGIONAL")
squares = sum(score["ratings"] * score["rmse"] ** 2 for score in regional)
together = (squares / sum(score["ratings"] for score in regional)) ** 0.5

os.mkdir("model")
if everywhere["rmse"] <= together:
    winner = "global"
    shutil.copytree(os.environ["MESON_INPUT_GLOBAL_MODEL"], "model/global")
else:
    winner = "regional"
    for score, path in zip(regional, read("REGIONAL_MODELS")):
        shutil.copy(path, f"model/{score['model']}.rds")

print(f"global {everywhere['rmse']:.4f}, regional {together:.4f}: {winner} wins")
with open(os.environ["MESON_OUTPUT"], "a") as out:
    out.write(f"winner={json.dumps(winner)}\n")
    out.write(f"scores={json.dumps([everywhere, *regional])}\n")
    out.write('model={"$file": "model"}\n')
