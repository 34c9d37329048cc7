#!/usr/bin/env python3
"""A custom executor for the tests: the v1 executor API with the standard library.

A task's data is its mode: "finish" ends at once, "hold" runs until it is killed,
"late" ends when the file `go` appears in the sandbox. The message "stop" makes the
executor exit with status 0, "echo:..." comes back. It comes back to a restarted agent with what was not
acknowledged; with MUTE in its environment it never subscribes, with DEAF it ignores
SHUTDOWN.
"""

import base64
import http.client
import json
import os
import sys
import threading
import time
import uuid

HOST = os.environ["MESOS_AGENT_ENDPOINT"]
HEAD = {
    "framework_id": {"value": os.environ["MESOS_FRAMEWORK_ID"]},
    "executor_id": {"value": os.environ["MESOS_EXECUTOR_ID"]},
}
HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
lock = threading.RLock()
updates = {}  # uuid -> update, not acknowledged
tasks = {}  # task id -> task, none of its updates acknowledged
held = set()


def post(body):
    connection = http.client.HTTPConnection(HOST)
    connection.request("POST", "/api/v1/executor", json.dumps({**HEAD, **body}), HEADERS)
    return connection.getresponse()


def say(task, state, **more):
    status = {
        "task_id": {"value": task},
        "state": state,
        "source": "SOURCE_EXECUTOR",
        "uuid": base64.b64encode(uuid.uuid4().bytes).decode(),
        "timestamp": time.time(),
        **more,
    }
    with lock:
        updates[status["uuid"]] = {"status": status}
        try:
            answer = post({"type": "UPDATE", "update": {"status": status}})
            if answer.status != 202:
                print("UPDATE answered", answer.status, answer.read(), flush=True)
        except OSError as error:
            print("UPDATE failed", error, flush=True)


def late(task):
    while not os.path.exists("go"):
        time.sleep(0.01)
    say(task, "TASK_FINISHED", message="late")


def launch(task):
    name = task["task_id"]["value"]
    with lock:
        tasks[name] = task
    mode = base64.b64decode(task.get("data", "")).decode()
    say(name, "TASK_RUNNING", message="in " + os.environ["MESOS_SANDBOX"])
    if mode == "finish":
        say(name, "TASK_FINISHED", data=base64.b64encode(b"result").decode())
    else:
        held.add(name)
        if mode == "late":
            threading.Thread(target=late, args=[name], daemon=True).start()


def handle(event):
    kind = event["type"]
    if kind == "LAUNCH":
        launch(event["launch"]["task"])
    elif kind == "KILL":
        name = event["kill"]["task_id"]["value"]
        held.discard(name)
        say(name, "TASK_KILLED")
    elif kind == "ACKNOWLEDGED":
        with lock:
            updates.pop(event["acknowledged"]["uuid"], None)
            tasks.pop(event["acknowledged"]["task_id"]["value"], None)
    elif kind == "MESSAGE":
        text = base64.b64decode(event["message"]["data"])
        if text == b"stop":
            os._exit(0)
        post({"type": "MESSAGE", "message": {"data": base64.b64encode(b"echo:" + text).decode()}})
    elif kind == "SHUTDOWN" and "DEAF" not in os.environ:
        for name in sorted(held):
            say(name, "TASK_KILLED", message="executor shut down")
        os._exit(0)


def records(response):
    while True:
        length = response.readline()
        if not length:
            return
        yield json.loads(response.read(int(length)))


def main():
    with open("environment.json", "w") as file:
        json.dump(dict(os.environ), file)
    if "MUTE" in os.environ:
        time.sleep(600)
    until = None
    while True:
        try:
            with lock:
                missed = {
                    "unacknowledged_tasks": list(tasks.values()),
                    "unacknowledged_updates": list(updates.values()),
                }
            response = post({"type": "SUBSCRIBE", "subscribe": missed})
            if response.status == 200:
                until = None
                for event in records(response):
                    handle(event)
        except (OSError, http.client.HTTPException, ValueError) as error:
            print("disconnected:", error, flush=True)
        if os.environ["MESOS_CHECKPOINT"] != "1":
            sys.exit(1)
        until = until or time.monotonic() + 30
        if time.monotonic() > until:
            sys.exit(1)
        time.sleep(0.05)


main()
