"""Files of results: each run a line of JSON, with what it was made with, so that an interrupted series goes on where it stopped."""

import hashlib
import json
import math
import os
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def name_of(data):
    """What says one text from another."""
    return hashlib.sha256(data).hexdigest()[:16]


def load(path):
    """The lines that are whole: a run that was killed may have left half of one."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def plain(value):
    """What JSON can say of a value: a NaN or an infinity is none."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append(path, result):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write((json.dumps(plain(result), allow_nan=False) + "\n").encode())


def same(result, wanted):
    """Whether a result has all that is wanted; `wanted` is part of it."""
    return all(result.get(name) == value for name, value in wanted.items())


def find(results, wanted):
    return next((result for result in results if same(result, wanted)), None)


def measured(path, there, wanted, measure):
    """The result that has all that is wanted: of those that are there, or, kept in the file then, of `measure`."""
    found = find(there, wanted)
    if found is None:
        found = wanted | measure() | {"commit": commit(), "when": time.strftime("%Y-%m-%d %H:%M")}
        append(path, found)
    return found


def commit():
    """Of the sources that a library is built from; with a + behind it where they are others."""
    run = lambda *command: subprocess.run(["git", "-C", ROOT, *command], capture_output=True, text=True).stdout.strip()
    return run("rev-parse", "--short=12", "HEAD") + ("+" if run("status", "--porcelain", "--untracked-files=no", "src") else "")
