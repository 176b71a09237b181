"""The binary interface that programs are compiled against: tests/abi/golden.txt says what it is.

    python3 tests/python/test_abi.py --update      records what was added; refuses what was changed or removed
    python3 tests/python/test_abi.py --break       records everything: only with a new SONAME (build.rs), or before 1.0

and a program that was compiled against a header with fewer fields works with this library: tests/abi/older_program.c.
"""

import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import header as header_module
from header import LIBRARY
from train_program import ROOT

GOLDEN = ROOT / "tests" / "abi" / "golden.txt"
HEADER = header_module.parse()
STRICT = "-std=c99 -Wall -Wextra -Werror -pedantic".split()


def compiled(source, folder, *more, libraries=()):
    """Compiles a C program and returns its path."""
    path = Path(folder, "main.c")
    path.write_text(source, encoding="utf-8")
    program = Path(folder, "main")
    command = [os.environ.get("CC", "cc"), *STRICT, *more, "-o", program, path, *libraries]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{command}: {done.stderr}")
    return program


def measured():
    """The interface as the compiler and the library have it: one line for each thing that must not change."""
    lines = []
    for name in HEADER.macros:
        if not name.startswith("SETUN_VERSION"):
            lines.append((f"macro {name}", f"(long long)({name})"))
    for name, enum in HEADER.enums.items():
        lines.append((f"enum {name} size", f"(long long)sizeof({name})"))
        lines += [(f"enum {name} {constant}", f"(long long)({constant})") for constant in enum]
    for name, struct in HEADER.structs.items():
        lines.append((f"struct {name} size", f"(long long)sizeof({name})"))
        for field in struct.fields:
            label = f"field {name}.{field.name} ({field.base}{' ' + '*' * field.stars if field.stars else ''}) offset"
            lines.append((label, f"(long long)offsetof({name}, {field.name})"))
    prints = "".join(f'    printf("%s %lld\\n", "{label}", {value});\n' for label, value in lines)
    source = f'#include "setun.h"\n#include <stdio.h>\n\nint main(void) {{\n{prints}    return 0;\n}}\n'
    with tempfile.TemporaryDirectory(prefix="setun-") as folder:
        program = compiled(source, folder, "-I", ROOT / "include")
        found = subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()
    text = header_module.PATH.read_text(encoding="utf-8")
    found += [" ".join(f"callback {c}".split()) for c in re.findall(r"^typedef (\w+ \(\*[^;]*);", text, re.MULTILINE)]
    found += [f"function {function.prototype}" for function in HEADER.functions.values()]
    listing = subprocess.run(["nm", "-D", "--defined-only", "--format=posix", LIBRARY], capture_output=True, text=True, check=True)
    return found + [f"symbol {line.split()[0]}" for line in listing.stdout.splitlines()]


def grows(line):
    """A struct may become larger: fields are appended, and every call knows the size."""
    return re.fullmatch(r"struct \w+ size \d+", line)


def is_named(line, found):
    """A field that was reserved may get a name: programs have left it at what init put there."""
    match = re.fullmatch(r"field (\w+)\.reserved (\(.*\) offset \d+)", line)
    return match and any(re.fullmatch(rf"field {match[1]}\.\w+ {re.escape(match[2])}", other) for other in found)


def key(line):
    """What a line is about, without its value."""
    match = re.match(r"function .*?(setun_\w+)\(|callback .*?(setun_\w+)|enum \S+ \S+|\w+ \S+", line)
    return match[1] or match[2] or match[0]


def differences(golden, found):
    """Lines of the golden file that do not hold any more, each with what there is instead; and the lines that are new."""
    there, now = set(golden), {key(line): line for line in found}
    gone = [(line, now.get(key(line), "nothing")) for line in golden if line not in set(found)]
    broken = [(line, instead) for line, instead in gone if not (grows(line) and larger(line, instead) or is_named(line, found))]
    return broken, [line for line in found if line not in there]


def larger(line, instead):
    return grows(instead) and int(instead.split()[-1]) > int(line.split()[-1])


def sentence(broken):
    changes = "\n".join(f"  was: {line}\n  is:  {instead}" for line, instead in broken)
    return (
        f"programs that were compiled against this library would break:\n{changes}\nput it back: add a new function, or "
        "append a field, beside the old one. If it has to break, raise SETUN_VERSION and the SONAME in build.rs and run "
        "python3 tests/python/test_abi.py --break"
    )


