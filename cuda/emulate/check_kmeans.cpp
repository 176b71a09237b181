// The kernels of k-means against plain loops in f64, as check_kernels.cpp does for other kernels: each score against the bound
// that it is meant to be, which rows are left open, labels, bounds of distances, and sums of clusters; what rows would do as seeds,
// and several nearest centroids.
#include "numbers.hpp"

using namespace testing;

namespace {

#include "kmeans.cu"
#include "kmeans_scores.cu"
#include "kmeans_update.cu"
#include "scan.cuh"
namespace seeds {
#include "kmeans_seed.cu"
}
namespace several {
#include "kmeans_closest.cu"
}

constexpr double UNIT = 0x1p-24, EACH = 0x1p-12;
constexpr unsigned UNTOUCHED = 77;

/// What is searched: which kernel, and how the tiles of centroids are shared out.
struct Case {
    size_t n, k, d;
    bool keeps_rows = true;
    unsigned tiles_of_slice = 100;
    /// Every row, or two of three.
    bool listed = false;
    /// How far the centroids are from the origin, and how large their numbers are.
    double away = 0, size = 1;
    /// What rows are multiplied by, after all; and one of the centroids, before.
    float stretch = 1;
    double longest = 1;
};

struct Points {
    std::vector<float> x;
    std::vector<double> centroids;
    std::vector<unsigned> rows;
};

/// The squared distance as it is defined: eight lanes, which fold 4, 2, 1.
double squared_distance(const float *x, const double *c, size_t d) {
    double lanes[8] = {};
    for (size_t j = 0; j < d; ++j) lanes[j % 8] += (x[j] - c[j]) * (x[j] - c[j]);
    for (int width = 4; width > 0; width /= 2)
        for (int j = 0; j < width; ++j) lanes[j] += lanes[j + width];
    return lanes[0];
}

/// Means and scale of the centroids, by which rows and centroids are taken.
struct Centred {
    std::vector<double> centre;
    double scale = 1;

    explicit Centred(const Case &of, const std::vector<double> &centroids) : centre(of.d) {
        double squares = 0, far = 0, widest = 0;
        for (size_t i = 0; i < centroids.size(); ++i) {
            centre[i % of.d] += centroids[i] / double(of.k);
            squares += centroids[i] * centroids[i];
        }
        for (double mean : centre) far += double(of.k) * mean * mean;
        const bool centred = far > 4 * (squares - far);
        for (double &mean : centre) mean = centred ? double(float(mean)) : 0.0;
        for (size_t i = 0; i < centroids.size(); ++i) widest = std::max(widest, std::fabs(centroids[i] - centre[i % of.d]));
        if (widest > 0) scale = std::ldexp(1.0, std::min(std::max(10 - std::ilogb(widest), -120), 120));
    }
};

/// Of a row and a centroid: the exact score, and E(c) of kmeans.cuh.
struct Score {
    double value, error;
    double lower() const { return value - error; }
    double upper() const { return value + error; }
};

Score score_of(const Case &of, const Centred &frame, const float *x, const double *c) {
    double product = 0, own = 0, square = 0;
    for (size_t j = 0; j < of.d; ++j) {
        const double there = (c[j] - frame.centre[j]) * frame.scale, here = (double(x[j]) - frame.centre[j]) * frame.scale;
        product += there * here;
        own += here * here;
        square += there * there;
    }
    const double d = double(of.d), r = (d / 16 + 236) * UNIT, a = r / (1 - r) * (1 + 2 * r);
    const double norms = std::sqrt(own) + std::sqrt(square);
    return {square / 2 - product,
            a * (square / 2 + std::sqrt(own) * std::sqrt(square)) + std::sqrt(d) * EACH * norms + 4 * d * EACH * EACH};
}

struct Best {
    size_t label = 0;
    double first = INFINITY, second = INFINITY;

