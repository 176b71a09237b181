/* The cluster verb: known answers on every backend, handles, progress and cancellation, and bad input. */
#include "check.h"

#include <math.h>

enum { N = 8, D = 2, K = 3 };

/* Three groups; the last point of the first lies apart. */
static const float x[N * D] = {0, 0, 0, 2, 2, 0, 2, 2, 100, 0, 102, 0, 0, 50, 0, 54};
/* From the first rows of each group: (0, 0), (100, 0), (0, 50). */
static const float start[K * D] = {0, 0, 100, 0, 0, 50};
static const int32_t labels_expected[N] = {0, 0, 0, 0, 1, 1, 2, 2};
static const float means[K * D] = {1, 1, 101, 0, 0, 52};
static const double inertia_expected = 4 * 2 + 2 * 1 + 2 * 4;

static void known_answers(const setun_context *context) {
    setun_kmeans_options options;
    int32_t labels[N];
    float centroids[K * D];
    double inertia = 0;
    float weights[N] = {1, 1, 1, 1, 3, 1, 0, 2};
    setun_kmeans_options_init(&options, sizeof options);
    options.context = context;
    options.start = SETUN_KMEANS_START_GIVEN;
    options.initial_centroids = start;
    CHECK_OK(setun_cluster(x, N, D, K, &options, labels, centroids, &inertia));
    CHECK(memcmp(labels, labels_expected, sizeof labels) == 0);
    CHECK(memcmp(centroids, means, sizeof centroids) == 0);
    CHECK(inertia == inertia_expected);
    options.weights = weights;
    CHECK_OK(setun_cluster(x, N, D, K, &options, labels, centroids, &inertia));
    CHECK(memcmp(labels, labels_expected, sizeof labels) == 0);
    CHECK(centroids[2] == 100.5f && centroids[5] == 54);
    CHECK_NEAR(inertia, 8 + 3 * .25 + 2.25, 1e-6);
    /* Whatever the start, these groups are found by one of ten runs. */
    options.weights = NULL;
    options.n_init = 10;
    for (options.start = SETUN_KMEANS_START_PLUS_PLUS; options.start <= SETUN_KMEANS_START_SCALABLE; options.start++) {
        if (options.start == SETUN_KMEANS_START_GIVEN)
            continue;
        CHECK_OK(setun_cluster(x, N, D, K, &options, NULL, NULL, &inertia));
        CHECK(inertia == inertia_expected);
    }
    /* At most three points in a cluster: of the four of the first group, one goes elsewhere. */
    options.start = SETUN_KMEANS_START_PLUS_PLUS, options.capacity = 3;
    CHECK_OK(setun_cluster(x, N, D, K, &options, labels, NULL, &inertia));
    for (int i = 0; i < K; i++) {
        int size = 0;
        for (int j = 0; j < N; j++)
            size += labels[j] == i;
        CHECK(size >= 2 && size <= 3);
    }
    CHECK(inertia > inertia_expected);
    /* As directions, two groups lie on the axes, and the third is spread from one to the other. */
    options.capacity = 0, options.spherical = 1;
    CHECK_OK(setun_cluster(x, N, D, K, &options, labels, centroids, &inertia));
    CHECK(labels[4] == labels[5] && labels[6] == labels[7] && labels[4] != labels[6] && labels[2] == labels[4]);
    CHECK_NEAR(centroids[2 * labels[3]], sqrt(.5), 1e-6);
    CHECK(inertia < 1e-12);
    /* All outputs may be NULL. */
    CHECK_OK(setun_cluster(x, N, D, K, NULL, NULL, NULL, NULL));
    CHECK_OK(setun_cluster(x, N, D, 1, NULL, labels, NULL, NULL));
    CHECK(labels[0] == 0 && labels[N - 1] == 0);
}

static void backends(void) {
    static const int32_t rows[3] = {SETUN_BACKEND_SCALAR, SETUN_BACKEND_SIMD, SETUN_BACKEND_PARALLEL};
    int i;
    known_answers(NULL);
    for (i = 0; i < 3; i++) {
        setun_context *context = NULL;
        setun_context_options where;
        setun_context_options_init(&where, sizeof where);
        where.backend = rows[i];
        where.threads = 2;
        CHECK_OK(setun_context_create(&where, &context));
        known_answers(context);
        setun_context_free(context);
    }
}

/* Counts the calls, and stops at one of them. */
typedef struct {
    int calls, stop_at;
    double last;
} listener;

