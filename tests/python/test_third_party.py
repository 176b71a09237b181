"""LICENSE-THIRD-PARTY lists what is linked into the library, no more and no less."""

import re
import unittest

import third_party


class ThirdParty(unittest.TestCase):
    def test_the_notice_lists_the_crates_of_the_library(self):
        text = third_party.NOTICE.read_text(encoding="utf-8")
        listed = re.findall(r"^(\S+ \S+) \[\S+\] of .*$", text, re.MULTILINE)
        linked = [f"{package['name']} {package['version']}" for package in third_party.linked_crates()]
        self.assertEqual(listed, linked, "run python3 tests/python/third_party.py")

    def test_the_notice_has_their_licences(self):
        self.assertEqual(third_party.NOTICE.read_text(encoding="utf-8"), third_party.notice())


if __name__ == "__main__":
    unittest.main()
