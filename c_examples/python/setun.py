"""Setun for Python: train, compress and run 1.58-bit (ternary) language models. One file over ctypes, no dependency.

    import setun

    model, tokenizer = setun.train("corpus.txt", max_steps=200, progress=lambda m: print(m.step, m.loss))
    model.save("model.safetensors", tokenizer=tokenizer)
    print(setun.generate(model, tokenizer, "Once", temperature=0.8))

What a call does, its shapes and units, is said in include/setun.h beside the function of the same name. Here holds:

Objects free their handle when they are closed, left as a context manager, or collected. Any thread may use them.
Errors are `setun.Error`: `.status` is a `Status`, the message the sentence of the library.
Arrays are whatever has the buffer protocol: NumPy arrays, array.array, memoryview, bytes, ctypes arrays. They go in
    without a copy and have to be contiguous, in row-major order, and of the element type that the call names. Lists of
    numbers are taken too, and copied. Results are NumPy arrays where NumPy is installed; without it array.array, flat
    and in row-major order.
Options are keyword arguments with the names of the fields of the C structs. An enum may be given by its name in lower
    case: schedule="linear".
Ctrl-C stops a training run within a fraction of a second, in the main thread, as any exception of a signal handler
    does: the run is saved when it has a checkpoint_dir, KeyboardInterrupt goes on, and the trainer can run on.
Callbacks may raise: the call ends as it does when it is told to stop, and the exception goes on to the caller.

The library is looked for in SETUN_LIBRARY (a path), beside this file, in ../../target/release, and where the system has its
libraries.
"""

import array as _array
import ctypes
import enum
import math as _math
import os
import sys
import threading
import types
from ctypes import POINTER, byref, c_char, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t, c_uint32
from ctypes import c_uint64, c_void_p
from typing import NamedTuple

try:
    import numpy as _numpy
except ImportError:
    _numpy = None


# --- the library ------------------------------------------------------------------------------------------------------


def _find():
    """Where the library may be, best first."""
    named = os.environ.get("SETUN_LIBRARY")
    if named:
        return [named]
    here = os.path.dirname(os.path.abspath(__file__))
    names = {"darwin": ["libsetun.dylib"], "win32": ["setun.dll"]}.get(sys.platform, ["libsetun.so.0", "libsetun.so"])
    folders = [here, os.path.join(here, "..", "..", "target", "release")]
    paths = [os.path.normpath(os.path.join(folder, name)) for folder in folders for name in names]
    return [path for path in paths if os.path.exists(path)] + names


def _load():
    failures = []
    for path in _find():
        try:
            return ctypes.CDLL(path)
        except OSError as error:
            failures.append(str(error))
    what = "build it with `make -C c_examples`, and set SETUN_LIBRARY to its path or put it beside setun.py"
    raise ImportError(f"libsetun is not found: {what}: " + "; ".join(failures))


_library = _load()


# --- enums ------------------------------------------------------------------------------------------------------------


class Status(enum.IntEnum):
    OK = 0
    ARGUMENT = -1
    SHAPE = -2
    DTYPE = -3
    DEVICE = -4
    MEMORY = -5
    IO = -6
    FORMAT = -7
    UNSUPPORTED = -8
    STATE = -9
    CANCELLED = -10
    ABI = -11
    INTERNAL = -99


class LogLevel(enum.IntEnum):
    ERROR = 0
    WARNING = 1
    INFO = 2
    DEBUG = 3


class Backend(enum.IntEnum):
    AUTO = 0
    SCALAR = 1
    SIMD = 2
    PARALLEL = 3
    CUDA = 4


class DType(enum.IntEnum):
    F32 = 0
    F16 = 1
    I8 = 2
    U8 = 3
    I32 = 4
    U32 = 5


class Packing(enum.IntEnum):
    TWO_BIT = 0
    FIVE_PER_BYTE = 1
    FULL = 2
    MASK_SIGN = 3


class GgufType(enum.IntEnum):
    TQ1_0 = 34
    TQ2_0 = 35


class Scheme(enum.IntEnum):
    ABSMEAN = 0
    ABSMEDIAN = 1
    LEAST_SQUARES = 2
    THRESHOLD = 3


class Rounding(enum.IntEnum):
    NEAREST = 0
    STOCHASTIC = 1


class KMeansStart(enum.IntEnum):
    PLUS_PLUS = 0
    RANDOM = 1
    GIVEN = 2
    SCALABLE = 3


class CodebookConstraint(enum.IntEnum):
    NONE = 0
    TERNARY = 1


class ParameterKind(enum.IntEnum):
    AUTO = 0
    TERNARY = 1
    MATRIX = 2
    VECTOR = 3


class RadiusMode(enum.IntEnum):
    OFF = 0
    CAP = 1
    EXACT = 2


class RadiusBase(enum.IntEnum):
    CURRENT = 0
    INITIAL = 1


class StepMethod(enum.IntEnum):
    OWN = -1
    ADAMW = 0
    MUON = 1
    MOMENTUM = 2


class StatePrecision(enum.IntEnum):
    F32 = 0
    INT8 = 1
    COMPACT = 2


class StepOutcome(enum.IntEnum):
    TAKEN = 0
    BAD_GRADIENT = 1
    BAD_PARAMETER = 2
    BAD_UPDATE = 3
    SKIPPED = 4


class Subproblem(enum.IntEnum):
    """How a Problem finds a step."""

    AUTO = 0
    STEIHAUG = 1
    EXACT = 2


class Termination(enum.IntEnum):
    """Why a solve ended."""

    GRADIENT = 0
    STEP = 1
    FUNCTION = 2
    MAX_ITERATIONS = 3
    MAX_EVALUATIONS = 4
    STOPPED = 5


class Split(enum.IntEnum):
    TRAIN = 0
    VALIDATION = 1


class TokenizerKind(enum.IntEnum):
    BYTE = 0
    CHARACTER = 1
    BPE = 2


class Multiplies(enum.IntEnum):
    NOTHING = 0
    F32 = 1
    INT8 = 2


class KvCache(enum.IntEnum):
    """setun_kv_cache"""
    F32 = 0
    INT8 = 1


class GradientProducts(enum.IntEnum):
    """In which numbers a gradient of a ternary layer is computed."""

    F32 = 0
    INT8 = 1


class GradientQuantization(enum.IntEnum):
    NONE = 0
    INT8 = 1
    TERNARY = 2


class Schedule(enum.IntEnum):
    COSINE = 0
    CONSTANT = 1
    LINEAR = 2
    STABLE = 3


def _choice(kind, value, name):
    """The number of an enum value, which may be given by its name."""
    if isinstance(value, str):
        try:
            return kind[value.upper()]
        except KeyError:
            names = ", ".join(member.name.lower() for member in kind)
            raise ValueError(f"{name} is {value!r}, expected one of {names}") from None
    return value


class Error(Exception):
    """What a call that failed raises."""

    def __init__(self, status, message):
        super().__init__(message)
        try:
            self.status = Status(status)
        except ValueError:  # of a newer library
            self.status = status


def _check(status):
    if status:
        raise Error(status, _library.setun_last_error().decode("utf-8", "replace"))


# --- the structs of the C interface -----------------------------------------------------------------------------------


class _Options(ctypes.Structure):
    """A struct that begins with struct_size and that its init function fills with the defaults."""

    _enums = {}
    _arrays = ()

    def __init__(self, **fields):
        super().__init__()
        # What a field points to lives as long as the struct.
        object.__setattr__(self, "_kept", {})
        self._init(byref(self), ctypes.sizeof(self))
        for name, value in fields.items():
            self._set(name, value)

    def _set(self, name, value):
        kind = dict(self._fields_).get(name)
        if kind is None or name == "struct_size":
            known = ", ".join(field for field, _ in self._fields_[1:])
            raise TypeError(f"{type(self).__name__} has no option {name!r}; there are {known}")
        if name in self._enums:
            value = _choice(self._enums[name], value, name)
        if kind is c_char_p and value is not None:
            value = _path(value, name)
        elif kind is c_void_p and value is not None:
            value = self._pointer(name, value)
        try:
            setattr(self, name, value)
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from None
        if kind in (c_int32, c_int64, c_uint64) and getattr(self, name) != value:
            raise OverflowError(f"{name} is {value}, which is not a {kind.__name__[2:]}")

    def _pointer(self, name, value):
        """The pointer to a handle or to a struct, which is kept alive."""
        self._kept[name] = value
        if isinstance(value, _Handle):
            return value._handle
        if isinstance(value, ctypes.Structure):
            return ctypes.addressof(value)
        if name in self._arrays:
            view = _view(value, "float32", name)
            memory = self._kept[name] = _Address(view) if view.nbytes else None
            return memory and memory.address
        raise TypeError(f"{name} is a {type(value).__name__}, expected an object of this module")

    def __repr__(self):
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name, _ in self._fields_[1:])
        return f"{type(self).__name__}({fields})"


class ContextOptions(_Options):
    _fields_ = [
        ("struct_size", c_size_t),
        ("backend", c_int32),
        ("device", c_int32),
        ("prefer_cuda", c_int32),
        ("prefer_parallel", c_int32),
        ("prefer_simd", c_int32),
        ("threads", c_int32),
        ("verbose", c_int32),
        ("benchmark_mode", c_int32),
        ("min_size_for_cuda", c_int64),
        ("min_size_for_parallel", c_int64),
    ]
    _enums = {"backend": Backend}


class QuantizeOptions(_Options):
    _fields_ = [
        ("struct_size", c_size_t),
        ("scheme", c_int32),
        ("packing", c_int32),
        ("context", c_void_p),
        ("group", c_int64),
        ("threshold", c_float),
        ("rounding", c_int32),
        ("seed", c_uint64),
    ]
    _enums = {"scheme": Scheme, "packing": Packing, "rounding": Rounding}


class ModelOptions(_Options):
    _fields_ = [
        ("struct_size", c_size_t),
        ("vocabulary", c_int64),
        ("context_length", c_int64),
        ("width", c_int64),
        ("layers", c_int64),
        ("heads", c_int64),
        ("kv_heads", c_int64),
        ("hidden", c_int64),
        ("ffn_gated", c_int32),
        ("rope_theta", c_double),
        ("norm_epsilon", c_double),
        ("dropout", c_double),
        ("tied_embedding", c_int32),
        ("quantize_weights", c_int32),
        ("seed", c_uint64),
        ("weight_threshold", c_double),
    ]


class SaveOptions(_Options):
    _fields_ = [("struct_size", c_size_t), ("packing", c_int32), ("rest", c_int32), ("tokenizer", c_void_p), ("codebook", c_int64)]
    _enums = {"packing": Packing, "rest": DType}


class _Result(ctypes.Structure):
    """A struct that a call fills; its struct_size says how large it is."""

    def __init__(self):
        super().__init__(ctypes.sizeof(self))

    def __repr__(self):
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name, _ in self._fields_[1:])
        return f"{type(self).__name__}({fields})"


