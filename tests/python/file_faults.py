"""Files that are damaged, gone or cut short, disks that are full and memory that is short: `file_faults.py NAME` runs the
function of that name and ends with status 0 when everything holds; test_files.py runs them all."""

import ctypes
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from right_use import CORPUS, STATUS, World


class Skip(Exception):
    pass


def status_of(world, name, *arguments):
    status = getattr(world.setun, name)(*arguments)
    return "OK" if status == 0 else STATUS[status]


def expect(world, statuses, name, *arguments, what=""):
    status = status_of(world, name, *arguments)
    if status not in statuses:
        raise AssertionError(f"{name} {what}: {status}, expected {' or '.join(statuses)} ({world.setun.error()})")
    return status


def loads(world, name, *arguments, statuses, what):
    """Calls a loader, and what it loads is used and freed; a failure hands nothing back."""
    out = ctypes.c_void_p()
    status = expect(world, statuses, name, *arguments, ctypes.addressof(out), what=what)
    if (status == "OK") != bool(out.value):
        raise AssertionError(f"{name} {what}: {status}, and the handle is {out.value}")
    return out.value


def use_model(world, model):
    tokens, logits = (ctypes.c_uint32 * 4)(1, 2, 3, 4), (ctypes.c_float * (4 * 512))()
    expect(world, ("OK", "ARGUMENT", "SHAPE"), "model_forward", model, world.at(tokens), 1, 4, world.at(logits))
    world.setun.model_free(model)


def use_tokenizer(world, tokenizer):
    tokens, count = (ctypes.c_uint32 * 64)(), ctypes.c_int64()
    expect(world, ("OK", "ARGUMENT", "FORMAT"), "tokenizer_encode", tokenizer, b"the dog", 7, world.at(tokens), 64, world.at(count))
    world.setun.tokenizer_free(tokenizer)