static int32_t listen(const setun_kmeans_report *report, void *user_data) {
    listener *l = user_data;
    l->calls++;
    CHECK(report->struct_size == sizeof *report && report->iterations == l->calls && report->run == 0);
    CHECK(l->calls == 1 || report->inertia <= l->last);
    l->last = report->inertia;
    return l->calls != l->stop_at;
}

static void handles(void) {
    setun_kmeans_options options;
    setun_kmeans_report report = {sizeof report, 0, 0, 0, 0, 0, 0, 0, 0};
    setun_kmeans *kmeans = NULL;
    setun_cancel *cancel = NULL;
    listener l = {0, 0, 0};
    int32_t labels[N];
    float centroids[K * D], distances[N], nearby[2 * D] = {90, 1, 1, 1}, lengths[2 * K];
    int32_t routes[2 * K];
    double inertia;
    int64_t k, d = -1;
    CHECK_OK(setun_cancel_create(&cancel));
    setun_kmeans_options_init(&options, sizeof options);
    options.start = SETUN_KMEANS_START_GIVEN;
    options.progress = listen;
    options.user_data = &l;
    options.cancel = cancel;
    CHECK_OK(setun_kmeans_create(K, &options, &kmeans));
    CHECK_OK(setun_kmeans_shape(kmeans, &k, &d));
    CHECK(k == K && d == 0);
    CHECK_STATUS(setun_kmeans_fit(kmeans, x, N, D, NULL, labels), SETUN_ERR_STATE);
    CHECK_STATUS(setun_kmeans_assign(kmeans, x, N, D, labels, NULL), SETUN_ERR_STATE);
    CHECK_STATUS(setun_kmeans_centroids(kmeans, centroids, K * D), SETUN_ERR_STATE);
    CHECK_STATUS(setun_kmeans_inertia(kmeans, &inertia), SETUN_ERR_STATE);
    CHECK_STATUS(setun_kmeans_last_report(kmeans, &report), SETUN_ERR_STATE);

    CHECK_OK(setun_kmeans_set_centroids(kmeans, start, D));
    CHECK_OK(setun_kmeans_shape(kmeans, NULL, &d));
    CHECK(d == D);
    CHECK_OK(setun_kmeans_assign(kmeans, x, N, D, NULL, distances));
    CHECK(distances[0] == 0 && distances[3] == 8 && distances[7] == 16);
    CHECK_OK(setun_kmeans_fit(kmeans, x, N, D, NULL, labels));
    CHECK(memcmp(labels, labels_expected, sizeof labels) == 0);
    CHECK_OK(setun_kmeans_last_report(kmeans, &report));
    CHECK(report.iterations == l.calls && report.inertia == inertia_expected && report.converged == 1);
    CHECK(report.moved == 0 && report.empty == 0 && report.repaired == 0 && report.stopped == 0);
    CHECK_OK(setun_kmeans_inertia(kmeans, &inertia));
    CHECK(inertia == inertia_expected);
    CHECK_OK(setun_kmeans_centroids(kmeans, centroids, K * D));
    CHECK(memcmp(centroids, means, sizeof centroids) == 0);
    CHECK_FAILS(setun_kmeans_centroids(kmeans, centroids, 5), SETUN_ERR_SHAPE, "count is 5, the centroids are 6");
    CHECK_OK(setun_kmeans_assign(kmeans, nearby, 2, D, labels, distances));
    CHECK(labels[0] == 1 && labels[1] == 0 && distances[0] == 122 && distances[1] == 0);
    CHECK_OK(setun_kmeans_assign(kmeans, NULL, 0, D, NULL, NULL));

    /* Several centroids of each point. The means are (1, 1), (101, 0), (0, 52). */
    CHECK_OK(setun_kmeans_nearest(kmeans, nearby, 2, D, 3, routes, lengths));
    CHECK(routes[0] == 1 && routes[1] == 0 && routes[2] == 2 && routes[3] == 0 && routes[4] == 2 && routes[5] == 1);
    CHECK(lengths[0] == 122 && lengths[1] == 89 * 89 && lengths[2] == 8100 + 51 * 51 && lengths[3] == 0);
    CHECK_OK(setun_kmeans_route(kmeans, nearby, 2, D, 2, 2.0, routes, lengths));
    CHECK(routes[0] == 1 && routes[1] == 0 && routes[2] == 0 && routes[3] == 2);
    CHECK_NEAR(lengths[1], 122. / (122 + 89 * 89), 1e-6);
    CHECK(lengths[2] == 1 && lengths[3] == 0);
    CHECK_OK(setun_kmeans_route(kmeans, nearby, 2, D, 3, 1.0, NULL, NULL));
    CHECK_FAILS(setun_kmeans_nearest(kmeans, nearby, 2, D, 4, routes, NULL), SETUN_ERR_ARGUMENT, "m is 4");
    CHECK_FAILS(setun_kmeans_route(kmeans, nearby, 2, D, 1, NAN, routes, NULL), SETUN_ERR_ARGUMENT, "sharpness is NaN");

    /* The same points as a batch of a stream: the means stay what they are. */
    CHECK_OK(setun_kmeans_partial_fit(kmeans, x, N, D, NULL, labels));
    CHECK(memcmp(labels, labels_expected, sizeof labels) == 0);
    CHECK_OK(setun_kmeans_last_report(kmeans, &report));
    CHECK(report.iterations == 1 && report.inertia == inertia_expected);
    CHECK_OK(setun_kmeans_centroids(kmeans, centroids, K * D));
    CHECK(memcmp(centroids, means, sizeof centroids) == 0);
    CHECK_STATUS(setun_kmeans_partial_fit(kmeans, x, 1, 3, NULL, NULL), SETUN_ERR_SHAPE);

    /* Cancelled: nothing has changed, and labels are untouched. */
    CHECK_OK(setun_cancel_request(cancel));
    labels[0] = 77;
    CHECK_STATUS(setun_kmeans_fit(kmeans, start, K, D, NULL, labels), SETUN_ERR_CANCELLED);
    CHECK_OK(setun_kmeans_last_report(kmeans, &report));
    CHECK(labels[0] == 77 && report.inertia == inertia_expected);
    CHECK_OK(setun_cancel_reset(cancel));
    /* Stopped by the callback: what there is. */
    l.calls = 0, l.stop_at = 1;
    CHECK_OK(setun_kmeans_fit(kmeans, x, N, D, NULL, NULL));
    CHECK_OK(setun_kmeans_last_report(kmeans, &report));
    CHECK(report.stopped == 1 && report.iterations == 1 && l.calls == 1);
    setun_kmeans_free(kmeans);
    setun_kmeans_free(NULL);
    CHECK_STATUS(setun_kmeans_inertia(kmeans, &inertia), SETUN_ERR_ARGUMENT);
    setun_cancel_free(cancel);
}