class Statistics(_Result):
    """The arrays are indexed by Backend; at AUTO stands the sum."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("operation", c_char_p),
        ("calls", c_int64 * 5),
        ("elements", c_int64 * 5),
        ("seconds", c_double * 5),
        ("bytes", c_int64 * 5),
        ("multiplies", c_int64),
    ]


class QuantizeReport(_Result):
    _fields_ = [
        ("struct_size", c_size_t),
        ("relative_rmse", c_double),
        ("zero_fraction", c_double),
        ("entropy", c_double),
        ("scale_count", c_int64),
        ("bytes", c_size_t),
        ("bits_per_weight", c_double),
        ("ratio", c_double),
    ]


class KMeansReport(_Result):
    _fields_ = [
        ("struct_size", c_size_t),
        ("run", c_int64),
        ("iterations", c_int64),
        ("inertia", c_double),
        ("moved", c_int64),
        ("empty", c_int64),
        ("repaired", c_int64),
        ("converged", c_int32),
        ("stopped", c_int32),
    ]


class StepReport(_Result):
    _fields_ = [
        ("struct_size", c_size_t),
        ("outcome", c_int32),
        ("step", c_int64),
        ("learning_rate", c_double),
        ("gradient_norm", c_double),
        ("gradient_scale", c_double),
        ("step_rms", c_double),
        ("weight_rms", c_double),
        ("ratio", c_double),
        ("radius", c_double),
        ("held", c_int64),
        ("clamped", c_int64),
        ("refused_gradients", c_int64),
        ("refused_parameters", c_int64),
        ("refused_updates", c_int64),
        ("flips", c_int64),
        ("trits", c_int64),
        ("flip_share", c_double),
        ("cosine", c_double),
        ("signal", c_double),
        ("radius_factor", c_double),
        ("skipped", c_int64),
        ("undone", c_int64),
        ("check_due", c_int32),
        ("reserved", c_int32),
    ]


class LrNetObservation(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("kind", c_int32),
        ("relative_step", c_double),
        ("flip_rate", c_double),
        ("cosine", c_double),
        ("signal", c_double),
        ("progress", c_double),
    ]


class ProblemReport(_Result):
    _fields_ = [
        ("struct_size", c_size_t),
        ("f", c_double),
        ("projected_gradient", c_double),
        ("violation", c_double),
        ("radius", c_double),
        ("iterations", c_int64),
        ("objectives", c_int64),
        ("gradients", c_int64),
        ("products", c_int64),
        ("termination", c_int32),
        ("reserved", c_int32),
    ]


class FileEntry(_Result):
    _fields_ = [
        ("struct_size", c_size_t),
        ("is_packed", c_int32),
        ("dtype", c_int32),
        ("rank", c_int64),
        ("dims", c_int64 * 4),
        ("packing", c_int64),
        ("group", c_int64),
        ("scale_count", c_int64),
    ]


class BenchmarkResult(_Result):
    _fields_ = [
        ("struct_size", c_size_t),
        ("operation", c_char_p),
        ("sizes", c_char_p),
        ("backend_name", c_char_p),
        ("level", c_char_p),
        ("unit", c_char_p),
        ("ceiling", c_char_p),
        ("operations", c_double),
        ("bytes", c_double),
        ("seconds", c_double),
        ("median_seconds", c_double),
        ("rate", c_double),
        ("share", c_double),
        ("speedup", c_double),
        ("repeats", c_int64),
        ("call_size", c_int64),
        ("backend", c_int32),
        ("threads", c_int32),
        ("is_ceiling", c_int32),
        ("agrees", c_int32),
        ("difference", c_char_p),
    ]


class FileReport(_Result):
    _fields_ = [
        ("struct_size", c_size_t),
        ("parameters", c_int64),
        ("linear_parameters", c_int64),
        ("linear_bytes", c_int64),
        ("file_bytes", c_int64),
    ]


class Metrics(_Result):
    _fields_ = [
        ("struct_size", c_size_t),
        ("step", c_int64),
        ("total_steps", c_int64),
        ("epoch", c_double),
        ("loss", c_double),
        ("learning_rate", c_double),
        ("gradient_norm", c_double),
        ("validation_loss", c_double),
        ("tokens_per_second", c_double),
        ("elapsed_seconds", c_double),
        ("remaining_seconds", c_double),
        ("learning_rate_factor", c_double),
        ("flip_rate", c_double),
        ("step_ratio", c_double),
        ("radius_factor", c_double),
        ("skipped_batches", c_int64),
        ("undone_steps", c_int64),
    ]


_LogCallback = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)
_ProgressCallback = ctypes.CFUNCTYPE(c_int32, POINTER(Metrics), c_void_p)
_KMeansCallback = ctypes.CFUNCTYPE(c_int32, POINTER(KMeansReport), c_void_p)
_ProblemCallback = ctypes.CFUNCTYPE(c_int32, POINTER(ProblemReport), c_void_p)
_ObjectiveCallback = ctypes.CFUNCTYPE(c_int32, c_int64, POINTER(c_double), POINTER(c_double), c_void_p)
_GradientCallback = ctypes.CFUNCTYPE(c_int32, c_int64, POINTER(c_double), POINTER(c_double), c_void_p)
_ProductCallback = ctypes.CFUNCTYPE(c_int32, c_int64, *3 * [POINTER(c_double)], c_void_p)
_BenchmarkCallback = ctypes.CFUNCTYPE(c_int32, POINTER(BenchmarkResult), c_void_p)
_TextCallback = ctypes.CFUNCTYPE(c_int32, POINTER(c_char), c_size_t, c_void_p)


class KMeansOptions(_Options):
    _fields_ = [
        ("struct_size", c_size_t),
        ("start", c_int32),
        ("n_init", c_int64),
        ("max_iterations", c_int64),
        ("tolerance", c_double),
        ("seed", c_uint64),
        ("weights", c_void_p),
        ("initial_centroids", c_void_p),
        ("progress", _KMeansCallback),
        ("user_data", c_void_p),
        ("cancel", c_void_p),
        ("context", c_void_p),
        ("candidates", c_int64),
        ("capacity", c_int64),
        ("spherical", c_int32),
        ("reserved", c_int32),
    ]
    _enums = {"start": KMeansStart}
    _arrays = ("weights", "initial_centroids")


class TfidfOptions(_Options):
    _fields_ = [
        ("struct_size", c_size_t),
        ("dimensions", c_int64),
        ("ngrams", c_int32),
        ("lowercase", c_int32),
        ("sublinear", c_int32),
        ("seed", c_uint64),
        ("cancel", c_void_p),
        ("context", c_void_p),
    ]


class CodebookOptions(_Options):
    _fields_ = [
        ("struct_size", c_size_t),
        ("constraint", c_int32),
        ("max_iterations", c_int64),
        ("weights", c_void_p),
        ("cancel", c_void_p),
        ("context", c_void_p),
    ]
    _enums = {"constraint": CodebookConstraint}
    _arrays = ("weights",)


class OptimizerOptions(_Options):
    _fields_ = [
        ("struct_size", c_size_t),
        ("learning_rate", c_double),
        ("beta1", c_double),
        ("beta2", c_double),
        ("epsilon", c_double),
        ("weight_decay", c_double),
        ("clip", c_double),
        ("radius", c_double),
        ("radius_floor", c_double),
        ("vector_floor", c_double),
        ("lower", c_double),
        ("upper", c_double),
        ("radius_mode", c_int32),
        ("context", c_void_p),
        ("method", c_int32),
        ("states", c_int32),
        ("radius_base", c_int32),
        ("schedule", c_int32),
        ("total_steps", c_int64),
        ("warmup_steps", c_int64),
        ("minimum_lr_ratio", c_double),
        ("momentum", c_double),
        ("muon_rms", c_double),
        ("flip_budget", c_double),
        ("vector_radius", c_double),
        ("seed", c_uint64),
        ("nesterov", c_int32),
        ("reserved", c_int32),
        ("guard_interval", c_int64),
        ("guard_spike", c_double),
        ("guard_tolerance", c_double),
    ]
    _enums = {"radius_mode": RadiusMode, "method": StepMethod, "states": StatePrecision, "radius_base": RadiusBase,
              "schedule": Schedule}


class ParameterOptions(_Options):
    _fields_ = [
        ("struct_size", c_size_t),
        ("kind", c_int32),
        ("weight_decay", c_double),
        ("radius_floor", c_double),
        ("lower", c_double),
        ("upper", c_double),
        ("radius", c_double),
        ("method", c_int32),
        ("reserved", c_int32),
    ]
    _enums = {"kind": ParameterKind, "method": StepMethod}


class LrNetOptions(_Options):
    _fields_ = [("struct_size", c_size_t), ("largest_factor", c_double), ("online_rate", c_double)]


class ProblemOptions(_Options):
    _fields_ = [
        ("struct_size", c_size_t),
        ("initial_radius", c_double),
        ("maximum_radius", c_double),
        ("gradient_tolerance", c_double),
        ("step_tolerance", c_double),
        ("function_tolerance", c_double),
        ("feasibility_tolerance", c_double),
        ("max_iterations", c_int64),
        ("max_evaluations", c_int64),
        ("progress", _ProblemCallback),
        ("user_data", c_void_p),
        ("cancel", c_void_p),
        ("subproblem", c_int32),
        ("reserved", c_int32),
    ]
    _enums = {"subproblem": Subproblem}


class BenchmarkOptions(_Options):
    _fields_ = [
        ("struct_size", c_size_t),
        ("filter", c_char_p),
        ("level", c_char_p),
        ("cancel", c_void_p),
        ("seconds", c_double),
        ("threads", c_int32),
        ("scalar", c_int32),
        ("simd", c_int32),
        ("parallel", c_int32),
        ("ceilings", c_int32),
        ("quick", c_int32),
        ("parity", c_int32),
        ("cuda", c_int32),
    ]


class TrainOptions(_Options):
    _fields_ = [
        ("struct_size", c_size_t),
        ("batch_size", c_int64),
        ("max_epochs", c_int64),
        ("n_clusters", c_int64),
        ("learning_rate", c_double),
        ("quantize_weights", c_int32),
        ("quantize_gradients", c_int32),
        ("use_adaptive_lr", c_int32),
        ("checkpoint_dir", c_char_p),
        ("max_steps", c_int64),
        ("accumulation", c_int64),
        ("context_length", c_int64),
        ("schedule", c_int32),
        ("warmup_steps", c_int64),
        ("minimum_lr_ratio", c_double),
        ("weight_decay", c_double),
        ("beta1", c_double),
        ("beta2", c_double),
        ("epsilon", c_double),
        ("clip", c_double),
        ("seed", c_uint64),
        ("log_interval", c_int64),
        ("evaluation_interval", c_int64),
        ("evaluation_windows", c_int64),
        ("checkpoint_interval", c_int64),
        ("keep_checkpoints", c_int64),
        ("progress", _ProgressCallback),
        ("user_data", c_void_p),
        ("cancel", c_void_p),
        ("model", c_void_p),
        ("tokenizer", c_int32),
        ("vocabulary", c_int64),
        ("validation_fraction", c_double),
        ("context", c_void_p),
        ("cluster_balance", c_double),
        ("input_gradient", c_int32),
        ("weight_gradient", c_int32),
        ("activation_checkpointing", c_int32),
        ("method", c_int32),
        ("states", c_int32),
        ("radius_mode", c_int32),
        ("radius_base", c_int32),
        ("guard", c_int32),
        ("momentum", c_double),
        ("muon_rms", c_double),
        ("radius", c_double),
        ("flip_budget", c_double),
        ("vector_radius", c_double),
        ("guard_interval", c_int64),
        ("lr_net", c_void_p),
        ("teacher", c_void_p),
        ("distillation", c_double),
        ("gradient_release", c_int32),
        ("reserved", c_int32),
    ]
    _enums = {"schedule": Schedule, "tokenizer": TokenizerKind, "input_gradient": GradientProducts,
              "weight_gradient": GradientProducts, "method": StepMethod, "states": StatePrecision,
              "radius_mode": RadiusMode, "radius_base": RadiusBase}


class BackwardOptions(_Options):
    _fields_ = [
        ("struct_size", c_size_t),
        ("seed", c_uint64),
        ("step", c_uint64),
        ("input_gradient", c_int32),
        ("weight_gradient", c_int32),
        ("activation_checkpointing", c_int32),
        ("reserved", c_int32),
    ]
    _enums = {"input_gradient": GradientProducts, "weight_gradient": GradientProducts}


class SampleOptions(_Options):
    _fields_ = [
        ("struct_size", c_size_t),
        ("temperature", c_float),
        ("top_p", c_float),
        ("top_k", c_int64),
        ("seed", c_uint64),
        ("max_tokens", c_int64),
        ("kv_cache", c_int32),
        ("reserved", c_int32),
    ]
    _enums = {"kv_cache": KvCache}


#: The structs by their C names: a test compares their layout with the header's.
STRUCTS = {
    "setun_context_options": ContextOptions,
    "setun_statistics": Statistics,
    "setun_kmeans_options": KMeansOptions,
    "setun_kmeans_report": KMeansReport,
    "setun_tfidf_options": TfidfOptions,
    "setun_codebook_options": CodebookOptions,
    "setun_optimizer_options": OptimizerOptions,
    "setun_parameter_options": ParameterOptions,
    "setun_step_report": StepReport,
    "setun_lr_net_options": LrNetOptions,
    "setun_lr_net_observation": LrNetObservation,
    "setun_problem_options": ProblemOptions,
    "setun_problem_report": ProblemReport,
    "setun_benchmark_options": BenchmarkOptions,
    "setun_benchmark_result": BenchmarkResult,
    "setun_quantize_options": QuantizeOptions,
    "setun_quantize_report": QuantizeReport,
    "setun_file_entry": FileEntry,
    "setun_model_options": ModelOptions,
    "setun_save_options": SaveOptions,
    "setun_file_report": FileReport,
    "setun_backward_options": BackwardOptions,
    "setun_metrics": Metrics,
    "setun_train_options": TrainOptions,
    "setun_sample_options": SampleOptions,
}


# --- the functions ----------------------------------------------------------------------------------------------------

# Every function of setun.h but those of _SPECIAL returns a status. Handles, arrays and out parameters are `p`, pointers.
_p, _i, _n, _z, _u, _d, _f, _s = c_void_p, c_int32, c_int64, c_size_t, c_uint64, c_double, c_float, c_char_p
SIGNATURES = {
    "set_log": [_LogCallback, _p, _i],
    "cancel_create": [_p],
    "cancel_request": [_p],
    "cancel_reset": [_p],
    "context_create": [_p, _p],
    "context_backend": [_p, _p],
    "context_threads": [_p, _p],
    "context_level": [_p, _p],
    "context_explain": [_p, _s, _n, _p, _z, _p],
    "context_statistics": [_p, _n, _p],
    "context_reset_statistics": [_p],
    "device_count": [_p],
    "device_name": [_i, _p, _z, _p],
    "device_memory": [_i, _p, _p],
    "tensor_create": [_i, _p, _i, _p],
    "tensor_wrap": [_p, _i, _p, _i, _p],
    "tensor_dtype": [_p, _p],
    "tensor_dims": [_p, _p, _p],
    "tensor_nbytes": [_p, _p],
    "tensor_write": [_p, _p, _z],
    "tensor_read": [_p, _p, _z],
    "scale_count": [_n, _n, _n, _p],
    "pack_size": [_n, _n, _i, _p],
    "gguf_size": [_i, _n, _p],
    "gguf_encode": [_i, _p, _n, _p, _z],
    "gguf_decode": [_i, _p, _z, _n, _p],
    "quantize": [_p, _n, _n, _p, _p, _p, _p, _n],
    "quantize_measure": [_p, _n, _n, _p, _z, _p, _n, _p, _p],
    "dequantize": [_p, _z, _n, _n, _p, _n, _p, _p],
    "pack": [_p, _n, _n, _p, _p, _p],
    "unpack": [_p, _z, _n, _n, _p, _p],
    "quantize_activations": [_p, _n, _n, _p, _p, _p],
    "matmul": [_p, _n, _p, _z, _n, _n, _p, _n, _p, _p],
    "matmul_backward": [_p, _n, _p, _z, _n, _n, _p, _n, _p, _p],
    "quantize_gradients": [_p, _n, _n, _u, c_uint32, c_uint32, _p, _p, _p],
    "dequantize_gradients": [_p, _p, _n, _n, _p, _p],
    "trit_histogram": [_p, _z, _n, _n, _p, _p],
    "packed_create": [_p, _p, _p, _p],
    "packed_matmul": [_p, _p, _p],
    "packed_dequantize": [_p, _p],
    "packed_scales": [_p, _p, _n],
    "packed_measure": [_p, _p, _p],
    "packed_nbytes": [_p, _p],
    "ternarize_gradients": [_p, _n, _n, _p, _p, _p, _p, _p],
    "deternarize_gradients": [_p, _z, _p, _n, _n, _p, _p],
    "repack": [_p, _z, _n, _n, _i, _p, _p, _p],
    "file_create": [_p],
    "file_open": [_s, _p],
    "file_count": [_p, _p],
    "file_name": [_p, _n, _p, _z, _p],
    "file_find": [_p, _s, _p],
    "file_describe": [_p, _n, _p],
    "file_read": [_p, _n, _p],
    "file_read_packed": [_p, _n, _p, _p],
    "file_add": [_p, _s, _p],
    "file_add_packed": [_p, _s, _p],
    "file_save": [_p, _s, _p],
    "cluster": [_p, _n, _n, _n, _p, _p, _p, _p],
    "kmeans_create": [_n, _p, _p],
    "kmeans_fit": [_p, _p, _n, _n, _p, _p],
    "kmeans_partial_fit": [_p, _p, _n, _n, _p, _p],
    "kmeans_set_centroids": [_p, _p, _n],
    "kmeans_assign": [_p, _p, _n, _n, _p, _p],
    "kmeans_nearest": [_p, _p, _n, _n, _n, _p, _p],
    "kmeans_route": [_p, _p, _n, _n, _n, c_double, _p, _p],
    "kmeans_shape": [_p, _p, _p],
    "kmeans_centroids": [_p, _p, _n],
    "kmeans_inertia": [_p, _p],
    "kmeans_last_report": [_p, _p],
    "tfidf_create": [_p, _p],
    "tfidf_fit": [_p, _s, _z, _p, _p, _n],
    "tfidf_partial_fit": [_p, _s, _z, _p, _p, _n],
    "tfidf_transform": [_p, _s, _z, _p, _p, _n, _p],
    "tfidf_dimensions": [_p, _p],
    "tfidf_idf": [_p, _p, _n],
    "tfidf_set_idf": [_p, _p, _n],
    "text_windows": [_s, _z, _n, _n, _p, _p, _n, _p],
    "codebook_fit": [_p, _n, _n, _p, _p, _p, _p],
    "codebook_size": [_n, _n, _p],
    "codebook_pack": [_p, _p, _n, _p, _n, _p, _z],
    "codebook_unpack": [_p, _p, _z, _n, _p, _n, _p],
    "step": [_p, _p, _n, _p, _n, _p, _p],
    "optimizer_create": [_p, _p],
    "optimizer_add": [_p, _s, _p, _p, _i, _p],
    "optimizer_add_compact": [_p, _s, _p, _p, _i, _p],
    "optimizer_read": [_p, _n, _p, _n],
    "optimizer_step_guarded": [_p, _p, _n, _d, _p],
    "optimizer_judge": [_p, _p, _p, _n, _p],
    "optimizer_set_lr_net": [_p, _p],
    "optimizer_lr_net": [_p, _p],
    "optimizer_step": [_p, _p, _n, _p],
    "optimizer_report": [_p, _n, _p],
    "optimizer_radius": [_p, _p],
    "optimizer_set_radius": [_p, _d],
    "optimizer_set_learning_rate": [_p, _d],
    "optimizer_state_bytes": [_p, _p],
    "optimizer_save": [_p, _s],
    "optimizer_load": [_p, _s],
    "lr_net_create": [_p, _p],
    "lr_net_observe_loss": [_p, _d],
    "lr_net_factor": [_p, _n, _p, _p],
    "lr_net_features": [_p, _p, _p],
    "lr_net_learn": [_p, _n, _d],
    "lr_net_weights": [_p, _p, _n],
    "lr_net_set_weights": [_p, _p, _n],
    "lr_net_save": [_p, _s],
    "lr_net_load": [_p, _s],
    "lr_net_reset": [_p],
    "problem_create": [_n, _ObjectiveCallback, _GradientCallback, _ProductCallback, _p, _p],
    "problem_bounds": [_p, _p, _p],
    "problem_ball": [_p, _p, _d],
    "problem_equalities": [_p, _p, _p, _n],
    "problem_inequalities": [_p, _p, _p, _p, _n],
    "problem_solve": [_p, _p, _p, _p],
    "trust_region_subproblem": [_p, _p, _n, _d, _p, _p, _p],
    "benchmark": [_p, _BenchmarkCallback, _p],
    "tokenizer_train": [_i, _s, _n, _p],
    "tokenizer_load": [_s, _p],
    "tokenizer_save": [_p, _s],
    "tokenizer_vocabulary": [_p, _p],
    "tokenizer_encode": [_p, _s, _z, _p, _n, _p],
    "tokenizer_decode": [_p, _p, _n, _p, _z, _p],
    "dataset_open": [_s, _p, _d, _p],
    "dataset_from_tokens": [_p, _n, _n, _d, _p],
    "dataset_tokens": [_p, _i, _p],
    "dataset_batch": [_p, _i, _u, _u, _n, _n, _p, _p],
    "model_create": [_p, _p, _p],
    "model_load": [_p, _s, _p],
    "model_copy": [_p, c_int32, _p],
    "model_save": [_p, _s, _p, _p],
    "model_describe": [_p, _p],
    "model_parameters": [_p, _p],
    "model_tensor_count": [_p, _p],
    "model_tensor": [_p, _n, _p, _p],
    "model_forward": [_p, _p, _n, _n, _p],
    "model_loss": [_p, _p, _p, _n, _n, _p],
    "model_tensor_describe": [_p, _n, _p, _p, _p, _p],
    "model_tensor_read": [_p, _n, _p, _n],
    "model_tensor_write": [_p, _n, _p, _n],
    "model_backward": [_p, _p, _p, _n, _n, _p, _p, _p, _n],
    "train": [_s, _p, _p, _p],
    "trainer_create": [_p, _p, _p, _p, _p],
    "trainer_step": [_p, _p],
    "trainer_run": [_p, _p],
    "trainer_evaluate": [_p, _p],
    "trainer_save": [_p],
    "trainer_resume": [_p, _s, _i],
    "trainer_metrics": [_p, _p],
    "trainer_cluster_losses": [_p, _p, _p, _n, _p],
    "sampler_create": [_p, _p, _p],
    "sampler_prompt": [_p, _p, _n],
    "sampler_next": [_p, _p],
    "sampler_slid": [_p, _p],
    "generate": [_p, _p, _s, _p, _TextCallback, _p, _p],
}
_SPECIAL = {
    "version": (c_uint32, []),
    "version_string": (c_char_p, []),
    "build_info": (c_char_p, []),
    "status_name": (c_char_p, [_i]),
    "last_error": (c_char_p, []),
    "operation_count": (c_int64, []),
    "operation_name": (c_char_p, [_n]),
}
for _kind in (
    *("cancel", "context", "tensor", "packed", "file", "kmeans", "optimizer", "tokenizer", "dataset", "model", "trainer"),
    *("sampler", "tfidf", "lr_net", "problem"),
):
    _SPECIAL[_kind + "_free"] = (None, [_p])
for _kind in (
    *("context", "quantize", "kmeans", "codebook", "tfidf", "optimizer", "parameter", "benchmark", "model", "save"),
    *("train", "sample", "lr_net", "backward", "problem"),
):
    _SPECIAL[_kind + "_options_init"] = (None, [_p, _z])


def _declare():
    for name, arguments in SIGNATURES.items():
        function = getattr(_library, "setun_" + name)
        function.restype, function.argtypes = c_int32, arguments
    for name, (result, arguments) in _SPECIAL.items():
        function = getattr(_library, "setun_" + name)
        function.restype, function.argtypes = result, arguments
    for name, struct in STRUCTS.items():
        if issubclass(struct, _Options):
            struct._init = getattr(_library, name + "_init")


_declare()


# --- strings and arrays -----------------------------------------------------------------------------------------------


def _text(text, name):
    """A C string."""
    if not isinstance(text, str):
        raise TypeError(f"{name} is a {type(text).__name__}, expected a str")
    if "\0" in text:
        raise ValueError(f"{name} has a NUL at character {text.index(chr(0))}")
    return text.encode("utf-8")


def _path(path, name):
    """The same for a path: a str, bytes or path object."""
    try:
        path = os.fsencode(path)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    if b"\0" in path:
        raise ValueError(f"{name} has a NUL at byte {path.index(0)}")
    return path


# Element types as the struct module and array.array name them. A native long is 4 or 8 bytes: its size decides.
_CODES = {"float64": "d", "float32": "f", "float16": "e", "int8": "b", "uint8": "B", "int32": "i", "uint32": "I"}
_SIZES = {"float64": 8, "float32": 4, "float16": 2, "int8": 1, "uint8": 1, "int32": 4, "uint32": 4}
_SPELLINGS = {"d": "d", "f": "f", "e": "e", "b": "b", "B": "B", "i": "il", "I": "IL"}
_FORMATS = {
    (prefix + spelling, _SIZES[kind]): kind
    for kind, code in _CODES.items()
    for spelling in _SPELLINGS[code]
    for prefix in ("", "@", "=", "<")
}
_DTYPES = {
    DType.F32: "float32",
    DType.F16: "float16",
    DType.I8: "int8",
    DType.U8: "uint8",
    DType.I32: "int32",
    DType.U32: "uint32",
}


class _Py_buffer(ctypes.Structure):
    """CPython's Py_buffer, for the address of memory that may only be read."""

    _fields_ = [
        ("buf", c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", c_char_p),
        ("shape", c_void_p),
        ("strides", c_void_p),
        ("suboffsets", c_void_p),
        ("internal", c_void_p),
    ]


# Functions of this module's own: the attributes of pythonapi are everybody's.
_get_buffer = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, c_void_p, ctypes.c_int)(
    ("PyObject_GetBuffer", ctypes.pythonapi)
)
_release_buffer = ctypes.PYFUNCTYPE(None, c_void_p)(("PyBuffer_Release", ctypes.pythonapi))


