"""Calls one function of the library in every wrong way: `wrong_use.py setun_matmul` prints what does not hold.

What is tried comes from the function's prototype in include/setun.h:

    a pointer               NULL, an odd address
    a handle                NULL, freed, of another type, a number, an address; in use on another thread
    an output               over each other array of the call
    a size that is written  one too small, the largest
    a size                  negative, 0, the largest; of a number of bytes also one more, one less, the largest
    an enum value           those that do not exist
    a float                 NaN, infinities, also inside an array; tokens, trits and packed bytes that do not exist
    a struct                sizes that no struct has, a newer struct with and without requests, and each field likewise

Each must give its status and a message that names the function and the argument, and leave the outputs as they were; the
right call must work right after it. right_use.py has the right calls, and what departs from these rules.
"""

import ctypes
import dataclasses
import fnmatch
import sys
import tempfile
import time

from right_use import BUSY, CORPUS, HEADER, MAKE, STATUS, STRUCTS, TABLE, In, InOut, InOuts, Out, World

ANY = ("OK", "ARGUMENT", "SHAPE", "MEMORY", "STATE", "UNSUPPORTED")
INT64_MAX, INT64_MIN = 2**63 - 1, -(2**63)
NOT_A_NUMBER = [("NaN", float("nan")), ("infinity", float("inf")), ("-infinity", float("-inf"))]
WRONG_ENUMS = [-1, 77, 2**31 - 1, -(2**31)]
BAD_ELEMENTS = {"float": NOT_A_NUMBER, "double": NOT_A_NUMBER, "int8_t": [("5", 5)], "uint8_t": [("255", 255)], "uint32_t": [("2^32 - 1", 2**32 - 1)],
                "int64_t": [("-1", -1), ("INT64_MAX", INT64_MAX)]}


@dataclasses.dataclass
class Wrong:
    """One wrong call: what is wrong, the arguments that replace those of the right call, the statuses that answer, and
    what the message names."""

    what: str
    change: dict
    statuses: tuple
    named: str


def address(value):
    """What is passed to the library."""
    if isinstance(value, (In, Out)):
        return ctypes.addressof(value.array)
    if isinstance(value, ctypes.Structure):
        return ctypes.addressof(value)
    return value