static void wrong_use(void) {
    setun_kmeans_options options;
    setun_kmeans *kmeans = NULL;
    float bad[N * D], weights[N] = {1, 1, 1, 1, 1, 1, 1, -2}, centroids[K * D] = {5};
    int32_t labels[N] = {77};
    double inertia = 5;
    setun_kmeans_options_init(&options, sizeof options);
    memcpy(bad, x, sizeof bad);
    bad[5] = NAN;
    CHECK_FAILS(setun_cluster(bad, N, D, K, NULL, labels, centroids, &inertia), SETUN_ERR_ARGUMENT,
                "x is NaN at row 2, column 1");
    bad[5] = 3e38f;
    CHECK_FAILS(setun_cluster(bad, N, D, K, NULL, labels, centroids, &inertia), SETUN_ERR_ARGUMENT,
                "squared distances would overflow");
    CHECK(labels[0] == 77 && centroids[0] == 5 && inertia == 5);
    CHECK_FAILS(setun_cluster(NULL, N, D, K, NULL, labels, NULL, NULL), SETUN_ERR_ARGUMENT, "x is NULL");
    CHECK_FAILS(setun_cluster(x, -1, D, K, NULL, labels, NULL, NULL), SETUN_ERR_ARGUMENT, "n is -1");
    CHECK_FAILS(setun_cluster(x, N, 0, K, NULL, labels, NULL, NULL), SETUN_ERR_ARGUMENT, "d is 0");
    CHECK_FAILS(setun_cluster(x, N, D, 0, NULL, labels, NULL, NULL), SETUN_ERR_ARGUMENT, "k is 0");
    CHECK_FAILS(setun_cluster(x, N, D, 9, NULL, labels, NULL, NULL), SETUN_ERR_ARGUMENT, "k is 9, more clusters than");
    CHECK_FAILS(setun_cluster(x, N, INT64_MAX, K, NULL, labels, NULL, NULL), SETUN_ERR_ARGUMENT, "too large");
    CHECK_FAILS(setun_cluster(x, N, D, INT64_MAX, NULL, labels, NULL, NULL), SETUN_ERR_ARGUMENT, "k is 9223372036854775807");
    memcpy(bad, x, sizeof bad);
    CHECK_FAILS(setun_cluster(bad, N, D, K, NULL, NULL, bad, NULL), SETUN_ERR_ARGUMENT, "centroids overlaps x");
    CHECK_FAILS(setun_cluster(x, N, D, K, NULL, labels, (float *)labels, NULL), SETUN_ERR_ARGUMENT,
                "centroids overlaps labels");
    CHECK_FAILS(setun_cluster(x, N, D, K, NULL, NULL, NULL, (double *)((char *)&inertia + 1)), SETUN_ERR_ARGUMENT,
                "inertia is at");
    options.weights = weights;
    CHECK_FAILS(setun_cluster(x, N, D, K, &options, labels, NULL, NULL), SETUN_ERR_ARGUMENT, "weights[7] is -2");
    memset(weights, 0, sizeof weights);
    CHECK_FAILS(setun_cluster(x, N, D, K, &options, labels, NULL, NULL), SETUN_ERR_ARGUMENT, "all 8 weights are 0");
    setun_kmeans_options_init(&options, sizeof options);
    options.start = SETUN_KMEANS_START_GIVEN;
    CHECK_FAILS(setun_cluster(x, N, D, K, &options, labels, NULL, NULL), SETUN_ERR_ARGUMENT, "initial_centroids is NULL");
    options.start = 4;
    CHECK_FAILS(setun_kmeans_create(K, &options, &kmeans), SETUN_ERR_ARGUMENT, "start is 4");
    setun_kmeans_options_init(&options, sizeof options);
    options.candidates = 1025;
    CHECK_FAILS(setun_kmeans_create(K, &options, &kmeans), SETUN_ERR_ARGUMENT, "candidates is 1025");
    options.candidates = 0, options.capacity = 2;
    CHECK_FAILS(setun_cluster(x, N, D, K, &options, labels, NULL, NULL), SETUN_ERR_ARGUMENT,
                "capacity is 2: 3 clusters hold 6 points, there are 8");
    setun_kmeans_options_init(&options, sizeof options);
    options.n_init = 0;
    CHECK_FAILS(setun_kmeans_create(K, &options, &kmeans), SETUN_ERR_ARGUMENT, "n_init is 0");
    options.n_init = 1, options.tolerance = NAN;
    CHECK_FAILS(setun_kmeans_create(K, &options, &kmeans), SETUN_ERR_ARGUMENT, "tolerance is NaN");
    options.tolerance = 0, options.max_iterations = -1;
    CHECK_FAILS(setun_kmeans_create(K, &options, &kmeans), SETUN_ERR_ARGUMENT, "max_iterations is -1");
    options.struct_size = 3;
    CHECK_STATUS(setun_kmeans_create(K, &options, &kmeans), SETUN_ERR_ABI);
    CHECK_STATUS(setun_kmeans_create(K, NULL, NULL), SETUN_ERR_ARGUMENT);
    CHECK(kmeans == NULL && labels[0] == 77);
}

