"""Picks the model with the smallest error, among the global one and the regional ones' mean."""

import json
import os


def read(name):
    with open(os.environ[f"MESON_INPUT_{name}"]) as file:
        return json.load(file)


everywhere, regional = read("GLOBAL"), read("REGIONAL")
together = sum(score["rmse"] for score in regional) / len(regional)
winner = "global" if everywhere["rmse"] <= together else "regional"
print(f"global {everywhere['rmse']:.4f}, regional {together:.4f}: {winner} wins")
with open(os.environ["MESON_OUTPUT"], "a") as out:
    out.write(f"winner={json.dumps(winner)}\n")
    out.write(f"scores={json.dumps([everywhere, *regional])}\n")