    void take(double value, size_t number) {
        second = std::min(second, std::max(first, value));
        if (value < first) label = number;
        first = std::min(first, value);
    }
};

/// Rows of which many are nearly as far from the second centroid as from the first, about as near as scores can tell apart, and
/// many belong to the last centroids. Some centroids are there twice.
Points points_of(Numbers &numbers, const Case &of) {
    Points points{normal(numbers, of.n * of.d), std::vector<double>(of.k * of.d), {}};
    std::normal_distribution<double> distribution;
    std::uniform_real_distribution<double> uniform;
    for (double &c : points.centroids) c = of.size * (distribution(numbers) + of.away);
    for (size_t j = 0; j < of.d; ++j) points.centroids[of.k / 2 * of.d + j] *= of.longest;
    for (size_t pair = 0; pair + 7 < of.k; pair += 41)
        std::copy_n(&points.centroids[pair * of.d], of.d, &points.centroids[(pair + 7) * of.d]);
    const Centred frame(of, points.centroids);
    for (size_t i = 0; i < of.n; ++i) {
        float *const x = &points.x[i * of.d];
        const size_t near = i % 3 ? of.k - 1 - i % std::min<size_t>(of.k, 6) : numbers() % of.k;
        for (size_t j = 0; j < of.d; ++j) x[j] = float(points.centroids[near * of.d + j] + of.size * 0.4 * x[j]);
        Best best;
        std::vector<Score> scores;
        for (size_t c = 0; c < of.k; ++c) {
            scores.push_back(score_of(of, frame, x, &points.centroids[c * of.d]));
            best.take(scores[c].value, c);
        }
        size_t other = 0;
        while (other < of.k && (other == best.label || scores[other].value != best.second)) ++other;
        const double *const to = &points.centroids[other * of.d], *const from = &points.centroids[best.label * of.d];
        double square = 0;
        for (size_t j = 0; other < of.k && j < of.d; ++j) square += (to[j] - from[j]) * (to[j] - from[j]);
        if (i % 2 == 0 || square == 0) continue;
        const double wanted = 6 * uniform(numbers) * scores[best.label].error;
        const double move = (best.second - best.first - wanted) / (frame.scale * frame.scale * square);
        for (size_t j = 0; j < of.d; ++j) x[j] = float(x[j] + move * (to[j] - from[j]));
    }
    for (float &x : points.x) x *= of.stretch;
    for (unsigned i = 0; of.listed && i < of.n; ++i)
        if (i % 3 != 1) points.rows.push_back(i);
    return points;
}

/// Whether `found` is what is expected, give or take so much.
void near(const char *what, size_t row, double expected, double found, double slack) {
    if (std::fabs(expected - found) <= slack || expected == found) return;
    expect(false, std::string(what) + " of row " + std::to_string(row) + " is " + std::to_string(found) + ", expected " +
                      std::to_string(expected) + " +- " + std::to_string(slack));
}

/// What the search has left in memory.
struct Outcome {
    std::vector<Found> found;
    std::vector<unsigned> list, labels;
    std::vector<float> bounds;
    size_t slices;
};

/// What the launches of src/backend/cuda/kmeans.rs do.
Outcome search(const Case &of, const Points &points, unsigned grid) {
    const size_t count = of.listed ? points.rows.size() : of.n, stages = (of.d + DEPTH - 1) / DEPTH;
    const size_t tiles = (of.k + TILE - 1) / TILE, wanted = std::min<size_t>(of.tiles_of_slice, tiles);
    const size_t slices = (tiles + wanted - 1) / wanted;
    const unsigned width = of.d > 16 ? 0 : of.d > 8 ? 16 : of.d > 4 ? 8 : of.d > 2 ? 4 : 2;
    const double d = double(of.d), r = (d / 16 + 236) * UNIT, a = r / (1 - r) * (1 + 2 * r), rounding = (d / 8 + 32) * UNIT;
    const Errors errors = {a, std::sqrt(d) * EACH, 4 * d * EACH * EACH, 2 + 4 * a};
    Array<float> x(points.x), centre(stages * DEPTH), heads(tiles * 2 * TILE), slack(tiles * TILE);
    Array<double> centroids(points.centroids);
    Array<unsigned> rows(points.rows), list(count), labels(std::vector<unsigned>(of.n, UNTOUCHED));
    Array<float> bounds(std::vector<float>(2 * of.n, float(UNTOUCHED)));
    Array<Spread> spreads(stages);
    Array<Frame> frame(1);
    Array<unsigned char> packed(width ? tiles * TILE * width * 4 : tiles * stages * SIDE);
    Array<Found> found(slices * count);
    Array<u64> fault(std::vector<u64>{~0ull});
    const auto of_heads = reinterpret_cast<float (*)[2][TILE]>(heads.data());
    LAUNCH(kmeans_check_rows, 1, THREADS, 0, rows.data(), points.rows.size(), of.n, fault.data());
    same("fault", {~0ull}, fault.values());
    LAUNCH(kmeans_spread, std::min<unsigned>(grid, unsigned(stages)), SPREAD_THREADS, 0, centroids.data(), of.k, 1.0 / double(of.k),
           of.d, stages, centre.data(), spreads.data());
    LAUNCH(kmeans_frame, 1, THREADS, 0, spreads.data(), stages, of.k, centre.data(), frame.data());
    LAUNCH(kmeans_pack, grid, THREADS, 0, centroids.data(), of.k, of.d, width, centre.data(), frame.data(), errors, packed.data(),
           of_heads, slack.data());
    const Centred expected(of, points.centroids);
    near("scale", 0, expected.scale, frame.values()[0].scale, 0);
    for (size_t j = 0; j < of.d; ++j)
        near("centre", j, expected.centre[j], centre.values()[j], std::fabs(expected.centre[j]) * 0x1p-23);
    const Search p = {x.data(), of.listed ? rows.data() : nullptr, centre.data(), frame.data(), packed.data(), of_heads,
                      found.data(), of.n, count, of.d, of.k, wanted, float(1 + 2 * rounding), float(d * 0x1p-100)};
    const unsigned across = unsigned(slices), down = unsigned((count + TILE - 1) / TILE);
    const unsigned shared = unsigned((of.keeps_rows ? stages : 2) * SIDE + 2 * STAGE + TILE * 8);
    if (width == 2) LAUNCH(kmeans_scores_2, dim3(grid, across), NARROW_THREADS, 0, p);
    else if (width == 4) LAUNCH(kmeans_scores_4, dim3(grid, across), NARROW_THREADS, 0, p);
    else if (width == 8) LAUNCH(kmeans_scores_8, dim3(grid, across), NARROW_THREADS, 0, p);
    else if (width == 16) LAUNCH(kmeans_scores_16, dim3(grid, across), NARROW_THREADS, 0, p);
    else if (of.keeps_rows) LAUNCH(kmeans_scores, dim3(down, across), SCORE_THREADS, shared, p);
    else LAUNCH(kmeans_scores_long, dim3(down, across), SCORE_THREADS, shared, p);
    const double ties = (d / 4 + 16) * 0x1p-53 * 1.01;
    LAUNCH(kmeans_settle, grid, THREADS, 0, p, slices, slack.data(), errors.raise, ties, 2 * rounding, list.data(), labels.data(),
           bounds.data());
    const u64 *const length = &frame.data()->doubtful;
    const Exact exact = {x.data(), list.data(), length, centroids.data(), labels.data(), bounds.data(), count, of.n, of.k, of.d};
    LAUNCH(kmeans_exact, grid, THREADS, 0, exact);
    auto listed = list.values();
    listed.resize(*length);
    return {found.values(), listed, labels.values(), bounds.values(), slices};
}

/// Whether a row was left to f64 where it had to be, and what became of it. Scores are off by a small part of E(c).
void check_row(const Case &of, const Points &points, const Centred &frame, const Outcome &outcome, size_t number, size_t row,
               bool open) {
    const size_t count = outcome.found.size() / outcome.slices;
    const float *const x = &points.x[row * of.d];
    Best nearest, lowest;
    std::vector<Score> scores;
    double largest = 0;
    for (size_t c = 0; c < of.k; ++c) {
        const double *const centroid = &points.centroids[c * of.d];
        nearest.take(squared_distance(x, centroid, of.d), c);
        scores.push_back(score_of(of, frame, x, centroid));
        lowest.take(scores[c].lower(), c);
        largest = std::max(largest, scores[c].error);
    }
    near("label", row, double(nearest.label), outcome.labels[row], 0);
    const float *const bounds = &outcome.bounds[2 * row];
    const double least = std::sqrt(nearest.first), second = std::sqrt(nearest.second);
    if (open) {
        near("bound", row, std::nextafter(float(least), INFINITY), bounds[0], 0);
        near("other bound", row, std::max(std::nextafter(float(second), 0.0f), 0.0f), bounds[1], 0);
    }
    double square = 0, widest = 0;
    for (size_t j = 0; j < of.d; ++j) {
        const double here = (double(x[j]) - frame.centre[j]) * frame.scale;
        square += here * here;
        widest = std::max(widest, std::fabs(here));
    }
    // What f16 has no number for.
    if (of.d > 16 && widest >= 65520) return expect(open, "row " + std::to_string(row) + " has no score, and is not open");
    expect(open || (bounds[0] >= least && bounds[1] <= second), "bounds of row " + std::to_string(row) + " do not hold");
    if (of.stretch != 1) return;
    for (size_t slice = 0; slice < outcome.slices; ++slice) {
        const size_t each = std::min<size_t>(of.tiles_of_slice * TILE, of.k), begin = slice * each;
        Best here;
        for (size_t c = begin; c < std::min(begin + each, of.k); ++c) here.take(scores[c].lower(), c);
        const Found &found = outcome.found[slice * count + number];
        near("least score", row, here.first, found.first, scores[here.label].error / 4);
        near("second score", row, here.second, found.second, largest / 4);
        near("squares", row, square, found.squares, square * 1e-5);
    }
    const double upper = scores[lowest.label].upper(), margin = lowest.second - upper;
    expect(std::fabs(margin) < largest / 2 || open == (margin < 0),
           "row " + std::to_string(row) + (open ? " is open" : " is not open") + ": " + std::to_string(margin));
    if (open) return;
    const double wide = largest / 2 + square * 1e-5, unit = 1 / (frame.scale * frame.scale);
    expect(bounds[0] * (1 - 1e-6) <= std::sqrt((2 * (upper + wide) + square) * unit), "a bound that is too high");
    const double low = (2 * (lowest.second - wide) + square) * unit;
    expect(bounds[1] * (1 + 1e-6) >= std::sqrt(std::max(low, 0.0)), "a bound that is too low");
}

void assign(Numbers &numbers, const Case &of) {
    const Points points = points_of(numbers, of);
    const Outcome outcome = search(of, points, 1 + unsigned(numbers() % 3));
    const Centred frame(of, points.centroids);
    const size_t count = outcome.found.size() / outcome.slices;
    std::vector<int> times(of.n);
    for (unsigned row : outcome.list) {
        expect(row < of.n && times[row]++ == 0, "row " + std::to_string(row) + " is listed twice, or there is none");
        if (row >= of.n) return;
    }
    std::vector<bool> there(of.n);
    for (size_t i = 0; i < count; ++i) {
        const size_t row = of.listed ? points.rows[i] : i;
        there[row] = true;
        check_row(of, points, frame, outcome, i, row, times[row] > 0);
    }
    for (size_t row = 0; row < of.n; ++row)
        if (!there[row]) near("a row that is not listed", row, UNTOUCHED, outcome.labels[row], 0);
}

/// Sums of stripes of `stripe` rows, added in order, of numbers of very different size.
void add_up(Numbers &numbers, size_t n, size_t k, size_t d, size_t stripe, bool shared_out, bool weighted) {
    auto x = normal(numbers, n * d), weights = normal(numbers, weighted ? n : 0);
    for (float &value : x) value = std::ldexp(value, int(numbers() % 81) - 40);
    for (float &weight : weights) weight = std::fabs(weight);
    std::vector<unsigned> labels(n + 1), rows, sorted;
    for (unsigned &label : labels) label = unsigned(numbers() % (3 * k)) < k ? unsigned(numbers() % k) : unsigned(k / 2);
    std::vector<double> expected(k * d), masses(k);
    for (size_t begin = 0; begin < n; begin += stripe) {
        std::vector<double> sums(k * d), here(k);
        for (size_t i = begin; i < std::min(n, begin + stripe); ++i) {
            const double weight = weighted ? double(weights[i]) : 1.0;
            here[labels[i]] += weight;
            for (size_t j = 0; j < d; ++j) sums[labels[i] * d + j] += weight * double(x[i * d + j]);
        }
        for (size_t i = 0; i < k * d; ++i) expected[i] += sums[i];
        for (size_t i = 0; i < k; ++i) masses[i] += here[i];
    }
    for (unsigned i = 0; i < n; ++i) rows.push_back(i);
    std::stable_sort(rows.begin(), rows.end(), [&](unsigned a, unsigned b) { return labels[a] < labels[b]; });
    for (unsigned row : rows) sorted.push_back(labels[row]);
    const size_t parts = shared_out ? (n + stripe - 1) / stripe : 1, blocks = (d + weighted + COLUMNS - 1) / COLUMNS;
    // Of src/backend/cuda/rows.rs.
    const unsigned shift = blocks > 1 ? 64 - unsigned(__builtin_clzll(blocks - 1)) : 0;
    const auto magic = static_cast<u64>(((static_cast<unsigned __int128>(1) << (63 + shift)) + blocks - 1) / blocks);
    Array<float> on_x(x), on_weights(weights);
    Array<unsigned> on_rows(rows), on_sorted(sorted), starts(std::vector<unsigned>(k * parts + 1, UNTOUCHED));
    Array<double> of_parts(std::vector<double>(parts * (k * d + k), UNTOUCHED)), sums(k * d + k);
    LAUNCH(kmeans_starts, 2, THREADS, 0, on_sorted.data(), on_rows.data(), n, unsigned(k), parts, shared_out ? stripe : n,
           starts.data());
    const Clusters clusters = {on_x.data(), weighted ? on_weights.data() : nullptr, on_rows.data(), starts.data(), k, d, parts,
                               stripe, blocks, {magic, shift}};
    LAUNCH(kmeans_update, 3, UPDATE_THREADS, 0, clusters, of_parts.data(), of_parts.data() + k * d, k * d + k);
    LAUNCH(kmeans_add_stripes, 2, THREADS, 0, of_parts.data(), parts, k * d, k, sums.data(), sums.data() + k * d);
    expected.insert(expected.end(), masses.begin(), masses.end());
    same("sums of clusters", expected, sums.values());
}

/// The canonical sum of (x - y)^2.
float canonical_distance(const float *x, const float *y, size_t d) {
    double total = 0;
    for (size_t begin = 0; begin < d; begin += 4096) {
        float lanes[32] = {};
        for (size_t j = begin; j < std::min(begin + 4096, d); ++j) lanes[(j - begin) % 32] += (x[j] - y[j]) * (x[j] - y[j]);
        for (int width = 16; width > 0; width /= 2)
            for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
        total += double(lanes[0]);
    }
    return float(total);
}

/// What m of n rows would do as seeds; with `known`, a row has one of 3 seeds, of which the limits spare some, though the row may
/// be nearer: no row that is spared for all candidates of its tile is looked at.
void lower(Numbers &numbers, size_t n, size_t m, size_t d, size_t stripe, bool weighted, bool known) {
    const auto x = normal(numbers, n * d), weights = normal(numbers, weighted ? n : 0);
    std::vector<unsigned> candidates(m), labels(n);
    std::vector<float> least(n), limits(3 * m);
    for (unsigned &candidate : candidates) candidate = unsigned(numbers() % n);
    for (unsigned &label : labels) label = unsigned(numbers() % 3);
    for (float &distance : least) distance = 2 * float(d) * (0.6f + float(numbers() % 1000) / 1000);
    // Those of seed 0 are all spared, those of the others for a few candidates.
    for (size_t i = 0; i < 3 * m; ++i) limits[i] = i % 3 == 0 ? 1e9f : numbers() % 4 ? -1.0f : 1e9f;
    std::vector<float> expected(m * n);
    const size_t stripes = (n + stripe - 1) / stripe;
    std::vector<double> gains(stripes * m);
    for (size_t c = 0; c < m; ++c) {
        for (size_t i = 0; i < n; ++i) {
            bool spared = known;
            for (size_t of_tile = c / 8 * 8; of_tile < std::min(c / 8 * 8 + 8, m); ++of_tile)
                spared = spared && least[i] <= limits[3 * of_tile + labels[i]];
            const float distance = canonical_distance(&x[i * d], &x[candidates[c] * d], d);
            expected[c * n + i] = spared ? least[i] : std::min(distance, least[i]);
            const double gain = double(least[i]) - double(expected[c * n + i]);
            gains[i / stripe * m + c] += weighted ? double(weights[i]) * gain : gain;
        }
    }
    Array<float> on_x(x), on_weights(weights), on_limits(limits), on_least(least), found(m * n);
    Array<unsigned> on_candidates(candidates), on_labels(labels);
    Array<u64> faults(std::vector<u64>{~0ull, ~0ull});
    Array<double> of_stripes(stripes * m);
    const seeds::Seeds p = {on_x.data(), on_candidates.data(), on_labels.data(), on_limits.data(), on_least.data(), found.data(),
                            faults.data(), faults.data() + 1, n, d, m, known ? 3u : 0u};
    LAUNCH(seeds::kmeans_lower, 2, THREADS, 0, p);
    same("faults", {~0ull, ~0ull}, faults.values());
    same("lower distances", expected, found.values());
    LAUNCH(seeds::kmeans_gains, 3, THREADS, 0, on_least.data(), found.data(), weighted ? on_weights.data() : nullptr, n, m, stripe,
           stripes, of_stripes.data());
    same("gains", gains, of_stripes.values());
}

/// A candidate and a label that are not there: they are noted, and nothing beside what there is is read.
void refuse_seeds() {
    Array<float> x(std::vector<float>(10)), least(std::vector<float>(10)), limits(std::vector<float>(6)), found(30);
    Array<unsigned> candidates(std::vector<unsigned>{9, 10, 4000000000}), labels(std::vector<unsigned>{0, 1, 0, 0, 2, 0, 7, 0, 0, 1});
    Array<u64> faults(std::vector<u64>{~0ull, ~0ull});
    const seeds::Seeds p = {x.data(), candidates.data(), labels.data(), limits.data(), least.data(), found.data(),
                            faults.data(), faults.data() + 1, 10, 1, 3, 2};
    LAUNCH(seeds::kmeans_lower, 2, THREADS, 0, p);
    same("faults of seeds", {1ull << 32 | 10, 4ull << 32 | 2}, faults.values());
}

/// The m nearest of k, with a team of so many threads, in shared memory or not. Some centroids are there several times.
void closest(Numbers &numbers, size_t n, size_t k, size_t d, size_t m, unsigned team, bool shared) {
    const auto x = normal(numbers, n * d);
    std::vector<double> centroids(k * d);
    std::normal_distribution<double> distribution;
    for (double &c : centroids) c = distribution(numbers);
    for (size_t c = 5; c < k; c += 3) std::copy_n(&centroids[numbers() % c * d], d, &centroids[c * d]);
    std::vector<unsigned> labels;
    std::vector<float> distances;
    for (size_t i = 0; i < n; ++i) {
        std::vector<std::pair<double, unsigned>> all;
        for (unsigned c = 0; c < k; ++c) all.push_back({squared_distance(&x[i * d], &centroids[c * d], d), c});
        std::sort(all.begin(), all.end());
        for (size_t j = 0; j < m; ++j) {
            labels.push_back(all[j].second);
            distances.push_back(float(all[j].first));
        }
    }
    unsigned bits = 0;
    while (1u << bits < m) ++bits;
    Array<float> on_x(x), found(n * m);
    Array<double> on_centroids(centroids);
    Array<u64> squares(n * k);
    Array<unsigned> on_labels(n * m), of_rows(n * k);
    LAUNCH(several::kmeans_squares, 3, THREADS, 0, on_x.data(), on_centroids.data(), n, k, d, squares.data());
    LAUNCH(several::kmeans_nearest, 2, THREADS, shared ? unsigned(THREADS / team * k * 12) : 0u, squares.data(),
           shared ? nullptr : of_rows.data(), n, unsigned(k), unsigned(m), bits, team, on_labels.data(), found.data());
    same("nearest", labels, on_labels.values());
    same("distances of the nearest", distances, found.values());
}

/// A list of rows with a fault: what it is, and where.
void refuse(const std::vector<unsigned> &rows, size_t at) {
    Array<unsigned> on_rows(rows);
    Array<u64> fault(std::vector<u64>{~0ull});
    LAUNCH(kmeans_check_rows, 2, THREADS, 0, on_rows.data(), rows.size(), 1000, fault.data());
    same("a fault", {u64(at) << 32 | rows[at]}, fault.values());
}

}  // namespace