class Abi(unittest.TestCase):
    def test_nothing_is_changed_or_removed(self):
        golden, found = GOLDEN.read_text(encoding="utf-8").splitlines(), measured()
        broken, added = differences(golden, found)
        self.assertEqual(broken, [], sentence(broken))
        new = "\n".join(added)
        self.assertEqual(added, [], f"this is new:\n{new}\nrecord it with python3 tests/python/test_abi.py --update")

    def test_a_change_is_noticed(self):
        golden = [
            "enum setun_status SETUN_ERR_IO -6",
            "struct setun_metrics size 88",
            "field setun_metrics.step (int64_t) offset 8",
            "function void setun_model_free(setun_model *model);",
            "symbol setun_train",
        ]
        for was, instead in [
            ("symbol setun_train", None),
            ("enum setun_status SETUN_ERR_IO -6", "enum setun_status SETUN_ERR_IO -16"),
            ("struct setun_metrics size 88", "struct setun_metrics size 80"),
            ("field setun_metrics.step (int64_t) offset 8", "field setun_metrics.step (int32_t) offset 8"),
            ("function void setun_model_free(setun_model *model);", "function int setun_model_free(setun_model *model);"),
        ]:
            with self.subTest(was=was):
                found = [instead if line == was else line for line in golden if instead or line != was]
                self.assertEqual(differences(golden, found)[0], [(was, instead or "nothing")])
        grown = ["struct setun_metrics size 96" if "size" in line else line for line in golden]
        self.assertEqual(differences(golden, grown), ([], ["struct setun_metrics size 96"]))
        self.assertEqual(differences(golden, [*golden, "symbol setun_new"]), ([], ["symbol setun_new"]))
        reserved = "field setun_metrics.reserved (int32_t) offset 80"
        for now in ("field setun_metrics.method (int32_t) offset 80", reserved):
            self.assertEqual(differences([*golden, reserved], [*golden, now])[0], [])
        for now in ("field setun_metrics.method (int64_t) offset 80", "field setun_metrics.method (int32_t) offset 84",
                    "field setun_other.method (int32_t) offset 80"):
            self.assertEqual(differences([*golden, reserved], [*golden, now])[0], [(reserved, "nothing")])

    def test_a_program_with_smaller_structs_works(self):
        """With the last two fields of every options struct gone, as in a header from before they were added."""
        text = header_module.PATH.read_text(encoding="utf-8")
        cut = text
        for name, struct in HEADER.structs.items():
            if f"{name}_init" not in HEADER.functions:
                continue
            left = struct.fields[:-2] if len(struct.fields) > 4 else struct.fields[:-1]
            body = re.search(rf"typedef struct \{{((?:(?!typedef struct).)*?)\}} {name};", cut, re.DOTALL)
            shorter = re.match(rf".*?\b{left[-1].name};\n", body[1], re.DOTALL)[0]
            cut = cut[: body.start(1)] + shorter + cut[body.end(1) :]
        older = header_module.parse(cut)
        initialized = [name for name in older.structs if f"{name}_init" in older.functions]
        self.assertGreaterEqual(len(initialized), 6)
        inits = "".join(f"    CHECK_INIT({name});\n" for name in initialized)
        source = (ROOT / "tests" / "abi" / "older_program.c").read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory(prefix="setun-") as folder:
            Path(folder, "setun.h").write_text(cut, encoding="utf-8")
            Path(folder, "corpus.txt").write_text("the quick brown fox. " * 60, encoding="utf-8")
            Path(folder, "libsetun.so.0").symlink_to(LIBRARY)
            check = ROOT / "tests" / "c"
            program = compiled(
                source.replace("/* CHECK_INIT */", inits.strip()), folder, "-I", folder, "-I", check,
                libraries=[Path(folder, "libsetun.so.0"), f"-Wl,-rpath,{folder}"],
            )
            done = subprocess.run([program], cwd=folder, capture_output=True, text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stderr)


def main(mode):
    golden = GOLDEN.read_text(encoding="utf-8").splitlines() if GOLDEN.exists() else []
    found = measured()
    broken, added = differences(golden, found)
    if broken and mode != "--break":
        sys.exit(sentence(broken))
    GOLDEN.write_text("\n".join(found) + "\n", encoding="utf-8")
    print(f"{GOLDEN}: {len(added)} lines added, {len(broken)} changed or removed")


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1] in ("--update", "--break"):
        main(sys.argv[1])
    else:
        unittest.main()
