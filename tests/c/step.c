/* The step verb: known answers on every backend, the radius, refusals that leave no trace, checkpoints, wrong use. */
#include "check.h"

#include <float.h>
#include <math.h>

enum { N = 6 };

static const float start[N] = {1, -2, .5f, 3, -1, .25f};
static const float gradient[N] = {.1f, -.2f, 0, .3f, -.1f, .2f};

static double rms(const float *x, const float *y) {
    double sum = 0;
    int i;
    for (i = 0; i < N; i++) sum += (x[i] - y[i]) * (double)(x[i] - y[i]);
    return sqrt(sum / N);
}

static const float zeros[N];

/* The first step of Adam is the learning rate against the sign of the gradient; decay comes with it. */
static void simple_call(setun_context *context) {
    float w[N], moments[2 * N];
    setun_optimizer_options options;
    setun_step_report report;
    int64_t step;
    int i;
    memcpy(w, start, sizeof w);
    memset(moments, 0, sizeof moments);
    setun_optimizer_options_init(&options, sizeof options);
    CHECK(options.struct_size == sizeof options && options.radius_mode == SETUN_RADIUS_MODE_CAP);
    options.context = context;
    options.learning_rate = .01;
    memset(&report, 0xFF, sizeof report);
    report.struct_size = sizeof report;
    CHECK_OK(setun_step(w, gradient, N, moments, 1, &options, &report));
    for (i = 0; i < N; i++) {
        double sign = (gradient[i] > 0) - (gradient[i] < 0);
        CHECK_NEAR(w[i], start[i] - .01 * (sign + .1 * start[i]), 1e-6);
        CHECK_NEAR(moments[i], .1 * gradient[i], 1e-7);
        CHECK_NEAR(moments[N + i], .01 * gradient[i] * gradient[i], 1e-8);
    }
    CHECK(report.outcome == SETUN_STEP_OUTCOME_TAKEN && report.step == 1 && report.held == 0 && report.clamped == 0);
    CHECK(report.learning_rate == .01 && report.radius == .05 && report.gradient_scale == 1);
    CHECK_NEAR(report.gradient_norm, sqrt(.19), 1e-6);
    CHECK_NEAR(report.step_rms, rms(w, start), 1e-6);
    CHECK_NEAR(report.weight_rms, rms(start, zeros), 1e-6);
    CHECK_NEAR(report.ratio, report.step_rms / report.weight_rms, 1e-9);
    CHECK(report.refused_gradients == 0 && report.refused_parameters == 0 && report.refused_updates == 0);

    /* A rate far too high: the radius holds it. Exactly: a rate that does not matter. */
    for (step = 2; step < 4; step++) {
        float before[N];
        memcpy(before, w, sizeof w);
        options.learning_rate = step == 2 ? 100 : 0;
        options.radius_mode = step == 2 ? SETUN_RADIUS_MODE_CAP : SETUN_RADIUS_MODE_EXACT;
        options.radius = .03;
        CHECK_OK(setun_step(w, gradient, N, moments, step, &options, &report));
        CHECK_NEAR(rms(w, before), .03 * rms(before, zeros), 1e-6);
        CHECK(report.held == 1);
        CHECK_NEAR(report.ratio, .03, 1e-9);
    }
    options.radius_mode = SETUN_RADIUS_MODE_OFF;
    options.learning_rate = .5;
    options.lower = -1;
    options.upper = 1;
    CHECK_OK(setun_step(w, gradient, N, moments, 4, &options, &report));
    CHECK(report.clamped >= 2 && isinf(report.radius));
    for (i = 0; i < N; i++) CHECK(w[i] >= -1 && w[i] <= 1);
}

static void backends(void) {
    static const int32_t rows[3] = {SETUN_BACKEND_SCALAR, SETUN_BACKEND_SIMD, SETUN_BACKEND_PARALLEL};
    int i;
    for (i = 0; i < 3; i++) {
        setun_context *context = NULL;
        setun_context_options where;
        setun_context_options_init(&where, sizeof where);
        where.backend = rows[i];
        where.threads = 2;
        CHECK_OK(setun_context_create(&where, &context));
        simple_call(context);
        setun_context_free(context);
    }
    simple_call(NULL);
}

