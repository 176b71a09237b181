"""make install, as the programs of others find it: by pkg-config and by CMake, shared and static, wherever the tree lies."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from train_program import ROOT

VERSION = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
MAJOR, MINOR = VERSION.split(".")[:2]
NOTICES = ["LICENSE-APACHE", "LICENSE-MIT", "LICENSE-THIRD-PARTY"]

C = """#include <setun.h>
#include <stdio.h>
int main(void)
{
    float w[4] = {1, -1, 0, 1}, scale;
    uint8_t packed[1];
    size_t size = 1;
    if (setun_quantize(w, 1, 4, NULL, packed, &size, &scale, 1) != SETUN_OK) return 1;
    return printf("setun %s, scale %g\\n", setun_version_string(), scale) < 0;
}
"""
CPP = C.replace("#include <stdio.h>", "#include <cstdio>").replace("printf", "std::printf")
CMAKE = f"""cmake_minimum_required(VERSION 3.13)
project(outside C CXX)
find_package(Setun {MAJOR}.{MINOR} REQUIRED)
foreach(language c cpp)
    add_executable(${{language}}_shared main.${{language}})
    target_link_libraries(${{language}}_shared PRIVATE Setun::setun)
    add_executable(${{language}}_static main.${{language}})
    target_link_libraries(${{language}}_static PRIVATE Setun::setun_static)
