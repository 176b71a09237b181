"""One right call of every function, and what a wrong one may answer: the table that wrong_use.py works through.

A function that is added to the header needs an entry here: what it is called with, and where it departs from the rules
that hold for all (see wrong_use.py). Everything is small, so that each call takes a few milliseconds.
"""

import ctypes
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

import header as header_module
from header import LIBRARY

HEADER = header_module.parse()
STATUS = {number: name.removeprefix("SETUN_ERR_") for name, number in HEADER.enums["setun_status"].items()}
STRUCTS = {name: struct.ctype for name, struct in HEADER.structs.items()}
PROGRESS = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)
TEXT_PIECE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
LOG = ctypes.CFUNCTYPE(None, ctypes.c_int32, ctypes.c_char_p, ctypes.c_void_p)
NUMBERS = ctypes.POINTER(ctypes.c_double)
FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, NUMBERS, NUMBERS, ctypes.c_void_p)
HESSIAN = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, NUMBERS, NUMBERS, NUMBERS, ctypes.c_void_p)

SMALL = dict(vocabulary=256, context_length=16, width=16, layers=1, heads=2)
SLOW = dict(vocabulary=256, context_length=64, width=64, layers=2, heads=2)
POINTS = [0, 0, 0, 1, 9, 9, 9, 8]
CORPUS = "the quick brown fox jumps over the lazy dog. " * 40


@FUNCTION
def square(n, x, f, _user_data):
    f[0] = sum((x[i] - 3) ** 2 for i in range(n))
    return 1


@FUNCTION
def slope(n, x, gradient, _user_data):
    for i in range(n):
        gradient[i] = 2 * (x[i] - 3)
    return 1


@HESSIAN
def twice(n, _x, v, product, _user_data):
    for i in range(n):
        product[i] = 2 * v[i]
    return 1


class Out:
    """Room for `count` results of a C type: a failing call must leave it as it is, but where `kept` is false."""

    def __init__(self, base, count=1, kept=True):
        self.kept = kept
        # Twice the room: a size that is one too large must still be inside.
        self.array = ((header_module.SCALARS.get(base) or base) * (2 * count + 16))()
        ctypes.memset(self.array, 0xA5, ctypes.sizeof(self.array))
        self.before = bytes(self.array)

    def untouched(self):
        return bytes(self.array) == self.before


class InOut(Out):
    """A value that is read and written, in room of its own; a failing call must leave it as it is."""

    def __init__(self, base, value):
        super().__init__(base)
        self.value = value
        self.again()

    def again(self):
        """As before the call."""
        self.array[0] = self.value
        self.before = bytes(self.array)

    def holding(self, value):
        return type(self)("size_t", value)


class InOuts(Out):
    """An array that is read and written; a failing call must leave it as it is."""

    def __init__(self, base, values):
        super().__init__(base, len(values))
        self.values = values
        self.again()

    def again(self):
        self.array[: len(self.values)] = self.values
        self.before = bytes(self.array)


class In:
    """An input array; of its elements the first `count` are read."""

    def __init__(self, base, values):
        self.base, self.count = base, len(values)
        self.array = (header_module.SCALARS[base] * (2 * len(values) + 16))(*values)


class Setun:
    """The library through ctypes, with every pointer an address."""

    def __init__(self):
        self.library = ctypes.CDLL(str(LIBRARY))
        for function in HEADER.functions.values():
            entry = getattr(self.library, function.name)
            callback = {"setun_log_callback": LOG, "setun_text_callback": TEXT_PIECE, "setun_benchmark_callback": PROGRESS,
                        "setun_objective_callback": FUNCTION, "setun_gradient_callback": FUNCTION,
                        "setun_product_callback": HESSIAN}
            entry.argtypes = [callback.get(p.base, p.ctype) for p in function.parameters]
            numbers = {**header_module.SCALARS, "void": None, "setun_status": ctypes.c_int32}
            entry.restype = numbers.get(function.returns, ctypes.c_char_p)

    def __getattr__(self, name):
        return getattr(self.library, f"setun_{name}")

    def error(self):
        return self.library.setun_last_error().decode("utf-8", "replace")

    def ok(self, name, *arguments):
        status = getattr(self, name)(*arguments)
        if status != 0:
            raise AssertionError(f"setun_{name} failed: {STATUS.get(status, status)}: {self.error()}")

    def made(self, name, *arguments):
        """The handle that a call makes: its out pointer is the last argument."""
        out = ctypes.c_void_p()
        self.ok(name, *arguments, ctypes.addressof(out))
        return out.value


class World:
    """Everything that a call may need, made at first use, in a folder of its own."""

    def __init__(self, folder):
        self.folder, self.setun, self.handles, self.kept = Path(folder), Setun(), {}, []
        self.number = 0
        self.text = self.path("corpus.txt")
        Path(os.fsdecode(self.text)).write_text(CORPUS, encoding="utf-8")

    def path(self, name):
        return os.fsencode(self.folder / name)

    def fresh_path(self, name):
        self.number += 1
        return self.path(f"{self.number}-{name}")

    def options(self, name, **fields):
        """An options struct, from its init function."""
        options = STRUCTS[name]()
        getattr(self.setun, f"{name.removeprefix('setun_')}_init")(ctypes.addressof(options), ctypes.sizeof(options))
        for field_name, value in fields.items():
            if isinstance(value, bytes):
                value = ctypes.cast(ctypes.c_char_p(value), ctypes.c_void_p).value
            elif isinstance(value, ctypes.Structure):
                value = ctypes.addressof(value)
            elif isinstance(value, ctypes._CFuncPtr):
                value = ctypes.cast(value, ctypes.c_void_p).value
            setattr(options, field_name, value)
        self.kept.append(fields)  # structs point to them
        return options

    def filled(self, name):
        """A struct that a call fills: only its size is set."""
        struct = STRUCTS[name]()
        struct.struct_size = ctypes.sizeof(struct)
        return struct

    def at(self, value):
        self.kept.append(value)
        return ctypes.addressof(value)

    def __getitem__(self, handle):
        """The handle of a type that many calls share."""
        if handle not in self.handles:
            self.handles[handle] = self.make(handle)
        return self.handles[handle]

    def make(self, handle):
        """A new handle of a type."""
        return MAKE[handle](self)

    def tensor(self, dims, dtype=0, values=None):
        tensor = self.setun.made("tensor_create", dtype, self.at((ctypes.c_int64 * len(dims))(*dims)), len(dims))
        if values is not None:
            array = (ctypes.c_float * len(values))(*values)
            self.setun.ok("tensor_write", tensor, self.at(array), ctypes.sizeof(array))
        return tensor

    def context(self, backend=1):
        return self.setun.made("context_create", self.at(self.options("setun_context_options", backend=backend)))

    def model(self, context=None, **geometry):
        options = self.options("setun_model_options", **(geometry or SMALL))
        return self.setun.made("model_create", context, self.at(options))

    def model_to_change(self):
        """One of its own: the shared model is never changed."""
        if "changed" not in self.handles:
            self.handles["changed"] = self.model()
        return self.handles["changed"]

    def kept_floats(self, count=4096):
        return self.at((ctypes.c_float * count)())

    def gradients(self):
        """Room for the gradients of the small model, whose largest tensor has 4096 elements."""
        return self.at((ctypes.c_void_p * 20)(*[self.kept_floats() for _ in range(20)]))

    def trainer(self, model=None, **options):
        # The shared model is never trained: some call may be using it.
        model = model or self.model()
        every = dict(batch_size=2, max_steps=1 << 20, checkpoint_dir=self.fresh_path("run"), evaluation_windows=1)
        options = self.at(self.options("setun_train_options", **{**every, **options}))
        return self.setun.made("trainer_create", model, self["setun_dataset"], self["setun_tokenizer"], options)

    def checkpoint(self):
        """The folder of a run that has a checkpoint, and a trainer that may resume it."""
        trainer, folder = self.trainer(max_steps=9), self.path(f"{self.number}-run")
        self.setun.ok("trainer_step", trainer, None)
        self.setun.ok("trainer_save", trainer)
        return trainer, folder

    def prompted_sampler(self):
        sampler = self["setun_sampler"]
        self.setun.ok("sampler_prompt", sampler, self.at((ctypes.c_uint32 * 2)(65, 66)), 2)
        return sampler

    def fitted(self, kmeans):
        self.setun.ok("kmeans_fit", kmeans, self.at((ctypes.c_float * 8)(*POINTS)), 4, 2, None, None)
        return kmeans

    def tfidf(self):
        tfidf = self.setun.made("tfidf_create", self.at(self.options("setun_tfidf_options", dimensions=8)))
        text, places = CORPUS.encode(), self.at((ctypes.c_int64 * 2)(0, len(CORPUS)))
        self.setun.ok("tfidf_fit", tfidf, text, len(text), places, places + 8, 1)
        return tfidf

    def optimizer(self, count, names=(b"w",)):
        """With parameters of `count` floats."""
        optimizer = self.setun.made("optimizer_create", None)
        for name in names:
            dims, data = self.at((ctypes.c_int64 * 1)(count)), self.at((ctypes.c_float * count)(*[1.0] * count))
            self.setun.ok("optimizer_add", optimizer, name, data, dims, 1, None)
        return optimizer

    def pointers(self, *arrays):
        """An array of the addresses of arrays of floats."""
        return self.at((ctypes.c_void_p * (len(arrays) + 8))(*[self.at((ctypes.c_float * len(a))(*a)) for a in arrays]))

    def problem(self, objective=square):
        return self.setun.made("problem_create", 2, objective, slope, twice, None)

    def stepped_optimizer(self):
        optimizer = self.optimizer(8)
        self.setun.ok("optimizer_step", optimizer, self.pointers([0.5] * 8), 1, None)
        return optimizer

    def adapted_optimizer(self):
        optimizer = self.stepped_optimizer()
        self.setun.ok("optimizer_set_lr_net", optimizer, self.lr_net())
        return optimizer

    def compact_optimizer(self, count):
        """With so many parameters of codes."""
        options = self.options("setun_optimizer_options", states=2)
        optimizer = self.setun.made("optimizer_create", self.at(options))
        for i in range(count):
            dims, data = self.at((ctypes.c_int64 * 2)(2, 4)), self.at((ctypes.c_float * 8)(*[1.0] * 8))
            self.setun.ok("optimizer_add_compact", optimizer, b"w" * (i + 1), data, dims, 2, None)
        return optimizer

    def checked_optimizer(self):
        """After a step that can be undone."""
        options = self.options("setun_optimizer_options", guard_interval=1)
        optimizer = self.setun.made("optimizer_create", self.at(options))
        dims, data = self.at((ctypes.c_int64 * 1)(8)), self.at((ctypes.c_float * 8)(*[1.0] * 8))
        self.setun.ok("optimizer_add", optimizer, b"w", data, dims, 1, None)
        self.setun.ok("optimizer_step_guarded", optimizer, self.pointers([0.5] * 8), 1, ctypes.c_double(1.5), None)
        return optimizer

    def optimizer_file(self):
        path = self.path("optimizer.safetensors")
        self.setun.ok("optimizer_save", self.stepped_optimizer(), path)
        return path

    def lr_net(self, count=1):
        """With states of `count` parameters."""
        net = self.setun.made("lr_net_create", None)
        self.setun.ok("lr_net_factor", net, count - 1, self.at(self.observation()), self.at(ctypes.c_double()))
        return net

    def observation(self, **fields):
        seen = self.filled("setun_lr_net_observation")
        for name, value in {"kind": 1, "relative_step": 1e-3, "cosine": 0.5, "signal": 0.1, **fields}.items():
            setattr(seen, name, value)
        return seen

    def lr_net_file(self, count=1):
        path = self.path(f"lr-net-{count}.safetensors")
        self.setun.ok("lr_net_save", self.lr_net(count), path)
        return path

    def model_file(self):
        path = self.path("model.safetensors")
        if not os.path.exists(path):
            options = self.options("setun_save_options", tokenizer=self["setun_tokenizer"])
            self.setun.ok("model_save", self["setun_model"], path, self.at(options), None)
        return path


    def archive(self):
        """A file with a tensor and a packed matrix."""
        file = self.setun.made("file_create")
        self.setun.ok("file_add", file, b"t", self["setun_tensor"])
        self.setun.ok("file_add_packed", file, b"p", self["setun_packed"])
        return file

    def archive_file(self):
        path = self.path("packed.safetensors")
        if not os.path.exists(path):
            self.setun.ok("file_save", self.archive(), path, None)
        return path


