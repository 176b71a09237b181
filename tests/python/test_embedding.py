"""c_examples/python/setun.py: every class, arrays with and without NumPy, errors, callbacks, and the cost of a call."""

import array
import ctypes
import gc
import importlib.util
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import timeit
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "c_examples" / "python" / "setun.py"


def load(numpy=True):
    """A fresh copy of the module; without NumPy, as if it were not installed."""
    hidden = None if numpy else {"numpy": sys.modules.get("numpy")}
    try:
        if hidden is not None:
            sys.modules["numpy"] = None
        spec = importlib.util.spec_from_file_location("setun", MODULE)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        if hidden is not None:
            del sys.modules["numpy"]
            if hidden["numpy"] is not None:
                sys.modules["numpy"] = hidden["numpy"]


setun = load()
plain = load(numpy=False)
numpy = setun._numpy
WEIGHTS = [0.9, -0.8, 0.1, 0.0, -0.7, 0.6, 0.0, 0.1]
SMALL = {"layers": 1, "width": 32, "heads": 2, "context_length": 16}
TINY = {"max_steps": 12, "batch_size": 4, "warmup_steps": 2}


def flat(result):
    """The numbers of a result, which is a NumPy array or an array.array."""
    return result.ravel().tolist() if hasattr(result, "ravel") else list(result)


class Embedding(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="setun-")
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name)
        self.text = self.folder / "corpus.txt"
        lines = (f"the {'cat' if i % 3 else 'dog'} sat on the {'mat' if i % 5 else 'hat'}.\n" for i in range(300))
        self.text.write_text("".join(lines))

    def fails(self, status, message):
        """A context in which the library refuses with the given status and words."""
        test = self

        class Fails:
            def __enter__(self):
                return self

            def __exit__(self, kind, error, _):
                test.assertIsNotNone(error, f"no error, expected {message}")
                test.assertEqual(kind.__name__, "Error", error)
                test.assertEqual(error.status.name, status, error)
                test.assertIn(message, str(error))
                return True

        return Fails()


class Layout(Embedding):
    def test_every_struct_is_laid_out_as_in_c(self):
        lines = ["#include <setun.h>", "#include <stddef.h>", "#include <stdio.h>", "int main(void) {"]
        for name, struct in setun.STRUCTS.items():
            lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
            for field, _ in struct._fields_:
                size = f"sizeof((({name} *)0)->{field})"
                lines.append(f'printf("{name}.{field} %zu %zu\\n", offsetof({name}, {field}), {size});')
        (self.folder / "layout.c").write_text("\n".join([*lines, "return 0; }"]))
        program = self.folder / "layout"
        subprocess.run(["cc", "-I", ROOT / "include", self.folder / "layout.c", "-o", program], check=True)
        printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
        here = []
        for name, struct in setun.STRUCTS.items():
            here.append(f"{name} {ctypes.sizeof(struct)}")
            for field, _ in struct._fields_:
                place = getattr(struct, field)
                here.append(f"{name}.{field} {place.offset} {place.size}")
        self.assertEqual(here, printed)

    def test_every_struct_function_and_constant_of_the_header_is_here(self):
        header = (ROOT / "include" / "setun.h").read_text()
        structs = re.findall(r"^typedef struct \{([^}]*)\} (\w+);", header, re.MULTILINE)
        for fields, name in structs:
            fields = re.findall(r"(\w+)(?:\[\d+\])?;", re.sub(r"/\*.*?\*/", "", fields, flags=re.DOTALL))
            self.assertIn(name, setun.STRUCTS)
            self.assertEqual([field for field, _ in setun.STRUCTS[name]._fields_], fields)
        self.assertEqual(len(structs), len(setun.STRUCTS))
        declared = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
        functions = set(re.findall(r"^[a-z][\w *]*?\bsetun_(\w+)\(", declared, re.MULTILINE))
        self.assertEqual(functions, set(setun.SIGNATURES) | set(setun._SPECIAL))
        for name in set(setun.SIGNATURES):
            arguments = re.search(rf"\bsetun_{name}\(([^)]*)\)", declared)[1].split(",")
            self.assertEqual(len(arguments), len(setun.SIGNATURES[name]), name)
            for argument, kind in zip(arguments, setun.SIGNATURES[name]):
                words = argument.split()
                by_value = {"int32_t": "c_int", "int64_t": "c_long", "uint64_t": "c_ulong", "uint32_t": "c_uint", "size_t": "c_ulong",
                            "double": "c_double", "float": "c_float", "char": "c_char_p"}
                if "_callback" in words[0]:
                    continue
                pointer = "*" in argument
                if pointer and "char" in words and kind is ctypes.c_char_p:
                    continue
                expected = "c_void_p" if pointer else by_value[words[-2]]
                self.assertEqual(kind.__name__, expected, f"{name}: {argument.strip()}")
        kinds = {"status": ("ERR_", "Status"), "log_level": ("LOG_", "LogLevel"), "backend": ("BACKEND_", "Backend"),
                 "dtype": ("DTYPE_", "DType"), "packing": ("PACKING_", "Packing"), "scheme": ("SCHEME_", "Scheme"),
                 "split": ("SPLIT_", "Split"), "tokenizer_kind": ("TOKENIZER_", "TokenizerKind"),
                 "schedule": ("SCHEDULE_", "Schedule"), "kmeans_start": ("KMEANS_START_", "KMeansStart"),
                 "codebook_constraint": ("CODEBOOK_CONSTRAINT_", "CodebookConstraint"),
                 "parameter_kind": ("PARAMETER_KIND_", "ParameterKind"),
                 "rounding": ("ROUNDING_", "Rounding"), "gguf_type": ("GGUF_TYPE_", "GgufType"),
                 "multiplies": ("MULTIPLIES_", "Multiplies"),
                 "gradient_products": ("GRADIENT_PRODUCTS_", "GradientProducts"),
                 "kv_cache": ("KV_CACHE_", "KvCache"),
                 "gradient_quantization": ("GRADIENT_QUANTIZATION_", "GradientQuantization"),
                 "radius_mode": ("RADIUS_MODE_", "RadiusMode"), "radius_base": ("RADIUS_BASE_", "RadiusBase"),
                 "step_method": ("STEP_METHOD_", "StepMethod"), "state_precision": ("STATE_PRECISION_", "StatePrecision"),
                 "step_outcome": ("STEP_OUTCOME_", "StepOutcome"), "subproblem": ("SUBPROBLEM_", "Subproblem"),
                 "termination": ("TERMINATION_", "Termination")}
        enums = re.findall(r"typedef enum \{([^}]*)\} setun_(\w+);", declared)
        self.assertEqual({name for _, name in enums}, set(kinds))
        for members, name in enums:
            prefix, python = kinds[name]
            there = {word.replace(prefix, ""): int(value)
                     for word, value in re.findall(r"SETUN_(\w+) = (-?\d+)", members)}
            # OWN is the -1 of a parameter that has none of its own.
            self.assertEqual(there, {member.name: int(member) for member in getattr(setun, python) if member.name != "OWN"})