int main() {
    refuse({3, 5, 5, 9}, 2);
    refuse({3, 999, 1000}, 2);
    refuse_seeds();
    for (uint64_t seed = 0; seed < 3; ++seed) {
        Numbers numbers(seed);
        emulate::seed(seed);
        assign(numbers, {130, 292, 49 + seed});
        assign(numbers, {40, 129, 96, true, 1, true, 30});
        assign(numbers, {60, 300, 81 - 16 * seed, false, 2, false, 3, 1e-12});
        assign(numbers, {9, 1 + seed, 17, seed % 2 == 0});
        assign(numbers, {300, 21, 2, true, 100, true, 50});
        assign(numbers, {70, 260, 3 + seed, true, 1 + unsigned(seed)});
        assign(numbers, {140, 130, 13, true, 100, false, 0, 1e8});
        // Most of the rows and centroids are so short that the smallest numbers of f16 count.
        assign(numbers, {100, 60, 40, true, 100, false, 0, 1, 1, 2000});
        // So far out that f64 cannot tell most centroids apart, and beyond what f16 or floats have numbers for.
        assign(numbers, {50, 30, 5, true, 100, false, 0, 1, 1e15f});
        assign(numbers, {20, 9, 20, true, 100, false, 0, 1, 1e15f});
        assign(numbers, {50, 30, 5, true, 100, false, 0, 1e-10, 1e27f});
        add_up(numbers, 700, 3, 40, 128, true, true);
        add_up(numbers, 700, 5, 70, 200, false, false);
        add_up(numbers, 900, 2, 1, 300, true, false);
        add_up(numbers, 900, 2, 31, 1000, false, true);
        lower(numbers, 300, 3, 40 + seed, 100, false, false);
        lower(numbers, 700, 11, 33, 700, true, true);
        lower(numbers, 40, 9, 1030, 40, true, false);
        lower(numbers, 35, 2, 4100 + seed, 20, false, true);
        lower(numbers, 5000, 2, 3, 4200, true, false);
        closest(numbers, 40, 33 + seed, 13, 5, 32, true);
        closest(numbers, 9, 100, 8 - seed, 100, 32, true);
        closest(numbers, 3, 600, 3, 1, THREADS, true);
        closest(numbers, 3, 515 + seed, 4, 515, THREADS, false);
    }
    return testing::failures != 0;
}