class Bad:
    """The ways in which each kind of argument is wrong."""

    def __init__(self, world, function, good, entry):
        self.world, self.function, self.good, self.entry = world, function, good, entry

    def all(self):
        for parameter in self.function.parameters:
            yield from self.parameter(parameter)
        yield from self.overlaps()
        for what, change, statuses, named in self.entry.more(self.world, self.good):
            yield Wrong(what, change, statuses, named)

    def parameter(self, parameter):
        name, good = parameter.name, self.good[parameter.name]
        if parameter.base in HEADER.handles and parameter.stars == 1:
            yield from self.handle(name, parameter.base, lambda handle: {name: handle})
        elif parameter.base in HEADER.callbacks:
            yield self.null(name, "callback")
        elif parameter.stars:
            yield self.null(name)
            if parameter.stars == 2 or parameter.base not in ("char", "void", "int8_t", "uint8_t"):
                yield Wrong(f"{name} at an odd address", {name: address(good) + 1}, ("ARGUMENT",), name)
            if isinstance(good, ctypes.Structure):
                yield from self.struct(name, parameter, good)
            if isinstance(good, InOut):
                yield Wrong(f"{name} = {good.value - 1}", {name: good.holding(good.value - 1)}, ("SHAPE",), name)
                yield Wrong(f"{name} = SIZE_MAX", {name: good.holding(2**64 - 1)}, ("ARGUMENT",), name)
            if isinstance(good, In) and parameter.base == good.base:
                yield from self.elements(name, good)
            if parameter.base == "char" and isinstance(good, bytes) and parameter.const:
                yield from self.string(name)
        else:
            yield from self.number(parameter, good, name, lambda value: {name: value}, self.function.comment)

    def null(self, name, kind="pointer"):
        allowed = name in self.entry.null
        change = {name: None} if kind == "pointer" else {name: type(self.good[name])()}
        return Wrong(f"{name} is NULL", change, ("OK",) if allowed else ("ARGUMENT",), "" if allowed else f"{name} is NULL")

    def string(self, name):
        what = "path" in name or name in ("text", "checkpoint")
        if "bytes" in self.good:
            return
        yield Wrong(f"{name} is not UTF-8", {name: b"caf\xe9"}, ("ARGUMENT",), name)
        yield Wrong(f"{name} is empty", {name: b""}, ("ARGUMENT",), name)
        if what:
            yield Wrong(f"{name} is nowhere", {name: b"/nowhere/at/all"}, ("IO",), "/nowhere/at")
            yield Wrong(f"{name} has 5000 letters", {name: b"/" + b"x" * 5000}, ("IO",), "xxx")

    def handle(self, name, kind, change, null=None):
        """`change(handle)` are the arguments with that handle in place."""
        if null is None:
            yield self.null(name)
        freed = self.world.make(kind)
        getattr(self.world.setun.library, f"{kind}_free")(freed)
        other = "setun_cancel" if kind != "setun_cancel" else "setun_tensor"
        local = ctypes.c_int64(7)
        self.world.kept.append(local)
        yield Wrong(f"{name} was freed", change(freed), ("ARGUMENT",), f"{name} was freed")
        yield Wrong(f"{name} is a {other}", change(self.world[other]), ("ARGUMENT",), f"{name} is a {other}, expected a {kind}")
        for what, foreign in [("a number", 12345), ("all ones", 2**64 - 1), ("an address", ctypes.addressof(local)),
                              ("a slot that is not there", 1 << 63 | 0x7FFFFFFF)]:
            yield Wrong(f"{name} is {what}", change(foreign), ("ARGUMENT",), f"{name} is not a handle")

    def struct(self, name, parameter, good):
        kind, size = type(good), ctypes.sizeof(good)
        written = not parameter.const
        for bad in (0, 1, 7, size + 1, 1 << 20, 2**64 - 8):
            changed = kind.from_buffer_copy(good)
            changed.struct_size = bad
            yield Wrong(f"{name}.struct_size = {bad}", {name: changed}, ("ABI",), name)
        newer = type("newer", (ctypes.Structure,), {"_fields_": [("known", kind), ("unknown", ctypes.c_uint8 * 16)]})
        for last, statuses in ((0, ("OK",)), (1, ("OK",) if written else ("ABI",))):
            changed = newer(kind.from_buffer_copy(good), (0,) * 15 + (last,))
            changed.known.struct_size = ctypes.sizeof(changed)
            yield Wrong(f"{name} is newer, its last byte {last}", {name: changed}, statuses, "" if statuses == ("OK",) else name)
        older = kind.from_buffer_copy(good)
        older.struct_size = 8
        if written:
            yield Wrong(f"{name} has nothing but its size", {name: older}, ("OK",), "")
            return
        for field in HEADER.structs[parameter.base].fields[1:]:
            other = field.comment.startswith("For `setun_") and not field.comment.startswith(f"For `{self.function.name}`")
            for wrong in self.field(name, good, field):
                # What is for another function may be looked at here, or not.
                yield dataclasses.replace(wrong, statuses=(*wrong.statuses, "OK")) if other else wrong

    def field(self, name, good, field):
        def change(value):
            changed = type(good).from_buffer_copy(good)
            setattr(changed, field.name, value)
            return {name: changed}

        label = f"{name}.{field.name}"
        if field.stars and field.base in HEADER.handles:
            yield from ((Wrong(wrong.what.replace(field.name, label, 1), wrong.change, wrong.statuses, wrong.named))
                        for wrong in self.handle(field.name, field.base, change, null=False))
            yield Wrong(f"{label} is NULL", change(None), ("OK",), "")
        elif field.stars and field.base in STRUCTS and getattr(good, field.name):
            inner = STRUCTS[field.base].from_address(getattr(good, field.name))
            for wrong in self.struct(field.name, field, inner):
                self.world.kept.append(wrong.change)
                pointer = ctypes.addressof(wrong.change[field.name])
                yield Wrong(f"{name}.{wrong.what}", change(pointer), wrong.statuses, wrong.named)
        elif not field.stars and not field.length and field.base not in HEADER.callbacks:
            yield from self.number(field, getattr(good, field.name), label, change, "", field.name)

    def number(self, value, good, label, change, comment, named=None):
        """`named` is how a message names it: a field by its own name."""
        named = named or value.name
        refused = lambda what, bad, statuses=("ARGUMENT",): Wrong(f"{label} {what}", change(bad), statuses, named)
        if value.base == "int32_t":
            enum = enum_of(value, comment)
            for bad in WRONG_ENUMS if enum else ():
                if bad not in HEADER.enums[enum].values():
                    yield refused(f"= {bad}", bad)
        elif value.base == "int64_t":
            yield refused("= -1", -1)
            yield refused("= INT64_MIN", INT64_MIN)
            yield Wrong(f"{label} = 0", change(0), ("OK",), "")
            large = ("ARGUMENT", "SHAPE", "MEMORY") if comment else ANY
            yield Wrong(f"{label} = INT64_MAX", change(INT64_MAX), large, "")
        elif value.base == "uint64_t":
            yield Wrong(f"{label} = UINT64_MAX", change(2**64 - 1), ("OK",), "")
        elif value.base == "size_t":
            for what, bad in [("- 1", good - 1), ("+ 1", good + 1), ("= SIZE_MAX", 2**64 - 1)]:
                yield Wrong(f"{label} {what}", change(bad), ("SHAPE", "ARGUMENT"), named.split("_")[0])
        elif value.base in ("float", "double"):
            for what, bad in NOT_A_NUMBER:
                yield refused(f"= {what}", bad)

    def elements(self, name, good):
        for what, bad in BAD_ELEMENTS.get(good.base, ()):
            changed = In(good.base, list(good.array[: good.count - 1]) + [bad])
            statuses = {"uint8_t": ("FORMAT",), "int64_t": ("ARGUMENT", "SHAPE", "MEMORY")}.get(good.base, ("ARGUMENT",))
            yield Wrong(f"the last of {name} = {what}", {name: changed}, statuses, name if good.base != "int64_t" else "")

    def overlaps(self):
        """Every output over every other array: both at the start of one block of memory."""
        arrays = [p for p in self.function.parameters if isinstance(self.good[p.name], (In, Out))]
        for output in arrays:
            for other in arrays:
                if output is other or output.const or output.stars != 1:
                    continue
                if not other.const and other.stars == 1 and arrays.index(other) < arrays.index(output):
                    continue  # the pair was tried the other way round
                block = In("double", [0.0] * 512)
                source = self.good[other.name].array
                ctypes.memmove(block.array, source, ctypes.sizeof(source))
                if isinstance(self.good[output.name], InOut):
                    ctypes.memmove(block.array, ctypes.byref(ctypes.c_size_t(self.good[output.name].value)), 8)
                yield Wrong(f"{output.name} overlaps {other.name}", {output.name: block, other.name: block}, ("ARGUMENT",), "overlaps")


