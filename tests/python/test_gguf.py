"""setun_gguf_encode and _decode against the package `gguf` (gguf-py, quants.py): the same bytes, and the same weights back.

Needs gguf and numpy, which .ci/run installs into an environment of their own: GGUF_PYTHON names its interpreter. Without it
the tests run where this interpreter has both packages, and are skipped where it has not.
"""

import ctypes
import os
import subprocess
import sys
import unittest

from header import LIBRARY

try:
    import gguf
    import numpy
    from gguf.constants import GGMLQuantizationType
except ImportError:
    gguf = None

TYPES = (34, 35)


def library():
    loaded = ctypes.CDLL(str(LIBRARY))
    loaded.setun_last_error.restype = ctypes.c_char_p
    size, pointer, count = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int64
    loaded.setun_gguf_size.argtypes = [ctypes.c_int32, count, pointer]
    loaded.setun_gguf_encode.argtypes = [ctypes.c_int32, pointer, count, pointer, size]
    loaded.setun_gguf_decode.argtypes = [ctypes.c_int32, pointer, size, count, pointer]
    return loaded


@unittest.skipIf(gguf is None, "the packages gguf and numpy are not installed")
class Gguf(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.setun = library()

    def encode(self, kind, weights):
        size = ctypes.c_size_t()
        self.assertEqual(self.setun.setun_gguf_size(kind, weights.size, ctypes.byref(size)), 0)
        blocks = numpy.full(size.value, 0xAB, numpy.uint8)
        status = self.setun.setun_gguf_encode(kind, weights.ctypes.data, weights.size, blocks.ctypes.data, size.value)
        self.assertEqual(status, 0, self.setun.setun_last_error())
        return blocks

    def decode(self, kind, blocks, count):
        weights = numpy.full(count, -77.5, numpy.float32)
        status = self.setun.setun_gguf_decode(kind, blocks.ctypes.data, blocks.size, count, weights.ctypes.data)
        return status, weights

    def check(self, weights):
        weights = numpy.ascontiguousarray(weights, numpy.float32).reshape(-1)
        for number in TYPES:
            kind = GGMLQuantizationType(number)
            with numpy.errstate(all="ignore"):
                expected = gguf.quants.quantize(weights, kind)
            found = self.encode(number, weights)
            self.assertEqual(found.tobytes(), expected.tobytes(), kind.name)
            status, back = self.decode(number, found, weights.size)
            self.assertEqual(status, 0)
            self.assertEqual(back.tobytes(), gguf.quants.dequantize(expected, kind).tobytes(), kind.name)

    def test_the_numbers_of_the_types(self):
        self.assertEqual([GGMLQuantizationType.TQ1_0, GGMLQuantizationType.TQ2_0], list(TYPES))
        for number, size in zip(TYPES, (54, 66)):
            self.assertEqual(gguf.constants.GGML_QUANT_SIZES[GGMLQuantizationType(number)], (256, size))

    def test_random_weights_of_every_size(self):
        random = numpy.random.default_rng(1)
        for scale in (1.0, 0.02, 3e-5, 1e-7, 1e4):
            self.check(scale * random.standard_normal(40 * 256))

    def test_trits(self):
        random = numpy.random.default_rng(2)
        trits = random.integers(-1, 2, 20 * 256)
        for scale in (1.0, 0.0371, 2.5e-4, 60000.0):
            weights = numpy.float32(scale) * trits.astype(numpy.float32)
            self.check(weights)
            for number in TYPES:
                _, back = self.decode(number, self.encode(number, weights), weights.size)
                stored = numpy.float32(numpy.float16(numpy.float32(scale)))
                self.assertTrue(numpy.array_equal(back, stored * trits.astype(numpy.float32)))

    def test_zeros_and_negative_zeros(self):
        self.check(numpy.zeros(512))
        self.check(numpy.where(numpy.arange(512) % 3 == 0, -0.0, 0.0))
        self.check(numpy.where(numpy.arange(512) % 3 == 0, -0.0, 0.5))

    def test_ties_at_a_half(self):
        for most in (1.0, 0.3, 7.77, 1e-3, 65504.0):
            most = numpy.float32(most)
            half = most / 2
            near = [half, numpy.nextafter(half, most), numpy.nextafter(half, numpy.float32(0))]
            self.check(numpy.resize([most, *near, -most, *(-x for x in near), 0.0], 256))

    def test_scales_between_two_16_bit_floats(self):
        # Halfway, and to either side: ties go to the even one.
        bits = numpy.arange(0x0001, 0x7BFF, 37, dtype=numpy.uint16)
        low, high = bits.view(numpy.float16).astype(numpy.float32), (bits + 1).view(numpy.float16).astype(numpy.float32)
        middle = (low + high) / 2
        for scales in (middle, numpy.nextafter(middle, low), numpy.nextafter(middle, high)):
            trits = numpy.tile(numpy.array([1, -1, 0, 1], numpy.float32), 64)
            self.check(scales.astype(numpy.float32)[:, None] * trits)

    def test_small_scales(self):
        # Down to where the reciprocal is no 32-bit float, below 2^-128; what the package makes of those is undefined.
        for exponent in (-13, -14, -24, -25, -26, -60, -126, -127):
            random = numpy.random.default_rng(-exponent)
            weights = (2.0**exponent * random.uniform(-1, 1, 512)).astype(numpy.float32)
            weights[[0, 256]] = 2.0**exponent
            self.check(weights)
        for tiny in (2.0**-140, 2.0**-149):
            for number in TYPES:
                status, back = self.decode(number, self.encode(number, numpy.full(256, tiny, numpy.float32)), 256)
                self.assertEqual((status, numpy.count_nonzero(back)), (0, 0))

    def test_every_byte_is_read_as_the_package_reads_it_or_refused(self):
        # What is accepted is what some weights give; the rest, the package decodes to numbers that are no trits or no one's.
        for number, size, tail in ((34, 54, 48), (35, 66, 66)):
            kind = GGMLQuantizationType(number)
            for at in (0, 31, 32, 47, 48, 51):
                accepted = 0
                for byte in range(256):
                    blocks = self.encode(number, numpy.ones(256, numpy.float32))
                    blocks[at] = byte
                    status, back = self.decode(number, blocks, 256)
                    if status == 0:
                        accepted += 1
                        self.assertEqual(back.tobytes(), gguf.quants.dequantize(blocks, kind).tobytes())
                    else:
                        self.assertIn(b"block 0: byte %d is %d" % (at, byte), self.setun.setun_last_error())
                self.assertEqual(accepted, 243 if number == 34 and at < tail else 81)

    def test_what_the_package_makes_garbage_of_is_refused(self):
        for bad in (float("nan"), float("inf"), 65520.0, -1e30):
            weights = numpy.ones(512, numpy.float32)
            weights[300] = bad
            for number, size in zip(TYPES, (108, 132)):
                blocks = numpy.full(size, 0xAB, numpy.uint8)
                status = self.setun.setun_gguf_encode(number, weights.ctypes.data, 512, blocks.ctypes.data, size)
                self.assertEqual(status, -1)
                self.assertIn(b"gguf_encode: weights: element 300 is", self.setun.setun_last_error())
                self.assertTrue((blocks == 0xAB).all())


@unittest.skipIf(gguf is not None or "GGUF_PYTHON" not in os.environ, "GGUF_PYTHON names no interpreter, or is not needed")
class Elsewhere(unittest.TestCase):
    def test_in_the_environment_that_has_the_packages(self):
        command = [os.environ["GGUF_PYTHON"], "-m", "unittest", "-v", "test_gguf.Gguf"]
        done = subprocess.run(command, cwd=os.path.dirname(os.path.abspath(__file__)), capture_output=True, text=True, timeout=600)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("skipped", done.stderr)


if __name__ == "__main__":
    sys.exit(unittest.main())