static void bad_calls(void) {
    static const float bad[3] = {NAN, INFINITY, -INFINITY};
    float w[N], g[N], moments[2 * N], huge[N];
    setun_optimizer_options options;
    setun_step_report report;
    int i;
    memcpy(w, start, sizeof w);
    memset(moments, 0, sizeof moments);
    report.struct_size = sizeof report;
    for (i = 0; i < 3; i++) {
        memcpy(g, gradient, sizeof g);
        g[4] = bad[i];
        CHECK_FAILS(setun_step(w, g, N, moments, 1, NULL, &report), SETUN_ERR_STATE,
                    "element 4 of the gradient of parameters is not finite; nothing was updated");
        CHECK(report.outcome == SETUN_STEP_OUTCOME_BAD_GRADIENT && report.step == 0 && report.held == 0);
        w[3] = bad[i];
        CHECK_FAILS(setun_step(w, gradient, N, moments, 1, NULL, &report), SETUN_ERR_STATE,
                    "element 3 of parameters");
        CHECK(report.outcome == SETUN_STEP_OUTCOME_BAD_PARAMETER);
        w[3] = start[3];
        CHECK(memcmp(w, start, sizeof w) == 0);
    }
    setun_optimizer_options_init(&options, sizeof options);
    options.radius_mode = SETUN_RADIUS_MODE_OFF;
    options.learning_rate = FLT_MAX;
    CHECK_FAILS(setun_step(w, gradient, N, moments, 1, &options, &report), SETUN_ERR_STATE, "beyond f32");
    CHECK(report.outcome == SETUN_STEP_OUTCOME_BAD_UPDATE);
    for (i = 0; i < N; i++) huge[i] = FLT_MAX;
    CHECK_FAILS(setun_step(w, huge, N, moments, 1, NULL, NULL), SETUN_ERR_STATE, "norm of the gradients");

    CHECK_FAILS(setun_step(NULL, gradient, N, moments, 1, NULL, NULL), SETUN_ERR_ARGUMENT, "parameters is NULL");
    CHECK_FAILS(setun_step(w, NULL, N, moments, 1, NULL, NULL), SETUN_ERR_ARGUMENT, "gradient is NULL");
    CHECK_FAILS(setun_step(w, gradient, N, NULL, 1, NULL, NULL), SETUN_ERR_ARGUMENT, "moments is NULL");
    CHECK_FAILS(setun_step(w, gradient, -1, moments, 1, NULL, NULL), SETUN_ERR_ARGUMENT, "n is -1");
    CHECK_FAILS(setun_step(w, gradient, INT64_MAX, moments, 1, NULL, NULL), SETUN_ERR_ARGUMENT, "moments of sizes");
    CHECK_FAILS(setun_step(w, gradient, N, moments, 0, NULL, NULL), SETUN_ERR_ARGUMENT, "step is 0");
    CHECK_FAILS(setun_step(w, w, N, moments, 1, NULL, NULL), SETUN_ERR_ARGUMENT, "parameters overlaps gradient");
    CHECK_FAILS(setun_step(w, gradient, N, w, 1, NULL, NULL), SETUN_ERR_ARGUMENT, "moments overlaps parameters");
    CHECK_FAILS(setun_step((float *)(void *)((char *)w + 1), gradient, N, moments, 1, NULL, NULL), SETUN_ERR_ARGUMENT,
                "parameters is at");
    moments[3] = .5f;
    CHECK_FAILS(setun_step(w, gradient, N, moments, 1, NULL, NULL), SETUN_ERR_ARGUMENT, "moments[3] is 0.5");
    moments[3] = 0;
    moments[N + 2] = -.5f;
    CHECK_FAILS(setun_step(w, gradient, N, moments, 3, NULL, NULL), SETUN_ERR_ARGUMENT, "moments[8] is -0.5");
    moments[N + 2] = 0;
    options.radius_mode = 3;
    CHECK_FAILS(setun_step(w, gradient, N, moments, 1, &options, NULL), SETUN_ERR_ARGUMENT, "radius_mode is 3");
    options.radius_mode = SETUN_RADIUS_MODE_CAP;
    options.learning_rate = NAN;
    CHECK_FAILS(setun_step(w, gradient, N, moments, 1, &options, NULL), SETUN_ERR_ARGUMENT, "learning_rate is NaN");
    options.learning_rate = .1;
    options.beta2 = 1;
    CHECK_FAILS(setun_step(w, gradient, N, moments, 1, &options, NULL), SETUN_ERR_ARGUMENT, "beta2 is 1");
    report.struct_size = 5;
    CHECK_FAILS(setun_step(w, gradient, N, moments, 1, NULL, &report), SETUN_ERR_ABI, "report");
    CHECK(memcmp(w, start, sizeof w) == 0);
    for (i = 0; i < 2 * N; i++) CHECK(moments[i] == 0);
    CHECK_OK(setun_step(NULL, NULL, 0, NULL, 1, NULL, NULL));
    CHECK_OK(setun_step(w, gradient, N, moments, 1, NULL, NULL));
}