/* Three places and five clusters: inertia 0, two clusters stay empty, and the log says so. */
static void remember(int32_t level, const char *message, void *user_data) {
    if (level == SETUN_LOG_WARNING) strncpy(user_data, message, 199);
}

static void few_places(void) {
    float points[30];
    char message[200] = "";
    setun_kmeans_report report = {sizeof report, 0, 0, 0, 0, 0, 0, 0, 0};
    setun_kmeans *kmeans = NULL;
    int i;
    for (i = 0; i < 30; i++) points[i] = (float)(i % 3);
    CHECK_OK(setun_set_log(remember, message, SETUN_LOG_WARNING));
    CHECK_OK(setun_kmeans_create(5, NULL, &kmeans));
    CHECK_OK(setun_kmeans_fit(kmeans, points, 30, 1, NULL, NULL));
    CHECK_OK(setun_kmeans_last_report(kmeans, &report));
    CHECK(report.inertia == 0 && report.empty == 2 && report.converged == 1);
    CHECK(strstr(message, "only 3 distinct places for 5 clusters") != NULL);
    CHECK_OK(setun_set_log(NULL, NULL, SETUN_LOG_WARNING));
    setun_kmeans_free(kmeans);
}

int main(void) {
    backends();
    handles();
    wrong_use();
    few_places();
    return 0;
}
