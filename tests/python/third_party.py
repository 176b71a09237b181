"""Makes LICENSE-THIRD-PARTY, the notice that travels with the library: what is linked into it, and under which licences.

    python3 tests/python/third_party.py            writes the file
    python3 tests/python/third_party.py --check    says whether it is up to date

The crates are those that `cargo metadata` resolves from Cargo.lock for the released target, without build scripts, test
tools and procedural macros, which run at build time and are not in the library.
"""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTICE = ROOT / "LICENSE-THIRD-PARTY"
TARGET = "x86_64-unknown-linux-gnu"

# Where a crate offers a choice of licences, the first of these is taken. The words are how licence files name themselves.
PREFERRED = {"MIT": "MIT", "Zlib": "ZLIB", "BSL-1.0": "BOOST", "Apache-2.0": "APACHE"}

HEADER = """\
libsetun contains the software listed here. Where its authors offer a choice of licences, the one that is taken stands
first in brackets. The texts follow the list.
"""

STANDARD_LIBRARY = """\
The Rust standard library [MIT]: Copyright (c) The Rust Project Contributors, https://www.rust-lang.org. The crates inside
it, and their notices, are listed in share/doc/rust/COPYRIGHT-library.html of every Rust toolchain.
"""

MIT = """\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation
files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy,
modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def linked_crates():
    """The packages inside the library, sorted by name and version."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", TARGET]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    found, waiting = set(), [root]
    while waiting:
        for dependency in nodes[waiting.pop()]["deps"]:
            package = packages[dependency["pkg"]]
            linked = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            macros = any("proc-macro" in target["kind"] for target in package["targets"])
            if linked and not macros and package["id"] not in found:
                found.add(package["id"])
                waiting.append(package["id"])
    return sorted((packages[i] for i in found), key=lambda package: (package["name"], package["version"]))


def choose(package):
    """The licence that is taken, of an expression like "MIT OR Apache-2.0"."""
    offered = (package["license"] or "").replace("/", " OR ").split(" OR ")
    for licence in PREFERRED:
        if licence in (offer.strip() for offer in offered):
            return licence
    raise SystemExit(f"{package['name']} {package['version']} has the licence '{package['license']}': decide how to meet it")


def text_of(package, licence):
    """The licence as the crate ships it; the standard text with its authors where it ships none."""
    folder = Path(package["manifest_path"]).parent
    files = sorted(path for path in folder.iterdir() if path.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")))
    exact = [path for path in files if PREFERRED[licence] in path.name.upper()]
    plain = [path for path in files if path.name.upper().split(".")[0] in ("LICENSE", "LICENCE")]
    if exact or plain:
        return (exact or plain)[0].read_text(encoding="utf-8")
    if licence != "MIT":
        raise SystemExit(f"{package['name']} {package['version']} ships no text of its licence, {licence}")
    return f"Copyright (c) {', '.join(package['authors']) or 'the authors of ' + package['name']}\n\n{MIT}"


def tidy(text):
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").strip("\n").split("\n")]
    return "\n".join(lines) + "\n"


def notice():
    """The whole text of the file."""
    crates = [(package, choose(package)) for package in linked_crates()]
    parts = [HEADER, "\n"]
    for package, licence in crates:
        parts.append(f"{package['name']} {package['version']} [{licence}] of {package['license']}\n")
    parts += ["\n", STANDARD_LIBRARY, "\n", textwrap.indent(MIT, "    ", lambda line: line.strip())]
    texts = {}
    for package, licence in crates:
        texts.setdefault(tidy(text_of(package, licence)), []).append(f"{package['name']} {package['version']}")
    for text, names in texts.items():
        parts += ["\n", "=" * 100, "\n", textwrap.fill(", ".join(names), 100, break_on_hyphens=False), "\n\n", text]
    return "".join(parts)


def main():
    expected = notice()
    if sys.argv[1:] == ["--check"]:
        current = NOTICE.exists() and NOTICE.read_text(encoding="utf-8") == expected
        print(f"{NOTICE.name} is {'up to date' if current else 'out of date: run python3 tests/python/third_party.py'}")
        raise SystemExit(0 if current else 1)
    if sys.argv[1:]:
        raise SystemExit(__doc__)
    NOTICE.write_text(expected, encoding="utf-8")
    print(f"wrote {NOTICE.name}")


if __name__ == "__main__":
    main()