/* Two parameters in one array, and what an optimizer of them needs. */
typedef struct {
    float w[N];
    setun_optimizer *optimizer;
} pair;

static const int64_t matrix[2] = {2, 2}, vector[1] = {2};

static void make(pair *p) {
    setun_optimizer_options options;
    setun_optimizer_options_init(&options, sizeof options);
    options.learning_rate = .3;
    memcpy(p->w, start, sizeof p->w);
    p->optimizer = NULL;
    CHECK_OK(setun_optimizer_create(&options, &p->optimizer));
    CHECK_OK(setun_optimizer_add(p->optimizer, "matrix", p->w, matrix, 2, NULL));
    CHECK_OK(setun_optimizer_add(p->optimizer, "bias", p->w + 4, vector, 1, NULL));
}

static setun_status step(pair *p, const float *g, setun_step_report *report) {
    const float *gradients[2];
    gradients[0] = g;
    gradients[1] = g + 4;
    if (report != NULL) report->struct_size = sizeof *report;
    return setun_optimizer_step(p->optimizer, gradients, 2, report);
}

static void optimizer(void) {
    static const float bad[3] = {NAN, INFINITY, -INFINITY};
    pair p, twin;
    setun_step_report report, part;
    float before[N], g[N];
    double radius = 0;
    size_t bytes = 0;
    int i, at;
    make(&p);
    make(&twin);
    CHECK_OK(setun_optimizer_state_bytes(p.optimizer, &bytes));
    CHECK(bytes == 8 * N);
    for (i = 0; i < 3; i++) {
        for (at = 0; at < N; at++) {
            memcpy(g, gradient, sizeof g);
            g[at] = bad[i];
            memcpy(before, p.w, sizeof before);
            CHECK_FAILS(step(&p, g, &report), SETUN_ERR_STATE,
                        at < 4 ? "the gradient of matrix" : "the gradient of bias");
            CHECK(report.outcome == SETUN_STEP_OUTCOME_BAD_GRADIENT && report.step == i);
            CHECK(report.refused_gradients == N * i + at + 1);
            CHECK(memcmp(before, p.w, sizeof before) == 0);
        }
        CHECK_OK(step(&p, gradient, &report));
        CHECK_OK(step(&twin, gradient, NULL));
        CHECK(memcmp(p.w, twin.w, sizeof p.w) == 0);
    }
    /* Held at 5% of the matrix (rms above 1) and of the floor of a vector or more. */
    CHECK(report.step == 3 && report.held == 2);
    part.struct_size = sizeof part;
    CHECK_OK(setun_optimizer_report(p.optimizer, 1, &part));
    CHECK_NEAR(part.ratio, .05, 1e-9);
    CHECK_NEAR(part.gradient_norm, sqrt(.05), 1e-6);
    CHECK(part.held == 1 && part.learning_rate < .3);
    CHECK_OK(setun_optimizer_report(p.optimizer, -1, &part));
    CHECK(part.ratio == report.ratio && part.held == 2 &&
          part.learning_rate == .3 && part.refused_gradients == 3 * N);
    CHECK_FAILS(setun_optimizer_report(p.optimizer, 2, &part), SETUN_ERR_ARGUMENT, "index is 2");
    CHECK_FAILS(setun_optimizer_report(p.optimizer, -2, &part), SETUN_ERR_ARGUMENT, "index is -2");

    /* An update that would overflow: nothing moves, and the radius is a quarter of it. */
    CHECK_OK(setun_optimizer_set_radius(p.optimizer, 1e30));
    CHECK_OK(setun_optimizer_set_learning_rate(p.optimizer, 1e30));
    memcpy(before, p.w, sizeof before);
    CHECK_FAILS(step(&p, gradient, &report), SETUN_ERR_STATE, "would take matrix beyond f32");
    CHECK(report.outcome == SETUN_STEP_OUTCOME_BAD_UPDATE && report.refused_updates == 1);
    CHECK(memcmp(before, p.w, sizeof before) == 0);
    CHECK_OK(setun_optimizer_set_radius(p.optimizer, .04));
    CHECK_OK(setun_optimizer_radius(p.optimizer, &radius));
    CHECK_NEAR(radius, .01, 1e-15);
    CHECK_OK(step(&p, gradient, &report));
    CHECK_NEAR(report.radius, .01, 1e-15);
    CHECK_NEAR(report.ratio, .01, 1e-9);
    CHECK_OK(setun_optimizer_radius(p.optimizer, &radius));
    CHECK_NEAR(radius, .0105, 1e-15);
    setun_optimizer_free(p.optimizer);
    setun_optimizer_free(twin.optimizer);
}