class Arrays(Embedding):
    def inputs(self, module):
        """The same eight weights in everything that has the buffer protocol."""
        made = array.array("f", WEIGHTS)
        yield made
        yield memoryview(made)
        yield memoryview(bytes(made)).cast("f")  # read-only
        yield memoryview(made).cast("B").cast("f", (2, 4))
        yield (ctypes.c_float * 8)(*WEIGHTS)
        yield WEIGHTS
        yield tuple(WEIGHTS)
        if numpy is not None:
            yield numpy.array(WEIGHTS, "float32").reshape(2, 4)
            frozen = numpy.array(WEIGHTS, "float32")
            frozen.setflags(write=False)
            yield frozen

    def test_quantize_with_and_without_numpy(self):
        for module in (setun, plain):
            for weights in self.inputs(module):
                with self.subTest(numpy=module is setun, weights=type(weights)):
                    q = module.quantize(weights, 2, 4)
                    self.assertEqual(flat(module.unpack(q)), [1, -1, 0, 0, -1, 1, 0, 0])
                    self.assertAlmostEqual(q.scale, sum(map(abs, WEIGHTS)) / 8, 6)
                    self.assertEqual(module.trit_histogram(q), (2, 4, 2))
                    y = module.matmul(array.array("f", [1, 2, 3, 4]), q)
                    self.assertAlmostEqual(flat(y)[0], -q.scale, 2)
                    self.assertEqual(flat(module.matmul_backward([1.0, 0.0], q)), flat(module.dequantize(q))[:4])
                    five = module.quantize(weights, columns=4, packing="five_per_byte")
                    self.assertEqual((five.rows, five.columns, len(five.packed)), (2, 4, 2))
                    self.assertEqual(flat(module.unpack(five)), flat(module.unpack(q)))
                    self.assertEqual(flat(module.pack(module.unpack(q), 2, 4).packed), flat(q.packed))
        codes, scales = plain.quantize_activations([1.0, -2.0, 4.0, 0.5], 2, 2)
        self.assertEqual((list(codes), len(scales)), ([64, -127, 127, 16], 2))
        self.assertIsInstance(plain.dequantize(plain.quantize(WEIGHTS, 2, 4)), array.array)
        if numpy is not None:
            self.assertEqual(setun.dequantize(setun.quantize(numpy.ones((2, 4), "float32"))).shape, (2, 4))

    def test_nothing_is_copied(self):
        for module in (setun, plain):
            memory = array.array("f", [1, 2, 3, 4])
            with module.Tensor(memory) as tensor:
                self.assertEqual((tensor.dtype, tensor.shape, tensor.nbytes), (module.DType.F32, (4,), 16))
                memory[2] = 7
                self.assertEqual(flat(tensor.read()), [1, 2, 7, 4])
                with self.assertRaises(BufferError):
                    memory.append(5)  # C works on this memory
                with self.fails("ARGUMENT", "overlaps"):
                    tensor.write(memory)
                tensor.write([4.0, 3.0, 2.0, 1.0])
                self.assertEqual(memory.tolist(), [4, 3, 2, 1])
            tensor = module.Tensor(memory)
            del tensor
            gc.collect()
            memory.append(5)
            bits = bytes(1000)
            before = sys.getrefcount(bits)
            module.unpack(module.Quantized(b"\x55" * 4, 1.0, 4, 4, module.Packing.TWO_BIT))
            self.assertEqual(sys.getrefcount(bits), before)
            with module.Tensor.zeros("i8", (2, 3)) as zeros:
                self.assertEqual((flat(zeros.read()), zeros.shape), ([0] * 6, (2, 3)))

    def test_wrong_arrays_are_named(self):
        good = array.array("f", WEIGHTS)
        strided = memoryview(array.array("f", WEIGHTS * 2))[::2]
        cases = [
            (TypeError, "weights has elements of float64, expected float32", array.array("d", WEIGHTS), (2, 4)),
            (TypeError, "weights has elements of int32, expected float32", array.array("i", range(8)), (2, 4)),
            (TypeError, "weights has elements of uint8, expected float32", b"12345678", (2, 4)),
            (TypeError, "weights is a int, expected an array of float32", 7, (2, 4)),
            (TypeError, "weights is a NoneType", None, (2, 4)),
            (TypeError, "weights: must be real number", ["a"], (1, 1)),
            (ValueError, "weights is not contiguous", strided, (2, 4)),
            (ValueError, "weights has 8 elements, expected 3 * 4", good, (3, 4)),
            (ValueError, "weights has 1 dimensions, expected 2", good, ()),
        ]
        if numpy is not None:
            square = numpy.zeros((4, 4), "float32")
            cases += [
                (ValueError, "weights is not contiguous", square.T[:2], ()),
                (ValueError, "weights is not contiguous", square[:, ::2], ()),
                (TypeError, "expected float32", numpy.zeros((2, 2)), ()),
                (TypeError, "expected float32", numpy.zeros((2, 2), ">f4"), ()),
                (ValueError, "weights has 3 dimensions", numpy.zeros((2, 2, 2), "float32"), ()),
            ]
        for module in (setun, plain):
            for kind, message, weights, sizes in cases:
                with self.subTest(message=message), self.assertRaisesRegex(kind, re.escape(message)):
                    module.quantize(weights, *sizes)
            with self.fails("ARGUMENT", "weights[1] is NaN"):
                module.quantize([1.0, float("nan")], 1, 2)
            with self.assertRaisesRegex(ValueError, "array is read-only"):
                module.Tensor(memoryview(bytes(8)).cast("f"))
            with self.assertRaisesRegex(TypeError, "array has elements of 'd'"):
                module.Tensor(array.array("d", [1]))
            with self.assertRaisesRegex(OverflowError, "tokens: "):
                module.Dataset.from_tokens([-1], 4)
            q = module.quantize(good, 2, 4)
            with self.assertRaisesRegex(ValueError, "x has 5 elements"):
                module.matmul([0.0] * 5, q)
            with self.fails("FORMAT", "no trit"):
                module.unpack(module.Quantized(b"\xff", 1.0, 1, 4, module.Packing.TWO_BIT))
            self.assertEqual(flat(module.quantize(array.array("f"), 0, 4).packed), [])

    def test_a_packed_matrix_multiplies_what_it_is_given(self):
        for module in (setun, plain):
            weights = memoryview(array.array("f", WEIGHTS)).cast("B").cast("f", (2, 4))
            with module.Packed(weights) as packed:
                x = memoryview(array.array("f", [1, 2, 3, 4] * 3)).cast("B").cast("f", (3, 4))
                q = module.quantize(weights)
                self.assertEqual(flat(packed.matmul(x)), flat(module.matmul(x, q)))
                self.assertEqual(flat(packed.dequantize()), flat(module.dequantize(q)))
                self.assertEqual((packed.nbytes, list(packed.scales)), (2, [q.scale]))
                with self.fails("SHAPE", "x"):
                    packed.matmul(memoryview(array.array("f", [1, 2])).cast("B").cast("f", (1, 2)))


    def test_packings_become_each_other(self):
        for module in (setun, plain):
            q = module.quantize(WEIGHTS, 2, 4, scheme="least_squares")
            for packing, size in [("five_per_byte", 2), ("mask_sign", 4 + 2 + 1), ("two_bit", 2)]:
                other = module.repack(q, packing)
                self.assertEqual(len(other.packed), size)
                self.assertEqual(flat(module.unpack(other)), flat(module.unpack(q)))
                self.assertEqual(flat(module.dequantize(other)), flat(module.dequantize(q)))
                direct = module.quantize(WEIGHTS, 2, 4, scheme="least_squares", packing=packing)
                self.assertEqual(flat(direct.packed), flat(other.packed))

    def test_ternary_gradients_lose_nothing(self):
        for module in (setun, plain):
            g, error = array.array("f", [1.0, -2.0, 0.5, 0.25] * 20), array.array("f", [0.0] * 80)
            sent = [0.0] * 80
            for _ in range(50):
                packed, scales = module.ternarize_gradients(g, error, 32)
                self.assertEqual((len(packed), len(scales)), (20, 3))
                sent = [a + b for a, b in zip(sent, flat(module.deternarize_gradients(packed, scales, 80, 32)))]
            for i in range(80):
                self.assertAlmostEqual(sent[i] + error[i], 50 * g[i], 3)

    def test_files_hold_packed_matrices_and_tensors(self):
        for module in (setun, plain):
            with tempfile.TemporaryDirectory(prefix="setun-") as folder:
                path = os.path.join(folder, "x.safetensors")
                weights = memoryview(array.array("f", WEIGHTS)).cast("B").cast("f", (2, 4))
                with module.File() as file, module.Packed(weights, packing="mask_sign") as packed:
                    file.add("w", packed)
                    file.add("norm", array.array("f", [1, 2]))
                    self.assertEqual(file.save(path), os.path.getsize(path))
                    restored = flat(packed.dequantize())
                    self.assertAlmostEqual(packed.measure(weights).zero_fraction, 0.5)
                    with self.fails("ARGUMENT", "'w_scale' is taken"):
                        file.add("w_scale", array.array("f", [1]))
                with module.File(path) as file:
                    self.assertEqual(file.names(), ["norm", "w"])
                    self.assertEqual((file.describe("w").is_packed, list(file.describe("w").dims[:2])), (1, [2, 4]))
                    self.assertEqual(flat(file.read("norm").read()), [1, 2])
                    self.assertEqual(flat(file.read_packed("w").dequantize()), restored)
                    with self.fails("ARGUMENT", "no entry"):
                        file.read("v")
                    with self.fails("ARGUMENT", "w is packed"):
                        file.read("w")


