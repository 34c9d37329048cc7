"""Fits a line to points that are spread over the tasks: in each round everybody computes the gradient
on its own points, the first task averages them, and everybody takes the same step."""

import json
import os
import random
import socket
import time

rank = int(os.environ["MESON_GANG_RANK"])
size = int(os.environ["MESON_GANG_SIZE"])
first, port = os.environ["MESON_GANG_ADDRESSES"].split(",")[0].rsplit(":", 1)  # Where to meet.

noise = random.Random(rank)
points = [(x, 3 * x - 1 + noise.gauss(0, 0.1)) for x in (noise.uniform(-1, 1) for _ in range(250))]


def gradient(slope, offset):
    errors = [(slope * x + offset - y, x) for x, y in points]
    mean = lambda values: sum(values) / len(points)
    return [mean(2 * e * x for e, x in errors), mean(2 * e for e, _ in errors), mean(e * e for e, _ in errors)]


def meet():
    """The first task listens, the others call it, as often as it takes: tasks start as fast as their agents are."""
    if rank == 0:
        with socket.create_server(("", int(port))) as server:
            return [server.accept()[0].makefile("rw") for _ in range(size - 1)]
    try:
        host = socket.gethostbyname(first)
    except OSError:
        host = "127.0.0.1"  # On a laptop, the agents' names are no machines'.
    while True:
        try:
            return [socket.create_connection((host, port)).makefile("rw")]
        except ConnectionRefusedError:
            time.sleep(0.05)


def say(peer, numbers):
    peer.write(json.dumps(numbers) + "\n")
    peer.flush()


def average(numbers):
    """Of what all tasks have: the first one adds up and tells the others."""
    if rank > 0:
        say(peers[0], numbers)
        return json.loads(peers[0].readline())
    everybody = [numbers] + [json.loads(peer.readline()) for peer in peers]
    mean = [sum(column) / size for column in zip(*everybody)]
    for peer in peers:
        say(peer, mean)
    return mean


peers = meet()
slope = offset = 0.0
for _ in range(100):
    down, aside, loss = average(gradient(slope, offset))
    slope, offset = slope - 0.5 * down, offset - 0.5 * aside

print(f"task {rank} of {size}: y = {slope:.3f} x {offset:+.3f}, loss {loss:.4f}")
with open(os.environ["MESON_OUTPUT"], "a") as output:
    output.write(f"loss={loss}\nweights={json.dumps([slope, offset])}\n")