class _ReadOnly:
    """Borrows memory that may only be read; as an argument it is its address."""

    def __init__(self, view):
        self._buffer = _Py_buffer()
        _get_buffer(view, byref(self._buffer), 0)
        self._as_parameter_ = c_void_p(self._buffer.buf)

    def __del__(self):
        _release_buffer(byref(self._buffer))


class _Address:
    """Borrows memory for a field of a struct."""

    def __init__(self, view):
        self._memory = _ReadOnly(view) if view.readonly else c_char.from_buffer(view)
        self.address = self._memory._buffer.buf if view.readonly else ctypes.addressof(self._memory)


def _view(array, kind, name):
    """The memory of an array of the given element type, contiguous. The array cannot change its size while it is used."""
    if isinstance(array, (list, tuple)):
        try:
            array = _array.array(_CODES[kind], array)
        except (TypeError, ValueError, OverflowError) as error:
            raise type(error)(f"{name}: {error}") from None
    try:
        view = memoryview(array)
    except TypeError:
        raise TypeError(f"{name} is a {type(array).__name__}, expected an array of {kind}") from None
    found = _FORMATS.get((view.format, view.itemsize))
    if found != kind:
        raise TypeError(f"{name} has elements of {found or repr(view.format)}, expected {kind}")
    if not view.c_contiguous:
        raise ValueError(f"{name} is not contiguous; make a copy of it first")
    return view


