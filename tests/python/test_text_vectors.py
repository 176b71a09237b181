"""Tfidf and text_windows of c_examples/python/setun.py: against scikit-learn where it is installed, clusters of texts, and what
processes that share nothing compute."""

import importlib.util
import math
import os
import random
import subprocess
import sys
import unittest
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "c_examples" / "python" / "setun.py"
DATA = ROOT.parent / "shared" / "data"


def load(numpy=True):
    """A fresh copy of the module; without NumPy, as if it were not installed."""
    hidden = sys.modules.get("numpy")
    try:
        if not numpy:
            sys.modules["numpy"] = None
        spec = importlib.util.spec_from_file_location("setun", MODULE)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        if not numpy:
            del sys.modules["numpy"]
            if hidden is not None:
                sys.modules["numpy"] = hidden


setun = load()
plain = load(numpy=False)


def rows(x, d):
    """The rows of a result, which is a NumPy array or a flat array.array."""
    flat = x.ravel().tolist() if hasattr(x, "ravel") else list(x)
    return [flat[i : i + d] for i in range(0, len(flat), d)]


def purity(labels, truth):
    """The part of the texts that are of the kind that most of their cluster is of."""
    table = Counter(zip(labels, truth))
    return sum(max(n for (label, _), n in table.items() if label == cluster) for cluster in set(labels)) / len(truth)


def topics(count, kinds=4, seed=5):
    """Texts of words that a third is everybody's, the rest their kind's, as often as Zipf's law has it."""
    draw = random.Random(seed)
    weights = [1 / (i + 1) for i in range(400)]
    texts, truth = [], []
    for i in range(count):
        ranks = draw.choices(range(400), weights, k=draw.randrange(60, 200))
        texts.append(" ".join(f"w{rank}" if draw.random() < 1 / 3 else f"k{i % kinds}w{rank}" for rank in ranks))
        truth.append(i % kinds)
    return texts, truth