MAKE = {
    "setun_cancel": lambda w: w.setun.made("cancel_create"),
    "setun_context": lambda w: w.context(),
    "setun_tensor": lambda w: w.tensor([2, 4], values=[0.5, -1, 2, 0.1, 1, 1, -2, 0]),
    "setun_packed": lambda w: w.setun.made("packed_create", None, w["setun_tensor"], None),
    "setun_tokenizer": lambda w: w.setun.made("tokenizer_train", 0, None, 0),
    "setun_dataset": lambda w: w.setun.made("dataset_open", w.text, w["setun_tokenizer"], 0.1),
    "setun_model": lambda w: w.model(),
    "setun_trainer": lambda w: w.trainer(),
    "setun_sampler": lambda w: w.setun.made("sampler_create", w["setun_model"], None),
    "setun_optimizer": lambda w: w.optimizer(8),
    "setun_lr_net": lambda w: w.lr_net(),
    "setun_problem": lambda w: w.problem(),
    "setun_file": lambda w: w.archive(),
    "setun_kmeans": lambda w: w.fitted(w.setun.made("kmeans_create", 2, None)),
    "setun_tfidf": lambda w: w.tfidf(),
}


# ---- Handles in use: a second caller gets STATE --------------------------------------------------------------------------


class Busy:
    """Keeps a handle in use on another thread until `stop`; for most of the time, or all of it."""

    def __init__(self, handle, work):
        self.handle, self.stopping = handle, threading.Event()
        self.thread = threading.Thread(target=self.go, args=(work,), daemon=True)
        self.thread.start()

    def go(self, work):
        while not self.stopping.is_set():
            work(self.stopping)

    def stop(self):
        self.stopping.set()
        self.thread.join()


def busy_trainer(world):
    inside = threading.Event()
    stopping = []

    @PROGRESS
    def progress(_metrics, _user_data):
        inside.set()
        stopping[0].wait()
        return 0

    trainer = world.trainer(progress=progress)

    def work(stop):
        stopping.append(stop)
        world.setun.trainer_run(trainer, None)

    busy = Busy(trainer, work)
    inside.wait(60)
    return busy


def busy_model(world):
    model = world.model(world["setun_context"], **SLOW)
    trainer = world.trainer(model, batch_size=16)
    return Busy(model, lambda _: world.setun.trainer_step(trainer, None))


def busy_tensor(world):
    w, x, y = world.tensor([512, 512], values=[1.0] * (512 * 512)), world.tensor([64, 512]), world.tensor([64, 512])
    packed = world.setun.made("packed_create", world["setun_context"], w, None)
    return Busy(y, lambda _: world.setun.packed_matmul(packed, x, y))


def busy_sampler(world):
    sampler = world.setun.made("sampler_create", world.model(world["setun_context"], **SLOW), None)
    tokens = world.at((ctypes.c_uint32 * 200)(*range(200)))
    return Busy(sampler, lambda _: world.setun.sampler_prompt(sampler, tokens, 200))


def busy_kmeans(world):
    inside = threading.Event()
    stopping = []

    @PROGRESS
    def progress(_report, _user_data):
        inside.set()
        stopping[0].wait()
        return 0

    options = world.options("setun_kmeans_options", progress=progress)
    kmeans = world.setun.made("kmeans_create", 2, world.at(options))
    points = world.at((ctypes.c_float * 8)(*POINTS))

    def work(stop):
        stopping.append(stop)
        world.setun.kmeans_fit(kmeans, points, 4, 2, None, None)

    busy = Busy(kmeans, work)
    inside.wait(60)
    return busy


def busy_tfidf(world):
    tfidf, text = world.tfidf(), CORPUS.encode() * 2000
    places = world.at((ctypes.c_int64 * 2)(0, len(text)))
    return Busy(tfidf, lambda _: world.setun.tfidf_fit(tfidf, text, len(text), places, places + 8, 1))


def busy_optimizer(world):
    # Two large parameters: a step that is not refused as busy is refused for its one small gradient.
    count = 1 << 19
    optimizer = world.optimizer(count, (b"v", b"w"))
    gradients = world.pointers([0.5] * count, [0.5] * count)
    return Busy(optimizer, lambda _: world.setun.optimizer_step(optimizer, gradients, 2, None))


def busy_lr_net(world):
    # A file of 6 MB, read while the network is held.
    net, path = world.lr_net(), world.lr_net_file(65536)
    return Busy(net, lambda _: world.setun.lr_net_load(net, path))


def busy_problem(world):
    inside = threading.Event()
    stopping = []

    @FUNCTION
    def objective(_n, _x, _f, _user_data):
        inside.set()
        stopping[0].wait()
        return 0

    problem = world.problem(objective)
    world.kept.append(objective)
    x = world.at((ctypes.c_double * 2)(1, 1))

    def work(stop):
        stopping.append(stop)
        world.setun.problem_solve(problem, x, None, None)

    busy = Busy(problem, work)
    inside.wait(60)
    return busy


def busy_file(world):
    # The name is taken, which is found after the copy was made.
    file, tensor = world.archive(), world.tensor([1 << 22])
    return Busy(file, lambda _: world.setun.file_add(file, b"t", tensor))


# Each type that some function takes without const.
BUSY = {
    "setun_file": busy_file,
    "setun_optimizer": busy_optimizer,
    "setun_lr_net": busy_lr_net,
    "setun_problem": busy_problem,
    "setun_kmeans": busy_kmeans,
    "setun_tfidf": busy_tfidf,
    "setun_trainer": busy_trainer,
    "setun_model": busy_model,
    "setun_tensor": busy_tensor,
    "setun_sampler": busy_sampler,
}


# ---- The table -----------------------------------------------------------------------------------------------------------


@dataclass
class Entry:
    """`call` gives the arguments of a right call by name. `null` may be NULL. `expect` departs from the rules: what is done
    wrong, as wrong_use.py names it (a * stands for anything), to the statuses that answer. `more` gives further wrong
    calls: (what is wrong, changed arguments, statuses, text that the message has)."""

    call: object
    null: tuple = ()
    expect: dict = field(default_factory=dict)
    more: object = lambda world, good: []
    right: tuple = ("OK",)
    fresh: bool = False


# A NaN in an observation is no error: the factor is 1.
NO_NUMBER = {f"observation.{field} = *": ("OK",) for field in ("relative_step", "flip_rate", "cosine", "signal", "progress")}


def weights(count=8):
    return In("float", [(-1) ** i * 0.25 * (i + 1) for i in range(count)])


def zeros(base, count):
    return In(base, [0] * count)


OPTIONS = ("options",)
GROUP = {"options.group = -1": ("OK",), "options.group = INT64_MAX": ("OK",)}  # of what has no scales
# packed_size is that of the full matrix.
EMPTY = {"rows = 0": ("SHAPE",), "columns = 0": ("SHAPE",), **GROUP}
# There is one scale.
SCALES = {"scale_count = 0": ("SHAPE",), "options.group = -1": ("SHAPE",), "options.group = INT64_MAX": ("SHAPE",)}
TRAINING = {
    "options.batch_size = 0": ("ARGUMENT",),
    "options.accumulation = 0": ("ARGUMENT",),
    "options.*radius = NaN": ("OK",),  # that of the mode, and that of matrices
    "options.minimum_lr_ratio = NaN": ("OK",),  # that of the method
    "options.model.struct_size = 0": ("ABI",),
    "options.model.[clwh][oaie]*[hs] = 0": ("ARGUMENT",),  # context_length, layers, width, heads
}
# A box that is open to one side or both.
BOX = {"options.lower = -infinity": ("OK",), "options.upper = infinity": ("OK",), "options.*radius = NaN": ("OK",)}
CLUSTERS = {"[ndk] = 0": ("ARGUMENT",), "options.n_init = 0": ("ARGUMENT",)}
DOCUMENTS = dict(text=b"to be or not", bytes=12, begins=In("int64_t", [0, 3]), ends=In("int64_t", [9, 12]), n=2)
READ = {"bytes + 1": ("OK",)}
PRODUCT = {**SCALES, "n = 0": ("SHAPE",), "k = 0": ("SHAPE",)}