def _written(array, kind, name):
    """The view of an array that the call changes: a list would be copied, and the copy changed."""
    if isinstance(array, (list, tuple)):
        raise TypeError(f"{name} is a {type(array).__name__}, expected an array that can be written")
    return _view(array, kind, name)


def _memory(view, name=None):
    """A pointer to the memory of a view, as an argument. With a name it is to be written."""
    if not view.nbytes:
        return None
    if not view.readonly:
        return byref(c_char.from_buffer(view))
    if name:
        raise ValueError(f"{name} is read-only")
    return _ReadOnly(view)


def _count(view):
    return view.nbytes // view.itemsize


def _number(kind, value, name):
    """A number as an argument; ctypes would not say which argument is none."""
    try:
        return kind(value)
    except TypeError:
        raise TypeError(f"{name} is a {type(value).__name__}, expected a number") from None


def _matrix(view, name, rows=None, columns=None):
    """The sizes [rows, columns] of a view of rank 2, or of a flat one with the sizes given."""
    if rows is None and columns is None:
        if view.ndim != 2:
            raise ValueError(f"{name} has {view.ndim} dimensions, expected 2, or rows and columns beside it")
        return view.shape
    if view.ndim == 2 and any(size not in (None, there) for size, there in zip((rows, columns), view.shape)):
        raise ValueError(f"{name} has the shape {tuple(view.shape)}, expected that of rows={rows}, columns={columns}")
    count = _count(view)
    if rows is None or columns is None:
        known = columns if rows is None else rows
        other = count // known if known > 0 else 0
        rows, columns = (other, columns) if rows is None else (rows, other)
    if rows * columns != count:
        raise ValueError(f"{name} has {count} elements, expected {rows} * {columns}")
    return rows, columns


def _made(shape, kind):
    """A new array, for a result."""
    if _numpy is not None:
        return _numpy.empty(shape, kind)
    return _array.array(_CODES[kind], bytes(_SIZES[kind] * _math.prod(shape)))


def _out(array):
    return _memory(memoryview(array))


# --- handles ----------------------------------------------------------------------------------------------------------


class _Handle:
    """An object of the library. Used after `close`, it is an error that says so: handles are never reused."""

    _free = None
    _handle = None
    _open = False

    def _take(self, create, *arguments):
        """Calls what makes the handle; its place is the last argument."""
        out = c_void_p()
        _check(create(*arguments, byref(out)))
        self._handle, self._open = out.value, True

    @classmethod
    def _of(cls, handle):
        made = cls.__new__(cls)
        made._handle, made._open = handle, True
        return made

    def close(self):
        """Frees the handle; a second time does nothing."""
        if self._open:
            self._open = False
            self._free(self._handle)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        self.close()


def _said(kind, function, *arguments):
    """The one result of a call."""
    out = kind()
    _check(function(*arguments, byref(out)))
    return out.value


class _Stopper:
    """Hands a Python callback to C. An exception stops the call, and `rethrow` raises it after that."""

    def __init__(self):
        self._exception = None

    def call(self, function, *arguments):
        if self._exception is not None:
            return 0
        try:
            return 0 if function(*arguments) is False else 1
        except BaseException as exception:
            self._exception = exception
            return 0

    def rethrow(self):
        exception, self._exception = self._exception, None
        if exception is not None:
            raise exception


def _interruptible(call, stop):
    """Runs `call` so that Ctrl-C is heard while it is in the library.

    Python runs signal handlers in the main thread between two of its own instructions, and there are none while a call
    takes its time. So the call runs in a thread, and the main thread waits. When the wait is interrupted, `stop` is called,
    the call is waited for, so that nothing goes on behind the caller's back, and the exception goes on. A second Ctrl-C
    does not wait.
    """
    if threading.current_thread() is not threading.main_thread():
        return call()
    done, outcome = threading.Event(), []

    def work():
        try:
            outcome.append((call(), None))
        except BaseException as exception:
            outcome.append((None, exception))
        finally:
            done.set()

    threading.Thread(target=work, name="setun", daemon=True).start()
    try:
        done.wait()
    except BaseException:
        if stop is not None:
            stop()
            done.wait()
        raise
    result, exception = outcome.pop()
    if exception is not None:
        raise exception
    return result


# --- library ----------------------------------------------------------------------------------------------------------


def version():
    """The version of the library: (major, minor, patch)."""
    number = _library.setun_version()
    return number >> 16, number >> 8 & 0xFF, number & 0xFF


def build_info():
    """One line for a bug report."""
    return _library.setun_build_info().decode()


_log_function = None


@_LogCallback
def _log(level, message, _):
    function = _log_function
    if function is not None:
        function(LogLevel(level), message.decode("utf-8", "replace"))


def set_log(function, level=LogLevel.WARNING):
    """Sends log messages up to `level` to `function(level, message)`, from any thread; None ends it."""
    global _log_function
    level = _choice(LogLevel, level, "level")
    if function is None:
        _check(_library.setun_set_log(_LogCallback(), None, level))
        _log_function = None
    else:
        _log_function = function
        _check(_library.setun_set_log(_log, None, level))


class Cancel(_Handle):
    """A flag that any thread may raise to stop a training run."""

    _free = _library.setun_cancel_free

    def __init__(self):
        self._take(_library.setun_cancel_create)

    def request(self):
        _check(_library.setun_cancel_request(self._handle))

    def reset(self):
        _check(_library.setun_cancel_reset(self._handle))


# --- context ----------------------------------------------------------------------------------------------------------


class Context(_Handle):
    """Where calls run. Everything that takes a context takes None too: the default one of the process."""

    _free = _library.setun_context_free

    def __init__(self, **options):
        self._take(_library.setun_context_create, byref(ContextOptions(**options)))

    @property
    def backend(self):
        return Backend(_said(c_int32, _library.setun_context_backend, self._handle))

    @property
    def threads(self):
        out = c_int32()
        _check(_library.setun_context_threads(self._handle, byref(out)))
        return out.value

    @property
    def level(self):
        return _said(c_char_p, _library.setun_context_level, self._handle).decode()

    @classmethod
    def default(cls):
        """That of the process."""
        return cls.__new__(cls)

    def explain(self, operation=None, size=-1):
        """What would run a call of an operation, one of `operations()`, and why; None: the context as a whole."""
        operation = None if operation is None else _text(operation, "operation")
        return _sentence(_library.setun_context_explain, self._handle, operation, size)

    def statistics(self):
        """What has run: a Statistics for each operation that was called."""
        found = {}
        for index, name in enumerate(operations()):
            out = Statistics()
            _check(_library.setun_context_statistics(self._handle, index, byref(out)))
            if out.calls[Backend.AUTO]:
                found[name] = out
        return found

    def reset_statistics(self):
        _check(_library.setun_context_reset_statistics(self._handle))


def _sentence(function, *arguments):
    """A text that is written into room of ours."""
    size = c_size_t()
    _check(function(*arguments, None, 0, byref(size)))
    text = ctypes.create_string_buffer(size.value + 64)  # it may have become longer
    _check(function(*arguments, text, len(text), byref(size)))
    return text.value.decode("utf-8", "replace")


def operations():
    """The names of the operations."""
    return [_library.setun_operation_name(index).decode() for index in range(_library.setun_operation_count())]


def device_count():
    """How many NVIDIA GPUs there are."""
    return _said(c_int32, _library.setun_device_count)


def device_name(device):
    return _sentence(_library.setun_device_name, device)


def device_memory(device):
    """Bytes: (free, total)."""
    free, total = c_size_t(), c_size_t()
    _check(_library.setun_device_memory(device, byref(free), byref(total)))
    return free.value, total.value


def _context(context):
    """The argument for a context; not every NULL is one that was left out."""
    if context is None:
        return None
    if not isinstance(context, Context):
        raise TypeError(f"context is a {type(context).__name__}, expected a Context")
    return context._handle


def _object(value, kind, name):
    if not isinstance(value, kind):
        raise TypeError(f"{name} is a {type(value).__name__}, expected a {kind.__name__}")
    return value._handle


# --- tensor -----------------------------------------------------------------------------------------------------------


def _dims(shape):
    dims = (c_int64 * len(shape))(*shape)
    return (dims if shape else None), len(shape)


class Tensor(_Handle):
    """An array that handles work on: over the memory of an array, which is not copied and may be written."""

    _free = _library.setun_tensor_free

    def __init__(self, array):
        view = memoryview(array)
        kind = _FORMATS.get((view.format, view.itemsize))
        dtype = next((dtype for dtype, name in _DTYPES.items() if name == kind), None)
        if dtype is None:
            raise TypeError(f"array has elements of {view.format!r}, expected one of {', '.join(_SIZES)}")
        view = _view(array, kind, "array")
        memory = _memory(view, "array")
        # Alive as long as the tensor: C works on this memory.
        self._array, self._memory = array, memory
        self._take(_library.setun_tensor_wrap, memory, dtype, *_dims(view.shape))

    @classmethod
    def _made(cls, function, *arguments):
        made = cls.__new__(cls)
        made._take(function, *arguments)
        return made

    @classmethod
    def zeros(cls, dtype, shape):
        """A tensor with memory of its own."""
        made = cls.__new__(cls)
        made._take(_library.setun_tensor_create, _choice(DType, dtype, "dtype"), *_dims(tuple(shape)))
        return made

    @property
    def dtype(self):
        return DType(_said(c_int32, _library.setun_tensor_dtype, self._handle))

    @property
    def shape(self):
        dims, rank = (c_int64 * 4)(), c_int32()
        _check(_library.setun_tensor_dims(self._handle, dims, byref(rank)))
        return tuple(dims[: rank.value])

    @property
    def nbytes(self):
        return _said(c_size_t, _library.setun_tensor_nbytes, self._handle)

    def write(self, array):
        """Copies all elements in."""
        view = _view(array, _DTYPES[self.dtype], "array")
        _check(_library.setun_tensor_write(self._handle, _memory(view), view.nbytes))

    def read(self):
        """A copy of all elements."""
        dtype = self.dtype
        if dtype == DType.F16 and _numpy is None:
            raise TypeError("array.array has no elements of float16; NumPy is needed to read them")
        array = _made(self.shape, _DTYPES[dtype])
        _check(_library.setun_tensor_read(self._handle, _out(array), memoryview(array).nbytes))
        return array


# --- quantize ---------------------------------------------------------------------------------------------------------


# For `group`: one scale a row.
GROUP_ROW = -1


class Quantized(NamedTuple):
    """A matrix [rows, columns] as packed trits and scales: one of the matrix, or one for every `group` columns of a row."""

    packed: object
    scales: object
    rows: int
    columns: int
    packing: Packing
    group: int = 0

    @property
    def scale(self):
        """The scale, where there is one."""
        if _count(_view(self.scales, "float32", "scales")) != 1:
            raise ValueError(f"the matrix has a scale for every {self.group} columns, not one")
        return self.scales[0]


def scale_count(rows, columns, group=0):
    return _said(c_int64, _library.setun_scale_count, rows, columns, group)


def pack_size(rows, columns, packing=Packing.TWO_BIT):
    return _said(c_size_t, _library.setun_pack_size, rows, columns, _choice(Packing, packing, "packing"))


# NULL for the defaults: filling a struct costs more than a small call.
def _quantize_options(options):
    return QuantizeOptions(**options) if options else None


def _packing(options):
    return Packing(options.packing) if options is not None else Packing.TWO_BIT


def _pointer(options):
    return byref(options) if options is not None else None


def _for(quantized, context):
    """What is packed, and the options for its packing."""
    view = _view(quantized.packed, "uint8", "packed")
    options = None
    if context is not None or quantized.packing != Packing.TWO_BIT or quantized.group != 0:
        options = QuantizeOptions(packing=quantized.packing, context=context, group=quantized.group)
    return view, options


def _group(options):
    return options.group if options is not None else 0


def _used(packed, size):
    """As much of the room as was used."""
    return packed if size.value == memoryview(packed).nbytes else packed[: size.value]


def quantize(weights, rows=None, columns=None, **options):
    """Weights, float32 [rows, columns], to packed trits and scales. Options: scheme, packing, context,
    group, threshold, rounding, seed."""
    view = _view(weights, "float32", "weights")
    rows, columns = _matrix(view, "weights", rows, columns)
    options = _quantize_options(options)
    packing, group, size = _packing(options), _group(options), c_size_t()
    _check(_library.setun_pack_size(rows, columns, packing, byref(size)))
    count = 1 if group == 0 else scale_count(rows, columns, group)
    packed, scales = _made((size.value,), "uint8"), _made((count,), "float32")
    pointer, out = _pointer(options), _out(packed)
    _check(_library.setun_quantize(_memory(view), rows, columns, pointer, out, byref(size), _out(scales), count))
    return Quantized(_used(packed, size), scales, rows, columns, packing, group)