static void checkpoint(const char *folder) {
    char path[4096];
    pair first, second, other;
    FILE *file;
    int i;
    snprintf(path, sizeof path, "%s/optimizer.safetensors", folder);
    make(&first);
    make(&second);
    for (i = 0; i < 5; i++) CHECK_OK(step(&first, gradient, NULL));
    CHECK_OK(setun_optimizer_set_learning_rate(first.optimizer, 1. / 30));
    CHECK_OK(setun_optimizer_save(first.optimizer, path));
    CHECK_OK(setun_optimizer_load(second.optimizer, path));
    CHECK(memcmp(first.w, second.w, sizeof first.w) == 0);
    for (i = 0; i < 5; i++) {
        CHECK_OK(step(&first, gradient, NULL));
        CHECK_OK(step(&second, gradient, NULL));
        CHECK(memcmp(first.w, second.w, sizeof first.w) == 0);
    }
    memcpy(other.w, start, sizeof other.w);
    other.optimizer = NULL;
    CHECK_OK(setun_optimizer_create(NULL, &other.optimizer));
    CHECK_OK(setun_optimizer_add(other.optimizer, "matrix", other.w, matrix, 2, NULL));
    CHECK_FAILS(setun_optimizer_load(other.optimizer, path), SETUN_ERR_FORMAT, "it holds 6 tensors");
    CHECK(memcmp(other.w, start, sizeof start) == 0);
    file = fopen(path, "r+b");
    CHECK(file != NULL && fseek(file, -3, SEEK_END) == 0 && fputc(0x55, file) != EOF && fclose(file) == 0);
    CHECK_FAILS(setun_optimizer_load(second.optimizer, path), SETUN_ERR_FORMAT, "damaged");
    CHECK(memcmp(first.w, second.w, sizeof first.w) == 0);
    first.w[2] = NAN;
    CHECK_FAILS(setun_optimizer_save(first.optimizer, path), SETUN_ERR_STATE, "element 2 of matrix is not finite");
    CHECK_FAILS(setun_optimizer_save(second.optimizer, "no/such/folder/file"), SETUN_ERR_IO, "no/such/folder");
    CHECK_FAILS(setun_optimizer_load(second.optimizer, "no/such/file"), SETUN_ERR_IO, "no/such/file");
    CHECK_FAILS(setun_optimizer_save(second.optimizer, NULL), SETUN_ERR_ARGUMENT, "path is NULL");
    setun_optimizer_free(first.optimizer);
    setun_optimizer_free(second.optimizer);
    setun_optimizer_free(other.optimizer);
}

