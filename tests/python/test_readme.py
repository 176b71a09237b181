"""Every code block of README.md runs, those in C and C++ compiled without a warning. Every command, path and make target is there.

Two kinds of commands are not run but looked up, target by target and option by option: those that train for minutes or run
these tests themselves (`make`, whose programs other tests run), and those that measure for hours.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from train_program import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
RELEASE = ROOT / "target" / "release"




def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands(block):
    """The commands of a shell block, without comments; a line that ends in a backslash goes on."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


class Readme(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="setun-")
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name)
        shutil.copy(ROOT / "include" / "setun.h", self.folder / "corpus.txt")

    def run_in_folder(self, command, **more):
        """Runs a program that shows something, and complains about nothing."""
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, errors="replace", **more)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stderr, "")
        self.assertNotEqual(done.stdout, "", "a program that shows nothing")

    def run_compiled(self, language, source, compiler):
        for program in blocks(language):
            with self.subTest(program=program.splitlines()[0]):
                (self.folder / source).write_text(program, encoding="utf-8")
                command = [*compiler.split(), *"-Wall -Wextra -Werror -pedantic -o main".split(), source]
                command += ["-I", ROOT / "include", "-L", RELEASE, "-lsetun", f"-Wl,-rpath,{RELEASE}"]
                done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.run_in_folder([self.folder / "main"])

    def test_every_c_program_works(self):
        self.assertGreaterEqual(len(blocks("c")), 4)
        self.run_compiled("c", "main.c", "cc -std=c99")

    def test_every_c_plus_plus_program_works(self):
        self.run_compiled("cpp", "main.cpp", "c++ -std=c++17")

    def test_every_python_program_works(self):
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "c_examples" / "python")}
        for program in blocks("python"):
            with self.subTest(program=program.splitlines()[0]):
                (self.folder / "main.py").write_text(program, encoding="utf-8")
                self.run_in_folder([sys.executable, "main.py"], env=environment)

    def test_every_language_is_known(self):
        languages = set(re.findall(r"^```(\w*)\n.*?^```$", README, re.MULTILINE | re.DOTALL))
        self.assertLessEqual(languages, {"c", "cpp", "python", "sh", ""}, "blocks that no test here runs")

    def test_every_command_is_there(self):
        for block in blocks("sh"):
            if "./" in block:  # the next test runs it
                continue
            for words in commands(block):
                with self.subTest(command=words):
                    check = {"make": self.check_make, "cargo": self.check_cargo, "python3": self.check_python,
                             "cc": self.check_compiler, "c++": self.check_compiler,
                             "tests/gpu.sh": self.check_gpu}.get(words[0])
                    self.assertIsNotNone(check, "a command that no test here knows")
                    check(words)

    def check_make(self, words):
        makefile = "".join((ROOT / "c_examples" / name).read_text(encoding="utf-8") for name in ("Makefile", "install/install.mk"))
        self.assertEqual(words[:3], ["make", "-C", "c_examples"])
        targets = [word for word in words[3:] if "=" not in word]
        variables = [word.split("=")[0] for word in words[3:] if "=" in word]
        known = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
        self.assertLessEqual(set(targets), set(known))
        for variable in variables:
            self.assertRegex(makefile, rf"\$[({{]{variable}\b")

    def check_gpu(self, words):
        script = (ROOT / "tests" / "gpu.sh").read_text(encoding="utf-8")
        self.assertIn(f"{words[1] if words[1:] else repr('')})", script)

    def check_cargo(self, words):
        """A name after `cargo test` is that of tests that exist; everything else cargo has to know."""
        names = [word for word in words[2:] if not word.startswith("-") and not word.isdigit()]
        sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.rs"))
        for name in names:
            self.assertRegex(sources, rf"(fn|mod) \w*{name.split('::')[-1]}")
        self.assertIn(words[1], {"build", "test"})

    def check_python(self, words):
        """The script is there, runs, and knows the options."""
        source = (ROOT / words[1]).read_text(encoding="utf-8")
        done = subprocess.run([sys.executable, words[1], "--help"], cwd=ROOT, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        for option in (word for word in words[2:] if word.startswith("-")):
            self.assertIn(f'"{option}"', source)

    def check_compiler(self, words):
        """The command works where its paths are."""
        language = "c" if words[0] == "cc" else "cpp"
        (self.folder / f"main.{language}").write_text(blocks(language)[0], encoding="utf-8")
        for name in ("include", "target"):
            if not (self.folder / name).exists():
                (self.folder / name).symlink_to(ROOT / name)
        words = [word.replace("$PWD", str(self.folder)) for word in words]
        subprocess.run(words, cwd=self.folder, check=True)
        self.run_in_folder([self.folder / "main"])

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
        fields = set(re.findall(r"(\w+);", re.sub(r"/\*.*?\*/", "", struct, flags=re.DOTALL))) - {"struct_size", "reserved"}
        table = README.split("## Options of a training run")[1].split("\n## ")[0]
        self.assertEqual(set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)), fields)


if __name__ == "__main__":
    unittest.main()