def quantize_measure(weights, quantized, context=None):
    """What quantizing cost: a QuantizeReport of the float32 weights that were quantized."""
    packed, options = _for(quantized, context)
    scales, view = _view(quantized.scales, "float32", "scales"), _view(weights, "float32", "weights")
    _matrix(view, "weights", quantized.rows, quantized.columns)
    report = QuantizeReport()
    _check(
        _library.setun_quantize_measure(
            _memory(view),
            quantized.rows,
            quantized.columns,
            _memory(packed),
            packed.nbytes,
            _memory(scales),
            _count(scales),
            _pointer(options),
            byref(report),
        )
    )
    return report


def dequantize(quantized, context=None):
    """scale * trits, float32 [rows, columns]."""
    packed, options = _for(quantized, context)
    scales = _view(quantized.scales, "float32", "scales")
    weights = _made((quantized.rows, quantized.columns), "float32")
    _check(
        _library.setun_dequantize(
            _memory(packed),
            packed.nbytes,
            quantized.rows,
            quantized.columns,
            _memory(scales),
            _count(scales),
            _pointer(options),
            _out(weights),
        )
    )
    return weights


def pack(trits, rows=None, columns=None, scale=1.0, **options):
    """Trits of yours, int8 [rows, columns], packed."""
    view = _view(trits, "int8", "trits")
    rows, columns = _matrix(view, "trits", rows, columns)
    options = _quantize_options(options)
    size = c_size_t(pack_size(rows, columns, _packing(options)))
    packed, scales = _made((size.value,), "uint8"), _made((1,), "float32")
    scales[0] = scale
    _check(_library.setun_pack(_memory(view), rows, columns, _pointer(options), _out(packed), byref(size)))
    return Quantized(_used(packed, size), scales, rows, columns, _packing(options))


def unpack(quantized, context=None):
    """The trits, int8 [rows, columns]."""
    packed, options = _for(quantized, context)
    trits = _made((quantized.rows, quantized.columns), "int8")
    _check(
        _library.setun_unpack(
            _memory(packed), packed.nbytes, quantized.rows, quantized.columns, _pointer(options), _out(trits)
        )
    )
    return trits


def gguf_encode(weights, type="tq2_0"):
    """Blocks of GGUF, uint8, of weights, float32, a multiple of 256 of them. Weights that `Quantized.dequantize` made keep
    their trits."""
    view, size = _view(weights, "float32", "weights"), c_size_t()
    kind, count = _choice(GgufType, type, "type"), view.nbytes // 4
    _check(_library.setun_gguf_size(kind, count, byref(size)))
    blocks = _made((size.value,), "uint8")
    _check(_library.setun_gguf_encode(kind, _memory(view), count, _out(blocks), size.value))
    return blocks


def gguf_decode(blocks, count, type="tq2_0"):
    """The inverse: `count` weights, float32."""
    view, weights = _view(blocks, "uint8", "blocks"), _made((count,), "float32")
    _check(_library.setun_gguf_decode(_choice(GgufType, type, "type"), _memory(view), view.nbytes, count, _out(weights)))
    return weights


def repack(quantized, packing, context=None):
    """The same matrix in another packing."""
    view = _view(quantized.packed, "uint8", "packed")
    packing = _choice(Packing, packing, "packing")
    options = QuantizeOptions(packing=packing, context=context)
    size = c_size_t(pack_size(quantized.rows, quantized.columns, packing))
    out = _made((size.value,), "uint8")
    _check(
        _library.setun_repack(
            _memory(view),
            view.nbytes,
            quantized.rows,
            quantized.columns,
            quantized.packing,
            byref(options),
            _out(out),
            byref(size),
        )
    )
    return quantized._replace(packed=_used(out, size), packing=Packing(packing))


def quantize_activations(x, rows=None, columns=None, context=None):
    """x, float32 [m, k], to codes, int8 [m, k], and the scale of each row, float32 [m]."""
    view = _view(x, "float32", "x")
    m, k = _matrix(view, "x", rows, columns)
    options = QuantizeOptions(context=context) if context is not None else None
    codes, scales = _made((m, k), "int8"), _made((m,), "float32")
    _check(_library.setun_quantize_activations(_memory(view), m, k, _pointer(options), _out(codes), _out(scales)))
    return codes, scales


def _product(function, x, name, quantized, inner, outer, context):
    view = _view(x, "float32", name)
    packed, options = _for(quantized, context)
    scales = _view(quantized.scales, "float32", "scales")
    m, _ = _matrix(view, name, None, inner)
    if view.ndim > 1 and view.shape[-1] != inner:
        raise ValueError(f"{name} has {view.shape[-1]} columns, the matrix has {inner}")
    y = _made((*view.shape[:-1], outer) if view.ndim > 1 else (m, outer), "float32")
    _check(
        function(
            _memory(view),
            m,
            _memory(packed),
            packed.nbytes,
            quantized.rows,
            quantized.columns,
            _memory(scales),
            _count(scales),
            _pointer(options),
            _out(y),
        )
    )
    return y


def matmul(x, quantized, context=None):
    """y, float32 [.., rows], of x, float32 [.., columns]: a linear layer. A flat x is [m, columns]."""
    return _product(_library.setun_matmul, x, "x", quantized, quantized.columns, quantized.rows, context)


def matmul_backward(dy, quantized, context=None):
    """dx, float32 [.., columns], of dy, float32 [.., rows]: the gradient of `matmul`."""
    return _product(_library.setun_matmul_backward, dy, "dy", quantized, quantized.rows, quantized.columns, context)


