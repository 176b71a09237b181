"""One-dimensional k-means beside other libraries: python3 tests/python/codebook_speed.py [--n 10000000] [--k 16 256]

Every library gets the same standard normal numbers and finds k entries for them, on one thread unless `--threads` says otherwise;
what counts is the whole call. setun sorts what it needs to and goes on to a fixed point of Lloyd's iteration; scikit-learn's Lloyd
begins at evenly spaced quantiles and is stopped after `--updates`; faiss finds the best entries by its exact one-dimensional program
(kmeans1d), of a sample where n is above `--faiss-most`, as it takes minutes. The inertia is that of the entries on all numbers, so it
can be compared. Calls are repeated in rounds, all times are printed, the least counts. numpy is needed; scikit-learn and faiss
(faiss-cpu) are run where they are installed.
"""

import argparse
import importlib.metadata
import os
import platform
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "c_examples" / "python"))


def inertia(x, entries):
    import numpy as np

    entries = np.sort(np.asarray(entries, np.float64).ravel())
    labels = np.searchsorted((entries[1:] + entries[:-1]) / 2, x)
    return float(sum(((part - entries[at]) ** 2).sum() for part, at in
                     ((x[i : i + 1_000_000].astype(np.float64), labels[i : i + 1_000_000])
                      for i in range(0, len(x), 1_000_000))))


def setun_run(x, k, asked):
    import setun

    backend = setun.Backend.SIMD if asked.threads == 1 else setun.Backend.PARALLEL
    with setun.Context(threads=asked.threads, backend=backend) as context:
        begin = time.perf_counter()
        found = setun.codebook_fit(x, k, context=context)
        return time.perf_counter() - begin, found.entries, "fixed point, labels too"


def scikit_run(x, k, asked):
    import numpy as np
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    start = np.quantile(x[:: max(1, len(x) // 100_000)], (np.arange(k) + 0.5) / k).astype(np.float32)[:, None]
    model = KMeans(k, init=start, n_init=1, max_iter=asked.updates, tol=0, algorithm="lloyd")
    with threadpool_limits(asked.threads):
        begin = time.perf_counter()
        model.fit(x[:, None])
        return time.perf_counter() - begin, model.cluster_centers_, f"{model.n_iter_} updates, labels too"


def faiss_run(x, k, asked):
    import faiss
    import numpy as np

    sample = np.ascontiguousarray(x[: asked.faiss_most])
    faiss.omp_set_num_threads(asked.threads)
    entries = np.empty(k, np.float32)
    begin = time.perf_counter()
    faiss.kmeans1d(faiss.swig_ptr(sample), len(sample), k, faiss.swig_ptr(entries))
    return time.perf_counter() - begin, entries, f"exact, of {len(sample)} numbers"


RUNS = {"setun": setun_run, "scikit-learn": scikit_run, "faiss-cpu": faiss_run}


def installed():
    found = ["setun"]
    for package in list(RUNS)[1:]:
        try:
            print(package, importlib.metadata.version(package))
            found.append(package)
        except importlib.metadata.PackageNotFoundError:
            print(f"{package} is not installed: left out")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000_000)
    parser.add_argument("--k", type=int, nargs="+", default=[16, 256])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5, help="of setun; the others have one")
    parser.add_argument("--updates", type=int, default=20, help="of scikit-learn")
    parser.add_argument("--faiss-most", type=int, default=300_000)
    asked = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(asked.threads)
    import numpy as np

    print("numpy", np.__version__, "python", platform.python_version(), f"{asked.threads} threads")
    libraries = installed()
    x = np.random.default_rng(1).standard_normal(asked.n, dtype=np.float32)
    for k in asked.k:
        for library in libraries:
            runs = [RUNS[library](x, k, asked) for _ in range(asked.rounds if library == "setun" else 1)]
            every = ", ".join(f"{seconds:.3f}" for seconds, _, _ in runs)
            least, (_, entries, what) = min(seconds for seconds, _, _ in runs), runs[0]
            print(f"{asked.n} numbers, {k:3} entries  {library:13} {least:8.3f} s  inertia {inertia(x, entries):.9g}  "
                  f"{what}  ({every})", flush=True)


if __name__ == "__main__":
    main()
