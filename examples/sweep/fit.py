"""Ridge regression of a polynomial to noisy points of a sine; the error on points held out.

fit.py DEGREE RIDGE
"""

import json
import math
import os
import random
import sys

degree, ridge = int(sys.argv[1]), float(sys.argv[2])
noise = random.Random(7)
points = [(x / 20, math.sin(x / 20 * 3) + noise.gauss(0, 0.1)) for x in range(-20, 21)]
train, test = points[0::2], points[1::2]

# Normal equations (X'X + ridge I) w = X'y, by Gaussian elimination with pivoting.
size = degree + 1
rows = [[x ** power for power in range(size)] for x, _ in train]
system = [
    [sum(row[i] * row[j] for row in rows) + (ridge if i == j else 0) for j in range(size)]
    + [sum(row[i] * y for row, (_, y) in zip(rows, train))]
    for i in range(size)
]
for column in range(size):
    pivot = max(range(column, size), key=lambda i: abs(system[i][column]))
    system[column], system[pivot] = system[pivot], system[column]
    for i in range(size):
        if i != column:
            factor = system[i][column] / system[column][column]
            system[i] = [a - factor * b for a, b in zip(system[i], system[column])]
weights = [system[i][size] / system[i][i] for i in range(size)]

errors = [y - sum(weight * x ** power for power, weight in enumerate(weights)) for x, y in test]
rmse = (sum(error * error for error in errors) / len(errors)) ** 0.5
print(f"degree {degree}, ridge {ridge}: rmse {rmse:.4f}")
with open(os.environ["MESON_OUTPUT"], "a") as out:
    out.write(f"point={json.dumps({'degree': degree, 'ridge': ridge, 'rmse': rmse})}\n")