class Objects(Embedding):
    def test_contexts_options_and_closing(self):
        with setun.Context(backend="simd") as context:
            self.assertEqual((context.backend, context.threads), (setun.Backend.SIMD, 1))
            self.assertIn(context.level, ("baseline", "x86-64-v3", "x86-64-v4", "x86-64-v4+vnni"))
            inside = setun.quantize(WEIGHTS, 2, 4, context=context)
            self.assertEqual(flat(inside.packed), flat(setun.quantize(WEIGHTS, 2, 4).packed))
        context.close()
        # Not the default context: the freed handle is an error.
        with self.fails("ARGUMENT", "context was freed already"):
            context.threads
        with self.fails("ARGUMENT", "context was freed already"):
            setun.Model(context, **SMALL)
        with self.assertRaisesRegex(TypeError, "context is a str, expected a Context"):
            setun.Model("parallel")
        with self.assertRaisesRegex(TypeError, "has no option 'thread'; there are backend, .*threads"):
            setun.Context(thread=2)
        with self.assertRaisesRegex(TypeError, "has no option 'struct_size'"):
            setun.Context(struct_size=2)
        with self.assertRaisesRegex(ValueError, "backend is 'gpu', expected one of auto, scalar, simd"):
            setun.Context(backend="gpu")
        with self.assertRaisesRegex(TypeError, "threads: "):
            setun.Context(threads=1.5)
        with self.assertRaisesRegex(OverflowError, "threads is 4294967297"):
            setun.Context(threads=2**32 + 1)
        with self.fails("ARGUMENT", "threads is -1"):
            setun.Context(threads=-1)
        with self.assertRaisesRegex(TypeError, "tokenizer is a str, expected an object of this module"):
            setun.Model(**SMALL).save(self.folder / "m", tokenizer="bpe")
        self.assertIn("threads=0", repr(setun.ContextOptions()))

    def test_the_library_speaks(self):
        self.assertEqual(setun.version()[0], 0)
        self.assertIn("setun", setun.build_info())
        heard = []
        setun.set_log(lambda level, message: heard.append((level, message)), "info")
        self.addCleanup(setun.set_log, None)
        setun.Context(verbose=1)
        self.assertEqual(heard[0][0], setun.LogLevel.INFO)
        setun.set_log(None)
        count = len(heard)
        setun.Context(verbose=1)
        self.assertEqual(len(heard), count)

    def test_what_runs_and_why(self):
        context = setun.Context(backend="simd", benchmark_mode=1)
        self.assertIn("simd", context.explain())
        self.assertIn("matmul", setun.operations())
        self.assertTrue(setun.Context.default().explain("matmul", 1000))
        with self.fails("ARGUMENT", "matmull"):
            context.explain("matmull")
        setun.quantize(WEIGHTS, 2, 4, context=context)
        statistics = context.statistics()
        self.assertEqual(statistics["ternarize"].calls[setun.Backend.SIMD], 1)
        self.assertGreater(statistics["ternarize"].seconds[setun.Backend.AUTO], 0)
        context.reset_statistics()
        self.assertEqual(context.statistics(), {})
        if setun.device_count() == 0:
            with self.fails("DEVICE", ""):
                setun.device_name(0)
            with self.fails("DEVICE", ""):
                setun.device_memory(0)
        else:
            self.assertTrue(setun.device_name(0))
            self.assertGreater(setun.device_memory(0)[1], 0)

    def test_codebooks(self):
        x = [10.0, -1.0, 1.0, 12.0, 11.0]
        for module in (setun, plain):
            entries, labels, inertia = module.codebook_fit(x, 2)
            self.assertEqual((flat(entries), flat(labels), inertia), ([0, 11], [1, 0, 0, 1, 1], 4.0))
            packed = module.codebook_pack(x, entries)
            self.assertEqual(flat(packed), [0x01, 0x10, 0x01])
            self.assertEqual(flat(module.codebook_unpack(packed, 5, entries)), [11, 0, 0, 11, 11])
            self.assertEqual(module.codebook_size(5, 256), 5)
            ternary = module.codebook_fit(x, 3, constraint="ternary", weights=[1, 1, 1, 2, 1])
            self.assertEqual((flat(ternary.entries), flat(ternary.labels)), ([-11.25, 0, 11.25], [2, 1, 1, 2, 2]))
            with self.assertRaisesRegex(ValueError, "weights has 2 elements, expected 5"):
                module.codebook_fit(x, 2, weights=[1, 1])
            with self.fails("ARGUMENT", "k is 6"):
                module.codebook_fit(x, 6)
            with self.fails("FORMAT", "code 1 of packed is 2"):
                module.codebook_unpack([0x21, 0x10, 0x01], 5, entries)

    def test_clusters(self):
        points = [0.0, 0.0, 0.0, 1.0, 9.0, 9.0, 9.0, 8.0]
        for module in (setun, plain):
            labels, centroids, inertia = module.cluster(points, 2, columns=2, seed=1)
            labels = flat(labels)
            self.assertEqual((labels[0], labels[2], inertia), (labels[1], labels[3], 1.0))
            self.assertNotEqual(labels[0], labels[2])
            self.assertEqual(sorted(flat(centroids)), [0, 0.5, 8.5, 9])
            heavy = module.cluster(points, 2, weights=[1, 3, 1, 1], initial_centroids=array.array("f", [0, 0, 9, 9]),
                                   start="given", columns=2)
            self.assertEqual((flat(heavy.labels), flat(heavy.centroids)), ([0, 0, 1, 1], [0, 0.75, 9, 8.5]))
            with self.assertRaisesRegex(ValueError, "weights has 3 elements, expected 4"):
                module.cluster(points, 2, weights=[1, 1, 1], columns=2)
            with self.fails("ARGUMENT", "k"):
                module.cluster(points, 5, columns=2)
            grid = memoryview(array.array("f", [0.0] * 8)).cast("B").cast("f", (2, 4))
            with self.assertRaisesRegex(ValueError, r"x has the shape \(2, 4\)"):
                module.cluster(grid, 2, columns=2)
            with self.assertRaises(ZeroDivisionError):
                module.cluster(points, 2, columns=2, progress=lambda report: 1 / 0)
            kmeans = module.KMeans(2, seed=3)
            self.assertEqual(kmeans.shape, (2, 0))
            with self.fails("STATE", "centroids"):
                kmeans.assign(points, columns=2)
            labels = flat(kmeans.fit(points, columns=2))
            self.assertEqual((kmeans.shape, kmeans.inertia, kmeans.report.converged), ((2, 2), 1.0, 1))
            again, distances = kmeans.assign(points, columns=2)
            self.assertEqual((flat(again), flat(distances)), (labels, [0.25] * 4))
            nearest, squares = kmeans.nearest(points, 2, columns=2)
            self.assertEqual((flat(nearest)[::2], flat(squares)[::2]), (labels, [0.25] * 4))
            self.assertEqual(flat(kmeans.route(points, 2, 0, columns=2)[1]), [0.5] * 8)
            with self.assertRaisesRegex(ValueError, "m is 3, expected 1 to k, which is 2"):
                kmeans.nearest(points, 3, columns=2)
            balanced = module.cluster([0.0, 0.1, 0.2, 9.0], 2, columns=1, capacity=2, start="scalable")
            self.assertEqual(sorted(flat(balanced.labels)), [0, 0, 1, 1])
            directions = module.cluster(points[2:], 2, columns=2, spherical=True, candidates=3)
            self.assertAlmostEqual(directions.inertia, 0.00173, 5)
            kmeans.set_centroids([0.0, 0.0, 9.0, 9.0], columns=2)
            self.assertEqual(flat(kmeans.assign(points, columns=2)[1]), [0, 1, 0, 1])
            self.assertEqual(flat(kmeans.centroids), [0, 0, 9, 9])
            token = module.Cancel()
            token.request()
            with self.fails("CANCELLED", "cancel"):
                module.KMeans(2, cancel=token).fit(points, columns=2)

    def test_steps(self):
        for module in (setun, plain):
            w, moments = array.array("f", [1.0, 2.0]), array.array("f", [0.0] * 4)
            for step in range(1, 101):
                report = module.step(w, [2 * x for x in w], moments, step, learning_rate=0.1)
            self.assertEqual((report.step, report.outcome), (100, module.StepOutcome.TAKEN))
            self.assertLess(abs(w[0]), 0.9)
            # A list would be copied, and the copy stepped.
            for lists in (([1.0, 2.0], [0.0] * 4), (w, [0.0] * 4)):
                with self.assertRaisesRegex(TypeError, "is a list, expected an array that can be written"):
                    module.step(lists[0], [0.0, 0.0], lists[1], 1)
            with self.fails("STATE", "gradient"):
                module.step(w, [float("nan"), 1.0], moments, 101)
            with self.assertRaisesRegex(ValueError, "moments has 3 elements, expected 4"):
                module.step(w, [1.0, 1.0], array.array("f", [0.0] * 3), 1)
            with self.assertRaisesRegex(ValueError, "parameters is read-only"):
                module.step(memoryview(bytes(8)).cast("f"), [1.0, 1.0], moments, 1)
            matrix, vector = array.array("f", [1.0] * 4), array.array("f", [0.5])
            optimizer = module.Optimizer(learning_rate=0.01, radius_mode="off")
            optimizer.add("matrix", memoryview(matrix).cast("B").cast("f", (2, 2)), kind="ternary", upper=1.0)
            optimizer.add("vector", vector)
            report = optimizer.step([[1.0] * 4, [1.0]])
            self.assertEqual((report.step, optimizer.report(1).step, optimizer.state_bytes), (1, 1, 40))
            self.assertTrue(matrix[0] < 1 and vector[0] < 0.5)
            with self.assertRaisesRegex(ValueError, "the gradient of vector has 2 elements, expected 1"):
                optimizer.step([[1.0] * 4, [1.0, 1.0]])
            with self.fails("ARGUMENT", "1"):
                optimizer.step([[1.0] * 4])
            optimizer.save(self.folder / "o.safetensors")
            before = matrix.tolist()
            optimizer.set_learning_rate(0.5)
            optimizer.radius = 0.25
            optimizer.step([[1.0] * 4, [1.0]])
            self.assertNotEqual(matrix.tolist(), before)
            optimizer.load(self.folder / "o.safetensors")
            self.assertEqual(matrix.tolist(), before)
            optimizer.radius = 0.125
            self.assertEqual(optimizer.radius, 0.125)

    def test_the_network_for_the_learning_rate(self):
        for module in (setun, plain):
            seen = dict(kind="ternary", relative_step=1e-3, flip_rate=0.01, cosine=0.5, signal=0.1, progress=0.5)
            net = module.LrNet(online_rate=0.01)
            for loss in range(30, 10, -1):
                net.observe_loss(loss)
            self.assertEqual([net.factor(index, **seen) for index in (0, 5)], [1.0, 1.0])
            found = net.features(**seen)
            self.assertAlmostEqual(found["relative_step"], 0.0)
            self.assertAlmostEqual(found["flip_rate"], 1 / 3)
            self.assertEqual([found[name] for name in ("cosine", "progress", "ternary", "vector")], [0.5, 0.0, 1.0, 0.0])
            self.assertTrue(-1 < found["trend"] < 0 and found["height"] == 0)
            self.assertTrue(all(math.isnan(f) for f in net.features(cosine=math.nan).values()))
            self.assertEqual(net.factor(cosine=math.inf), 1.0)
            net.learn(-1.0)
            net.save(self.folder / "n.safetensors")
            lower = net.factor(**seen)
            self.assertTrue(0.9 < lower < 1)
            other = module.LrNet()
            other.load(self.folder / "n.safetensors")
            self.assertEqual((other.factor(**seen), other.weights), (lower, net.weights))
            weights = [0.5] * 133
            net.weights = weights
            self.assertEqual(net.weights, weights)
            net.reset()
            self.assertAlmostEqual(net.factor(**seen), math.exp(0.3))
            with self.fails("ARGUMENT", "count is 2"):
                net.weights = [1, 2]
            with self.assertRaisesRegex(TypeError, "no 'cosinus'"):
                net.factor(cosinus=1)
            with self.fails("ARGUMENT", "online_rate is 2"):
                module.LrNet(online_rate=2.0)

    def test_steps_of_codes_and_under_the_guard(self):
        for module in (setun, plain):
            optimizer = module.Optimizer(method="muon", states="compact", flip_budget=0.25, guard_interval=2, schedule="linear",
                                         total_steps=100)
            initial = memoryview(array.array("f", [0.1, -0.4] * 8)).cast("B").cast("f", (4, 4))
            optimizer.add_compact("codes", initial)
            vector = array.array("f", [0.5, 0.5])
            optimizer.add("vector", vector, method="momentum", radius=0.01)
            first = flat(optimizer.read(0))
            self.assertAlmostEqual(first[1], -0.4, 2)
            self.assertEqual(flat(optimizer.read(1)), [0.5, 0.5])
            gradients = [[0.5, -0.25, 1.0, 0.125] * 4, [1.0, -1.0]]
            report = optimizer.step(gradients, loss=2.0)
            self.assertEqual((report.outcome, report.step, report.check_due), (module.StepOutcome.TAKEN, 1, 0))
            kept = flat(optimizer.read(0)), vector.tolist()
            self.assertNotEqual(kept[0], first)
            report = optimizer.step(gradients, loss=1.9)
            self.assertEqual((report.check_due, report.trits), (1, 16))
            self.assertNotEqual((flat(optimizer.read(0)), vector.tolist()), kept)
            with self.assertRaisesRegex(ValueError, "before has 2 losses, after has 1"):
                optimizer.judge([1.0, 2.0], [3.0])
            self.assertTrue(optimizer.judge([1.0, 2.0], [3.0, 4.0]))
            self.assertEqual((flat(optimizer.read(0)), vector.tolist()), kept)
            with self.fails("STATE", "no step waits"):
                optimizer.judge([1.0], [2.0])
            self.assertEqual((optimizer.report().undone, optimizer.report().radius_factor), (1, 0.25))
            optimizer.step(gradients, loss=1.9)
            self.assertFalse(optimizer.judge([1.0], [0.5]))
            report = optimizer.step(gradients, loss=float("nan"))
            self.assertEqual((report.outcome, report.step, report.skipped), (module.StepOutcome.SKIPPED, 2, 1))
            for index in (2, -1, 9):
                with self.fails("ARGUMENT", f"index is {index}, the optimizer has 2 parameters"):
                    optimizer.read(index)
            for name, call in (
                ("gradients", lambda: optimizer.step(None)),
                (r"gradients\[1\]", lambda: optimizer.step([gradients[0], None])),
                ("loss", lambda: optimizer.step(gradients, loss="2")),
                ("before", lambda: optimizer.judge(None, [1.0])),
                ("index", lambda: optimizer.read(None)),
                ("index", lambda: optimizer.report(None)),
                ("radius", lambda: setattr(optimizer, "radius", None)),
                ("learning_rate", lambda: optimizer.set_learning_rate(None)),
            ):
                with self.assertRaisesRegex(TypeError, f"^{name} is a "):
                    call()
            with self.fails("STATE", "element 1 of the gradient of vector"):
                optimizer.step([gradients[0], [1.0, math.nan]])
            self.assertEqual(optimizer.report().outcome, module.StepOutcome.BAD_GRADIENT)
            with self.fails("ARGUMENT", "setun_optimizer_add_compact"):
                module.Optimizer(states="compact").add("codes", memoryview(bytearray(64)).cast("f", (4, 4)), kind="ternary")
            with self.fails("ARGUMENT", "not compact"):
                module.Optimizer().add_compact("codes", memoryview(array.array("f", [1.0] * 4)).cast("B").cast("f", (2, 2)))

    def test_gradients_of_eight_bits(self):
        for module in (setun, plain):
            codes, scales = module.quantize_gradients([1.0, -2.0, 0.5] * 20, 32, seed=1)
            self.assertEqual((len(codes), len(scales)), (60, 2))
            back = flat(module.dequantize_gradients(codes, scales, 32))
            self.assertAlmostEqual(back[1], -2.0, 5)
            with self.fails("ARGUMENT", "block"):
                module.quantize_gradients([1.0], 7)

    def test_the_benchmark(self):
        heard = []
        results = setun.benchmark(heard.append, filter="add", quick=1, ceilings=0, seconds=0.005)
        self.assertEqual(heard, results)
        self.assertTrue(all("add" in result.operation for result in results))
        self.assertTrue({"scalar", "simd"} <= {result.backend_name for result in results})
        self.assertEqual(len(setun.benchmark(lambda result: False, filter="add", quick=1, ceilings=0)), 1)
        with self.fails("ARGUMENT", "no such"):
            setun.benchmark(filter="no such operation")

    def test_text(self):
        for module in (setun, plain):
            tokenizer = module.Tokenizer.train("character", self.text)
            self.assertEqual(tokenizer.vocabulary, 14)
            tokens = tokenizer.encode("the hat")
            self.assertEqual((len(tokens), tokenizer.decode(tokens)), (7, "the hat"))
            self.assertEqual((len(tokenizer.encode("")), tokenizer.decode([])), (0, ""))
            with self.fails("FORMAT", "U+0078"):
                tokenizer.encode("x")
            tokenizer.save(self.folder / "tokenizer.json")
            self.assertEqual(module.Tokenizer(self.folder / "tokenizer.json").vocabulary, 14)
            pairs = module.Tokenizer.train(module.TokenizerKind.BPE, str(self.text), 300)
            self.assertLess(len(pairs.encode("the cat sat")), 11)
            data = module.Tokenizer.train("byte")
            self.assertEqual(data.decode_bytes(data.encode(b"\xff\0")), b"\xff\0")
            with self.fails("IO", "missing.txt"):
                module.Tokenizer.train("bpe", self.folder / "missing.txt")
            with self.assertRaisesRegex(ValueError, "path has a NUL at byte 1"):
                module.Tokenizer("a\0b")
            dataset = module.Dataset.open(self.text, tokenizer, 0.25)
            self.assertGreater(dataset.tokens("train"), 2 * dataset.tokens("validation"))
            windows, targets = dataset.batch(3, 4, step=2, seed=1)
            self.assertEqual(flat(windows)[1:4], flat(targets)[:3])
            again = module.Dataset.from_tokens(tokenizer.encode("the cat sat on"), 14, 0)
            self.assertEqual(again.tokens(), 14)

    def test_models(self):
        for module in (setun, plain):
            model = module.Model(vocabulary=20, seed=3, **SMALL)
            self.assertEqual((model.options.width, model.options.hidden), (32, 128))
            tensors = dict(model.tensors())
            self.assertIn("model.embed_tokens.weight", tensors)
            self.assertEqual(sum(len(flat(tensor)) for tensor in tensors.values()), model.parameters)
            tokens = array.array("I", [1, 2, 3, 4, 5, 6])
            logits = model.forward(tokens, 2, 3)
            self.assertEqual(len(flat(logits)), 2 * 3 * 20)
            self.assertAlmostEqual(model.loss(tokens, tokens, 2, 3), 3.0, delta=1)
            with self.assertRaisesRegex(ValueError, "targets has 2 elements, expected 2 \\* 3"):
                model.loss(tokens, [1, 2], 2, 3)
            with self.fails("ARGUMENT", "tokens[1] is 20"):
                model.forward([1, 20], 1, 2)
            report = model.save(self.folder / "m.safetensors", packing="full")
            self.assertEqual(report.file_bytes, (self.folder / "m.safetensors").stat().st_size)
            loaded = module.Model.load(self.folder / "m.safetensors")
            self.assertEqual(flat(loaded.forward(tokens, 2, 3)), flat(logits))
            with self.fails("ARGUMENT", "codebook is 16, expected 0"):
                model.save(self.folder / "m.safetensors", packing="full", codebook=16)
            small = model.save(self.folder / "c.safetensors", packing="mask_sign", codebook=16)
            self.assertLess(small.file_bytes, report.file_bytes)
            self.assertAlmostEqual(module.Model.load(self.folder / "c.safetensors").loss(tokens, tokens, 2, 3), 3.0, delta=1)
            packed = module.Model.load(self.folder / "c.safetensors")
            copy = packed.copy()
            self.assertAlmostEqual(copy.loss(tokens, tokens, 2, 3), packed.loss(tokens, tokens, 2, 3), delta=1e-4)
            dataset = module.Dataset.from_tokens([i % 20 for i in range(2000)], 20)
            with self.fails("UNSUPPORTED", "no masters to train"):
                module.Trainer(packed, dataset, batch_size=2, max_steps=2)
            self.assertTrue(module.Trainer(copy, dataset, batch_size=2, max_steps=2, n_clusters=0).run())
            self.assertEqual(packed.copy(False).options.quantize_weights, 0)
            sampler = module.Sampler(loaded, temperature=0)
            with self.fails("STATE", "no prompt"):
                sampler.next()
            sampler.prompt([1, 2])
            self.assertLess(sampler.next(), 20)
            self.assertFalse(sampler.slid)

    def test_a_loop_of_ones_own(self):
        for module in (setun, plain):
            tokenizer = module.Tokenizer.train("character", self.text)
            dataset = module.Dataset.open(self.text, tokenizer, 0)
            model = module.Model(vocabulary=tokenizer.vocabulary, seed=1, **SMALL)
            described = model.descriptions()
            self.assertEqual(described[2], ("model.layers.0.self_attn.q_proj.weight", module.ParameterKind.TERNARY, (32, 32)))
            self.assertEqual([each.name for each in described], [name for name, _ in model.tensors()])
            weights = [model.read(index) for index in range(len(described))]
            optimizer = module.Optimizer(learning_rate=0.01)
            for each, values in zip(described, weights):
                shaped = memoryview(values).cast("B").cast("f", each.shape)
                optimizer.add(each.name, shaped, kind=each.kind)
            losses, gradients = [], None
            for step in range(40):
                windows, targets = dataset.batch(8, 16, step=step, seed=1)
                loss, gradients = model.backward(windows, targets, 8, 16, gradients=gradients, seed=1, step=step)
                losses.append(loss)
                optimizer.step(gradients)
                for index, values in enumerate(weights):
                    model.write(index, values)
            self.assertAlmostEqual(losses[0], 2.6, delta=0.6)
            self.assertLess(sum(losses[-5:]) / 5, losses[0] - 1)
            self.assertEqual(flat(model.read(3, weights[3])), flat(dict(model.tensors())[described[3].name]))
            with self.fails("ARGUMENT", "values[1] is NaN"):
                model.write(1, [1.0, float("nan")] + [1.0] * 30)
            with self.assertRaisesRegex(ValueError, "there are 1 gradients, the model has 12 tensors"):
                model.backward([1, 2], [2, 3], 1, 2, gradients=gradients[:1])
            with self.assertRaisesRegex(ValueError, "the gradient of model.layers.0.input_layernorm.weight has 1 elements, expected 32"):
                model.backward([1, 2], [2, 3], 1, 2, gradients=[gradients[0], array.array("f", [0])] + gradients[2:])
            with self.assertRaisesRegex(TypeError, "is a list, expected an array that can be written"):
                model.backward([1, 2], [2, 3], 1, 2, gradients=[[0.0]] + gradients[1:])
            with self.assertRaisesRegex(TypeError, "BackwardOptions has no option 'seeds'"):
                model.backward([1, 2], [2, 3], 1, 2, seeds=1)

    def test_train_and_generate(self):
        for module in (setun, plain):
            seen = []
            model, tokenizer = module.train(self.text, seen.append, model=SMALL, tokenizer="character", **TINY)
            self.assertEqual([m.step for m in seen], list(range(1, 13)))
            self.assertGreater(seen[-1].validation_loss, 0)
            text = module.generate(model, tokenizer, "the", max_tokens=30, seed=5)
            self.assertEqual(len(text), 30)
            pieces = []
            module.generate(model, tokenizer, "the", pieces.append, max_tokens=30, seed=5)
            self.assertEqual("".join(pieces), text)
            cut = module.generate(model, tokenizer, "the", lambda piece: False, max_tokens=30, seed=5)
            self.assertEqual(cut, text[:1])
            with self.assertRaises(ZeroDivisionError):
                module.generate(model, tokenizer, "the", lambda piece: 1 / 0)
            with self.fails("ARGUMENT", "prompt is empty"):
                module.generate(model, tokenizer, "")
            stopped, _ = module.train(self.text, lambda m: m.step < 3, model=module.ModelOptions(**SMALL), **TINY)
            self.assertGreater(stopped.parameters, 0)
            with self.assertRaisesRegex(TypeError, "TrainOptions has no option 'steps'"):
                module.train(self.text, steps=3)
            with self.assertRaisesRegex(ValueError, "schedule is 'flat', expected one of cosine, constant, linear"):
                module.train(self.text, schedule="flat")
            with self.assertRaisesRegex(TypeError, "progress is a int, expected a function"):
                module.train(self.text, progress=7)
            with self.fails("ARGUMENT", "batch_size is -1"):
                module.train(self.text, batch_size=-1)

    def test_where_the_learning_rate_ends(self):
        for options, ratio in (({}, 0.1), ({"method": "muon"}, 0.01), ({"method": "muon", "minimum_lr_ratio": 0.5}, 0.5)):
            rates = []
            options = {"warmup_steps": 0, "use_adaptive_lr": 0, "learning_rate": 1e-3, "checkpoint_dir": None, **options}
            trainer = self.trainer("rates", lambda m: rates.append(m.learning_rate), **options)
            self.assertTrue(trainer.run())
            self.assertAlmostEqual(rates[-1] / 1e-3, ratio, places=9, msg=options)
        with self.fails("ARGUMENT", "minimum_lr_ratio is 1.5"):
            self.trainer("rates", minimum_lr_ratio=1.5)

    def test_gradients_that_are_released(self):
        def losses(**options):
            trainer = self.trainer("released", checkpoint_dir=None, clip=0.0, **options)
            return [trainer.step().loss for _ in range(5)]

        self.assertEqual(losses(gradient_release=1), losses())
        with self.fails("ARGUMENT", "clip is 1, expected 0 with gradient_release"):
            self.trainer("released", gradient_release=1)
        with self.fails("ARGUMENT", "guard is on, expected off with gradient_release"):
            self.trainer("released", gradient_release=1, clip=0.0, guard=1)

    def test_the_loss_of_each_cluster(self):
        trainer = self.trainer("clusters", n_clusters=3, checkpoint_dir=None)
        trainer.step()
        losses = trainer.cluster_losses()
        self.assertEqual(len(losses), 3)
        self.assertTrue(all(windows > 0 for _, windows in losses), losses)
        self.assertEqual(self.trainer("even", n_clusters=0).cluster_losses(), [])

    def trainer(self, folder, progress=None, cancel=None, **options):
        tokenizer = setun.Tokenizer.train("byte")
        dataset = setun.Dataset.open(self.text, tokenizer)
        options = {"checkpoint_dir": self.folder / folder, "evaluation_interval": 4, **TINY, **options}
        return setun.Trainer(setun.Model(**SMALL), dataset, tokenizer, progress, cancel, **options)

    def final(self, folder):
        names = ("model.safetensors", "optimizer.safetensors")
        return [(self.folder / folder / "step-00000012" / name).read_bytes() for name in names]

    def test_an_exception_in_a_callback_leaves_a_run_that_goes_on(self):
        whole = []
        self.assertTrue(self.trainer("whole", lambda m: whole.append(m.loss)).run())

        def fail(m):
            broken.append(m.loss)
            if m.step == 5:
                raise LookupError("five")

        broken = []
        trainer = self.trainer("broken", fail)
        with self.assertRaisesRegex(LookupError, "five"):
            trainer.run()
        self.assertEqual(trainer.metrics.step, 5)
        resumed = self.trainer("broken", fail)
        resumed.resume(self.folder / "broken")
        self.assertTrue(resumed.run())
        self.assertEqual(broken, whole)
        self.assertEqual(self.final("broken"), self.final("whole"))
        with self.fails("STATE", "training is finished"):
            resumed.step()
        self.assertGreater(resumed.evaluate(), 0)

    def test_a_token_stops_a_run_from_another_thread(self):
        token = setun.Cancel()
        trainer = self.trainer("run", cancel=token, max_steps=100000, evaluation_interval=0)
        threading.Timer(0.3, token.request).start()
        with self.fails("CANCELLED", "cancelled after step"):
            trainer.run()
        with self.fails("CANCELLED", "cancelled"):
            trainer.step()
        token.reset()
        at = trainer.metrics.step
        self.assertEqual(trainer.step().step, at + 1)
        trainer.save()

    def test_objects_are_used_by_several_threads(self):
        model = setun.Model(**SMALL)
        results, tokens = [], array.array("I", range(8))
        threads = [threading.Thread(target=lambda: results.append(flat(model.forward(tokens, 1, 8)))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(results), 4)
        self.assertTrue(all(result == results[0] for result in results))


class Overhead(Embedding):
    """Printed, and asserted with room for a busy machine: what ctypes adds to a small call."""

    @staticmethod
    def microseconds(call):
        # Processor time: other programs of the machine are not this call's.
        count = 5000
        return min(timeit.repeat(call, number=count, repeat=9, timer=time.thread_time)) / count * 1e6

    def test_a_small_call_takes_a_few_microseconds(self):
        context = setun.Context(backend="simd")
        library, handle = setun._library, context._handle
        threads, weights = ctypes.c_int32(), (ctypes.c_float * 16)(*range(16))
        packed, size, scale = (ctypes.c_uint8 * 4)(), ctypes.c_size_t(4), ctypes.c_float()
        options = setun.QuantizeOptions(context=context)
        arguments = weights, 4, 4, ctypes.byref(options), packed, ctypes.byref(size), ctypes.byref(scale), 1
        self.assertEqual(library.setun_quantize(*arguments), 0)
        matrix = array.array("f", range(16))
        calls = {
            "setun_context_threads, ctypes alone": lambda: library.setun_context_threads(handle, ctypes.byref(threads)),
            "Context.threads": lambda: context.threads,
            "setun_quantize of 16 weights, ctypes alone": lambda: library.setun_quantize(*arguments),
            "setun.quantize of 16 weights, new arrays included": lambda: setun.quantize(matrix, 4, 4),
        }
        print()
        for name, call in calls.items():
            took = self.microseconds(call)
            print(f"  {name}: {took:.2f} us")
            self.assertLess(took, 50, name)


if __name__ == "__main__":
    unittest.main()