def enum_of(value, comment):
    """By its own comment, by the enum's constants in it, or as another function has it."""
    found = HEADER.enum_of(value, comment)
    named = [e for e, constants in HEADER.enums.items() if any(c in value.comment for c in constants)]
    if found or named:
        return found or named[0]
    others = (HEADER.enum_of(p, f.comment) for f in HEADER.functions.values() for p in f.parameters if p.name == value.name)
    return next((enum for enum in others if enum), None)


class Check:
    """Runs the wrong calls of a function and collects what does not hold."""

    def __init__(self, world, name):
        self.world, self.function, self.entry = world, HEADER.functions[name], TABLE[name]
        self.call = getattr(world.setun.library, name)
        self.good = self.entry.call(world)
        self.failures, self.count = [], 0
        expected = [p.name for p in self.function.parameters]
        if self.good and list(self.good) != expected:
            raise AssertionError(f"right_use.py calls {name} with {list(self.good)}, the header has {expected}")

    def run(self):
        if self.function.name.endswith("_options_init"):
            self.initialize()
        elif self.function.name.endswith("_free"):
            self.free()
        elif self.function.returns == "setun_status":
            self.status_function()
        else:
            self.call(*self.good.values())
            self.count = 1
        return self.failures

    def fail(self, what, text):
        self.failures.append(f"{self.function.name}, {what}: {text}")

    def expected(self, wrong):
        for pattern, statuses in self.entry.expect.items():
            if pattern == wrong.what or fnmatch.fnmatchcase(wrong.what, pattern):
                return statuses
        return wrong.statuses

    def status_function(self):
        self.right_call("before anything is wrong")
        for wrong in Bad(self.world, self.function, self.good, self.entry).all():
            statuses = self.expected(wrong)
            if statuses is None:
                continue
            if statuses == ("OK",):
                statuses = self.entry.right
            self.count += 1
            self.say(wrong.what)
            self.one(wrong, statuses)
            self.right_call(f"after {wrong.what}")
        for parameter in self.function.parameters:
            if parameter.base in BUSY and parameter.stars == 1:
                self.count += 1
                self.busy(parameter)

    def say(self, what):
        """The last line says where a crash was."""
        print(f"at {what}", file=sys.stderr, flush=True)

    def one(self, wrong, statuses):
        self.refresh()
        arguments = {**self.good, **wrong.change}
        outputs = [value for value in arguments.values() if isinstance(value, Out)]
        for output in outputs:
            output.before = bytes(output.array)
        before = self.world.setun.error()
        status = STATUS.get(self.call(*map(address, arguments.values())), "a status that does not exist")
        status = "OK" if status == "SETUN_OK" else status
        message = self.world.setun.error()
        if status not in statuses:
            self.fail(wrong.what, f"{status}, expected {' or '.join(statuses)} ({message})")
        if status == "OK":
            self.free_made(arguments)
            return
        if not message.startswith(f"{self.function.operation}: ") or (statuses == wrong.statuses and wrong.named not in message):
            self.fail(wrong.what, f"the message does not name {wrong.named}: {message!r}, before it {before!r}")
        for output in outputs:
            if output.kept and not output.untouched():
                self.fail(wrong.what, f"{status}, and an output has changed")

    def refresh(self):
        if self.entry.fresh:
            self.good = self.entry.call(self.world)
        for value in self.good.values():
            if isinstance(value, (InOut, InOuts)):
                value.again()

    def right_call(self, when):
        self.refresh()
        status = STATUS.get(self.call(*map(address, self.good.values())), "a status that does not exist")
        if status.replace("SETUN_OK", "OK") not in self.entry.right:
            self.fail(when, f"the right call fails: {status}, {self.world.setun.error()}")
        self.free_made(self.good)

    def free_made(self, arguments):
        """Frees the handles that a call made."""
        for parameter in self.function.parameters:
            out = arguments[parameter.name]
            if parameter.stars == 2 and parameter.base in HEADER.handles and isinstance(out, Out):
                if not out.untouched():
                    getattr(self.world.setun.library, f"{parameter.base}_free")(out.array[0])
                ctypes.memmove(out.array, out.before, len(out.before))

    def busy(self, parameter):
        """A second caller on a handle in use gets STATE at once."""
        what = f"{parameter.name} is in use"
        if self.expected(Wrong(what, {}, ("STATE",), "")) is None:
            return
        self.say(what)
        holder = BUSY[parameter.base](self.world)
        arguments = [holder.handle if p is parameter else address(self.good[p.name]) for p in self.function.parameters]
        end = time.monotonic() + 60
        status, message = "OK", ""
        while status != "STATE" and time.monotonic() < end:
            status = STATUS[self.call(*arguments)]
            message = self.world.setun.error()
        if status != "STATE":
            self.fail(what, f"{status} for a minute ({message})")
        elif parameter.name not in message and parameter.base.removeprefix("setun_") not in message:
            self.fail(what, f"the message does not name {parameter.name}: {message!r}")
        holder.stop()
        self.right_call(f"after {what}")

    def initialize(self):
        """Fills exactly as many bytes as it is told, and nothing for a size that no struct has."""
        kind = STRUCTS[self.function.parameters[0].base]
        size = ctypes.sizeof(kind)
        self.call(None, size)
        for told in [0, 1, 7, 12, size + 1, 1 << 20, 2**64 - 8, 8, size - 8, size, size + 8, 4096]:
            self.count += 1
            memory = (ctypes.c_uint8 * 8192)(*[0xA5] * 8192)
            self.call(ctypes.addressof(memory), told)
            right = told % 8 == 0 and 8 <= told <= 4096
            filled = told if right else 0
            if bytes(memory[filled:]) != b"\xa5" * (8192 - filled):
                self.fail(f"size = {told}", "it writes past the struct")
            if right and int.from_bytes(bytes(memory[:8]), "little") != told:
                self.fail(f"size = {told}", "struct_size is not set")
            if right and bytes(memory[size:filled]) != bytes(max(0, filled - size)):
                self.fail(f"size = {told}", "what the library does not know is not zero")
        memory = (ctypes.c_uint8 * 256)(*[0xA5] * 256)
        self.call(ctypes.addressof(memory) + 4, size)
        if bytes(memory) != b"\xa5" * 256:
            self.fail("an odd address", "it writes")

    def free(self):
        """Frees what it is given once; anything else stays as it is, and is reported."""
        kind = self.function.parameters[0].base
        self.call(None)
        other = "setun_cancel" if kind != "setun_cancel" else "setun_tensor"
        kept, handle = self.world[other], self.good[self.function.parameters[0].name]
        for what, bad in [("another type", kept), ("a number", 12345), ("an address", ctypes.addressof(ctypes.c_int64()))]:
            self.count += 1
            self.call(bad)
            if not self.world.setun.error().startswith(f"{self.function.operation}: the handle is"):
                self.fail(what, f"the last error is {self.world.setun.error()!r}")
        use = TABLE["setun_cancel_request" if other == "setun_cancel" else "setun_tensor_nbytes"].call(self.world)
        name = "cancel_request" if other == "setun_cancel" else "tensor_nbytes"
        self.world.setun.ok(name, *map(address, use.values()))
        self.call(handle)
        self.call(handle)
        if "was freed already" not in self.world.setun.error():
            self.fail("a second time", f"the last error is {self.world.setun.error()!r}")
        if kind in BUSY:
            self.say("in use")
            holder = BUSY[kind](self.world)
            time.sleep(0.05)
            self.call(holder.handle)
            holder.stop()
            self.call(holder.handle)
            if "was freed already" not in self.world.setun.error():
                self.fail("in use", f"the last error is {self.world.setun.error()!r}")


def main(name):
    with tempfile.TemporaryDirectory(prefix="setun-") as folder:
        check = Check(World(folder), name)
        failures = check.run()
    print(f"{check.count} wrong calls of {name}")
    for failure in failures:
        print(failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