endforeach()
"""


def succeed(*command, **more):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def make(target, stage, *variables):
    # A make that runs the tests hands its own variables on by the environment.
    own = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    command = ["make", "--silent", "-C", ROOT / "c_examples", target, f"DESTDIR={stage}", "PREFIX=/opt/setun"]
    return succeed(*command, *variables, env=own)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())


def loads_setun(program):
    return f"[libsetun.so.{MAJOR}]" in succeed("readelf", "-d", program)


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(prefix="setun-")
        cls.addClassCleanup(scratch.cleanup)
        cls.folder = Path(scratch.name)
        make("install", cls.folder / "stage")
        # The place that the tree was installed for does not exist; this is another one, with a space in its name.
        cls.prefix = cls.folder / "moved to"
        shutil.move(cls.folder / "stage" / "opt" / "setun", cls.prefix)
        (cls.folder / "main.c").write_text(C)
        (cls.folder / "main.cpp").write_text(CPP)

    def check_program(self, program, shared):
        self.assertEqual(loads_setun(program), shared)
        where = dict(os.environ, LD_LIBRARY_PATH=str(self.prefix / "lib")) if shared else None
        self.assertEqual(succeed(program, env=where), f"setun {VERSION}, scale 0.75\n")

    def test_a_library_of_other_sources_is_not_installed(self):
        library = ROOT / "target" / "release" / "libsetun.so"
        was = library.stat()
        stage = self.folder / "stale"
        try:
            os.utime(library, (0, 0))
            with self.assertRaisesRegex(AssertionError, "is newer than the library: run make -C c_examples all first"):
                make("install", stage)
        finally:
            os.utime(library, ns=(was.st_atime_ns, was.st_mtime_ns))
        self.assertFalse(stage.exists())

    def test_every_file_is_there(self):
        headers = [path.name for path in (ROOT / "include").iterdir()]
        libraries = ["libsetun.a", "libsetun.so", f"libsetun.so.{MAJOR}", f"libsetun.so.{VERSION}"]
        packages = ["cmake/Setun/SetunConfig.cmake", "cmake/Setun/SetunConfigVersion.cmake", "pkgconfig/setun.pc"]
        expected = [f"include/{name}" for name in headers] + [f"lib/{name}" for name in libraries + packages]
        expected += [f"share/doc/setun/{name}" for name in NOTICES]
        self.assertEqual(files(self.prefix), sorted(expected))
        self.assertEqual(os.readlink(self.prefix / "lib/libsetun.so"), f"libsetun.so.{MAJOR}")
        self.assertEqual(os.readlink(self.prefix / f"lib/libsetun.so.{MAJOR}"), f"libsetun.so.{VERSION}")
        for path in self.prefix.rglob("*.*"):
            self.assertNotIn(b"@", path.read_bytes() if path.suffix in (".pc", ".cmake") else b"", path)

    def test_it_is_stripped_but_for_its_exports(self):
        installed, built = self.prefix / f"lib/libsetun.so.{VERSION}", ROOT / "target/release/libsetun.so"
        self.assertNotIn(".debug_", succeed("readelf", "-SW", installed))
        exports = [succeed("nm", "-D", "--defined-only", "--format=just-symbols", path) for path in (installed, built)]
        self.assertEqual(*exports)
        self.assertLess(installed.stat().st_size, 8_000_000)
        self.assertIn(f"[libsetun.so.{MAJOR}]", succeed("readelf", "-d", installed))

    @unittest.skipUnless(shutil.which("pkg-config"), "pkg-config is not installed")
    def test_pkg_config_finds_it(self):
        where = dict(os.environ, PKG_CONFIG_PATH=str(self.prefix / "lib/pkgconfig"))
        self.assertEqual(succeed("pkg-config", "--modversion", "setun", env=where).strip(), VERSION)
        for compiler, source in (("cc -std=c99", "main.c"), ("g++ -std=c++17", "main.cpp")):
            for mode in ("shared", "static"):
                with self.subTest(compiler=compiler, mode=mode):
                    flag = " -static" if mode == "static" else ""
                    # As a user types it: the shell splits what pkg-config quotes.
                    flags = succeed("pkg-config", f"--{mode}", "--cflags", "--libs", "setun", env=where).strip()
                    command = f"{compiler} -Wall -Wextra -Werror{flag} {source} -o pkg_{mode} {flags}"
                    succeed("sh", "-c", command, cwd=self.folder)
                    self.check_program(self.folder / f"pkg_{mode}", mode == "shared")

    @unittest.skipUnless(shutil.which("cmake"), "cmake is not installed")
    def test_cmake_finds_it(self):
        (self.folder / "CMakeLists.txt").write_text(CMAKE)
        build = self.folder / "build"
        configure = ["cmake", "-S", self.folder, f"-DCMAKE_PREFIX_PATH={self.prefix}"]
        succeed(*configure, "-B", build)
        succeed("cmake", "--build", build)
        for language in ("c", "cpp"):
            for mode in ("shared", "static"):
                with self.subTest(language=language, mode=mode):
                    self.check_program(build / f"{language}_{mode}", mode == "shared")

    @unittest.skipUnless(shutil.which("cmake"), "cmake is not installed")
    def test_cmake_refuses_other_versions(self):
        folder = self.folder / "versions"
        folder.mkdir()
        lines = ["cmake_minimum_required(VERSION 3.13)", "project(versions NONE)"]
        for number, (version, found) in enumerate([(f"{MAJOR}.99", 0), ("99.0", 0), (f"{VERSION};EXACT", 1), ("", 1)]):
            lines.append(f"find_package(Setun {version.replace(';', ' ')} QUIET)")
            lines.append(f'if(NOT "${{Setun_FOUND}}" EQUAL {found})\n    message(FATAL_ERROR "{number}: \'{version}\'")\nendif()')
        (folder / "CMakeLists.txt").write_text("\n".join(lines) + "\n")
        succeed("cmake", "-S", folder, "-B", folder / "build", f"-DCMAKE_PREFIX_PATH={self.prefix}")

    def test_another_libdir_and_uninstall(self):
        stage, libdir = self.folder / "packaged", "LIBDIR=lib/x86_64-linux-gnu"
        make("install", stage, libdir, "STRIP=")
        other = stage / "opt/setun/include/other.h"
        other.write_text("somebody else's\n")
        pc = (stage / "opt/setun/lib/x86_64-linux-gnu/pkgconfig/setun.pc").read_text()
        self.assertIn("prefix=${pcfiledir}/../../..\nlibdir=${prefix}/lib/x86_64-linux-gnu\n", pc)
        self.assertIn(".debug_", succeed("readelf", "-SW", stage / f"opt/setun/lib/x86_64-linux-gnu/libsetun.so.{VERSION}"))
        make("uninstall", stage, libdir)
        self.assertEqual(files(stage), ["opt/setun/include/other.h"])
        self.assertFalse((stage / "opt/setun/share/doc/setun").exists())
        make("uninstall", stage, libdir)

    def test_a_relative_prefix_is_refused(self):
        with self.assertRaisesRegex(AssertionError, "have to be absolute"):
            make("install", "", "PREFIX=somewhere")


if __name__ == "__main__":
    unittest.main()
