"""The shared library as it is shipped."""

import subprocess
import tempfile
import unittest
from pathlib import Path

from train_program import ROOT

LIBRARY = ROOT / "target" / "release" / "libsetun.so"


class Library(unittest.TestCase):
    def test_it_is_under_8_megabytes_without_its_debug_symbols(self):
        with tempfile.TemporaryDirectory(prefix="setun-") as folder:
            stripped = Path(folder) / "libsetun.so"
            subprocess.run(["strip", "-o", stripped, LIBRARY], check=True)
            self.assertLess(stripped.stat().st_size, 8_000_000)

    def test_it_needs_nothing_but_the_system(self):
        listing = subprocess.run(["readelf", "-d", LIBRARY], check=True, capture_output=True, text=True).stdout
        needed = {line.split("[")[1].split("]")[0] for line in listing.splitlines() if "(NEEDED)" in line}
        system = {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "libpthread.so.0", "libdl.so.2", "librt.so.1"}
        self.assertLessEqual(needed, system)


if __name__ == "__main__":
    unittest.main()
