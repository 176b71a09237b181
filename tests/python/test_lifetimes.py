"""What a process goes through with the library: the C programs under valgrind and the sanitizers, loading and unloading,
OpenMP and another Rust library beside it, and what a handle costs."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from header import LIBRARY
from train_program import ROOT

# One brings an allocator of its own, and would be what is looked at.
PROGRAMS = sorted(path.stem for path in (ROOT / "tests" / "c").glob("*.c") if path.stem != "allocations")
SOURCES = ROOT / "tests" / "lifetimes"
LIMIT = 600  # seconds: far more than anything here takes, also on a busy machine


class Lifetimes(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="setun-")
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name)
        # Symbols are enough for a stack; the debug information of the whole library takes long to read.
        self.library = self.folder / "libsetun.so.0"
        subprocess.run(["strip", "--strip-debug", "-o", self.library, LIBRARY], check=True)

    def compiled(self, source, *more):
        program = self.folder / source.stem
        command = [os.environ.get("CC", "cc"), "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-g",
                   "-I", ROOT / "include", "-I", ROOT / "tests" / "c", "-o", program, source, *more,
                   self.library, f"-Wl,-rpath,{self.folder}", "-lpthread", "-lm"]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return program

    def run_in_place(self, program, *before, **environment):
        """Runs a program in a folder of its own."""
        place = self.folder / f"in-{program.stem}"
        place.mkdir()
        return subprocess.run([*before, program, place], cwd=place, capture_output=True, text=True, errors="replace",
                              timeout=LIMIT, env={**os.environ, **environment})

    def each_program(self, run):
        with ThreadPoolExecutor(2) as pool:
            for name, done in zip(PROGRAMS, pool.map(run, PROGRAMS)):
                with self.subTest(program=name):
                    self.assertEqual(done.returncode, 0, done.stdout + done.stderr[-4000:])

    @unittest.skipUnless(shutil.which("valgrind"), "valgrind is not installed")
    def test_valgrind_finds_nothing(self):
        """No invalid access, no use of what was never written, nothing lost."""
        # Stacks are as deep as what the suppressions name.
        memcheck = ["valgrind", "--quiet", "--num-callers=40", "--error-exitcode=99", "--leak-check=full", "--child-silent-after-fork=yes",
                    "--show-leak-kinds=definite,indirect,possible", "--errors-for-leak-kinds=definite,indirect,possible",
                    f"--suppressions={SOURCES / 'valgrind.supp'}"]
        self.each_program(lambda n: self.run_in_place(
            self.compiled(ROOT / "tests" / "c" / f"{n}.c"), *memcheck, SETUN_CYCLES="2"))

    def test_the_sanitizers_find_nothing(self):
        """The programs are instrumented, the library is not: what is found are leaks, double frees and the like on both
        sides, and what the library reads and writes through the C library's functions past the end of a program's arrays."""
        flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
        probe = self.folder / "probe.c"
        probe.write_text("int main(void) { return 0; }\n")
        if subprocess.run(["cc", *flags, "-o", self.folder / "probe", probe], capture_output=True).returncode != 0:
            self.skipTest("the compiler has no sanitizers")
        self.each_program(lambda n: self.run_in_place(
            self.compiled(ROOT / "tests" / "c" / f"{n}.c", *flags), SETUN_CYCLES="20",
            ASAN_OPTIONS="detect_leaks=1:allocator_may_return_null=1"))

    def test_loaded_and_unloaded_twice(self):
        """dlclose leaves the library in place, because its threads run on; it works before, between and after."""
        code = """
import ctypes, _ctypes, sys
for round in range(2):
    library = ctypes.CDLL(sys.argv[1])
    library.setun_last_error.restype = ctypes.c_char_p
    model, tokens, logits = ctypes.c_void_p(), (ctypes.c_uint32 * 2)(1, 2), (ctypes.c_float * 512)()
    assert library.setun_model_create(None, None, ctypes.byref(model)) == 0, library.setun_last_error()
    assert library.setun_model_forward(model, tokens, ctypes.c_int64(1), ctypes.c_int64(2), logits) == 0
    library.setun_model_free(model)
    _ctypes.dlclose(library._handle)
"""
        done = subprocess.run([sys.executable, "-c", code, self.library], capture_output=True, text=True, timeout=LIMIT)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_beside_openmp_on_eight_threads(self):
        source, probe = SOURCES / "openmp.c", self.folder / "probe.c"
        probe.write_text("#include <omp.h>\nint main(void) { return omp_get_num_threads() != 1; }\n")
        if subprocess.run(["cc", "-fopenmp", "-o", self.folder / "probe", probe], capture_output=True).returncode != 0:
            self.skipTest("the compiler has no OpenMP")
        done = self.run_in_place(self.compiled(source, "-fopenmp"))
        self.assertEqual(done.returncode, 0, done.stderr)

    @unittest.skipUnless(shutil.which("rustc"), "rustc is not installed")
    def test_beside_another_rust_library(self):
        other = self.folder / "libother.so"
        subprocess.run(["rustc", "--edition", "2024", "--crate-type", "cdylib", "-O", "-o", other, SOURCES / "other.rs"],
                       check=True, cwd=self.folder)
        done = self.run_in_place(self.compiled(SOURCES / "beside_rust.c", other))
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_handle_costs_nanoseconds(self):
        """Printed, not asserted closely: 50 ns are promised for one thread on a machine that does nothing else."""
        done = self.run_in_place(self.compiled(SOURCES / "lookup.c", "-O2"))
        self.assertEqual(done.returncode, 0, done.stderr)
        print(done.stdout.strip(), file=sys.stderr)
        times = [float(number) for number in re.findall(r"(-?[0-9.]+) ns", done.stdout)]
        self.assertEqual(len(times), 3)
        self.assertLess(times[0], 500)


if __name__ == "__main__":
    unittest.main()