def quantize_gradients(g, block=256, seed=0, step=0, tensor=0, context=None):
    """A gradient, float32 [n], to codes, int8 [n], and a scale for every `block` elements, float32 [ceil(n / block)]."""
    view = _view(g, "float32", "g")
    n = _count(view)
    options = QuantizeOptions(context=context) if context is not None else None
    codes, scales = _made((n,), "int8"), _made((-(-n // block) if block > 0 else 0,), "float32")
    out = _out(codes), _out(scales)
    _check(_library.setun_quantize_gradients(_memory(view), n, block, seed, step, tensor, _pointer(options), *out))
    return codes, scales


def dequantize_gradients(codes, scales, block=256, context=None):
    """scale * code, float32 [n]."""
    view, factors = _view(codes, "int8", "codes"), _view(scales, "float32", "scales")
    n = _count(view)
    _fits(scales, -(-n // block) if block > 0 else 0, "scales")
    options = QuantizeOptions(context=context) if context is not None else None
    g = _made((n,), "float32")
    memory = _memory(view), _memory(factors)
    _check(_library.setun_dequantize_gradients(*memory, n, block, _pointer(options), _out(g)))
    return g


def ternarize_gradients(g, error, block=256, context=None):
    """A gradient, float32 [n], with what the last one left over, to packed trits and a scale for every `block` elements. What
    is left over now replaces `error`, float32 [n]."""
    view, owed = _view(g, "float32", "g"), _written(error, "float32", "error")
    n = _count(view)
    _fits(error, n, "error")
    options = QuantizeOptions(context=context) if context is not None else None
    size = c_size_t(-(-n // 4))
    packed, scales = _made((size.value,), "uint8"), _made((-(-n // block) if block > 0 else 0,), "float32")
    out = _memory(owed), _out(packed), byref(size), _out(scales)
    _check(_library.setun_ternarize_gradients(_memory(view), n, block, _pointer(options), *out))
    return packed, scales


def deternarize_gradients(packed, scales, n, block=256, context=None):
    """scale * trit, float32 [n]."""
    view, factors = _view(packed, "uint8", "packed"), _view(scales, "float32", "scales")
    _fits(scales, -(-n // block) if block > 0 else 0, "scales")
    options = QuantizeOptions(context=context) if context is not None else None
    g = _made((n,), "float32")
    memory = _memory(view), view.nbytes, _memory(factors)
    _check(_library.setun_deternarize_gradients(*memory, n, block, _pointer(options), _out(g)))
    return g


def trit_histogram(quantized, context=None):
    """How many trits are -1, 0 and +1."""
    packed, options = _for(quantized, context)
    counts = (c_int64 * 3)()
    _check(
        _library.setun_trit_histogram(
            _memory(packed), packed.nbytes, quantized.rows, quantized.columns, _pointer(options), counts
        )
    )
    return tuple(counts)


class Packed(_Handle):
    """A packed weight matrix, checked once: for products again and again."""

    _free = _library.setun_packed_free

    def __init__(self, weights, context=None, **options):
        if not isinstance(weights, Tensor):
            weights = _borrowed(weights, "weights")
        self._shape = weights.shape
        options = QuantizeOptions(**options)
        self._group = options.group
        self._take(_library.setun_packed_create, _context(context), weights._handle, byref(options))

    def matmul(self, x):
        """y, float32 [.., rows], of x, float32 [.., columns]."""
        x = x if isinstance(x, Tensor) else _borrowed(x, "x")
        y = Tensor.zeros(DType.F32, (*x.shape[:-1], self._shape[0]))
        _check(_library.setun_packed_matmul(self._handle, x._handle, y._handle))
        return y.read()

    def dequantize(self):
        """scale * trits, float32 [rows, columns]."""
        out = Tensor.zeros(DType.F32, self._shape)
        _check(_library.setun_packed_dequantize(self._handle, out._handle))
        return out.read()

    @property
    def scales(self):
        """float32: one, or one for every group."""
        rows, columns = self._shape
        count = scale_count(rows, columns, self._group)
        scales = _made((count,), "float32")
        _check(_library.setun_packed_scales(self._handle, _out(scales), count))
        return scales

    @property
    def nbytes(self):
        return _said(c_size_t, _library.setun_packed_nbytes, self._handle)

    def measure(self, weights):
        """What packing these weights, float32 [rows, columns], cost: a QuantizeReport."""
        weights = weights if isinstance(weights, Tensor) else _borrowed(weights, "weights")
        report = QuantizeReport()
        _check(_library.setun_packed_measure(self._handle, weights._handle, byref(report)))
        return report


class File(_Handle):
    """Packed matrices and tensors by name: of a .npy or .safetensors file, or, without a path, of one to be saved."""

    _free = _library.setun_file_free

    def __init__(self, path=None):
        if path is None:
            self._take(_library.setun_file_create)
        else:
            self._take(_library.setun_file_open, _path(path, "path"))

    def __len__(self):
        return _said(c_int64, _library.setun_file_count, self._handle)

    def names(self):
        return [_sentence(_library.setun_file_name, self._handle, index) for index in range(len(self))]

    def _index(self, name):
        return _said(c_int64, _library.setun_file_find, self._handle, _text(name, "name"))

    def describe(self, name):
        """A FileEntry."""
        entry = FileEntry()
        _check(_library.setun_file_describe(self._handle, self._index(name), byref(entry)))
        return entry

    def read(self, name):
        """A Tensor: floats of any width as float32, integers as they are."""
        return Tensor._made(_library.setun_file_read, self._handle, self._index(name))

    def read_packed(self, name, context=None):
        """A Packed."""
        index = self._index(name)
        entry = FileEntry()
        _check(_library.setun_file_describe(self._handle, index, byref(entry)))
        packed = Packed.__new__(Packed)
        packed._take(_library.setun_file_read_packed, self._handle, index, _context(context))
        packed._shape, packed._group = tuple(entry.dims[:2]), entry.group
        return packed

    def add(self, name, value):
        """Adds a copy of a Packed, a Tensor, or an array of float32."""
        name = _text(name, "name")
        if isinstance(value, Packed):
            _check(_library.setun_file_add_packed(self._handle, name, value._handle))
        else:
            value = value if isinstance(value, Tensor) else Tensor(value)
            _check(_library.setun_file_add(self._handle, name, value._handle))

    def save(self, path):
        """Writes a .safetensors file, and returns its size in bytes."""
        size = c_size_t()
        _check(_library.setun_file_save(self._handle, _path(path, "path"), byref(size)))
        return size.value


def _borrowed(array, name):
    """A tensor over float32 memory that C only reads."""
    view = _view(array, "float32", name)
    tensor = Tensor.__new__(Tensor)
    tensor._array, tensor._memory = array, _memory(view)
    tensor._take(_library.setun_tensor_wrap, tensor._memory, DType.F32, *_dims(view.shape))
    return tensor


# --- cluster ----------------------------------------------------------------------------------------------------------


class _Run:
    """What a long call needs on the Python side: its options, the callback, and the token that stops it."""

    def __init__(self, options, report, progress, cancel):
        if cancel is not None:
            _object(cancel, Cancel, "cancel")
        self.token = cancel if cancel is not None else Cancel()
        self.stopper = _Stopper()
        self.options = options
        options._set("cancel", self.token)
        if progress is not None:
            if not callable(progress):
                raise TypeError(f"progress is a {type(progress).__name__}, expected a function")
            stopper = self.stopper

            def hear(pointer, _):
                return stopper.call(progress, report.from_buffer_copy(pointer.contents))

            options.progress = dict(options._fields_)["progress"](hear)

    def __call__(self, call):
        """Runs a call that the token stops; one that Ctrl-C has stopped can be made again."""
        interrupted, ended = [], []

        def stop():
            interrupted.append(True)
            self.token.request()

        def whole():
            try:
                return call()
            finally:
                ended.append(True)
                if interrupted:
                    self.token.reset()

        try:
            result = _interruptible(whole, stop)
        except Error:
            self.stopper.rethrow()
            raise
        finally:
            # After a second Ctrl-C the call may still be running, and has yet to see the token.
            if interrupted and ended:
                self.token.reset()
        self.stopper.rethrow()
        return result


class Clustering(NamedTuple):
    """The cluster of each point, int32 [n]; centroids, float32 [k, d]; the sum of weight * squared distance."""

    labels: object
    centroids: object
    inertia: float


def _fits(array, count, name):
    if array is not None and _count(_view(array, "float32", name)) != count:
        raise ValueError(f"{name} has {_count(_view(array, 'float32', name))} elements, expected {count}")


def cluster(x, k, weights=None, initial_centroids=None, rows=None, columns=None, progress=None, cancel=None, **options):
    """Exact k-means of the points x, float32 [n, d]. `progress(report)` is called after every iteration; when it returns
    False the clustering stops with what there is. The options are those of KMeansOptions."""
    view = _view(x, "float32", "x")
    n, d = _matrix(view, "x", rows, columns)
    _fits(weights, n, "weights")
    _fits(initial_centroids, k * d, "initial_centroids")
    options = KMeansOptions(weights=weights, initial_centroids=initial_centroids, **options)
    run = _Run(options, KMeansReport, progress, cancel)
    labels, centroids, inertia = _made((n,), "int32"), _made((max(k, 0), d), "float32"), c_double()
    memory, outputs = _memory(view), (_out(labels), _out(centroids), byref(inertia))
    run(lambda: _check(_library.setun_cluster(memory, n, d, k, byref(options), *outputs)))
    return Clustering(labels, centroids, inertia.value)


class KMeans(_Handle):
    """A k-means of k clusters. The options are those of KMeansOptions, but for the arrays."""

    _free = _library.setun_kmeans_free

    def __init__(self, k, progress=None, cancel=None, **options):
        self._run = _Run(KMeansOptions(**options), KMeansReport, progress, cancel)
        self._take(_library.setun_kmeans_create, k, byref(self._run.options))

    def fit(self, x, weights=None, rows=None, columns=None):
        """Fits the centroids to the points x, float32 [n, d]; returns their labels, int32 [n]."""
        return self._fit(_library.setun_kmeans_fit, x, weights, rows, columns)

    def partial_fit(self, x, weights=None, rows=None, columns=None):
        """Takes the points x as a batch of a stream: each centroid becomes the mean of all points that it was given. Returns
        their labels by the centroids before."""
        return self._fit(_library.setun_kmeans_partial_fit, x, weights, rows, columns)

    def _fit(self, call, x, weights, rows, columns):
        view = _view(x, "float32", "x")
        n, d = _matrix(view, "x", rows, columns)
        _fits(weights, n, "weights")
        labels = _made((n,), "int32")
        given = None if weights is None else _memory(_view(weights, "float32", "weights"))
        memory, out = _memory(view), _out(labels)
        self._run(lambda: _check(call(self._handle, memory, n, d, given, out)))
        return labels

    def assign(self, x, rows=None, columns=None):
        """The nearest centroid of each point, int32 [n], and its squared distance, float32 [n]."""
        view = _view(x, "float32", "x")
        n, d = _matrix(view, "x", rows, columns)
        labels, distances = _made((n,), "int32"), _made((n,), "float32")
        memory = _memory(view)
        _check(_library.setun_kmeans_assign(self._handle, memory, n, d, _out(labels), _out(distances)))
        return labels, distances

    def nearest(self, x, m, rows=None, columns=None):
        """The m nearest centroids of each point, int32 [n, m], nearest first, and their squared distances, float32."""
        return self._look_up(x, m, rows, columns, lambda *out: _library.setun_kmeans_nearest(self._handle, *out))

    def route(self, x, m, sharpness, rows=None, columns=None):
        """The m nearest centroids of each point, int32 [n, m], nearest first, and weights, float32 [n, m], that fall as
        distance^-sharpness and add up to 1."""

        def route(memory, n, d, m, *out):
            return _library.setun_kmeans_route(self._handle, memory, n, d, m, sharpness, *out)

        return self._look_up(x, m, rows, columns, route)

    def _look_up(self, x, m, rows, columns, call):
        view = _view(x, "float32", "x")
        n, d = _matrix(view, "x", rows, columns)
        if not 1 <= m <= self.shape[0]:
            raise ValueError(f"m is {m}, expected 1 to k, which is {self.shape[0]}")
        labels, numbers = _made((n, m), "int32"), _made((n, m), "float32")
        memory = _memory(view)
        _check(call(memory, n, d, m, _out(labels), _out(numbers)))
        return labels, numbers

    @property
    def shape(self):
        """k and d; d is 0 while there are no centroids."""
        k, d = c_int64(), c_int64()
        _check(_library.setun_kmeans_shape(self._handle, byref(k), byref(d)))
        return k.value, d.value

    @property
    def centroids(self):
        """A copy of them, float32 [k, d]."""
        k, d = self.shape
        centroids = _made((k, d), "float32")
        _check(_library.setun_kmeans_centroids(self._handle, _out(centroids), k * d))
        return centroids

    def set_centroids(self, centroids, columns=None):
        view = _view(centroids, "float32", "centroids")
        k = self.shape[0]
        _, d = _matrix(view, "centroids", None if columns is None else k, columns)
        _fits(centroids, k * d, "centroids")
        _check(_library.setun_kmeans_set_centroids(self._handle, _memory(view), d))

    @property
    def inertia(self):
        return _said(c_double, _library.setun_kmeans_inertia, self._handle)

    @property
    def report(self):
        """How the last fit ended: a KMeansReport."""
        out = KMeansReport()
        _check(_library.setun_kmeans_last_report(self._handle, byref(out)))
        return out


# --- text vectors -----------------------------------------------------------------------------------------------------


def _documents(texts):
    """The bytes of all texts, how many those are, where each begins and ends, and how many there are."""
    if isinstance(texts, (str, bytes, bytearray)):
        raise TypeError(f"texts is a {type(texts).__name__}, expected a list of them")
    parts = [text.encode("utf-8") if isinstance(text, str) else bytes(memoryview(text)) for text in texts]
    offsets, end = (c_int64 * (len(parts) + 1))(), 0
    for i, part in enumerate(parts):
        end += len(part)
        offsets[i + 1] = end
    # Each ends where the next one begins.
    return b"".join(parts), end, byref(offsets), byref(offsets, ctypes.sizeof(c_int64)), len(parts)


class Tfidf(_Handle):
    """Texts, each a str or bytes, as points for KMeans: hashed TF-IDF vectors. The options are those of TfidfOptions."""

    _free = _library.setun_tfidf_free

    def __init__(self, cancel=None, **options):
        self._run = _Run(TfidfOptions(**options), None, None, cancel)
        self._take(_library.setun_tfidf_create, byref(self._run.options))

    def fit(self, texts):
        """Learns how rare terms are from a list of texts; what was learned before is forgotten."""
        documents = _documents(texts)
        self._run(lambda: _check(_library.setun_tfidf_fit(self._handle, *documents)))

    def partial_fit(self, texts):
        """Learns from more texts."""
        documents = _documents(texts)
        self._run(lambda: _check(_library.setun_tfidf_partial_fit(self._handle, *documents)))

    def transform(self, texts):
        """The vectors of a list of texts, float32 [n, dimensions], each of length 1; of one without a word, zeros."""
        documents = _documents(texts)
        x = _made((documents[-1], self.dimensions), "float32")
        out = _out(x)
        self._run(lambda: _check(_library.setun_tfidf_transform(self._handle, *documents, out)))
        return x

    @property
    def dimensions(self):
        return _said(c_int64, _library.setun_tfidf_dimensions, self._handle)

    @property
    def idf(self):
        """The weight of each dimension, float32 [dimensions]: with it, another vectorizer of the same options gives the same
        vectors."""
        idf = _made((self.dimensions,), "float32")
        _check(_library.setun_tfidf_idf(self._handle, _out(idf), len(idf)))
        return idf

    @idf.setter
    def idf(self, weights):
        view = _view(weights, "float32", "idf")
        _check(_library.setun_tfidf_set_idf(self._handle, _memory(view), _count(view)))


def text_windows(text, window, stride=None):
    """Cuts a text, a str or bytes, into windows of about `window` bytes of UTF-8 that start about every `stride` bytes, side by
    side unless it is given; a list of parts of the text. No word is cut."""
    data = text.encode("utf-8") if isinstance(text, str) else bytes(memoryview(text))
    arguments = (data, len(data), window, window if stride is None else stride)
    count = _said(c_int64, _library.setun_text_windows, *arguments, None, None, 0)
    begins, ends = (c_int64 * count)(), (c_int64 * count)()
    if count:
        _said(c_int64, _library.setun_text_windows, *arguments, begins, ends, count)
    parts = [data[begin:end] for begin, end in zip(begins, ends)]
    return [part.decode("utf-8") for part in parts] if isinstance(text, str) else parts


# --- codebook ---------------------------------------------------------------------------------------------------------


class Codebook(NamedTuple):
    """Ascending entries, float32 [k]; the label of each number, int32 [n]; the sum of weight * squared error."""

    entries: object
    labels: object
    inertia: float


def codebook_fit(x, k, weights=None, cancel=None, **options):
    """The k entries that the numbers x, float32, are best written by. The options are those of CodebookOptions."""
    view = _view(x, "float32", "x")
    n = _count(view)
    _fits(weights, n, "weights")
    run = _Run(CodebookOptions(weights=weights, **options), None, None, cancel)
    entries, labels, inertia = _made((max(k, 0),), "float32"), _made((n,), "int32"), c_double()
    memory, outputs = _memory(view), (_out(entries), _out(labels), byref(inertia))
    run(lambda: _check(_library.setun_codebook_fit(memory, n, k, byref(run.options), *outputs)))
    return Codebook(entries, labels, inertia.value)


def codebook_size(n, k):
    """The bytes that n codes of k entries take."""
    return _said(c_size_t, _library.setun_codebook_size, n, k)


def codebook_pack(x, entries, context=None):
    """The codes of the nearest entries, uint8: two a byte for up to 16 entries, else one."""
    view, table = _view(x, "float32", "x"), _view(entries, "float32", "entries")
    n, k = _count(view), _count(table)
    packed = _made((codebook_size(n, k),), "uint8")
    size = memoryview(packed).nbytes
    _check(_library.setun_codebook_pack(_context(context), _memory(view), n, _memory(table), k, _out(packed), size))
    return packed


def codebook_unpack(packed, n, entries, context=None):
    """The inverse: the entries of n codes, float32 [n]."""
    view, table = _view(packed, "uint8", "packed"), _view(entries, "float32", "entries")
    y, k = _made((max(n, 0),), "float32"), _count(table)
    _check(
        _library.setun_codebook_unpack(_context(context), _memory(view), view.nbytes, n, _memory(table), k, _out(y))
    )
    return y


# --- step -------------------------------------------------------------------------------------------------------------


def step(parameters, gradient, moments, step, **options):
    """One step of parameters, float32 [n], in place; moments, float32 [2, n], are what the steps so far have left, and
    0 before the first. `step` counts from 1. The options are those of OptimizerOptions."""
    view, slope = _written(parameters, "float32", "parameters"), _view(gradient, "float32", "gradient")
    kept, n, report = _written(moments, "float32", "moments"), _count(view), StepReport()
    _fits(gradient, n, "gradient")
    _fits(moments, 2 * n, "moments")
    memory = _memory(view, "parameters"), _memory(slope), n, _memory(kept, "moments")
    options = byref(OptimizerOptions(**options)) if options else None
    _check(_library.setun_step(*memory, _number(c_int64, step, "step"), options, byref(report)))
    return report


class Optimizer(_Handle):
    """Steps many parameters as one. The options are those of OptimizerOptions."""

    _free = _library.setun_optimizer_free

    def __init__(self, **options):
        self._memory, self._sizes = [], []
        self._take(_library.setun_optimizer_create, byref(OptimizerOptions(**options)))

    def add(self, name, data, **options):
        """A parameter: an array of float32, which is not copied and which the steps change. Options: ParameterOptions."""
        view = _written(data, "float32", name)
        memory = _memory(view, name)
        options = byref(ParameterOptions(**options))
        _check(_library.setun_optimizer_add(self._handle, _text(name, "name"), memory, *_dims(view.shape), options))
        self._memory.append((data, memory))
        self._sizes.append((name, _count(view)))

    def add_compact(self, name, initial, **options):
        """A ternary parameter of codes of 8 bits that are the optimizer's own, from an array of float32."""
        view = _view(initial, "float32", name)
        options = byref(ParameterOptions(**options))
        dims = _dims(view.shape)
        _check(_library.setun_optimizer_add_compact(self._handle, _text(name, "name"), _memory(view, name), *dims, options))
        self._sizes.append((name, _count(view)))

    def read(self, index):
        """The floats of a parameter, also of codes; `index` counts from 0 in the order they were added."""
        number = _number(c_int64, index, "index")
        # Of what is no parameter the call says that.
        floats = _made((self._sizes[index][1] if 0 <= index < len(self._sizes) else 0,), "float32")
        _check(_library.setun_optimizer_read(self._handle, number, _out(floats), len(floats)))
        return floats

    def set_lr_net(self, net):
        """Gives it a copy of an LrNet, whose factors multiply learning rates and radii; None takes it away."""
        _check(_library.setun_optimizer_set_lr_net(self._handle, None if net is None else _object(net, LrNet, "net")))

    def lr_net(self):
        """A copy of its LrNet, with what it has learned."""
        made = LrNet.__new__(LrNet)
        made._take(_library.setun_optimizer_lr_net, self._handle)
        return made

    def judge(self, before, after):
        """After a step whose report says `check_due`: the losses of its batch, or of its parts, before and after it. True when
        the step was undone."""
        before, after = _view(before, "float32", "before"), _view(after, "float32", "after")
        if _count(before) != _count(after):
            raise ValueError(f"before has {_count(before)} losses, after has {_count(after)}")
        undone = c_int32()
        _check(_library.setun_optimizer_judge(self._handle, _memory(before), _memory(after), _count(before), byref(undone)))
        return undone.value != 0

    def step(self, gradients, loss=None):
        """One step, along one array of float32 for each parameter; returns a StepReport. With the loss of their batch, under the
        guard: see `setun_optimizer_step_guarded`. A step that is refused raises an Error of the status STATE, and returns no
        report: `report()` says then why, by its outcome. That the guard stops, the error alone says."""
        if not isinstance(gradients, (list, tuple)):
            try:
                gradients = list(gradients)
            except TypeError:
                kind = type(gradients).__name__
                raise TypeError(f"gradients is a {kind}, expected an array for each parameter") from None
        views = [_view(gradient, "float32", f"gradients[{i}]") for i, gradient in enumerate(gradients)]
        for view, (name, count) in zip(views, self._sizes):
            if _count(view) != count:
                raise ValueError(f"the gradient of {name} has {_count(view)} elements, expected {count}")
        memory = [_Address(view) if view.nbytes else None for view in views]
        pointers = (c_void_p * max(len(views), 1))(*(m and m.address for m in memory))
        report = StepReport()
        if loss is None:
            _check(_library.setun_optimizer_step(self._handle, pointers, len(views), byref(report)))
        else:
            loss = _number(c_double, loss, "loss")
            _check(_library.setun_optimizer_step_guarded(self._handle, pointers, len(views), loss, byref(report)))
        return report

    def report(self, index=-1):
        """What the last step did to a parameter, or why it was refused; -1: to all."""
        report = StepReport()
        _check(_library.setun_optimizer_report(self._handle, _number(c_int64, index, "index"), byref(report)))
        return report

    @property
    def radius(self):
        return _said(c_double, _library.setun_optimizer_radius, self._handle)

    @radius.setter
    def radius(self, value):
        _check(_library.setun_optimizer_set_radius(self._handle, _number(c_double, value, "radius")))

    def set_learning_rate(self, value):
        _check(_library.setun_optimizer_set_learning_rate(self._handle, _number(c_double, value, "learning_rate")))

    @property
    def state_bytes(self):
        return _said(c_size_t, _library.setun_optimizer_state_bytes, self._handle)

    def save(self, path):
        _check(_library.setun_optimizer_save(self._handle, _path(path, "path")))

    def load(self, path):
        """Continues from a file, and writes the parameters too."""
        _check(_library.setun_optimizer_load(self._handle, _path(path, "path")))


class LrNet(_Handle):
    """A small network that adapts the learning rate. The options are those of LrNetOptions."""

    _free = _library.setun_lr_net_free
    WEIGHTS = 133
    FEATURES = ("relative_step", "flip_rate", "cosine", "signal", "trend", "height", "progress", "ternary", "vector")

    def __init__(self, **options):
        self._take(_library.setun_lr_net_create, byref(LrNetOptions(**options)))

    def observe_loss(self, loss):
        """The loss of a step, before its factors."""
        _check(_library.setun_lr_net_observe_loss(self._handle, loss))

    @staticmethod
    def _observation(seen):
        unknown = set(seen) - {name for name, _ in LrNetObservation._fields_[1:]}
        if unknown:
            raise TypeError(f"an observation has no {sorted(unknown)[0]!r}")
        kind = _choice(ParameterKind, seen.get("kind", ParameterKind.AUTO), "kind")
        return LrNetObservation(**{**seen, "kind": kind, "struct_size": ctypes.sizeof(LrNetObservation)})

    def factor(self, index=0, **seen):
        """What to multiply the learning rate of a parameter by in its next step; `seen` are fields of LrNetObservation."""
        return _said(c_double, _library.setun_lr_net_factor, self._handle, index, byref(self._observation(seen)))

    def features(self, **seen):
        """What the network sees, by name; NaN for a number that is none."""
        found = (c_double * len(self.FEATURES))()
        _check(_library.setun_lr_net_features(self._handle, byref(self._observation(seen)), found))
        return dict(zip(self.FEATURES, found))

    def learn(self, hypergradient, index=0):
        """What became of the last step s: -g . s / (|g| |s|), with the gradient g after it."""
        _check(_library.setun_lr_net_learn(self._handle, index, hypergradient))

    @property
    def weights(self):
        """A list of 133 numbers; it can be set."""
        weights = (c_double * self.WEIGHTS)()
        _check(_library.setun_lr_net_weights(self._handle, weights, self.WEIGHTS))
        return list(weights)

    @weights.setter
    def weights(self, values):
        values = [float(value) for value in values]
        _check(_library.setun_lr_net_set_weights(self._handle, (c_double * max(len(values), 1))(*values), len(values)))

    def save(self, path):
        _check(_library.setun_lr_net_save(self._handle, _path(path, "path")))

    def load(self, path):
        _check(_library.setun_lr_net_load(self._handle, _path(path, "path")))

    def reset(self):
        """Forgets losses and parameters, for another run; the weights stay."""
        _check(_library.setun_lr_net_reset(self._handle))


# --- problem ----------------------------------------------------------------------------------------------------------


class Minimum(NamedTuple):
    """The best point, float64 [n], and how the solve ended: a ProblemReport."""

    x: object
    report: object


def _numbers(array, count, name):
    """Memory of `count` float64 for a call."""
    view = _view(array, "float64", name)
    if _count(view) != count:
        raise ValueError(f"{name} has {_count(view)} elements, expected {count}")
    return _memory(view)


def _limits(array, count, name):
    """The same; None for None, which is no limit."""
    return None if array is None else _numbers(array, count, name)


def _rows(matrix):
    """A matrix in one piece, where it is a list of rows."""
    if isinstance(matrix, (list, tuple)) and any(isinstance(row, (list, tuple)) for row in matrix):
        return [number for row in matrix for number in (row if isinstance(row, (list, tuple)) else [row])]
    return matrix


class Problem(_Handle):
    """A function of n variables to minimise: `objective(x)` is its value, `gradient(x)` its gradient, n numbers, and
    `product(x, v)`, if there is one, its Hessian at x times v. Each may return False to stop the solve."""

    _free = _library.setun_problem_free

    def __init__(self, n, objective, gradient, product=None):
        for function, name in (objective, "objective"), (gradient, "gradient"), (product or objective, "product"):
            if not callable(function):
                raise TypeError(f"{name} is a {type(function).__name__}, expected a function")
        # Of the solve that is running: where an exception goes.
        self._stoppers = stoppers = [_Stopper()]

        def taken(count, *memory):
            copies = [_made((count,), "float64") for _ in memory]
            for copy, address in zip(copies, memory):
                ctypes.memmove(_out(copy), address, 8 * count)
            return copies

        def value(count, x, out, _):
            def call():
                found = objective(*taken(count, x))
                if found is False:
                    return False
                out[0] = float(found)

            return stoppers[-1].call(call)

        def vector(function, name):
            def answer(count, *memory):
                *inputs, out, _ = memory

                def call():
                    found = function(*taken(count, *inputs))
                    if found is False:
                        return False
                    ctypes.memmove(out, _numbers(found, count, f"the {name}"), 8 * count)

                return stoppers[-1].call(call)

            return answer

        product = _ProductCallback(vector(product, "product")) if product else _ProductCallback()
        self._functions = _ObjectiveCallback(value), _GradientCallback(vector(gradient, "gradient")), product
        self._n = n
        self._take(_library.setun_problem_create, n, *self._functions, None)

    def bounds(self, lower=None, upper=None):
        """lower <= x <= upper, n numbers each, infinite for none; None: none on that side."""
        lower, upper = _limits(lower, self._n, "lower"), _limits(upper, self._n, "upper")
        _check(_library.setun_problem_bounds(self._handle, lower, upper))

    def ball(self, centre, radius):
        """|x - centre| <= radius."""
        _check(_library.setun_problem_ball(self._handle, _numbers(centre, self._n, "centre"), radius))

    def equalities(self, a, b):
        """a x = b; a has a row of n numbers for each number of b, in one piece or as a list of rows."""
        m = len(b)
        a, b = _numbers(_rows(a), m * self._n, "a"), _numbers(b, m, "b")
        _check(_library.setun_problem_equalities(self._handle, a, b, m))

    def inequalities(self, a, lower=None, upper=None):
        """lower <= a x <= upper; a has a row of n numbers for each number of those. None: no limit on that side."""
        if lower is None and upper is None:
            raise TypeError("lower and upper are both None, expected a limit on one side")
        m = len(upper if lower is None else lower)
        a, lower, upper = _numbers(_rows(a), m * self._n, "a"), _limits(lower, m, "lower"), _limits(upper, m, "upper")
        _check(_library.setun_problem_inequalities(self._handle, a, lower, upper, m))

    def solve(self, x, progress=None, cancel=None, **options):
        """Minimises from x, n numbers, which stay as they are. `progress(report)` is called after every iteration; when it
        returns False the solve stops with what there is. The options are those of ProblemOptions."""
        run = _Run(ProblemOptions(**options), ProblemReport, progress, cancel)
        start = _numbers(x, self._n, "x")
        found, report = _made((self._n,), "float64"), ProblemReport()
        out = _out(found)
        ctypes.memmove(out, start, 8 * self._n)
        self._stoppers.append(run.stopper)
        try:
            run(lambda: _check(_library.setun_problem_solve(self._handle, out, byref(run.options), byref(report))))
        finally:
            self._stoppers.pop()
        return Minimum(found, report)


class Step(NamedTuple):
    """A trust-region step, float64 [n], its multiplier, and what it adds to the model."""

    step: object
    multiplier: float
    value: float


def trust_region_subproblem(gradient, hessian, radius):
    """The least gradient's + s'(hessian)s/2 in |s| <= radius, for float64 [n] and [n, n], which may be a list of rows."""
    n = len(gradient)
    slope, curvature = _numbers(gradient, n, "gradient"), _numbers(_rows(hessian), n * n, "hessian")
    step, multiplier, value = _made((n,), "float64"), c_double(), c_double()
    outputs = _out(step), byref(multiplier), byref(value)
    _check(_library.setun_trust_region_subproblem(slope, curvature, n, radius, *outputs))
    return Step(step, multiplier.value, value.value)


# --- text -------------------------------------------------------------------------------------------------------------


class Tokenizer(_Handle):
    """Text to tokens and back."""

    _free = _library.setun_tokenizer_free

    def __init__(self, path):
        """Reads a tokenizer's file, a Hugging Face tokenizer.json, or a model file that has its tokenizer."""
        self._take(_library.setun_tokenizer_load, _path(path, "path"))

    @classmethod
    def train(cls, kind, path=None, vocabulary=1024):
        """For the text at `path`, a file or a folder. `vocabulary` is for byte-pair encoding."""
        kind, path = _choice(TokenizerKind, kind, "kind"), None if path is None else _path(path, "path")

        def call():
            made = cls.__new__(cls)
            made._take(_library.setun_tokenizer_train, kind, path, vocabulary)
            return made

        return _interruptible(call, None)

    def save(self, path):
        _check(_library.setun_tokenizer_save(self._handle, _path(path, "path")))

    @property
    def vocabulary(self):
        return _said(c_int64, _library.setun_tokenizer_vocabulary, self._handle)

    def encode(self, text):
        """The tokens, uint32, of a str, or of bytes."""
        text = text.encode("utf-8") if isinstance(text, str) else bytes(text)
        count = _said(c_int64, _library.setun_tokenizer_encode, self._handle, text, len(text), None, 0)
        tokens = _made((count,), "uint32")
        _said(c_int64, _library.setun_tokenizer_encode, self._handle, text, len(text), _out(tokens), count)
        return tokens

    def decode_bytes(self, tokens):
        """The text of tokens, uint32, as bytes, which may end inside a character."""
        view = _view(tokens, "uint32", "tokens")
        memory, count = _memory(view), _count(view)
        size = _said(c_size_t, _library.setun_tokenizer_decode, self._handle, memory, count, None, 0)
        text = ctypes.create_string_buffer(size) if size else None
        _said(c_size_t, _library.setun_tokenizer_decode, self._handle, memory, count, text, size)
        return text.raw if size else b""

    def decode(self, tokens):
        """The text of tokens, uint32. What is no character becomes U+FFFD."""
        return self.decode_bytes(tokens).decode("utf-8", "replace")


class Dataset(_Handle):
    """The tokens of a text, in a training and a validation part."""

    _free = _library.setun_dataset_free

    @classmethod
    def open(cls, path, tokenizer, validation_fraction=0.1):
        """Reads and encodes the text at `path`, a file or a folder."""
        path, handle = _path(path, "path"), _object(tokenizer, Tokenizer, "tokenizer")

        def call():
            made = cls.__new__(cls)
            made._take(_library.setun_dataset_open, path, handle, validation_fraction)
            return made

        return _interruptible(call, None)

    @classmethod
    def from_tokens(cls, tokens, vocabulary, validation_fraction=0.1):
        """A copy of tokens of yours, uint32."""
        view = _view(tokens, "uint32", "tokens")
        made = cls.__new__(cls)
        made._take(
            _library.setun_dataset_from_tokens, _memory(view), _count(view), vocabulary, validation_fraction
        )
        return made

    def tokens(self, split=Split.TRAIN):
        """How many tokens a part has."""
        return _said(c_int64, _library.setun_dataset_tokens, self._handle, _choice(Split, split, "split"))

    def batch(self, batch, length, step=0, seed=0, split=Split.TRAIN):
        """The tokens and targets, uint32 [batch, length], that a training step without clusters would draw."""
        tokens, targets = _made((batch, length), "uint32"), _made((batch, length), "uint32")
        split = _choice(Split, split, "split")
        memory = _out(tokens), _out(targets)
        _check(_library.setun_dataset_batch(self._handle, split, seed, step, batch, length, *memory))
        return tokens, targets


class Description(NamedTuple):
    """What a parameter of a model is."""

    name: str
    kind: ParameterKind
    shape: tuple


# --- model ------------------------------------------------------------------------------------------------------------


class Model(_Handle):
    """A transformer and its parameters. The options are those of ModelOptions."""

    _free = _library.setun_model_free
    _descriptions = None

    def __init__(self, context=None, **options):
        self._take(_library.setun_model_create, _context(context), byref(ModelOptions(**options)))

    @classmethod
    def load(cls, path, context=None):
        made = cls.__new__(cls)
        made._take(_library.setun_model_load, _context(context), _path(path, "path"))
        return made

    def copy(self, quantize_weights=True):
        """A model that can be trained, from one that was loaded packed, or whose weights are of the other kind."""
        made = Model.__new__(Model)
        made._take(_library.setun_model_copy, self._handle, int(quantize_weights))
        return made

    def save(self, path, **options):
        """Writes a safetensors file and returns a FileReport. Options: packing, rest, tokenizer, codebook."""
        report = FileReport()
        options = byref(SaveOptions(**options))
        _check(_library.setun_model_save(self._handle, _path(path, "path"), options, byref(report)))
        return report

    @property
    def options(self):
        """The geometry: a ModelOptions."""
        options = ModelOptions()
        _check(_library.setun_model_describe(self._handle, byref(options)))
        return options

    @property
    def parameters(self):
        """How many there are."""
        return _said(c_int64, _library.setun_model_parameters, self._handle)

    def tensors(self):
        """Copies of the parameters, float32, by their Hugging Face names, one after the other."""
        for index in range(_said(c_int64, _library.setun_model_tensor_count, self._handle)):
            name, tensor = c_char_p(), Tensor.__new__(Tensor)
            tensor._take(_library.setun_model_tensor, self._handle, index, byref(name))
            yield name.value.decode(), tensor.read()

    def forward(self, tokens, batch=None, length=None):
        """The logits, float32 [batch, length, vocabulary], that follow each of the tokens, uint32 [batch, length]."""
        view = _view(tokens, "uint32", "tokens")
        batch, length = _matrix(view, "tokens", batch, length)
        logits = _made((batch, length, self.options.vocabulary), "float32")
        _check(_library.setun_model_forward(self._handle, _memory(view), batch, length, _out(logits)))
        return logits

    def loss(self, tokens, targets, batch=None, length=None):
        """The mean cross-entropy in nats a token, of targets after tokens, both uint32 [batch, length]."""
        view, aims = _view(tokens, "uint32", "tokens"), _view(targets, "uint32", "targets")
        batch, length = _matrix(view, "tokens", batch, length)
        _matrix(aims, "targets", batch, length)
        memory = _memory(view), _memory(aims)
        return _said(c_double, _library.setun_model_loss, self._handle, *memory, batch, length)

    def descriptions(self):
        """What each parameter is, in the order of `tensors`: name, kind and shape, without copies. The list is this model's."""
        if self._descriptions is None:
            count = _said(c_int64, _library.setun_model_tensor_count, self._handle)
            self._descriptions = [self._describe(index) for index in range(count)]
        return self._descriptions

    def _describe(self, index):
        name, kind, dims, rank = c_char_p(), c_int32(), (c_int64 * 4)(), c_int32()
        out = byref(name), byref(kind), dims, byref(rank)
        _check(_library.setun_model_tensor_describe(self._handle, index, *out))
        return Description(name.value.decode(), ParameterKind(kind.value), tuple(dims[: rank.value]))

    def read(self, index, out=None):
        """A copy of a parameter, float32, by its place among `descriptions`; in `out`, if you have room."""
        if out is None:
            out = _made(self.descriptions()[index].shape, "float32")
        view = _written(out, "float32", "out")
        _check(_library.setun_model_tensor_read(self._handle, index, _memory(view, "out"), _count(view)))
        return out

    def write(self, index, values):
        """Overwrites a parameter by finite float32; its trits follow."""
        view = _view(values, "float32", "values")
        _check(_library.setun_model_tensor_write(self._handle, index, _memory(view), _count(view)))

    def backward(self, tokens, targets, batch=None, length=None, gradients=None, **options):
        """The mean loss, as `loss` says it, and its gradients: (loss, one float32 array for each of `descriptions`).

        `gradients`, if given, are arrays of yours to write to. The options are those of BackwardOptions.
        """
        view, aims = _view(tokens, "uint32", "tokens"), _view(targets, "uint32", "targets")
        batch, length = _matrix(view, "tokens", batch, length)
        _matrix(aims, "targets", batch, length)
        described = self.descriptions()
        if gradients is None:
            gradients = [_made(each.shape, "float32") for each in described]
        if len(gradients) != len(described):
            raise ValueError(f"there are {len(gradients)} gradients, the model has {len(described)} tensors")
        pointers, memory, loss = (c_void_p * len(described))(), [], c_double()
        for index, (gradient, each) in enumerate(zip(gradients, described)):
            name = f"the gradient of {each.name}"
            out, size = _written(gradient, "float32", name), _math.prod(each.shape)
            if _count(out) != size:
                raise ValueError(f"{name} has {_count(out)} elements, expected {size}")
            if out.readonly:
                raise ValueError(f"{name} is read-only")
            memory.append(_Address(out))
            pointers[index] = memory[-1].address
        options = byref(BackwardOptions(**options))
        inputs = _memory(view), _memory(aims), batch, length, options
        _check(_library.setun_model_backward(self._handle, *inputs, byref(loss), pointers, len(described)))
        return loss.value, gradients


# --- train ------------------------------------------------------------------------------------------------------------


def train(text, progress=None, cancel=None, model=None, **options):
    """Trains on the text at the path `text`, a file or a folder; returns (model, tokenizer).

    `progress(metrics)` is called after every step; when it returns False the run stops, and the model is as far as it
    got. `model` is a ModelOptions, or a dict of its options. The other options are those of TrainOptions.
    """
    if isinstance(model, dict):
        model = ModelOptions(**model)
    if model is not None and not isinstance(model, ModelOptions):
        raise TypeError(f"model is a {type(model).__name__}, expected a ModelOptions or a dict of its fields")
    run = _Run(TrainOptions(model=model, **options), Metrics, progress, cancel)
    path = _path(text, "text")

    def call():
        made, tokenizer = c_void_p(), c_void_p()
        _check(_library.setun_train(path, byref(run.options), byref(made), byref(tokenizer)))
        return Model._of(made.value), Tokenizer._of(tokenizer.value)

    return run(call)


class Trainer(_Handle):
    """A training run on a model and a data set of yours. The options are those of TrainOptions."""

    _free = _library.setun_trainer_free

    def __init__(self, model, dataset, tokenizer=None, progress=None, cancel=None, **options):
        self._run = _Run(TrainOptions(**options), Metrics, progress, cancel)
        handles = _object(model, Model, "model"), _object(dataset, Dataset, "dataset")
        tokenizer = None if tokenizer is None else _object(tokenizer, Tokenizer, "tokenizer")
        options = byref(self._run.options)
        self._run(lambda: self._take(_library.setun_trainer_create, *handles, tokenizer, options))

    def step(self):
        """One step, and nothing else; returns its Metrics."""
        metrics = Metrics()
        self._run(lambda: _check(_library.setun_trainer_step(self._handle, byref(metrics))))
        return metrics

    def run(self):
        """All the remaining steps; False when `progress` stopped the run."""
        return bool(self._run(lambda: _said(c_int32, _library.setun_trainer_run, self._handle)))

    def evaluate(self):
        """The mean loss over the validation part, nats a token."""
        return self._run(lambda: _said(c_double, _library.setun_trainer_evaluate, self._handle))

    def save(self):
        """Writes a checkpoint into checkpoint_dir."""
        _check(_library.setun_trainer_save(self._handle))

    def resume(self, checkpoint, allow_other_backend=False):
        """Continues from a checkpoint's folder, or from the newest in a checkpoint_dir."""
        checkpoint = _path(checkpoint, "checkpoint")
        _check(_library.setun_trainer_resume(self._handle, checkpoint, bool(allow_other_backend)))

    def cluster_losses(self):
        """For each cluster of the text, (loss, windows): the mean training loss of the last steps, and its size."""
        count = _said(c_int64, _library.setun_trainer_cluster_losses, self._handle, None, None, 0)
        losses, sizes = (c_double * count)(), (c_int64 * count)()
        _said(c_int64, _library.setun_trainer_cluster_losses, self._handle, losses, sizes, count)
        return list(zip(losses, sizes))

    @property
    def metrics(self):
        """Those of the last step."""
        metrics = Metrics()
        _check(_library.setun_trainer_metrics(self._handle, byref(metrics)))
        return metrics


# --- generate ---------------------------------------------------------------------------------------------------------


class Sampler(_Handle):
    """A text being generated, token by token. The options are those of SampleOptions."""

    _free = _library.setun_sampler_free

    def __init__(self, model, **options):
        options = byref(SampleOptions(**options))
        self._take(_library.setun_sampler_create, _object(model, Model, "model"), options)

    def prompt(self, tokens):
        """Feeds tokens, uint32, after those so far."""
        view = _view(tokens, "uint32", "tokens")
        _check(_library.setun_sampler_prompt(self._handle, _memory(view), _count(view)))

    def next(self):
        """Chooses the next token, and feeds it."""
        return _said(c_uint32, _library.setun_sampler_next, self._handle)

    @property
    def slid(self):
        """Whether tokens were forgotten because the text is longer than the context."""
        return bool(_said(c_int32, _library.setun_sampler_slid, self._handle))


def generate(model, tokenizer, prompt, hear=None, **options):
    """The text that follows `prompt`, without it. The options are those of SampleOptions.

    `hear(piece)` gets each piece as it comes; when it returns False the text ends.
    """
    pieces, stopper = [], _Stopper()

    def piece(data, size, _):
        text = ctypes.string_at(data, size).decode("utf-8")
        pieces.append(text)
        return stopper.call(hear or bool, text)

    handles = _object(model, Model, "model"), _object(tokenizer, Tokenizer, "tokenizer")
    options = byref(SampleOptions(**options))
    callback = _TextCallback(piece)
    status = _library.setun_generate(*handles, _text(prompt, "prompt"), options, callback, None, None)
    stopper.rethrow()
    _check(status)
    return "".join(pieces)


# --- benchmark --------------------------------------------------------------------------------------------------------


def benchmark(hear=None, cancel=None, **options):
    """Times the operations, and returns a list of results with the fields of BenchmarkResult.

    `hear(result)` gets each as it comes; when it returns False the benchmark ends. The options are those of
    BenchmarkOptions.
    """
    run, results = _Run(BenchmarkOptions(**options), None, None, cancel), []

    def result(pointer, _):
        # The strings end with the callback: they are copied.
        values = {name: getattr(pointer.contents, name) for name, _ in BenchmarkResult._fields_[1:]}
        decoded = {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}
        results.append(types.SimpleNamespace(**decoded))
        return run.stopper.call(hear or (lambda result: True), results[-1])

    callback = _BenchmarkCallback(result)
    run(lambda: _check(_library.setun_benchmark(byref(run.options), callback, None)))
    return results