def damages(content, count, seed):
    """Copies of a file with one byte changed, and copies that end early: everywhere in the first bytes, then at random."""
    random.seed(seed)
    places = sorted({*range(min(64, len(content))), *(random.randrange(len(content)) for _ in range(count))})
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << random.randrange(8)
        yield f"with byte {place} changed", bytes(damaged), False
    ends = sorted({0, 1, 7, 8, 9, len(content) - 1, *(random.randrange(len(content)) for _ in range(count // 4))})
    for end in ends:
        yield f"cut to {end} bytes", content[:end], True
    yield "with a byte more", content + b"\0", False


def damaged_model_files(world):
    path = world.path("damaged.safetensors")
    for packing, quantize in [(0, 1), (1, 1), (2, 1), (3, 1), (1, 0)]:
        options = world.options("setun_model_options", vocabulary=256, context_length=16, width=16, layers=1, heads=2, quantize_weights=quantize)
        model = world.setun.made("model_create", None, world.at(options))
        saving = world.options("setun_save_options", packing=packing, tokenizer=world["setun_tokenizer"])
        world.setun.ok("model_save", model, path, world.at(saving), None)
        content = Path(os.fsdecode(path)).read_bytes()
        for what, damaged, cut in damages(content, 120, packing):
            Path(os.fsdecode(path)).write_bytes(damaged)
            statuses = ("FORMAT",) if cut else ("OK", "FORMAT")
            loaded = loads(world, "model_load", None, path, statuses=statuses, what=what)
            if loaded:
                use_model(world, loaded)
            tokenizer = loads(world, "tokenizer_load", path, statuses=("FORMAT", "UNSUPPORTED") if cut else ("OK", "FORMAT", "UNSUPPORTED"), what=what)
            if tokenizer:
                use_tokenizer(world, tokenizer)


def damaged_tokenizer_files(world):
    path = world.path("damaged.json")
    for kind in (0, 1, 2):
        tokenizer = world.setun.made("tokenizer_train", kind, world.text, 300)
        world.setun.ok("tokenizer_save", tokenizer, path)
        content = Path(os.fsdecode(path)).read_bytes()
        for what, damaged, cut in damages(content, 200, kind):
            Path(os.fsdecode(path)).write_bytes(damaged)
            statuses = ("FORMAT",) if cut else ("OK", "FORMAT", "UNSUPPORTED")
            loaded = loads(world, "tokenizer_load", path, statuses=statuses, what=f"{what}, kind {kind}")
            if loaded:
                use_tokenizer(world, loaded)


def damaged_checkpoints(world):
    """Every file of a checkpoint has a checksum: no change goes unnoticed, and a refused one changes nothing."""
    trainer, folder = world.checkpoint()
    folder = Path(os.fsdecode(folder), "step-00000001")
    for name in ("trainer.json", "model.safetensors", "optimizer.safetensors"):
        content = (folder / name).read_bytes()
        for what, damaged, _ in damages(content, 120, 0):
            (folder / name).write_bytes(damaged)
            expect(world, ("FORMAT",), "trainer_resume", trainer, os.fsencode(folder), 0, what=f"{name} {what}")
        (folder / name).unlink()
        expect(world, ("FORMAT",), "trainer_resume", trainer, os.fsencode(folder), 0, what=f"without {name}")
        (folder / name).write_bytes(content)
    expect(world, ("OK",), "trainer_resume", trainer, os.fsencode(folder), 0)
    expect(world, ("OK",), "trainer_step", trainer, None)


def unreadable_files(world):
    """A folder, nothing at all, no permission, and files that fail while they are read."""
    folder, forbidden = world.path("folder"), world.path("forbidden")
    os.mkdir(folder)
    Path(os.fsdecode(forbidden)).write_text(CORPUS)
    os.chmod(forbidden, 0)
    out = lambda: world.at(ctypes.c_void_p())
    loaders = {
        "model_load": lambda path: (None, path, out()),
        "tokenizer_load": lambda path: (path, out()),
        "tokenizer_train": lambda path: (1, path, 0, out()),
        "dataset_open": lambda path: (path, world["setun_tokenizer"], 0.1, out()),
        "train": lambda path: (path, None, out(), None),
        "trainer_resume": lambda path: (world["setun_trainer"], path, 0),
    }
    good = {name: arguments(folder) for name, arguments in loaders.items()}
    for name, arguments in loaders.items():
        # An empty folder is a text without text, and a checkpoint folder without checkpoints.
        expect(world, ("IO", "FORMAT"), name, *good[name], what="of an empty folder")
        expect(world, ("IO",), name, *arguments(world.path("nothing")), what="of a file that is not there")
        expect(world, ("IO",), name, *arguments(world.text + b"/under"), what="of a path under a file")
        # A process may not read the first page of its own memory.
        expect(world, ("IO", "FORMAT"), name, *arguments(b"/proc/self/mem"), what="of /proc/self/mem")
    if os.getuid() == 0:
        os.chmod(world.folder, 0o755)
        os.seteuid(65534)
    try:
        for name, arguments in loaders.items():
            expect(world, ("IO",), name, *arguments(forbidden), what="without permission")
    finally:
        os.seteuid(os.getuid())
    expect(world, ("OK",), "dataset_open", *loaders["dataset_open"](world.text))


def a_text_that_changes_while_it_is_read(world):
    path = Path(os.fsdecode(world.path("changing.txt")))
    path.write_bytes(b"to be or not to be\n" * 1_000_000)
    full, stop = path.stat().st_size, threading.Event()

    def change():
        while not stop.is_set():
            os.truncate(path, random.randrange(full))
            os.truncate(path, full)

    thread = threading.Thread(target=change)
    thread.start()
    seen = set()
    for _ in range(60):
        dataset = loads(world, "dataset_open", os.fsencode(path), world["setun_tokenizer"], ctypes.c_double(0.1),
                        statuses=("OK", "IO", "FORMAT"), what="of a changing text")
        seen.add("OK" if dataset else world.setun.error().split(": ")[-1][:40])
        world.setun.dataset_free(dataset)
    stop.set()
    thread.join()
    for _ in range(20):  # a folder of files that come and go
        (path.parent / "many").mkdir(exist_ok=True)
        names = [path.parent / "many" / f"{i}.txt" for i in range(200)]
        for name in names:
            name.write_text("some text")
        thread = threading.Thread(target=lambda: [name.unlink() for name in names])
        thread.start()
        expect(world, ("OK", "IO", "FORMAT"), "dataset_open", os.fsencode(path.parent / "many"), world["setun_tokenizer"],
               0.1, world.at(ctypes.c_void_p()))
        thread.join()


def saves(world, where):
    """Every call that writes, on paths in a folder; each writes once, to have an earlier file."""
    model, tokenizer = world["setun_model"], world["setun_tokenizer"]
    trainer = world.trainer(checkpoint_dir=os.fsencode(where / "run"), max_steps=50)
    world.setun.ok("trainer_step", trainer, None)
    full = world.at(world.options("setun_save_options", packing=2))
    bpe = world.setun.made("tokenizer_train", 2, world.text, 300)
    calls = [
        ("model_save", model, os.fsencode(where / "model.safetensors"), full, None),
        ("tokenizer_save", bpe, os.fsencode(where / "tokenizer.json")),
        ("trainer_save", trainer),
    ]
    for call in calls:
        world.setun.ok(*call)
    world.setun.ok("trainer_step", trainer, None)
    return trainer, calls


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused_saves(world, where, calls, trainer, fill, empty):
    before = contents(where)
    fill()
    for call in calls:
        expect(world, ("IO",), *call, what="on a full disk")
    finished = ctypes.c_int32(7)
    expect(world, ("IO",), "trainer_run", trainer, world.at(finished), what="on a full disk")
    empty()
    after = contents(where)
    # The run's own log is only ever appended to; everything else is as it was, and nothing is left over.
    log = Path("run", "metrics.jsonl")
    assert after.pop(log, b"").startswith(before.pop(log, b"")), "the log was rewritten"
    assert after == before, f"files differ: {[str(n) for n in {*before, *after} if before.get(n) != after.get(n)]}"
    for call in calls:
        expect(world, ("OK",), *call, what="with room again")
    expect(world, ("OK", "STATE"), "trainer_run", trainer, None, what="with room again")


def files_too_large(world):
    """RLIMIT_FSIZE, with its signal ignored: a write fails half-way."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    where = world.folder / "full"
    where.mkdir()
    trainer, calls = saves(world, where)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    refused_saves(world, where, calls, trainer, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard)),
                  lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard)))


def full_disk(world):
    where = world.folder / "disk"
    where.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", where], capture_output=True, text=True)
    if mounted.returncode != 0:
        raise Skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        trainer, calls = saves(world, where)

        def fill():
            with open(where / ".filling", "wb", buffering=0) as file:
                try:
                    while file.write(b"\0" * 4096):
                        pass
                except OSError:
                    pass

        refused_saves(world, where, calls, trainer, fill, lambda: (where / ".filling").unlink())
    finally:
        subprocess.run(["umount", "-l", where], check=True)


def address_space():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def short_memory(world):
    """RLIMIT_AS at many distances from what is in use: every call works or says MEMORY, and works again with memory. What
    cannot be helped: the last few kilobytes, which Rust's own strings and handles take, end the process when they fail, and so
    does a stack that cannot grow. So some are left, and a call before has made the stack as large as it becomes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    text = Path(os.fsdecode(world.path("large.txt")))
    text.write_text(CORPUS * 1000)  # 2 MB
    geometry = world.options("setun_model_options", width=128, layers=4, vocabulary=256)
    wide = world.at(world.options("setun_context_options", backend=3, threads=64))
    count = 1 << 22
    tokens = (ctypes.c_uint32 * count)()
    model = world.setun.made("model_create", None, world.at(geometry))
    # Its cache of keys and values is more than what a heap has lying about.
    long = world.options("setun_model_options", width=128, layers=4, vocabulary=256, context_length=4096)
    model_of_sampler = world.setun.made("model_create", None, world.at(long))
    logits = (ctypes.c_float * (64 * 64 * 256))()
    options = world.at(world.options("setun_train_options", batch_size=64, max_steps=2))
    dims = world.at((ctypes.c_int64 * 2)(4096, 4096))
    whole = world.at(world.options("setun_save_options", packing=2))  # more than a packed file takes
    out = lambda: world.at(ctypes.c_void_p())
    calls = [
        ("tensor_create", lambda: (0, dims, 2, out())),
        ("model_create", lambda: (None, world.at(geometry), out())),
        ("context_create", lambda: (wide, out())),
        ("dataset_from_tokens", lambda: (world.at(tokens), count, 256, 0.1, out())),
        ("dataset_open", lambda: (os.fsencode(text), world["setun_tokenizer"], 0.1, out())),
        ("tokenizer_train", lambda: (1, os.fsencode(text), 0, out())),
        ("model_forward", lambda: (model, world.at(tokens), 64, 64, world.at(logits))),
        ("trainer_create", lambda: (model, world["setun_dataset"], None, options, out())),
        ("model_save", lambda: (model, world.path("large.safetensors"), whole, None)),
        ("sampler_create", lambda: (model_of_sampler, None, out())),
    ]
    seen = {}
    for name, arguments in calls:
        world.setun.ok("model_forward", world["setun_model"], world.at(tokens), 1, 4, world.at(logits))
        for megabytes in (None, 0.25, 1, 3, 10, 60):
            passed = arguments()
            print(f"at {name} with {megabytes} MB", file=sys.stderr, flush=True)
            if megabytes is not None:
                resource.setrlimit(resource.RLIMIT_AS, (address_space() + int(megabytes * 2**20), hard))
            status = status_of(world, name, *passed)
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
            if status not in ("OK", "MEMORY"):
                raise AssertionError(f"{name} with {megabytes} MB: {status} ({world.setun.error()})")
            seen.setdefault(name, set()).add(status)
            kinds = {"tensor_create": "tensor", "model_create": "model", "context_create": "context", "sampler_create": "sampler",
                     "dataset_from_tokens": "dataset", "dataset_open": "dataset", "tokenizer_train": "tokenizer", "trainer_create": "trainer"}
            if status == "OK" and name in kinds:
                getattr(world.setun, f"{kinds[name]}_free")(ctypes.c_void_p.from_address(passed[-1]).value)
        expect(world, ("OK",), name, *arguments(), what="with memory again")
    refused = {name for name, statuses in seen.items() if "MEMORY" in statuses}
    assert refused == {name for name, _ in calls}, seen


CASES = [damaged_model_files, damaged_tokenizer_files, damaged_checkpoints, unreadable_files,
         a_text_that_changes_while_it_is_read, files_too_large, full_disk, short_memory]


def main(name):
    case = next(case for case in CASES if case.__name__ == name)
    folder = tempfile.mkdtemp(prefix="setun-")
    try:
        case(World(folder))
    except Skip as reason:
        print(f"skipped: {reason}")
        return 77
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