class TextVectors(unittest.TestCase):
    def test_vectors(self):
        texts = ["To be, or not to be", "to BE or not", b"something else entirely \xff", ""]
        for module in (setun, plain):
            tfidf = module.Tfidf(dimensions=512, seed=3)
            self.assertEqual(tfidf.dimensions, 512)
            for call in (lambda: tfidf.transform(texts), lambda: tfidf.idf):
                with self.assertRaises(module.Error) as caught:
                    call()
                self.assertEqual(caught.exception.status.name, "STATE")
            tfidf.fit(texts)
            a, b, c, nothing = found = rows(tfidf.transform(texts), 512)
            for row in (a, b, c):
                self.assertAlmostEqual(math.hypot(*row), 1, 6)
            self.assertEqual(set(nothing), {0})
            self.assertGreater(sum(x * y for x, y in zip(a, b)), 0.5)
            # Weights go from one process to another; a stream is what the whole is.
            other = module.Tfidf(dimensions=512, seed=3)
            other.idf = tfidf.idf
            self.assertEqual(rows(other.transform(texts), 512), found)
            other.partial_fit(texts[:1])
            other.partial_fit(iter(texts[1:]))
            self.assertEqual(rows(other.transform(texts), 512), found)
            self.assertEqual(list(other.transform([])), [])
            with self.assertRaises(module.Error):
                other.idf = [1.0] * 511
            with self.assertRaises(TypeError):
                tfidf.fit("a text, not a list of texts")
            with self.assertRaises(TypeError):
                tfidf.fit([5])
            with self.assertRaises(TypeError):
                module.Tfidf(buckets=5)
            token = module.Cancel()
            token.request()
            with self.assertRaises(module.Error) as caught:
                module.Tfidf(cancel=token).fit(texts)
            self.assertEqual(caught.exception.status.name, "CANCELLED")

    def test_windows(self):
        text = "Größe, Weiß und Öl. " * 50
        for module in (setun, plain):
            parts = module.text_windows(text, 64)
            self.assertEqual("".join(parts), text)
            self.assertTrue(all(part[0].isalpha() and part.endswith(" ") for part in parts))
            self.assertTrue(all(40 <= len(part.encode()) <= 90 for part in parts[:-1]))
            self.assertEqual(module.text_windows(text.encode(), 64), [part.encode() for part in parts])
            overlapping = module.text_windows(text, 64, 32)
            self.assertIn(len(overlapping), range(2 * len(parts) - 3, 2 * len(parts) + 1))
            self.assertEqual(module.text_windows("", 64), [])
            with self.assertRaises(module.Error):
                module.text_windows(text, 0)

    def test_clusters_are_the_topics(self):
        texts, truth = topics(400)
        tfidf = setun.Tfidf(dimensions=1024, seed=1)
        tfidf.fit(texts)
        kmeans = setun.KMeans(4, seed=1, n_init=5)
        labels = kmeans.fit(tfidf.transform(texts), columns=1024)
        self.assertGreater(purity(list(labels), truth), 0.97)
        # Texts that nobody has seen find the clusters of their topics.
        others, kinds = topics(100, seed=6)
        found = kmeans.assign(tfidf.transform(others), columns=1024)[0]
        self.assertGreater(purity(list(labels) + list(found), truth + kinds), 0.97)

    def test_another_process_computes_the_same(self):
        program = ("import hashlib, sys; sys.path.insert(0, sys.argv[1]); import setun; "
                   "texts = [f'text {i} of {i % 7} and {i * i}' for i in range(300)]; "
                   "tfidf = setun.Tfidf(seed=9, context=setun.Context(threads=int(sys.argv[2]))); tfidf.fit(texts); "
                   "print(hashlib.sha256(bytes(memoryview(tfidf.transform(texts)).cast('B'))).hexdigest())")
        sums = set()
        for threads, level in ((1, {"SETUN_CPU_LEVEL": "baseline"}), (1, {}), (2, {}), (3, {})):
            command = [sys.executable, "-c", program, str(MODULE.parent), str(threads)]
            run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **level})
            self.assertEqual(run.returncode, 0, run.stderr)
            sums.add(run.stdout)
        self.assertEqual(len(sums), 1)

    def test_cosines_are_those_of_scikit_learn(self):
        try:
            import numpy
            from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
        except ImportError as error:
            self.skipTest(f"scikit-learn is not installed: {error}")
        texts, _ = topics(60, kinds=3)
        texts = [text[:300] for text in texts[:8]]
        # The last one is not learned from, and has no term that the others lack.
        texts += ["Ein schöner ÉTÉ, 2nd try: don't_stop!", "another short TRY, try; try again", "Try, try again"]
        for ngrams in (1, 2):
            for sublinear in (False, True):
                counts = CountVectorizer(token_pattern=r"[^\W_]+", ngram_range=(1, ngrams))
                transformer = TfidfTransformer(sublinear_tf=sublinear)
                transformer.fit(counts.fit_transform(texts[:-1]))
                exact = transformer.transform(counts.transform(texts)).toarray()
                terms = len(counts.vocabulary_)
                options = dict(dimensions=1 << 20, ngrams=ngrams, sublinear=int(sublinear))
                for seed in range(100):
                    # Each term alone in its dimension: as many dimensions as terms.
                    tfidf = setun.Tfidf(seed=seed, **options)
                    tfidf.fit(texts[:-1])
                    x = tfidf.transform(texts).astype("float64")
                    if len(numpy.flatnonzero(numpy.any(x[:-1] != 0, axis=0))) == terms:
                        break
                else:
                    self.fail("every seed has terms that meet")
                self.assertLess(abs(x @ x.T - exact @ exact.T).max(), 1e-6)

    def test_corpora(self):
        names = ("tinyshakespeare.txt", "peps.txt", "state_union.txt")
        if not all((DATA / name).exists() for name in names):
            self.skipTest(f"{DATA} lacks one of {names}")
        windows = [setun.text_windows((DATA / name).read_bytes()[:1_000_000], 2048) for name in names]
        texts, truth = sum(windows, []), [i for i, parts in enumerate(windows) for _ in parts]
        tfidf = setun.Tfidf(dimensions=1024, seed=0)
        tfidf.fit(texts)
        labels = setun.KMeans(3, seed=0).fit(tfidf.transform(texts), columns=1024)
        found = purity(list(labels), truth)
        print(f"purity of {len(texts)} windows: {found:.4f}", file=sys.stderr)
        self.assertGreater(found, 0.97)


if __name__ == "__main__":
    unittest.main()
