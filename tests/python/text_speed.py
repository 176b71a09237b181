"""How fast texts become vectors, in MB of text a second of the best of some rounds, beside scikit-learn where it is installed.

    python3 tests/python/text_speed.py peps.txt

Windows of about `--window` bytes of the text, `--repeat` times; words and pairs, 1024 dimensions.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "c_examples" / "python"))
import setun


def rates(size, rounds, *calls):
    """MB a second: the best, and all of them."""
    for name, call in calls:
        found = []
        for _ in range(rounds):
            start = time.perf_counter()
            call()
            found.append(size / 1e6 / (time.perf_counter() - start))
        print(f"  {name}: {max(found):.0f} MB/s ({', '.join(f'{rate:.0f}' for rate in found)})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dimensions", type=int, default=1024)
    options = parser.parse_args()
    text = options.text.read_bytes() * options.repeat
    print(f"{len(text) / 1e6:.1f} MB")
    rates(len(text), options.rounds, ("text_windows", lambda: setun.text_windows(text, options.window)))
    texts = setun.text_windows(text, options.window)
    for threads in options.threads:
        tfidf = setun.Tfidf(dimensions=options.dimensions, context=setun.Context(threads=threads))
        print(f"{len(texts)} windows, {threads} threads")
        rates(len(text), options.rounds, ("fit", lambda: tfidf.fit(texts)), ("transform", lambda: tfidf.transform(texts)))
    try:
        from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    except ImportError as error:
        print(f"scikit-learn is not installed: {error}")
        return
    vectorizer = HashingVectorizer(n_features=options.dimensions, token_pattern=r"[^\W_]+", ngram_range=(1, 2), norm=None,
                                   decode_error="ignore")
    transformer = TfidfTransformer()
    print("scikit-learn, one thread")
    rates(len(text), 1, ("fit", lambda: transformer.fit(vectorizer.transform(texts))),
          ("transform", lambda: transformer.transform(vectorizer.transform(texts)).toarray()))


if __name__ == "__main__":
    main()
