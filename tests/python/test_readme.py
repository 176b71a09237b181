"""Every C program in README.md compiles without a warning and runs; every path and make target that it names is there."""

import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from train_program import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
RELEASE = ROOT / "target" / "release"


class Readme(unittest.TestCase):
    def test_every_c_program_works(self):
        programs = re.findall(r"^```c\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
        self.assertGreaterEqual(len(programs), 4)
        with tempfile.TemporaryDirectory(prefix="setun-") as scratch:
            folder = Path(scratch)
            shutil.copy(ROOT / "include" / "setun.h", folder / "corpus.txt")
            for number, program in enumerate(programs):
                with self.subTest(program=program.splitlines()[0]):
                    (folder / "main.c").write_text(program, encoding="utf-8")
                    command = "cc -std=c99 -Wall -Wextra -Werror -pedantic main.c -o main".split()
                    command += ["-I", ROOT / "include", "-L", RELEASE, "-lsetun", f"-Wl,-rpath,{RELEASE}"]
                    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    done = subprocess.run(folder / "main", cwd=folder, capture_output=True, text=True, errors="replace")
                    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                    self.assertEqual(done.stderr, "")
                    self.assertNotEqual(done.stdout, "", "a program that shows nothing")

    def test_the_programs_run_as_shown(self):
        block = next(b for b in re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL) if "./train" in b)
        run = ROOT / "c_examples" / "build" / "small"
        shutil.rmtree(run, ignore_errors=True)
        self.addCleanup(shutil.rmtree, run, ignore_errors=True)
        done = subprocess.run(["sh", "-ec", block], cwd=ROOT, capture_output=True, text=True, errors="replace")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("tokens/s", done.stderr)

    def test_every_make_target_exists(self):
        targets = set(re.findall(r"make -C c_examples (\w+)", README))
        makefile = (ROOT / "c_examples" / "Makefile").read_text(encoding="utf-8")
        known = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())
        self.assertLessEqual(targets, known)
        self.assertLessEqual({"train", "test"}, targets)

    def test_every_path_exists(self):
        for path in re.findall(r"`((?:src|include|tests|c_examples)/[\w./]+)`", README):
            self.assertTrue((ROOT / path).exists() or path.startswith("c_examples/build"), path)
        for link in re.findall(r"\]\(([^)#:]+)\)", README):
            self.assertTrue((ROOT / link).exists(), link)

    def test_every_option_of_the_table_is_in_the_header(self):
        header = (ROOT / "include" / "setun.h").read_text(encoding="utf-8")
        struct = re.search(r"typedef struct \{([^}]*)\} setun_train_options;", header)[1]
        fields = set(re.findall(r"(\w+);", re.sub(r"/\*.*?\*/", "", struct, flags=re.DOTALL))) - {"struct_size"}
        table = README.split("## Options of a training run")[1].split("\n## ")[0]
        self.assertEqual(set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)), fields)


if __name__ == "__main__":
    unittest.main()