static void wrong_use(void) {
    pair p;
    float more[4] = {1, 2, 3, 4};
    const float *gradients[2];
    const int64_t negative[1] = {-1}, none[2] = {0, 3};
    setun_parameter_options own;
    setun_optimizer_options options;
    setun_optimizer *made = NULL, *empty = NULL;
    make(&p);
    setun_parameter_options_init(&own, sizeof own);
    setun_optimizer_options_init(&options, sizeof options);
    options.radius = -1;
    CHECK_FAILS(setun_optimizer_create(&options, &made), SETUN_ERR_ARGUMENT, "radius is -1");
    CHECK_FAILS(setun_optimizer_create(NULL, NULL), SETUN_ERR_ARGUMENT, "out is NULL");
    CHECK(made == NULL);
    CHECK_FAILS(setun_optimizer_add(p.optimizer, "x", p.w + 3, vector, 1, NULL), SETUN_ERR_ARGUMENT,
                "data of parameter x overlaps parameter matrix");
    CHECK_FAILS(setun_optimizer_add(p.optimizer, "x", p.w + 5, vector, 1, NULL), SETUN_ERR_ARGUMENT,
                "overlaps parameter bias");
    CHECK_FAILS(setun_optimizer_add(p.optimizer, "bias", more, vector, 1, NULL), SETUN_ERR_ARGUMENT,
                "a parameter bias already");
    CHECK_FAILS(setun_optimizer_add(p.optimizer, "", more, vector, 1, NULL), SETUN_ERR_ARGUMENT, "name is empty");
    CHECK_FAILS(setun_optimizer_add(p.optimizer, "x", NULL, vector, 1, NULL), SETUN_ERR_ARGUMENT, "data is NULL");
    CHECK_FAILS(setun_optimizer_add(p.optimizer, "x", more, NULL, 1, NULL), SETUN_ERR_ARGUMENT, "dims is NULL");
    CHECK_FAILS(setun_optimizer_add(p.optimizer, "x", more, negative, 1, NULL), SETUN_ERR_ARGUMENT, "dims[0] is -1");
    CHECK_FAILS(setun_optimizer_add(p.optimizer, "x", more, vector, 9, NULL), SETUN_ERR_ARGUMENT, "rank is 9");
    CHECK_FAILS(setun_optimizer_add(NULL, "x", more, vector, 1, NULL), SETUN_ERR_ARGUMENT, "optimizer is NULL");
    own.kind = 7;
    CHECK_FAILS(setun_optimizer_add(p.optimizer, "x", more, vector, 1, &own), SETUN_ERR_ARGUMENT, "kind is 7");
    own.kind = SETUN_PARAMETER_KIND_TERNARY;
    own.lower = 2;
    own.upper = 1;
    CHECK_FAILS(setun_optimizer_add(p.optimizer, "x", more, vector, 1, &own), SETUN_ERR_ARGUMENT,
                "lower is 2, upper is 1");

    gradients[0] = gradient;
    gradients[1] = NULL;
    CHECK_FAILS(setun_optimizer_step(p.optimizer, gradients, 1, NULL), SETUN_ERR_ARGUMENT,
                "count is 1, the optimizer has 2");
    CHECK_FAILS(setun_optimizer_step(p.optimizer, gradients, -2, NULL), SETUN_ERR_ARGUMENT, "count is -2");
    CHECK_FAILS(setun_optimizer_step(p.optimizer, NULL, 2, NULL), SETUN_ERR_ARGUMENT, "gradients is NULL");
    CHECK_FAILS(setun_optimizer_step(p.optimizer, gradients, 2, NULL), SETUN_ERR_ARGUMENT, "gradients[1] is NULL");
    gradients[1] = p.w + 1;
    CHECK_FAILS(setun_optimizer_step(p.optimizer, gradients, 2, NULL), SETUN_ERR_ARGUMENT,
                "gradients[1] overlaps parameter matrix");
    CHECK_FAILS(setun_optimizer_set_radius(p.optimizer, NAN), SETUN_ERR_ARGUMENT, "radius is NaN");
    CHECK_FAILS(setun_optimizer_set_learning_rate(p.optimizer, -1), SETUN_ERR_ARGUMENT, "learning_rate is -1");
    CHECK_FAILS(setun_optimizer_radius(p.optimizer, NULL), SETUN_ERR_ARGUMENT, "out is NULL");
    CHECK(memcmp(p.w, start, sizeof start) == 0);

    /* A box of its own, and a parameter without elements. */
    own.lower = 1.5;
    own.upper = 2.5;
    CHECK_OK(setun_optimizer_create(NULL, &empty));
    CHECK_FAILS(setun_optimizer_step(empty, gradients, 0, NULL), SETUN_ERR_STATE, "no parameters");
    CHECK_OK(setun_optimizer_add(empty, "none", NULL, none, 2, NULL));
    CHECK_OK(setun_optimizer_add(empty, "boxed", more, matrix, 2, &own));
    gradients[0] = NULL;
    gradients[1] = gradient;
    CHECK_OK(setun_optimizer_step(empty, gradients, 2, NULL));
    CHECK(more[0] == 1.5f && more[1] > 1.9f && more[2] == 2.5f && more[3] == 2.5f);
    CHECK_FAILS(setun_optimizer_add(empty, "late", p.w, vector, 1, NULL), SETUN_ERR_STATE, "after 1 steps");

    CHECK_OK(step(&p, gradient, NULL));
    setun_optimizer_free(p.optimizer);
    setun_optimizer_free(empty);
    setun_optimizer_free(NULL);
    CHECK_FAILS(step(&p, gradient, NULL), SETUN_ERR_ARGUMENT, "freed already");
}

int main(int argc, char **argv) {
    backends();
    bad_calls();
    optimizer();
    checkpoint(argc > 1 ? argv[1] : ".");
    wrong_use();
    return 0;
}
