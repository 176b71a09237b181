"""include/setun.h as data: its enums, structs, handles, callbacks and functions, each with its comment.

Tests that hold for every function read the header through this, so that a function that is added is covered, or missed
by name.
"""

import ctypes
import os
import re
from dataclasses import dataclass, field

from train_program import ROOT

PATH = ROOT / "include" / "setun.h"
# The library under test; the environment variable SETUN_LIBRARY names another.
LIBRARY = ROOT / (os.environ.get("SETUN_LIBRARY") or "target/release/libsetun.so")

SCALARS = {
    "int8_t": ctypes.c_int8,
    "uint8_t": ctypes.c_uint8,
    "char": ctypes.c_char,
    "int32_t": ctypes.c_int32,
    "uint32_t": ctypes.c_uint32,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
}


@dataclass
class Value:
    """A parameter or a field: `const float *x` has the base float, one star and is const."""

    name: str
    base: str
    stars: int
    const: bool
    comment: str = ""
    length: int = 0  # of an array; 0 for one value

    @property
    def ctype(self):
        one = ctypes.c_void_p if self.stars or self.base not in SCALARS else SCALARS[self.base]
        return one * self.length if self.length else one


@dataclass
class Function:
    name: str
    returns: str
    parameters: list
    comment: str
    prototype: str

    @property
    def operation(self):
        """What stands at the beginning of its errors."""
        return self.name.removeprefix("setun_")


@dataclass
class Struct:
    name: str
    fields: list

    @property
    def ctype(self):
        return type(self.name, (ctypes.Structure,), {"_fields_": [(f.name, f.ctype) for f in self.fields]})


@dataclass
class Header:
    enums: dict = field(default_factory=dict)  # name -> {constant: value}
    structs: dict = field(default_factory=dict)  # name -> Struct
    handles: set = field(default_factory=set)
    callbacks: set = field(default_factory=set)
    functions: dict = field(default_factory=dict)  # name -> Function
    macros: dict = field(default_factory=dict)  # name -> text

    def enum_of(self, value, comment=""):
        """The enum whose values an int32_t takes, by its comment: "`split` is a `setun_split`", "A `setun_backend`."."""
        comments = [value.comment, *re.findall(rf"`{value.name}` is (?:not )?a (`setun_\w+`)", comment)]
        for text in comments:
            for name in re.findall(r"`(setun_\w+)`", text):
                if name in self.enums:
                    return name
        return None


def plain(comment):
    """The text of a C comment in one line."""
    return " ".join(re.sub(r"^\s*/\*\*?|\*/\s*$|^\s*\* ?", "", comment, flags=re.MULTILINE).split())


def value(text, comment=""):
    match = re.fullmatch(r"(const )?(?:struct )?(\w+)\s*(\**)\s*(\w+)(?:\[(\d+)\])?", " ".join(text.replace("*const *", "**").split()))
    if match is None:
        raise ValueError(f"the header has a declaration that this parser does not know: {text!r}")
    return Value(match[4], match[2], len(match[3]), bool(match[1]), comment, int(match[5] or 0))


def members(body, pattern):
    """The entries of an enum or a struct, each with the comment before it."""
    for comment, entry in re.findall(rf"(?:(/\*\*.*?\*/)\s*)?({pattern})", body, re.DOTALL):
        yield plain(comment), entry


def parse(text=None):
    text = PATH.read_text(encoding="utf-8") if text is None else text
    header = Header()
    header.macros = dict(re.findall(r"^#define (SETUN_\w+) (\S+)$", text, re.MULTILINE))
    bare = re.sub(r"/\*(?!\*).*?\*/", "", text, flags=re.DOTALL)
    bare = re.sub(r"^#.*$|extern \"C\" \{|^\}\s*$", "", bare, flags=re.MULTILINE)
    for _, body, name in re.findall(r"(/\*\*.*?\*/\s*)?typedef enum \{(.*?)\} (\w+);", bare, re.DOTALL):
        entries = (entry for _, entry in members(body, r"\w+ = -?\d+"))
        header.enums[name] = {constant: int(number) for constant, number in (e.split(" = ") for e in entries)}
    for body, name in re.findall(r"typedef struct \{(.*?)\} (\w+);", bare, re.DOTALL):
        fields = [value(entry.rstrip(";"), comment) for comment, entry in members(body, r"[^/;{}]+;")]
        header.structs[name] = Struct(name, fields)
    header.handles = set(re.findall(r"typedef struct (\w+) \1;", bare))
    header.callbacks = set(re.findall(r"typedef \w+ \(\*(\w+)\)", bare))
    functions = re.sub(r"typedef (?:enum|struct) \{.*?\} \w+;|typedef [^;{]*;", "", bare, flags=re.DOTALL)
    pattern = r"(?:(/\*\*(?:(?!\*/).)*\*/)\s*)?((?:const )?\w+ \**)(setun_\w+)\(([^;]*)\);"
    for comment, returns, name, parameters in re.findall(pattern, functions, re.DOTALL):
        if parameters.strip() == "void":
            parameters = ""
        prototype = " ".join(f"{returns.strip()} {name}({parameters or 'void'});".split())
        values = [value(p) for p in parameters.split(",")] if parameters else []
        header.functions[name] = Function(name, returns.strip(), values, plain(comment), prototype)
    return header