TABLE = {
    # LIBRARY
    "setun_version": Entry(lambda w: {}),
    "setun_version_string": Entry(lambda w: {}),
    "setun_build_info": Entry(lambda w: {}),
    "setun_status_name": Entry(lambda w: dict(status=-2)),
    "setun_last_error": Entry(lambda w: {}),
    "setun_set_log": Entry(
        lambda w: dict(callback=LOG(lambda *_: None), user_data=None, level=0), null=("callback", "user_data")
    ),
    "setun_cancel_create": Entry(lambda w: dict(out=Out(ctypes.c_void_p))),
    "setun_cancel_request": Entry(lambda w: dict(token=w["setun_cancel"])),
    "setun_cancel_reset": Entry(lambda w: dict(token=w["setun_cancel"])),
    "setun_cancel_free": Entry(lambda w: dict(token=w.make("setun_cancel"))),
    # CONTEXT
    "setun_context_options_init": Entry(lambda w: {}),
    "setun_context_create": Entry(
        lambda w: dict(options=w.options("setun_context_options", threads=1), out=Out(ctypes.c_void_p)),
        null=OPTIONS, expect={"options.min_size_for_* = -1": ("OK",)},
        more=lambda w, good: [
            ("threads = 4097", dict(options=w.options("setun_context_options", threads=4097)), ("ARGUMENT",), "threads"),
            ("threads = -1", dict(options=w.options("setun_context_options", threads=-1)), ("ARGUMENT",), "threads"),
        ],
    ),
    "setun_context_backend": Entry(lambda w: dict(context=w["setun_context"], out=Out("int32_t")), null=("context",)),
    "setun_context_threads": Entry(lambda w: dict(context=w["setun_context"], out=Out("int32_t")), null=("context",)),
    "setun_context_level": Entry(
        lambda w: dict(context=w["setun_context"], out=Out(ctypes.c_void_p)), null=("context",)
    ),
    "setun_context_free": Entry(lambda w: dict(context=w.make("setun_context"))),
    "setun_context_explain": Entry(
        lambda w: dict(context=w["setun_context"], operation=b"matmul", call_size=1000, text=Out("char", 2000), capacity=2000,
                       bytes=Out("size_t", kept=False)),
        null=("context", "operation", "bytes"),
        expect={"call_size = -1": ("OK",), "call_size = INT64_MAX": ("OK",), "capacity [-+] 1": ("OK",)},
        more=lambda w, good: [
            ("only counting", dict(text=None, capacity=0), ("OK",), ""),
            ("room for one character", dict(capacity=1), ("OK",), ""),
            ("an operation that is none", dict(operation=b"matmull"), ("ARGUMENT",), "matmul"),
        ],
    ),
    "setun_context_statistics": Entry(
        lambda w: dict(context=w["setun_context"], index=0, out=w.filled("setun_statistics")), null=("context",),
        more=lambda w, good: [("index = 1000", dict(index=1000), ("ARGUMENT",), "index")],
    ),
    "setun_context_reset_statistics": Entry(lambda w: dict(context=w["setun_context"]), null=("context",)),
    "setun_operation_count": Entry(lambda w: {}),
    "setun_operation_name": Entry(lambda w: dict(index=-1)),
    "setun_device_count": Entry(lambda w: dict(out=Out("int32_t"))),
    # A machine without a GPU has no right call of these two: it answers DEVICE.
    "setun_device_name": Entry(
        lambda w: dict(device=0, text=Out("char", 300), capacity=300, bytes=Out("size_t", kept=False)),
        null=("bytes",), right=("OK", "DEVICE"), expect={"capacity [-+] 1": ("OK",)},
    ),
    "setun_device_memory": Entry(
        lambda w: dict(device=0, free=Out("size_t"), total=Out("size_t")), null=("free", "total"),
        right=("OK", "DEVICE"),
    ),
    # TENSOR
    "setun_tensor_create": Entry(
        lambda w: dict(dtype=0, dims=In("int64_t", [2, 3]), rank=2, out=Out(ctypes.c_void_p)),
        more=lambda w, good: [
            ("rank = -1", dict(rank=-1), ("ARGUMENT",), "rank"),
            ("rank = 5", dict(rank=5), ("ARGUMENT",), "rank"),
            ("no dims", dict(dims=None, rank=0), ("OK",), ""),
            ("dims = 2^32 x 2^32", dict(dims=In("int64_t", [1 << 32, 1 << 32])), ("SHAPE",), ""),
            ("dims = 2^31 x 2^31", dict(dims=In("int64_t", [1 << 31, 1 << 31])), ("SHAPE", "MEMORY"), ""),
            ("dims = 0 x 2^62", dict(dims=In("int64_t", [0, 1 << 62])), ("OK",), ""),
        ],
    ),
    "setun_tensor_wrap": Entry(
        lambda w: dict(data=In("float", [0] * 6), dtype=0, dims=In("int64_t", [2, 3]), rank=2, out=Out(ctypes.c_void_p)),
        # The memory becomes the tensor's: it may well hold the sizes, which are copied.
        expect={"data overlaps dims": ("OK",)},
        more=lambda w, good: [
            ("rank = 5", dict(rank=5), ("ARGUMENT",), "rank"),
            ("data at an odd address", dict(data=ctypes.addressof(good["data"].array) + 1), ("ARGUMENT",), "data"),
            ("bytes at an odd address", dict(data=ctypes.addressof(good["data"].array) + 1, dtype=2), ("OK",), ""),
            ("no data", dict(data=None, dims=In("int64_t", [0, 3])), ("OK",), ""),
            ("past the end of memory", dict(data=2**64 - 64, dims=In("int64_t", [1 << 20, 1])), ("ARGUMENT",), "data"),
        ],
    ),
    "setun_tensor_dtype": Entry(lambda w: dict(tensor=w["setun_tensor"], out=Out("int32_t"))),
    "setun_tensor_dims": Entry(lambda w: dict(tensor=w["setun_tensor"], dims=Out("int64_t", 4), rank=Out("int32_t"))),
    "setun_tensor_nbytes": Entry(lambda w: dict(tensor=w["setun_tensor"], out=Out("size_t"))),
    "setun_tensor_write": Entry(lambda w: dict(tensor=w["setun_tensor"], data=weights(), nbytes=32)),
    "setun_tensor_read": Entry(lambda w: dict(tensor=w["setun_tensor"], data=Out("float", 8), nbytes=32)),
    "setun_tensor_free": Entry(lambda w: dict(tensor=w.make("setun_tensor"))),
    # QUANTIZE
    "setun_quantize_options_init": Entry(lambda w: {}),
    "setun_pack_size": Entry(
        lambda w: dict(rows=2, columns=4, packing=0, out=Out("size_t")),
        expect={"packing = 2": ("ARGUMENT",)},
        more=lambda w, good: [("rows * columns = 2^64", dict(rows=1 << 44, columns=1 << 20), ("SHAPE",), "")],
    ),
    "setun_scale_count": Entry(
        lambda w: dict(rows=2, columns=4, group=3, out=Out("int64_t")),
        expect={"group = -1": ("OK",), "group = INT64_MAX": ("OK",)},
        more=lambda w, good: [
            ("rows * columns = 2^64", dict(rows=1 << 44, columns=1 << 20), ("SHAPE",), ""),
            ("group = -2", dict(group=-2), ("ARGUMENT",), "group"),
        ],
    ),
    "setun_quantize": Entry(
        lambda w: dict(weights=weights(), rows=2, columns=4, options=w.options("setun_quantize_options"),
                       packed=Out("uint8_t", 2), packed_size=InOut("size_t", 2), scales=Out("float"), scale_count=1),
        null=OPTIONS, expect=SCALES,
    ),
    "setun_quantize_measure": Entry(
        lambda w: dict(weights=weights(), rows=2, columns=4, packed=In("uint8_t", [0x55, 0x55]), packed_size=2,
                       scales=In("float", [0.5]), scale_count=1, options=w.options("setun_quantize_options"),
                       report=w.filled("setun_quantize_report")),
        null=OPTIONS, expect={**EMPTY, **SCALES},
    ),
    "setun_dequantize": Entry(
        lambda w: dict(packed=In("uint8_t", [0x55, 0x55]), packed_size=2, rows=2, columns=4, scales=In("float", [0.5]), scale_count=1,
                       options=w.options("setun_quantize_options"), weights=Out("float", 8)),
        null=OPTIONS, expect={**EMPTY, **SCALES},
    ),
    "setun_pack": Entry(
        lambda w: dict(trits=In("int8_t", [1, 0, -1, 0, 1, 1, 1, 0]), rows=2, columns=4,
                       options=w.options("setun_quantize_options"), packed=Out("uint8_t", 2), packed_size=InOut("size_t", 2)),
        null=OPTIONS, expect=GROUP,
    ),
    "setun_unpack": Entry(
        lambda w: dict(packed=In("uint8_t", [0x55, 0x55]), packed_size=2, rows=2, columns=4,
                       options=w.options("setun_quantize_options"), trits=Out("int8_t", 8)),
        null=OPTIONS, expect=EMPTY,
    ),
    "setun_repack": Entry(
        lambda w: dict(packed=In("uint8_t", [0x55, 0x55]), packed_size=2, rows=2, columns=4, packing=0,
                       options=w.options("setun_quantize_options", packing=1), out=Out("uint8_t", 2),
                       out_size=InOut("size_t", 2)),
        null=OPTIONS, expect={**EMPTY, "packing = 2": ("ARGUMENT",)},
    ),
    "setun_gguf_size": Entry(
        lambda w: dict(type=34, count=512, bytes=Out("size_t")),
        expect={"count = INT64_MAX": ("SHAPE",)},
        more=lambda w, good: [("count = 255", dict(count=255), ("SHAPE",), "count is 255")],
    ),
    "setun_gguf_encode": Entry(
        lambda w: dict(type=35, weights=In("float", [0.5] * 256), count=256, blocks=Out("uint8_t", 66), blocks_size=66),
        expect={"count = 0": ("SHAPE",)},
    ),
    "setun_gguf_decode": Entry(
        lambda w: dict(type=35, blocks=In("uint8_t", [0x55] * 66), blocks_size=66, count=256, weights=Out("float", 256)),
        expect={"count = 0": ("SHAPE",)},
    ),
    "setun_quantize_activations": Entry(
        lambda w: dict(x=weights(), m=2, k=4, options=w.options("setun_quantize_options"), codes=Out("int8_t", 8),
                       scales=Out("float", 2)),
        null=OPTIONS, expect=GROUP,
    ),
    "setun_matmul": Entry(
        lambda w: dict(x=weights(), m=2, packed=In("uint8_t", [0x55] * 3), packed_size=3, n=3, k=4, scales=In("float", [0.5]), scale_count=1,
                       options=w.options("setun_quantize_options"), y=Out("float", 6)),
        null=OPTIONS, expect=PRODUCT,
    ),
    "setun_matmul_backward": Entry(
        lambda w: dict(dy=weights(6), m=2, packed=In("uint8_t", [0x55] * 3), packed_size=3, n=3, k=4, scales=In("float", [0.5]), scale_count=1,
                       options=w.options("setun_quantize_options"), dx=Out("float", 8)),
        null=OPTIONS, expect=PRODUCT,
    ),
    "setun_quantize_gradients": Entry(
        lambda w: dict(g=weights(32), n=32, block=32, seed=1, step=2, tensor=3, options=w.options("setun_quantize_options"),
                       codes=Out("int8_t", 32), scales=Out("float", 32)),
        null=OPTIONS, expect={**GROUP, "block = 0": ("ARGUMENT",), "block = INT64_MAX": ("ARGUMENT",)},
        more=lambda w, good: [("block = 33", dict(block=33), ("ARGUMENT",), "block")],
    ),
    "setun_dequantize_gradients": Entry(
        lambda w: dict(codes=In("int8_t", [1] * 32), scales=In("float", [0.5]), n=32, block=32,
                       options=w.options("setun_quantize_options"), g=Out("float", 32)),
        null=OPTIONS,
        # Every int8 is a code.
        expect={**GROUP, "block = 0": ("ARGUMENT",), "block = INT64_MAX": ("ARGUMENT",), "the last of codes = 5": ("OK",)},
        more=lambda w, good: [("block = 33", dict(block=33), ("ARGUMENT",), "block")],
    ),
    "setun_trit_histogram": Entry(
        lambda w: dict(packed=In("uint8_t", [0x55, 0x55]), packed_size=2, rows=2, columns=4,
                       options=w.options("setun_quantize_options"), counts=Out("int64_t", 3)),
        null=OPTIONS, expect=EMPTY,
    ),
    "setun_packed_create": Entry(
        lambda w: dict(context=w["setun_context"], w=w["setun_tensor"], options=w.options("setun_quantize_options"),
                       out=Out(ctypes.c_void_p)),
        null=("context", "options"), expect=GROUP,
        more=lambda w, good: [
            ("w is not f32", dict(w=w.tensor([2, 4], 2)), ("DTYPE",), ""),
            ("w has three dimensions", dict(w=w.tensor([2, 2, 4])), ("SHAPE",), ""),
            ("w has a NaN", dict(w=w.tensor([1, 2], values=[1, float("nan")])), ("ARGUMENT",), "NaN"),
            ("w has an infinity", dict(w=w.tensor([1, 2], values=[1, float("inf")])), ("ARGUMENT",), "inf"),
        ],
    ),
    "setun_packed_matmul": Entry(
        lambda w: dict(packed=w["setun_packed"], x=w.tensor([3, 4]), y=w.tensor([3, 2])),
        more=lambda w, good: [
            ("x is not f32", dict(x=w.tensor([3, 4], 4)), ("DTYPE",), "x"),
            ("y is not f32", dict(y=w.tensor([3, 2], 1)), ("DTYPE",), "y"),
            ("x has other columns", dict(x=w.tensor([3, 5])), ("SHAPE",), "x"),
            ("y has other rows", dict(y=w.tensor([2, 2])), ("SHAPE",), "y"),
            ("y is x", dict(y=good["x"]), ("STATE",), "y"),
            ("x has a NaN", dict(x=w.tensor([1, 4], values=[0, 0, 0, float("nan")]), y=w.tensor([1, 2])), ("ARGUMENT",), "x"),
        ],
    ),
    "setun_packed_dequantize": Entry(
        lambda w: dict(packed=w["setun_packed"], w=w.tensor([2, 4])),
        more=lambda w, good: [
            ("w is not f32", dict(w=w.tensor([2, 4], 5)), ("DTYPE",), "w"),
            ("w has another shape", dict(w=w.tensor([4, 2])), ("SHAPE",), "w"),
        ],
    ),
    "setun_packed_scales": Entry(lambda w: dict(packed=w["setun_packed"], scales=Out("float"), count=1),
                                  expect={"count = 0": ("SHAPE",)}),
    "setun_packed_measure": Entry(
        lambda w: dict(packed=w["setun_packed"], w=w["setun_tensor"], report=w.filled("setun_quantize_report")),
        more=lambda w, good: [
            ("w is not f32", dict(w=w.tensor([2, 4], 5)), ("DTYPE",), "w"),
            ("w has another shape", dict(w=w.tensor([4, 2])), ("SHAPE",), "w"),
        ],
    ),
    "setun_packed_nbytes": Entry(lambda w: dict(packed=w["setun_packed"], out=Out("size_t"))),
    "setun_packed_free": Entry(lambda w: dict(packed=w.make("setun_packed"))),
    "setun_ternarize_gradients": Entry(
        lambda w: dict(g=weights(40), n=40, block=32, options=w.options("setun_quantize_options"),
                       error=InOuts("float", [0.5] * 40), packed=Out("uint8_t", 10), packed_size=InOut("size_t", 10),
                       scales=Out("float", 2)),
        null=OPTIONS, expect={**GROUP, "block = 0": ("ARGUMENT",), "block = INT64_MAX": ("ARGUMENT",)},
        more=lambda w, good: [
            ("block = 33", dict(block=33), ("ARGUMENT",), "block"),
            ("error has a NaN", dict(error=InOuts("float", [float("nan")] * 40)), ("ARGUMENT",), "error[0]"),
        ],
    ),
    "setun_deternarize_gradients": Entry(
        lambda w: dict(packed=In("uint8_t", [0x55] * 8), packed_size=8, scales=In("float", [0.5]), n=32, block=32,
                       options=w.options("setun_quantize_options"), g=Out("float", 32)),
        null=OPTIONS,
        expect={**GROUP, "block = 0": ("ARGUMENT",), "block = INT64_MAX": ("ARGUMENT",), "n = 0": ("SHAPE",)},
        more=lambda w, good: [("block = 33", dict(block=33), ("ARGUMENT",), "block")],
    ),
    # FILE
    "setun_file_create": Entry(lambda w: dict(out=Out(ctypes.c_void_p))),
    "setun_file_open": Entry(
        lambda w: dict(path=w.archive_file(), out=Out(ctypes.c_void_p)),
        more=lambda w, good: [("path is a text", dict(path=w.text), ("FORMAT",), "corpus.txt")],
    ),
    "setun_file_count": Entry(lambda w: dict(file=w["setun_file"], out=Out("int64_t"))),
    "setun_file_name": Entry(
        lambda w: dict(file=w["setun_file"], index=1, text=Out("char", 64), capacity=64, bytes=Out("size_t", kept=False)),
        null=("bytes",), expect={"capacity [-+] 1": ("OK",)},
    ),
    "setun_file_find": Entry(
        lambda w: dict(file=w["setun_file"], name=b"p", out=Out("int64_t")),
        more=lambda w, good: [("name = x", dict(name=b"x"), ("ARGUMENT",), "'x'")],
    ),
    "setun_file_describe": Entry(
        lambda w: dict(file=w["setun_file"], index=1, out=w.filled("setun_file_entry")),
        more=lambda w, good: [("index = 2", dict(index=2), ("ARGUMENT",), "index is 2")],
    ),
    "setun_file_read": Entry(
        lambda w: dict(file=w["setun_file"], index=0, out=Out(ctypes.c_void_p)),
        more=lambda w, good: [("index = 1", dict(index=1), ("ARGUMENT",), "p is packed")],
    ),
    "setun_file_read_packed": Entry(
        lambda w: dict(file=w["setun_file"], index=1, context=w["setun_context"], out=Out(ctypes.c_void_p)),
        null=("context",), expect={"index = 0": ("ARGUMENT",)},
    ),
    "setun_file_add": Entry(
        lambda w: dict(file=w.archive(), name=b"a", tensor=w["setun_tensor"]), fresh=True,
        more=lambda w, good: [("name = p_scale", dict(name=b"p_scale"), ("ARGUMENT",), "p_scale")],
    ),
    "setun_file_add_packed": Entry(
        lambda w: dict(file=w.archive(), name=b"a", packed=w["setun_packed"]), fresh=True,
        more=lambda w, good: [("name = t", dict(name=b"t"), ("ARGUMENT",), "'t'")],
    ),
    "setun_file_save": Entry(
        lambda w: dict(file=w["setun_file"], path=w.path("saved.safetensors"), bytes=Out("size_t")), null=("bytes",),
    ),
    "setun_file_free": Entry(lambda w: dict(file=w.make("setun_file"))),
    # CLUSTER
    "setun_kmeans_options_init": Entry(lambda w: {}),
    "setun_cluster": Entry(
        lambda w: dict(x=In("float", POINTS), n=4, d=2, k=2, options=w.options("setun_kmeans_options"),
                       labels=Out("int32_t", 4), centroids=Out("float", 4), inertia=Out("double")),
        null=("options", "labels", "centroids", "inertia"), expect=CLUSTERS,
        more=lambda w, good: [
            ("k = 5", dict(k=5), ("ARGUMENT",), "k"),
            ("n * d = 2^64", dict(n=1 << 40, d=1 << 24), ("ARGUMENT", "SHAPE"), ""),
            ("a negative weight", dict(options=w.options("setun_kmeans_options", weights=w.at((ctypes.c_float * 4)(1, 1, -1, 1)))), ("ARGUMENT",), "weight"),
            ("weights of 0", dict(options=w.options("setun_kmeans_options", weights=w.at((ctypes.c_float * 4)()))), ("ARGUMENT",), "weight"),
            ("no initial centroids", dict(options=w.options("setun_kmeans_options", start=2)), ("ARGUMENT",), "centroids"),
        ],
    ),
    "setun_kmeans_create": Entry(
        lambda w: dict(k=2, options=w.options("setun_kmeans_options"), out=Out(ctypes.c_void_p)), null=OPTIONS,
        expect={"k = INT64_MAX": ("OK", "ARGUMENT", "MEMORY", "SHAPE"), **CLUSTERS},
    ),
    "setun_kmeans_fit": Entry(
        lambda w: dict(kmeans=w["setun_kmeans"], x=In("float", POINTS), n=4, d=2, weights=In("float", [1, 2, 1, 1]),
                       labels=Out("int32_t", 4)),
        null=("weights", "labels"), expect=CLUSTERS,
    ),
    "setun_kmeans_partial_fit": Entry(
        lambda w: dict(kmeans=w["setun_kmeans"], x=In("float", POINTS), n=4, d=2, weights=In("float", [1, 2, 1, 1]),
                       labels=Out("int32_t", 4)),
        null=("weights", "labels"), expect={"n = 0": ("OK", "ARGUMENT"), **CLUSTERS},
        more=lambda w, good: [("d = 1", dict(d=1), ("SHAPE",), "")],
    ),
    "setun_kmeans_set_centroids": Entry(
        lambda w: dict(kmeans=w.make("setun_kmeans"), centroids=In("float", [0, 0, 1, 1]), d=2), expect=CLUSTERS
    ),
    "setun_kmeans_assign": Entry(
        lambda w: dict(kmeans=w["setun_kmeans"], x=In("float", POINTS), n=4, d=2, labels=Out("int32_t", 4),
                       distances=Out("float", 4)),
        null=("labels", "distances"), expect={"n = 0": ("OK",), **CLUSTERS},
        more=lambda w, good: [("d = 1", dict(d=1), ("SHAPE",), "")],
    ),
    "setun_kmeans_nearest": Entry(
        lambda w: dict(kmeans=w["setun_kmeans"], x=In("float", POINTS), n=4, d=2, m=2, labels=Out("int32_t", 8),
                       distances=Out("float", 8)),
        null=("labels", "distances"), expect={"n = 0": ("OK",), "m = 0": ("ARGUMENT",), **CLUSTERS},
        more=lambda w, good: [("m = 3", dict(m=3), ("ARGUMENT",), "m is 3"), ("d = 1", dict(d=1), ("SHAPE",), "")],
    ),
    "setun_kmeans_route": Entry(
        lambda w: dict(kmeans=w["setun_kmeans"], x=In("float", POINTS), n=4, d=2, m=2, sharpness=1.5,
                       labels=Out("int32_t", 8), weights=Out("float", 8)),
        null=("labels", "weights"), expect={"n = 0": ("OK",), "m = 0": ("ARGUMENT",), **CLUSTERS},
        more=lambda w, good: [("a negative sharpness", dict(sharpness=-1.0), ("ARGUMENT",), "sharpness is -1")],
    ),
    "setun_kmeans_shape": Entry(
        lambda w: dict(kmeans=w["setun_kmeans"], k=Out("int64_t"), d=Out("int64_t")), null=("k", "d")
    ),
    "setun_kmeans_centroids": Entry(
        lambda w: dict(kmeans=w["setun_kmeans"], centroids=Out("float", 4), count=4),
        expect={"count = 0": ("SHAPE",)},
    ),
    "setun_kmeans_inertia": Entry(lambda w: dict(kmeans=w["setun_kmeans"], out=Out("double"))),
    "setun_kmeans_last_report": Entry(lambda w: dict(kmeans=w["setun_kmeans"], out=w.filled("setun_kmeans_report"))),
    "setun_kmeans_free": Entry(lambda w: dict(kmeans=w.make("setun_kmeans"))),
    # TEXT VECTORS
    "setun_tfidf_options_init": Entry(lambda w: {}),
    "setun_tfidf_create": Entry(
        lambda w: dict(options=w.options("setun_tfidf_options"), out=Out(ctypes.c_void_p)), null=OPTIONS,
        expect={"options.dimensions = *": ("ARGUMENT",)},
        more=lambda w, good: [
            (f"{name} = {value}", dict(options=w.options("setun_tfidf_options", **{name: value})), ("ARGUMENT",), name)
            for name, value in [("ngrams", 0), ("ngrams", 3), ("dimensions", (1 << 20) + 1)]
        ],
    ),
    "setun_tfidf_fit": Entry(
        lambda w: dict(tfidf=w["setun_tfidf"], **DOCUMENTS), expect={"n = 0": ("ARGUMENT",), **READ},
        more=lambda w, good: [
            ("a document that ends first", dict(ends=In("int64_t", [9, 2])), ("ARGUMENT",), "document 1 is from 3 to 2"),
        ],
    ),
    "setun_tfidf_partial_fit": Entry(
        lambda w: dict(tfidf=w["setun_tfidf"], **DOCUMENTS), expect={"n = 0": ("ARGUMENT",), **READ},
    ),
    "setun_tfidf_transform": Entry(
        lambda w: dict(tfidf=w["setun_tfidf"], **DOCUMENTS, x=Out("float", 16)), expect=READ,
        more=lambda w, good: [
            ("nothing learned", dict(tfidf=w.setun.made("tfidf_create", None)), ("STATE",), "fit"),
            ("begins + 8 for ends", dict(begins=In("int64_t", [0, 3, 12]), ends=In("int64_t", [3, 12])), ("OK",), ""),
        ],
    ),
    "setun_tfidf_dimensions": Entry(lambda w: dict(tfidf=w["setun_tfidf"], out=Out("int64_t"))),
    "setun_tfidf_idf": Entry(
        lambda w: dict(tfidf=w["setun_tfidf"], idf=Out("float", 8), count=8), expect={"count = 0": ("SHAPE",)},
        more=lambda w, good: [("nothing learned", dict(tfidf=w.setun.made("tfidf_create", None)), ("STATE",), "fit")],
    ),
    "setun_tfidf_set_idf": Entry(
        lambda w: dict(tfidf=w.make("setun_tfidf"), idf=In("float", [1, 2, 0, 1, 1, 1, 1, 1.5]), count=8),
        expect={"count = 0": ("SHAPE",)},
        more=lambda w, good: [
            (f"idf[2] = {value}", dict(idf=In("float", [1, 1, value, 1, 1, 1, 1, 1])), ("ARGUMENT",), "idf[2]")
            for value in (-1, 1e-9, 1e9)
        ],
    ),
    "setun_tfidf_free": Entry(lambda w: dict(tfidf=w.make("setun_tfidf"))),
    "setun_text_windows": Entry(
        lambda w: dict(text=b"to be or not", bytes=12, window=4, stride=4, begins=Out("int64_t", 4), ends=Out("int64_t", 4),
                       capacity=4, count=Out("int64_t", kept=False)),
        expect={
            "bytes - 1": ("OK",), "bytes + 1": ("OK",), "window = 0": ("ARGUMENT",), "stride = 0": ("ARGUMENT",),
            "window = INT64_MAX": ("OK",), "stride = INT64_MAX": ("OK",), "capacity = 0": ("ARGUMENT",),
        },
        more=lambda w, good: [
            ("only counting", dict(begins=None, ends=None, capacity=0), ("OK",), ""),
            ("too little room", dict(capacity=2), ("ARGUMENT",), "capacity"),
        ],
    ),
    # CODEBOOK
    "setun_codebook_options_init": Entry(lambda w: {}),
    "setun_codebook_fit": Entry(
        lambda w: dict(x=In("float", POINTS), n=8, k=3, options=w.options("setun_codebook_options"),
                       entries=Out("float", 3), labels=Out("int32_t", 8), inertia=Out("double")),
        null=("options", "entries", "labels", "inertia"), expect={"[nk] = 0": ("ARGUMENT",)},
        more=lambda w, good: [
            ("k = 9", dict(k=9), ("ARGUMENT",), "more entries"),
            *((name, dict(options=w.options("setun_codebook_options", weights=w.at((ctypes.c_float * 8)(*weights)))),
               ("ARGUMENT",), "weight")
              for name, weights in [("a negative weight", [1, 1, -1, 1]), ("weights of 0", [])]),
        ],
    ),
    "setun_codebook_size": Entry(
        lambda w: dict(n=5, k=16, bytes=Out("size_t")), expect={"k = 0": ("ARGUMENT",)},
        more=lambda w, good: [("k = 257", dict(k=257), ("ARGUMENT",), "k is 257")],
    ),
    "setun_codebook_pack": Entry(
        lambda w: dict(context=w["setun_context"], x=In("float", POINTS), n=8, entries=In("float", [0, 4, 9]), k=3,
                       packed=Out("uint8_t", 4), packed_size=4),
        null=("context",), expect={"n = 0": ("SHAPE",), "k = 0": ("ARGUMENT",)},
        more=lambda w, good: [("entries that fall", dict(entries=In("float", [0, 9, 4])), ("ARGUMENT",), "ascend")],
    ),
    "setun_codebook_unpack": Entry(
        lambda w: dict(context=w["setun_context"], packed=In("uint8_t", [0x00, 0x10, 0x22, 0x12]), packed_size=4, n=8,
                       entries=In("float", [0, 4, 9]), k=3, y=Out("float", 8)),
        null=("context",), expect={"n = 0": ("SHAPE",), "k = 0": ("ARGUMENT",)},
        more=lambda w, good: [("a code of 3", dict(packed=In("uint8_t", [0, 0x30, 0, 0])), ("FORMAT",), "code 3 of packed is 3")],
    ),
    # STEP
    "setun_optimizer_options_init": Entry(lambda w: {}),
    "setun_parameter_options_init": Entry(lambda w: {}),
    "setun_step": Entry(
        lambda w: dict(parameters=In("float", [1, 2]), gradient=In("float", [0.5, -0.5]), n=2, moments=In("float", [0] * 4), step=1,
                       options=w.options("setun_optimizer_options"), report=w.filled("setun_step_report")),
        null=("options", "report"), fresh=True,
        expect={
            "step = 0": ("ARGUMENT",), "step = INT64_MAX": ("OK", "ARGUMENT"), **BOX,
            "the last of [pg]* = *": ("STATE",),  # refused, and counted in the report
            "n = INT64_MAX": ("ARGUMENT", "SHAPE"),
        },
    ),
    "setun_optimizer_create": Entry(
        lambda w: dict(options=w.options("setun_optimizer_options"), out=Out(ctypes.c_void_p)), null=OPTIONS, expect=BOX,
        more=lambda w, good: [
            (f"{name} = {value}", dict(options=w.options("setun_optimizer_options", **{name: value})), ("ARGUMENT",), name)
            for name, value in [("learning_rate", -1), ("beta1", 1), ("beta2", -0.1), ("epsilon", 0), ("epsilon", 2), ("clip", -1), ("radius", -1)]
        ],
    ),
    "setun_optimizer_add": Entry(
        lambda w: dict(optimizer=w.setun.made("optimizer_create", None), name=b"w", data=In("float", [1] * 8),
                       dims=In("int64_t", [2, 4]), rank=2, options=w.options("setun_parameter_options")),
        null=OPTIONS, fresh=True,
        expect={
            "options.* = NaN": ("OK",),  # what the optimizer's options say
            "options.method = -1": ("OK",),  # the same
            **BOX,
            "the last of data = *": ("OK",),  # looked at when it steps
            "data overlaps dims": ("OK",),  # the sizes are copied
        },
        more=lambda w, good: [
            ("rank = -1", dict(rank=-1), ("ARGUMENT",), "rank"),
            ("rank = 5", dict(rank=5), ("ARGUMENT",), "rank"),
            ("dims = 2^32 x 2^32", dict(dims=In("int64_t", [1 << 32, 1 << 32])), ("SHAPE",), ""),
            ("a name that is taken", dict(optimizer=w.optimizer(8)), ("ARGUMENT",), "w"),
            ("after the first step", dict(optimizer=w.stepped_optimizer(), name=b"v"), ("STATE",), ""),
        ],
    ),
    "setun_optimizer_step": Entry(
        lambda w: dict(optimizer=w["setun_optimizer"], gradients=w.pointers([0.5] * 8), count=1, report=w.filled("setun_step_report")),
        null=("report",), expect={"count = 0": ("ARGUMENT",)},
        more=lambda w, good: [
            ("a gradient is NULL", dict(gradients=w.at((ctypes.c_void_p * 8)())), ("ARGUMENT",), "NULL"),
            ("a gradient has a NaN", dict(gradients=w.pointers([0.5] * 7 + [float("nan")])), ("STATE",), "7"),
            ("a gradient has an infinity", dict(gradients=w.pointers([float("inf")] + [0.5] * 7)), ("STATE",), "0"),
            ("count = 2", dict(count=2), ("ARGUMENT",), "2"),
        ],
    ),
    "setun_optimizer_add_compact": Entry(
        lambda w: dict(optimizer=w.compact_optimizer(0), name=b"w", initial=In("float", [1] * 8), dims=In("int64_t", [2, 4]), rank=2,
                       options=w.options("setun_parameter_options")),
        null=OPTIONS, fresh=True,
        expect={
            "options.* = NaN": ("OK",),  # what the optimizer's options say
            "options.method = -1": ("OK",),  # the same
            **BOX,
            "initial overlaps dims": ("OK",),  # both are read
        },
        more=lambda w, good: [
            ("rank = -1", dict(rank=-1), ("ARGUMENT",), "rank"),
            ("rank = 1", dict(rank=1), ("SHAPE",), "dimensions"),
            ("dims = 2^32 x 2^32", dict(dims=In("int64_t", [1 << 32, 1 << 32])), ("ARGUMENT",), "dims"),
            ("no elements", dict(dims=In("int64_t", [0, 4])), ("SHAPE",), "no elements"),
            ("a name that is taken", dict(optimizer=w.compact_optimizer(1)), ("ARGUMENT",), "w"),
            ("states of floats", dict(optimizer=w.setun.made("optimizer_create", None)), ("ARGUMENT",), "not compact"),
        ],
    ),
    "setun_optimizer_read": Entry(
        lambda w: dict(optimizer=w["setun_optimizer"], index=0, out=Out("float", 8), count=8),
        expect={"count = 0": ("SHAPE",)},
        more=lambda w, good: [
            ("index = 1", dict(index=1), ("ARGUMENT",), "index"),
            ("count = 7", dict(count=7), ("SHAPE",), "7"),
        ],
    ),
    "setun_optimizer_step_guarded": Entry(
        lambda w: dict(optimizer=w["setun_optimizer"], gradients=w.pointers([0.5] * 8), count=1, loss=1.5,
                       report=w.filled("setun_step_report")),
        null=("report",),
        expect={
            "count = 0": ("ARGUMENT",),
            "loss = *": ("OK",),  # a batch that is skipped
        },
        more=lambda w, good: [
            ("a gradient is NULL", dict(gradients=w.at((ctypes.c_void_p * 8)())), ("ARGUMENT",), "NULL"),
            ("a gradient has a NaN", dict(gradients=w.pointers([0.5] * 7 + [float("nan")])), ("OK",), ""),  # skipped
            ("count = 2", dict(count=2), ("ARGUMENT",), "2"),
        ],
    ),
    "setun_optimizer_judge": Entry(
        lambda w: dict(optimizer=w.checked_optimizer(), before=In("float", [1, 2]), after=In("float", [0.5, 1]), n=2, undone=Out("int32_t")),
        null=("undone",), fresh=True,
        expect={
            "n = 0": ("ARGUMENT",),
            "the last of before = *": ("OK",),  # the step is undone
            "the last of after = *": ("OK",),
        },
        more=lambda w, good: [
            ("no step waits", dict(optimizer=w.stepped_optimizer()), ("STATE",), "no step waits"),
        ],
    ),
    "setun_optimizer_set_lr_net": Entry(
        lambda w: dict(optimizer=w.stepped_optimizer(), net=w["setun_lr_net"]), null=("net",),
    ),
    "setun_optimizer_lr_net": Entry(
        lambda w: dict(optimizer=w.adapted_optimizer(), out=Out(ctypes.c_void_p)),
        more=lambda w, good: [("no network", dict(optimizer=w.stepped_optimizer()), ("STATE",), "has no network")],
    ),
    "setun_optimizer_report": Entry(
        lambda w: dict(optimizer=w.stepped_optimizer(), index=0, out=w.filled("setun_step_report")),
        expect={"index = -1": ("OK",)},
        more=lambda w, good: [("index = 1", dict(index=1), ("ARGUMENT",), "index")],
    ),
    "setun_optimizer_radius": Entry(lambda w: dict(optimizer=w["setun_optimizer"], out=Out("double"))),
    "setun_optimizer_set_radius": Entry(
        lambda w: dict(optimizer=w["setun_optimizer"], radius=0.1), expect={"radius = NaN": ("OK",)}),
    "setun_optimizer_set_learning_rate": Entry(lambda w: dict(optimizer=w["setun_optimizer"], learning_rate=0.1)),
    "setun_optimizer_state_bytes": Entry(lambda w: dict(optimizer=w["setun_optimizer"], out=Out("size_t"))),
    "setun_optimizer_save": Entry(lambda w: dict(optimizer=w.stepped_optimizer(), path=w.path("saved-optimizer.safetensors"))),
    "setun_optimizer_load": Entry(lambda w: dict(optimizer=w.optimizer(8), path=w.optimizer_file())),
    "setun_optimizer_free": Entry(lambda w: dict(optimizer=w.make("setun_optimizer"))),
    # LR NET
    "setun_lr_net_options_init": Entry(lambda w: {}),
    "setun_lr_net_create": Entry(
        lambda w: dict(options=w.options("setun_lr_net_options"), out=Out(ctypes.c_void_p)), null=OPTIONS,
        more=lambda w, good: [
            (f"{name} = {value}", dict(options=w.options("setun_lr_net_options", **{name: value})), ("ARGUMENT",), name)
            for name, value in [("largest_factor", 0.5), ("largest_factor", 5), ("online_rate", -1), ("online_rate", 2)]
        ],
    ),
    "setun_lr_net_observe_loss": Entry(
        lambda w: dict(net=w["setun_lr_net"], loss=2.5), expect={"loss = *": ("OK",)},  # a NaN makes factors 1
    ),
    "setun_lr_net_factor": Entry(
        lambda w: dict(net=w["setun_lr_net"], index=0, observation=w.observation(), factor=Out("double")),
        expect={**NO_NUMBER, "index = INT64_MAX": ("ARGUMENT",)},
        more=lambda w, good: [("index = 65536", dict(index=65536), ("ARGUMENT",), "index is 65536")],
    ),
    "setun_lr_net_features": Entry(
        lambda w: dict(net=w["setun_lr_net"], observation=w.observation(), features=Out("double", 9)),
        expect=NO_NUMBER,
    ),
    "setun_lr_net_learn": Entry(
        lambda w: dict(net=w["setun_lr_net"], index=0, hypergradient=0.5),
        expect={"hypergradient = *": ("OK",), "index = INT64_MAX": ("ARGUMENT",)},
    ),
    "setun_lr_net_weights": Entry(
        lambda w: dict(net=w["setun_lr_net"], weights=Out("double", 133), count=133), expect={"count = 0": ("ARGUMENT",)},
        more=lambda w, good: [("count = 132", dict(count=132), ("ARGUMENT",), "count is 132")],
    ),
    "setun_lr_net_set_weights": Entry(
        lambda w: dict(net=w["setun_lr_net"], weights=In("double", [0.0] * 133), count=133), expect={"count = 0": ("ARGUMENT",)},
        more=lambda w, good: [
            ("count = 134", dict(count=134), ("ARGUMENT",), "count is 134"),
            ("a weight is 20", dict(weights=In("double", [0.0] * 132 + [20.0])), ("ARGUMENT",), "weights[132] is 20"),
        ],
    ),
    "setun_lr_net_save": Entry(lambda w: dict(net=w["setun_lr_net"], path=w.path("saved-lr-net.safetensors"))),
    "setun_lr_net_load": Entry(
        lambda w: dict(net=w["setun_lr_net"], path=w.lr_net_file()),
        more=lambda w, good: [("another file", dict(path=w.optimizer_file()), ("FORMAT",), "setun-lr-net")],
    ),
    "setun_lr_net_reset": Entry(lambda w: dict(net=w["setun_lr_net"])),
    "setun_lr_net_free": Entry(lambda w: dict(net=w.make("setun_lr_net"))),
    # PROBLEM
    "setun_problem_options_init": Entry(lambda w: {}),
    "setun_problem_create": Entry(
        lambda w: dict(n=2, objective=square, gradient=slope, product=twice, user_data=None, out=Out(ctypes.c_void_p)),
        null=("product", "user_data"), expect={"n = 0": ("ARGUMENT",)},
    ),
    "setun_problem_bounds": Entry(
        lambda w: dict(problem=w["setun_problem"], lower=In("double", [0, -1]), upper=In("double", [5, 6])),
        null=("lower", "upper"),
        expect={"the last of lower = -infinity": ("OK",), "the last of upper = infinity": ("OK",)},
        more=lambda w, good: [("lower above upper", dict(lower=In("double", [0, 7])), ("ARGUMENT",), "lower bound 1 is 7")],
    ),
    "setun_problem_ball": Entry(
        lambda w: dict(problem=w["setun_problem"], centre=In("double", [1, 2]), radius=9.0),
        more=lambda w, good: [("radius = 0", dict(radius=0.0), ("ARGUMENT",), "radius is 0")],
    ),
    "setun_problem_equalities": Entry(
        lambda w: dict(problem=w.make("setun_problem"), a=In("double", [1, 1]), b=In("double", [4]), m=1), fresh=True,
        more=lambda w, good: [("a contradiction", dict(a=In("double", [1, 1, 2, 2]), b=In("double", [1, 3]), m=2), ("ARGUMENT",), "imply")],
    ),
    "setun_problem_inequalities": Entry(
        lambda w: dict(problem=w.make("setun_problem"), a=In("double", [1, 1]), lower=In("double", [0]), upper=In("double", [4]), m=1),
        null=("lower", "upper"), fresh=True,
        expect={"the last of lower = -infinity": ("OK",), "the last of upper = infinity": ("OK",)},
    ),
    "setun_problem_solve": Entry(
        lambda w: dict(problem=w["setun_problem"], x=InOuts("double", [1, 1]), options=w.options("setun_problem_options"),
                       report=w.filled("setun_problem_report")),
        null=("options", "report"), expect={"options.maximum_radius = infinity": ("OK",)},
        more=lambda w, good: [
            ("x has a NaN", dict(x=InOuts("double", [1, float("nan")])), ("ARGUMENT",), "x 1 is NaN"),
            *((f"{name} = {value}", dict(options=w.options("setun_problem_options", **{name: value})), ("ARGUMENT",), name)
              for name, value in [("initial_radius", -1), ("maximum_radius", 0), ("gradient_tolerance", -1), ("feasibility_tolerance", 0)]),
        ],
    ),
    "setun_trust_region_subproblem": Entry(
        lambda w: dict(gradient=In("double", [1, 2]), hessian=In("double", [1, 0, 0, -1]), n=2, radius=1.0, step=Out("double", 2),
                       multiplier=Out("double"), value=Out("double")),
        null=("step", "multiplier", "value"), expect={"n = 0": ("ARGUMENT",)},
        more=lambda w, good: [("radius = 0", dict(radius=0.0), ("ARGUMENT",), "radius is 0")],
    ),
    "setun_problem_free": Entry(lambda w: dict(problem=w.make("setun_problem"))),
    # TEXT
    "setun_tokenizer_train": Entry(
        lambda w: dict(kind=2, path=w.text, vocabulary=270, out=Out(ctypes.c_void_p)),
        expect={
            "vocabulary = 0": ("ARGUMENT",),
            # More tokens than the text has pairs for: fewer are made.
            "vocabulary = INT64_MAX": ("OK",),
        },
    ),
    "setun_tokenizer_load": Entry(lambda w: dict(path=w.model_file(), out=Out(ctypes.c_void_p))),
    "setun_tokenizer_save": Entry(lambda w: dict(tokenizer=w["setun_tokenizer"], path=w.path("tokenizer.json"))),
    "setun_tokenizer_vocabulary": Entry(lambda w: dict(tokenizer=w["setun_tokenizer"], out=Out("int64_t"))),
    "setun_tokenizer_encode": Entry(
        lambda w: dict(tokenizer=w["setun_tokenizer"], text=b"to be", bytes=5, tokens=Out("uint32_t", 8), capacity=8,
                       count=Out("int64_t", kept=False)),
        expect={
            "bytes - 1": ("OK",),
            "bytes + 1": ("OK",),
            "capacity = 0": ("ARGUMENT",),
            "capacity = INT64_MAX": ("ARGUMENT",),
        },
        more=lambda w, good: [("only counting", dict(tokens=None, capacity=0), ("OK",), "")],
    ),
    "setun_tokenizer_decode": Entry(
        lambda w: dict(tokenizer=w["setun_tokenizer"], tokens=In("uint32_t", [65, 66, 67]), count=3,
                       text=Out("char", 8), capacity=8, bytes=Out("size_t", kept=False)),
        expect={"capacity - 1": ("OK",), "capacity + 1": ("OK",)},
        more=lambda w, good: [
            ("only counting", dict(text=None, capacity=0), ("OK",), ""),
            ("too little room", dict(capacity=2), ("ARGUMENT",), "capacity"),
        ],
    ),
    "setun_tokenizer_free": Entry(lambda w: dict(tokenizer=w.make("setun_tokenizer"))),
    "setun_dataset_open": Entry(
        lambda w: dict(path=w.text, tokenizer=w["setun_tokenizer"], validation_fraction=0.1, out=Out(ctypes.c_void_p)),
        more=lambda w, good: [
            (f"validation_fraction = {bad}", dict(validation_fraction=bad), ("ARGUMENT",), "validation")
            for bad in (-0.1, 1.0, 1e300)
        ],
    ),
    "setun_dataset_from_tokens": Entry(
        lambda w: dict(tokens=In("uint32_t", [1, 2, 3, 4]), count=4, vocabulary=8, validation_fraction=0.1,
                       out=Out(ctypes.c_void_p)),
        expect={"count = 0": ("ARGUMENT",), "vocabulary = 0": ("ARGUMENT",), "vocabulary = INT64_MAX": ("OK",)},
    ),
    "setun_dataset_tokens": Entry(lambda w: dict(dataset=w["setun_dataset"], split=0, out=Out("int64_t"))),
    "setun_dataset_batch": Entry(
        lambda w: dict(dataset=w["setun_dataset"], split=0, seed=1, step=2, batch=2, length=4,
                       tokens=Out("uint32_t", 8), targets=Out("uint32_t", 8)),
        expect={"length = 0": ("ARGUMENT",), "step = UINT64_MAX": ("ARGUMENT",)},
        more=lambda w, good: [
            ("length = 1700", dict(batch=1, length=1700, tokens=Out("uint32_t", 850), targets=Out("uint32_t", 850)), ("SHAPE",), "1700")
        ],
    ),
    "setun_dataset_free": Entry(lambda w: dict(dataset=w.make("setun_dataset"))),
    # MODEL
    "setun_model_options_init": Entry(lambda w: {}),
    "setun_save_options_init": Entry(lambda w: {}),
    "setun_model_create": Entry(
        lambda w: dict(context=w["setun_context"], options=w.options("setun_model_options", **SMALL),
                       out=Out(ctypes.c_void_p)),
        null=("context", "options"),
        expect={
            "options.struct_size = 0": ("ABI",), "options.kv_heads = 0": ("OK",), "options.hidden = 0": ("OK",), "options.* = 0": ("ARGUMENT",),
            "options.seed = 0": ("OK",),
        },
        more=lambda w, good: [
            ("width 15 and heads 2", dict(options=w.options("setun_model_options", **{**SMALL, "width": 15})), ("ARGUMENT",), "width"),
            ("everything as large as may be", dict(options=w.options("setun_model_options", width=1 << 24, hidden=1 << 24, vocabulary=1 << 24)), ("MEMORY",), ""),
            ("65537 layers", dict(options=w.options("setun_model_options", **{**SMALL, "layers": 65537})), ("ARGUMENT",), "layers"),
        ],
    ),
    "setun_model_load": Entry(
        lambda w: dict(context=w["setun_context"], path=w.model_file(), out=Out(ctypes.c_void_p)), null=("context",)
    ),
    "setun_model_copy": Entry(lambda w: dict(model=w["setun_model"], quantize_weights=1, out=Out(ctypes.c_void_p))),
    "setun_model_save": Entry(
        lambda w: dict(model=w["setun_model"], path=w.path("saved.safetensors"),
                       options=w.options("setun_save_options", tokenizer=w["setun_tokenizer"]),
                       report=w.filled("setun_file_report")),
        null=("options", "report"),
        expect={"options.rest = [2-9]*": ("ARGUMENT",)},
    ),
    "setun_model_describe": Entry(lambda w: dict(model=w["setun_model"], out=w.options("setun_model_options"))),
    "setun_model_parameters": Entry(lambda w: dict(model=w["setun_model"], out=Out("int64_t"))),
    "setun_model_tensor_count": Entry(
        lambda w: dict(model=w["setun_model"], out=Out("int64_t")),
        expect={"model is in use": None},  # the geometry does not change while it is trained
    ),
    "setun_model_tensor": Entry(
        lambda w: dict(model=w["setun_model"], index=1, name=Out(ctypes.c_void_p), out=Out(ctypes.c_void_p)),
        null=("name", "out"),
        more=lambda w, good: [("index = 1000", dict(index=1000), ("ARGUMENT",), "index")],
    ),
    "setun_model_forward": Entry(
        lambda w: dict(model=w["setun_model"], tokens=In("uint32_t", [1, 2, 3, 4]), batch=1, length=4,
                       logits=Out("float", 4 * 256)),
        expect={"batch = 0": ("ARGUMENT",), "length = 0": ("ARGUMENT",)},
        more=lambda w, good: [("length = 17", dict(length=17), ("SHAPE",), "length")],
    ),
    "setun_model_loss": Entry(
        lambda w: dict(model=w["setun_model"], tokens=In("uint32_t", [1, 2, 3, 4]), targets=In("uint32_t", [2, 3, 4, 5]),
                       batch=1, length=4, loss=Out("double")),
        expect={"batch = 0": ("ARGUMENT",), "length = 0": ("ARGUMENT",)},
    ),
    "setun_model_free": Entry(lambda w: dict(model=w.make("setun_model"))),
    # BACKWARD
    "setun_backward_options_init": Entry(lambda w: {}),
    "setun_model_tensor_describe": Entry(
        lambda w: dict(model=w["setun_model"], index=1, name=Out(ctypes.c_void_p), kind=Out("int32_t"), dims=Out("int64_t", 4),
                       rank=Out("int32_t")),
        null=("name", "kind", "dims", "rank"),
        expect={"model is in use": None},  # the geometry does not change while it is trained
        more=lambda w, good: [("index = 1000", dict(index=1000), ("ARGUMENT",), "index")],
    ),
    "setun_model_tensor_read": Entry(
        lambda w: dict(model=w["setun_model"], index=1, values=Out("float", 16), count=16),
        expect={"count = 0": ("SHAPE",), "index = 0": ("SHAPE",)},
        more=lambda w, good: [("index = 1000", dict(index=1000), ("ARGUMENT",), "index"), ("count = 15", dict(count=15), ("SHAPE",), "count")],
    ),
    "setun_model_tensor_write": Entry(
        lambda w: dict(model=w.model_to_change(), index=1, values=In("float", [1] * 16), count=16),
        expect={"count = 0": ("SHAPE",), "index = 0": ("SHAPE",)},
        more=lambda w, good: [
            ("index = 1000", dict(index=1000), ("ARGUMENT",), "index"),
            ("count = 17", dict(count=17), ("SHAPE",), "count"),
            ("a packed model", dict(model=w.setun.made("model_load", None, w.model_file())), ("UNSUPPORTED",), "packed"),
        ],
    ),
    "setun_model_backward": Entry(
        lambda w: dict(model=w.model_to_change(), tokens=In("uint32_t", [1, 2, 3, 4]), targets=In("uint32_t", [2, 3, 4, 5]),
                       batch=1, length=4, options=w.options("setun_backward_options"), loss=Out("double"),
                       gradients=w.gradients(), count=12),
        null=OPTIONS,
        expect={"batch = 0": ("ARGUMENT",), "length = 0": ("ARGUMENT",), "count = 0": ("ARGUMENT",),
                "options.step = UINT64_MAX": ("ARGUMENT",)},
        more=lambda w, good: [
            ("count = 11", dict(count=11), ("ARGUMENT",), "count"),
            ("length = 17", dict(length=17), ("SHAPE",), "length"),
            ("a gradient is NULL", dict(gradients=w.at((ctypes.c_void_p * 20)())), ("ARGUMENT",), "gradients[0] is NULL"),
            ("gradients overlap", dict(gradients=w.at((ctypes.c_void_p * 20)(*[w.kept_floats()] * 20))), ("ARGUMENT",), "overlaps gradients"),
            ("a packed model", dict(model=w.setun.made("model_load", None, w.model_file())), ("UNSUPPORTED",), "packed"),
        ],
    ),
    # TRAIN
    "setun_train_options_init": Entry(lambda w: {}),
    "setun_train": Entry(
        lambda w: dict(text=w.text,
                       options=w.options("setun_train_options", max_steps=1, batch_size=1, evaluation_windows=1,
                                         model=w.options("setun_model_options", **SMALL), context=w["setun_context"],
                                         cancel=w["setun_cancel"]),
                       model=Out(ctypes.c_void_p), tokenizer=Out(ctypes.c_void_p)),
        null=("options", "tokenizer"),
        expect={"options is NULL": None, **TRAINING},  # the defaults train for minutes
    ),
    "setun_trainer_create": Entry(
        lambda w: dict(model=w["setun_model"], dataset=w["setun_dataset"], tokenizer=w["setun_tokenizer"],
                       options=w.options("setun_train_options", max_steps=1), out=Out(ctypes.c_void_p)),
        null=("tokenizer", "options"), expect=TRAINING,
    ),
    "setun_trainer_step": Entry(
        lambda w: dict(trainer=w["setun_trainer"], out=w.filled("setun_metrics")), null=("out",)
    ),
    "setun_trainer_run": Entry(
        lambda w: dict(trainer=w.trainer(max_steps=1, checkpoint_dir=None), finished=Out("int32_t")),
        null=("finished",),
    ),
    "setun_trainer_evaluate": Entry(lambda w: dict(trainer=w["setun_trainer"], loss=Out("double"))),
    "setun_trainer_save": Entry(lambda w: dict(trainer=w["setun_trainer"])),
    "setun_trainer_resume": Entry(
        lambda w: dict(zip(("trainer", "checkpoint"), w.checkpoint()), allow_other_backend=0)
    ),
    "setun_trainer_metrics": Entry(lambda w: dict(trainer=w["setun_trainer"], out=w.filled("setun_metrics"))),
    "setun_trainer_cluster_losses": Entry(
        lambda w: dict(trainer=w["setun_trainer"], losses=Out("double", 64), sizes=Out("int64_t", 64), capacity=64,
                       clusters=Out("int64_t", kept=False)),
        null=("losses", "sizes", "clusters"), expect={"capacity = 0": ("SHAPE",)},
    ),
    "setun_trainer_free": Entry(lambda w: dict(trainer=w.make("setun_trainer"))),
    # GENERATE
    "setun_sample_options_init": Entry(lambda w: {}),
    "setun_sampler_create": Entry(
        lambda w: dict(model=w["setun_model"], options=w.options("setun_sample_options"), out=Out(ctypes.c_void_p)),
        null=OPTIONS,
    ),
    "setun_sampler_prompt": Entry(
        lambda w: dict(sampler=w["setun_sampler"], tokens=In("uint32_t", [65, 66]), count=2),
        expect={"count = 0": ("ARGUMENT",)},
    ),
    "setun_sampler_next": Entry(lambda w: dict(sampler=w.prompted_sampler(), token=Out("uint32_t"))),
    "setun_sampler_slid": Entry(lambda w: dict(sampler=w["setun_sampler"], out=Out("int32_t"))),
    "setun_sampler_free": Entry(lambda w: dict(sampler=w.make("setun_sampler"))),
    "setun_generate": Entry(
        lambda w: dict(model=w["setun_model"], tokenizer=w["setun_tokenizer"], prompt=b"to",
                       options=w.options("setun_sample_options", max_tokens=2), callback=TEXT_PIECE(lambda *_: 1),
                       user_data=None, slid=Out("int32_t")),
        null=("options", "user_data", "slid"),
        expect={"options.max_tokens = INT64_MAX": None},  # the callback has to stop it
        more=lambda w, good: [("prompt is empty", dict(prompt=b""), ("ARGUMENT",), "prompt")],
    ),
    # BENCHMARK
    "setun_benchmark_options_init": Entry(lambda w: {}),
    "setun_benchmark": Entry(
        lambda w: dict(options=w.options("setun_benchmark_options", filter=b"fill", seconds=1e-4, quick=1, ceilings=0,
                                         threads=1, cancel=w["setun_cancel"]),
                       callback=PROGRESS(lambda *_: 1), user_data=None),
        null=("options", "user_data"),
        expect={"options is NULL": None},  # the defaults measure for minutes
        more=lambda w, good: [
            (f"{name} = {bad}", dict(options=w.options("setun_benchmark_options", quick=1, **{name: bad})), ("ARGUMENT",), name)
            for name, bad in (("seconds", -1.0), ("seconds", 61.0), ("threads", -1), ("threads", 4097), ("filter", b"nothing"),
                              ("level", b"none"))
        ] + [("no row at all", dict(options=w.options("setun_benchmark_options", quick=1, scalar=0, simd=0, parallel=0, cuda=0)),
              ("ARGUMENT",), "scalar")],
    ),
}
