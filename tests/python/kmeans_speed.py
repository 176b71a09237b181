"""Exact k-means beside other libraries: python3 tests/python/kmeans_speed.py [--threads 1 2] [--data points.npy]

Every library gets the same points, the same first centroids and the same number of updates, and has to say the labels of all
points at the end; what counts is the time of the whole call. faiss' SuperKMeans, which is approximate, begins at centroids of its
own and says no labels: it is shown beside the others, and not among "the best other". In the cases "to convergence", setun and
scikit-learn find their own starts, by k-means++ and 10 restarts, and go on until nothing changes; their inertia is printed too.
The libraries take turns in several rounds; all times are printed, the least is compared. numpy is needed; scikit-learn, scikit-learn-intelex and faiss (faiss-cpu) are run where they are
installed. Labels are compared with those of Lloyd's algorithm in f64 where `--check` is given: that takes minutes. (It leaves an
empty cluster where it is, as faiss does; setun and scikit-learn repair it. These starts leave none empty.)
"""

import argparse
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "c_examples" / "python"))

# Points, dimensions, clusters, updates; "structured" points have the spectrum of images, the others fill all dimensions alike.
CASES = {
    "uniform 60000 x 784, 100": ("uniform", 60_000, 784, 100, 10),
    "uniform 1M x 64, 64": ("uniform", 1_000_000, 64, 64, 10),
    "uniform 200k x 128, 512": ("uniform", 200_000, 128, 512, 10),
    "uniform 1M x 64, 10": ("uniform", 1_000_000, 64, 10, 10),
    "structured 60000 x 784, 100": ("structured", 60_000, 784, 100, 10),
    "structured 60000 x 784, 1000": ("structured", 60_000, 784, 1000, 25),
    "to convergence, groups 50000 x 32, 64": ("groups", 50_000, 32, 64, None),
    "to convergence, structured 10000 x 784, 50": ("structured", 10_000, 784, 50, None),
    "to convergence, uniform 20000 x 16, 32": ("uniform", 20_000, 16, 32, None),
}
RESTARTS = 10
LIBRARIES = {
    "setun": None,
    "faiss": "faiss-cpu",
    "superkmeans": "faiss-cpu",
    "scikit-learn": "scikit-learn",
    "intelex": "scikit-learn-intelex",
}


def points(kind, n, d):
    """Uniform, or 64 groups that lie apart, or a mixture of 500 normal distributions whose variances fall as i^-1.2 along random directions: of 784, the
    first 32 hold about 72%."""
    import numpy as np

    random = np.random.default_rng(7)
    if kind == "uniform":
        return random.random((n, d), dtype=np.float32)
    if kind == "groups":
        middles = random.uniform(-10, 10, (64, d))
        return (middles[random.integers(0, 64, n)] + 2 * random.standard_normal((n, d))).astype(np.float32)
    axes = np.linalg.qr(random.standard_normal((d, d)))[0] * (np.arange(1, d + 1) ** -0.6)[:, None]
    middles = random.standard_normal((500, d))
    x = np.empty((n, d), np.float32)
    for start in range(0, n, 10_000):
        rows = slice(start, min(n, start + 10_000))
        count = rows.stop - start
        x[rows] = (middles[random.integers(0, 500, count)] + 0.7 * random.standard_normal((count, d))) @ axes
    return x


def setun_run(x, start, updates, threads):
    import setun

    backend = setun.Backend.SIMD if threads == 1 else setun.Backend.PARALLEL
    how = dict(initial_centroids=start, start=setun.KMeansStart.GIVEN, max_iterations=updates)
    if updates is None:
        how = dict(n_init=RESTARTS, max_iterations=1000)
    with setun.Context(threads=threads, backend=backend) as context:
        begin = time.perf_counter()
        found = setun.cluster(x, len(start), context=context, **how)
        seconds = time.perf_counter() - begin
    return seconds, found.labels, found.inertia


def faiss_run(x, start, updates, threads):
    import faiss

    faiss.omp_set_num_threads(threads)
    clustering = faiss.Clustering(x.shape[1], len(start))
    clustering.niter = updates
    clustering.min_points_per_centroid, clustering.max_points_per_centroid = 1, len(x)
    faiss.copy_array_to_vector(start.ravel(), clustering.centroids)
    index = faiss.IndexFlatL2(x.shape[1])
    begin = time.perf_counter()
    clustering.train(x, index)
    labels = index.search(x, 1)[1][:, 0]
    return time.perf_counter() - begin, labels, None


def superkmeans_run(x, start, updates, threads):
    import faiss

    faiss.omp_set_num_threads(threads)
    clustering = faiss.SuperKmeans(x.shape[1], len(start), niter=updates, min_points_per_centroid=1,
                                   max_points_per_centroid=len(x))
    begin = time.perf_counter()
    clustering.train(x)
    return time.perf_counter() - begin, None, None


def scikit_run(x, start, updates, threads):
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    how = dict(init=start, n_init=1, max_iter=updates)
    if updates is None:
        how = dict(n_init=RESTARTS, max_iter=1000, random_state=0)
    model = KMeans(len(start), tol=0, algorithm="lloyd", **how)
    with threadpool_limits(threads):
        begin = time.perf_counter()
        model.fit(x)
        return time.perf_counter() - begin, model.labels_, model.inertia_


