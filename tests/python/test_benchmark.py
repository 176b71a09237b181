"""c_examples/build/benchmark: the shape of what it prints, and that the numbers belong together. Not how fast anything is."""

import json
import os
import re
import subprocess
import unittest

import operation_speed
from operation_speed import PROGRAM, ROOT
from train_program import has_gpu


def run(*arguments, status=0):
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=300)
    if done.returncode != status:
        raise AssertionError(f"{arguments} ended with {done.returncode}, expected {status}\n{done.stdout}{done.stderr}")
    return done.stdout, done.stderr


class Benchmark(unittest.TestCase):
    def test_the_table_has_every_row_of_an_operation(self):
        printed, _ = run("--quick", "--filter", "attention", "--threads", "2")
        # The rows of a GPU, if there is one, are another test's.
        header, *lines = (line for line in printed.splitlines() if not re.search(r"\bcuda ", line))
        self.assertRegex(header, r"^setun \d+\.\d+\.\d+, .+, level \S+, threads 2, load [\d.]+$")
        number = r"\d[\d.e+]*"
        time = rf"{number} (?:s |ms|us|ns)"
        measured = rf"{time} \(median +{time}\) +{number} (?:GB/s|GOP/s|GFLOP/s)"
        where = r"(?:scalar|simd, \S+|parallel, 2 threads)"
        ceiling = re.compile(rf"^(?:f32 peak|int8 peak|unpack peak|read|copy) +(?:\d+ [KM]iB)? +{where} +{measured} *$")
        result = re.compile(rf"^  {where} +{measured} +[\d.]+% of (?:f32 peak|int8 peak|(?:read|copy) \d+ [KM]iB) +[\d.]+x scalar$")
        blocks = "\n".join(lines).split("\n\n")
        for line in blocks[0].splitlines():
            self.assertRegex(line, ceiling)
        self.assertEqual(len(blocks[0].splitlines()), 10)
        self.assertEqual([block.split("  ")[0] for block in blocks[1:]],
                         ["attention", "attention_backward", "attention_cached"])
        for block in blocks[1:]:
            _, choice, *rows = block.splitlines()
            self.assertRegex(choice, r"^  dispatcher: .*(?:simd|parallel)")
            self.assertGreaterEqual(len(rows), 3)
            self.assertTrue(rows[0].startswith("  scalar ") and rows[0].endswith(" 1.0x scalar"), rows[0])
            self.assertTrue(rows[1].startswith("  simd, baseline"), rows[1])
            self.assertTrue(rows[-1].startswith("  parallel, 2 threads"), rows[-1])
            for row in rows:
                self.assertRegex(row, result)

    def test_a_training_step_is_broken_down(self):
        printed, _ = run("--train", "--size", "S", "--steps", "5", "--threads", "2")
        header, rate, memory, *rows = printed.strip().splitlines()
        self.assertRegex(header, r"^size S, ternary, batch 12, 2 threads, 5 steps: \d+ tokens/s, [\d.]+ ms a step$")
        self.assertRegex(rate, r"^[\d.]+ GFLOP/s-equivalent, \d+% of the f32 peak, .*int8 peak [\d.]+ GOP/s, copy [\d.]+ GB/s$")
        self.assertRegex(memory, r"^first step done \d+\.\d+ s after the start, peak memory \d+ MiB$")
        row = re.compile(r"^(\w+) +[\d.]+ ms +([\d.]+)% +[\d.]+ calls +[\d.]+ (GB/s|GFLOP/s|GOP/s) +\d+%$")
        operations = {m[1]: (float(m[2]), m[3]) for m in map(row.match, rows[:-1])}
        self.assertEqual(len(operations), len(rows) - 1)
        self.assertEqual(operations["weight_gradient"][1], "GOP/s")
        self.assertEqual(operations["attention"][1], "GFLOP/s")
        self.assertEqual(operations["step"][1], "GB/s")
        between = float(re.fullmatch(r"between the operations +-?[\d.]+ ms +(-?[\d.]+)%", rows[-1])[1])
        self.assertAlmostEqual(sum(share for share, _ in operations.values()) + between, 100, delta=2)

    def test_the_numbers_belong_together(self):
        results = operation_speed.measure("--quick", "--filter", "matmul")
        ceilings = {(r["operation"], r["threads"] > 1): r["rate"] for r in results if r["is_ceiling"]}
        operations = [r for r in results if not r["is_ceiling"]]
        self.assertEqual({r["operation"] for r in operations},
                         {"matmul", "matmul_ternary", "matmul_ternary_qkv", "matmul_ternary_backward",
                          "matmul_ternary_transposed"})
        for r in results:
            self.assertLessEqual(r["seconds"], r["median_seconds"])
            self.assertGreaterEqual(r["repeats"], 3)
            amount = r["bytes"] if r["unit"] == "GB/s" else r["operations"]
            self.assertAlmostEqual(r["rate"] * 1e9 * r["seconds"] / amount, 1, places=4)
        for r in operations:
            sizes = {"matmul_ternary_transposed": 768 * 128 * 128, "matmul_ternary_qkv": 3 * 384 * 384}
            self.assertEqual(r["call_size"], sizes.get(r["operation"], 64 * 128 * 128))
            self.assertEqual(r["operations"], 2 * r["call_size"])
            scalar = next(s for s in operations if s["operation"] == r["operation"] and s["backend"] == "scalar")
            self.assertAlmostEqual(r["speedup"] * r["seconds"] / scalar["seconds"], 1, places=4)
            if r["ceiling"].endswith("peak"):
                peak = ceilings[r["ceiling"], r["threads"] > 1]
                self.assertAlmostEqual(r["share"] * peak / r["rate"], 1, places=4)

    def test_the_table_for_the_readme(self):
        lines = operation_speed.table(operation_speed.measure("--quick", "--filter", "rope")).splitlines()
        self.assertEqual(len(lines), 2 + 5 + 1 + 2 + 1)
        self.assertRegex(lines[-1], r"^\| rope, 1 x 64, 4 heads of 32 \| [\d.]+ \| [\d.]+ \| [\d.]+ GB/s \| \d+% of copy 256 KiB \|")
        self.assertEqual(operation_speed.verdict([3, 4], 3), "true")
        self.assertEqual(operation_speed.verdict([2.9, 4], 3), "not at every size")
        self.assertEqual(operation_speed.verdict([2.9], 3), "false")
        self.assertEqual([operation_speed.significant(x) for x in (0.0123, 0.5, 1.234, 56.78, 1234.5)],
                         ["0.01", "0.50", "1.23", "56.8", "1234"])

    def test_the_gpu_is_one_of_the_rows(self):
        driver = ROOT / "target" / "emulate"
        if not (driver / "libcuda.so.1").exists():
            self.skipTest("no emulated driver: cargo test --lib makes it")
        command = [PROGRAM, "--json", "--quick", "--backend", "cuda", "--filter", "fill"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LD_LIBRARY_PATH": str(driver)},
                              timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr)
        ceiling, fill = map(json.loads, done.stdout.splitlines())
        self.assertEqual((ceiling["operation"], ceiling["sizes"], ceiling["is_ceiling"]), ("copy", "16 MiB", True))
        self.assertEqual((fill["operation"], fill["backend"], fill["level"]), ("fill", "cuda", ""))
        self.assertEqual((fill["ceiling"], fill["speedup"]), ("copy 16 MiB", None))
        self.assertGreater(fill["share"], 0)

    def test_every_row_gives_what_scalar_gives(self):
        printed, _ = run("--quick", "--parity", "--threads", "2")
        *cases, summary = printed.splitlines()[1:]
        self.assertRegex(summary, r"^\d+ comparisons, \d+ of them on cuda, 0 differ; setun .* levels: baseline")
        self.assertTrue(all(not case.startswith(" ") for case in cases), cases)
        self.assertGreaterEqual(len({case.split("  ")[0] for case in cases}), 30)

    def test_a_level_above_the_environments_is_refused(self):
        level = operation_speed.measure("--quick", "--filter", "fill")[-1]["level"]
        if level == "baseline":
            self.skipTest("this machine has no level above the baseline")
        done = subprocess.run([PROGRAM, "--quick", "--filter", "fill", "--level", level], capture_output=True, text=True,
                              env={**os.environ, "SETUN_CPU_LEVEL": "baseline"}, timeout=300)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"level is '{level}', above SETUN_CPU_LEVEL, 'baseline'", done.stderr)

    def test_what_it_refuses(self):
        for arguments, text in ((["--filter", "nothing"], "filter is 'nothing'"), (["--level", "x"], "level is 'x'"),
                                (["--seconds", "0"], "seconds is 0"), (["--threads", "99999999999"], "threads")):
            _, errors = run("--quick", *arguments, status=1)
            self.assertIn(text, errors)
        if not has_gpu():
            self.assertIn("DEVICE", run("--quick", "--backend", "cuda", status=1)[1])
        for other in ("--parity", "--train"):
            self.assertIn("--backend goes neither", run("--backend", "cuda", other, status=2)[1])
        run("--no-such", status=2)
        self.assertIn("--filter", run("--help")[0])


if __name__ == "__main__":
    unittest.main()