def intelex_run(x, start, updates, threads):
    from sklearnex.cluster import KMeans

    model = KMeans(len(start), init=start, n_init=1, max_iter=updates, tol=0, algorithm="lloyd")
    begin = time.perf_counter()
    model.fit(x)
    return time.perf_counter() - begin, model.labels_, model.inertia_


RUNS = {
    "setun": setun_run,
    "faiss": faiss_run,
    "superkmeans": superkmeans_run,
    "scikit-learn": scikit_run,
    "intelex": intelex_run,
}


def child(library, threads, folder, updates):
    """One run, in a process of its own: how many threads a library has is often decided when it is loaded."""
    import numpy as np

    x, start = np.load(f"{folder}/x.npy"), np.load(f"{folder}/start.npy")
    seconds, labels, inertia = RUNS[library](x, start, updates, threads)
    if labels is not None:
        np.save(f"{folder}/labels-{library}-{threads}.npy", np.asarray(labels, np.int64))
    print(seconds, inertia if inertia is not None else "nan")


def run(library, threads, folder, updates):
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = dict(os.environ, **dict.fromkeys(names, str(threads)))
    command = [sys.executable, __file__, "--child", library, str(threads), folder, str(updates)]
    if library == "intelex":
        # Its threads are as many as the processors that it may use.
        command = ["taskset", "-c", f"0-{threads - 1}", *command]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"{library} failed: {done.stderr.strip().splitlines()[-1:]}")
        return None
    return [float(number) for number in done.stdout.split()]


def lloyd(x, start, updates):
    """Labels after so many updates, all in f64."""
    import numpy as np

    x, centroids = x.astype(np.float64), start.astype(np.float64)
    squares = (x * x).sum(1)

    def nearest():
        labels = np.empty(len(x), np.int64)
        of_centroids = (centroids * centroids).sum(1)
        for begin in range(0, len(x), 4096):
            rows = x[begin : begin + 4096]
            distances = squares[begin : begin + 4096, None] + of_centroids - 2 * rows @ centroids.T
            # In this form ties are not exact: those that are close are summed again.
            best = distances.min(1)
            close = distances <= (best + 1e-9 * (squares[begin : begin + 4096] + of_centroids.max()))[:, None]
            labels[begin : begin + 4096] = distances.argmin(1)
            for i in np.flatnonzero(close.sum(1) > 1):
                some = np.flatnonzero(close[i])
                labels[begin + i] = some[((rows[i] - centroids[some]) ** 2).sum(1).argmin()]
        return labels

    labels = nearest()
    for _ in range(updates):
        counts = np.bincount(labels, minlength=len(centroids))
        sums = np.zeros_like(centroids)
        np.add.at(sums, labels, x)
        centroids[counts > 0] = sums[counts > 0] / counts[counts > 0, None]
        labels = nearest()
    return labels


def compare(name, folder, updates, asked, libraries, expected):
    import numpy as np

    for threads in asked.threads:
        times = {library: [] for library in libraries}
        for _ in range(asked.rounds):
            for library in libraries:
                times[library].append(run(library, threads, folder, updates))
        best = {library: min(found) for library, found in times.items() if None not in found}
        others = [seconds for library, (seconds, _) in best.items() if library not in ("setun", "superkmeans")]
        for library, (seconds, inertia) in best.items():
            every = ", ".join(f"{one:.2f}" for one, _ in times[library])
            how = f"{seconds / updates:.4f} an update" if updates else f"inertia {inertia:.6g}"
            line = f"{name:42} {threads} {library:13} {seconds:7.3f} s  {how}  ({every})"
            if library == "setun" and others:
                line += f"  {min(others) / seconds:.2f} times the best other"
            if expected is not None and library != "superkmeans":
                labels = np.load(f"{folder}/labels-{library}-{threads}.npy")
                line += f"  {int((labels != expected).sum())} labels differ from f64"
            print(line, flush=True)


def installed():
    found = ["setun"]
    for library, package in list(LIBRARIES.items())[1:]:
        try:
            print(package, importlib.metadata.version(package))
            found.append(library)
        except importlib.metadata.PackageNotFoundError:
            print(f"{package} is not installed: left out")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="cases whose names hold this")
    parser.add_argument("--data", help="an .npy of float32 points, for the structured cases")
    parser.add_argument("--check", action="store_true", help="compare the labels with those of f64")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        library, threads, folder, updates = asked.child
        return child(library, int(threads), folder, None if updates == "None" else int(updates))
    try:
        import numpy as np
    except ImportError:
        print("numpy is not installed: nothing to measure with")
        return None
    libraries = installed()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.2f}; the least of {asked.rounds} rounds\n")
    for name, (kind, n, d, k, updates) in CASES.items():
        if asked.only and asked.only not in name:
            continue
        x = np.load(asked.data).astype(np.float32) if asked.data and kind == "structured" else points(kind, n, d)
        start = x[np.random.default_rng(1).choice(len(x), k, replace=False)]
        with tempfile.TemporaryDirectory() as folder:
            np.save(f"{folder}/x.npy", x)
            np.save(f"{folder}/start.npy", start)
            expected = lloyd(x, start, updates) if asked.check and updates else None
            some = libraries if updates else [library for library in libraries if library in ("setun", "scikit-learn")]
            compare(name, folder, updates, asked, some, expected)
    return None


if __name__ == "__main__":
    main()
