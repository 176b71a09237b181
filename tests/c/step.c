/* The step verb: known answers on every backend, the radius, methods and forms of states, the guard, refusals that leave no trace,
 * checkpoints, wrong use. */
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
    static const char *const others[4] = {"method", "states", "radius_base", "flip_budget is not the default"};
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
    options.learning_rate = INFINITY;
    CHECK_FAILS(setun_step(w, gradient, N, moments, 1, &options, NULL), SETUN_ERR_ARGUMENT, "inf, expected 0 to 3.4e38");
    options.learning_rate = .1;
    options.beta2 = 1;
    CHECK_FAILS(setun_step(w, gradient, N, moments, 1, &options, NULL), SETUN_ERR_ARGUMENT, "beta2 is 1");
    for (i = 0; i < 4; i++) {
        setun_optimizer_options_init(&options, sizeof options);
        if (i == 0) options.method = SETUN_STEP_METHOD_MUON;
        if (i == 1) options.states = SETUN_STATE_PRECISION_INT8;
        if (i == 2) options.radius_base = SETUN_RADIUS_BASE_INITIAL;
        if (i == 3) options.flip_budget = .5;
        CHECK_FAILS(setun_step(w, gradient, N, moments, 1, &options, NULL), SETUN_ERR_ARGUMENT, "setun_optimizer");
        CHECK_FAILS(setun_step(w, gradient, N, moments, 1, &options, NULL), SETUN_ERR_ARGUMENT, others[i]);
    }
    report.struct_size = 5;
    CHECK_FAILS(setun_step(w, gradient, N, moments, 1, NULL, &report), SETUN_ERR_ABI, "the size of the struct: set it");
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
    CHECK_FAILS(setun_optimizer_load(other.optimizer, path), SETUN_ERR_FORMAT,
                "it holds parameter.bias, which the optimizer does not have: other parameters");
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

enum { SIDE = 64, COUNT = SIDE * SIDE };

static const int64_t square[2] = {SIDE, SIDE};
static float wide_start[COUNT], wide_gradient[COUNT], wide[COUNT], wide_other[COUNT];

static setun_optimizer *of_square(const setun_optimizer_options *options) {
    setun_optimizer *optimizer = NULL;
    CHECK_OK(setun_optimizer_create(options, &optimizer));
    if (options->states == SETUN_STATE_PRECISION_COMPACT) {
        CHECK_OK(setun_optimizer_add_compact(optimizer, "w", wide_start, square, 2, NULL));
    } else {
        setun_parameter_options own;
        setun_parameter_options_init(&own, sizeof own);
        own.kind = SETUN_PARAMETER_KIND_TERNARY;
        memcpy(wide, wide_start, sizeof wide);
        CHECK_OK(setun_optimizer_add(optimizer, "w", wide, square, 2, &own));
    }
    return optimizer;
}

/* Methods and forms of states: what they take, that they step, and that a file of one continues it. */
static void forms(const char *folder) {
    static const float *const gradients[1] = {wide_gradient};
    static float here[COUNT], there[COUNT];
    char path[4096];
    setun_optimizer_options options;
    setun_step_report report;
    int32_t method, states;
    int i;
    snprintf(path, sizeof path, "%s/forms.safetensors", folder);
    report.struct_size = sizeof report;
    for (i = 0; i < COUNT; i++) wide_start[i] = (float)(i * 7919 % 1009 - 504) / 5040;
    for (i = 0; i < COUNT; i++) wide_gradient[i] = (float)(i * 104729 % 2003 - 1001) / 1001;
    for (method = SETUN_STEP_METHOD_ADAMW; method <= SETUN_STEP_METHOD_MOMENTUM; method++) {
        for (states = SETUN_STATE_PRECISION_F32; states <= SETUN_STATE_PRECISION_COMPACT; states++) {
            const int adamw = method == SETUN_STEP_METHOD_ADAMW;
            const size_t codes = COUNT + COUNT / 256 * sizeof(float);
            size_t bytes = 0, expected = (adamw ? 2 : 1) * (states == 0 ? COUNT * sizeof(float) : codes);
            setun_optimizer *first, *second;
            /* Codes of the weights beside those of m; of AdamW, sums of rows and columns. */
            if (states == SETUN_STATE_PRECISION_COMPACT)
                expected = 2 * codes + (adamw ? 8 * (2 * SIDE + 1) : 0);
            setun_optimizer_options_init(&options, sizeof options);
            options.method = method;
            options.states = states;
            options.learning_rate = .01;
            options.flip_budget = .01;
            options.schedule = SETUN_SCHEDULE_STABLE;
            options.total_steps = 6;
            first = of_square(&options);
            CHECK_OK(setun_optimizer_state_bytes(first, &bytes));
            CHECK(bytes == expected);
            for (i = 0; i < 3; i++) CHECK_OK(setun_optimizer_step(first, gradients, 1, &report));
            CHECK(report.trits == COUNT && report.flips > 0 && report.flips < COUNT / 20);
            CHECK(report.learning_rate == .01 && report.step_rms > 0 && report.radius_factor == 1);
            CHECK_OK(setun_optimizer_report(first, 0, &report));
            CHECK(report.flip_share > 0 && report.flip_share <= 1);
            CHECK(report.flip_share < 1 || method == SETUN_STEP_METHOD_MOMENTUM);
            CHECK_OK(setun_optimizer_read(first, 0, here, COUNT));
            CHECK(memcmp(here, wide_start, sizeof here) != 0);
            if (states != SETUN_STATE_PRECISION_COMPACT) CHECK(memcmp(here, wide, sizeof here) == 0);
            CHECK_OK(setun_optimizer_save(first, path));
            for (i = 0; i < 3; i++) CHECK_OK(setun_optimizer_step(first, gradients, 1, NULL));
            CHECK_OK(setun_optimizer_read(first, 0, here, COUNT));
            second = of_square(&options);
            CHECK_OK(setun_optimizer_load(second, path));
            for (i = 0; i < 3; i++) CHECK_OK(setun_optimizer_step(second, gradients, 1, &report));
            CHECK(report.step == 6 && report.learning_rate < .0011);
            CHECK_OK(setun_optimizer_read(second, 0, there, COUNT));
            CHECK(memcmp(here, there, sizeof here) == 0);
            setun_optimizer_free(first);
            setun_optimizer_free(second);
            /* States of another form are not these. */
            options.states = (states + 1) % 3;
            second = of_square(&options);
            CHECK_FAILS(setun_optimizer_load(second, path), SETUN_ERR_FORMAT, "");
            setun_optimizer_free(second);
        }
    }
}

static void compact_wrong_use(void) {
    static const int64_t flat[1] = {COUNT}, none[2] = {0, 4};
    setun_optimizer_options options;
    setun_parameter_options own;
    setun_optimizer *plain = NULL, *compact = NULL;
    setun_optimizer_options_init(&options, sizeof options);
    setun_parameter_options_init(&own, sizeof own);
    own.kind = SETUN_PARAMETER_KIND_TERNARY;
    CHECK_OK(setun_optimizer_create(&options, &plain));
    options.states = SETUN_STATE_PRECISION_COMPACT;
    CHECK_OK(setun_optimizer_create(&options, &compact));
    CHECK_FAILS(setun_optimizer_add_compact(plain, "w", wide_start, square, 2, NULL), SETUN_ERR_ARGUMENT, "not compact");
    CHECK_FAILS(setun_optimizer_add(compact, "w", wide, square, 2, &own), SETUN_ERR_ARGUMENT, "setun_optimizer_add_compact");
    CHECK_FAILS(setun_optimizer_add_compact(compact, "w", NULL, square, 2, NULL), SETUN_ERR_ARGUMENT, "initial is NULL");
    CHECK_FAILS(setun_optimizer_add_compact(compact, "w", wide_start, flat, 1, NULL), SETUN_ERR_SHAPE, "1 dimensions");
    CHECK_FAILS(setun_optimizer_add_compact(compact, "w", NULL, none, 2, NULL), SETUN_ERR_SHAPE, "no elements");
    wide_start[5] = NAN;
    CHECK_FAILS(setun_optimizer_add_compact(compact, "w", wide_start, square, 2, NULL), SETUN_ERR_ARGUMENT,
                "initial[5] is NaN");
    wide_start[5] = .25f;
    CHECK_OK(setun_optimizer_add_compact(compact, "w", wide_start, square, 2, NULL));
    CHECK_FAILS(setun_optimizer_add_compact(compact, "w", wide_start, square, 2, NULL), SETUN_ERR_ARGUMENT,
                "a parameter w already");
    CHECK_FAILS(setun_optimizer_read(compact, 1, wide_other, COUNT), SETUN_ERR_ARGUMENT, "index is 1");
    CHECK_FAILS(setun_optimizer_read(compact, -1, wide_other, COUNT), SETUN_ERR_ARGUMENT, "index is -1");
    CHECK_FAILS(setun_optimizer_read(compact, 0, wide_other, COUNT - 1), SETUN_ERR_SHAPE, "count is 4095");
    CHECK_FAILS(setun_optimizer_read(compact, 0, NULL, COUNT), SETUN_ERR_ARGUMENT, "out is NULL");
    CHECK_OK(setun_optimizer_read(compact, 0, wide_other, COUNT));
    CHECK_NEAR(wide_other[5], .25, .25 / 127);
    setun_optimizer_free(plain);
    setun_optimizer_free(compact);
}

/* Batches that are skipped, and a step that is undone. */
static void guarded(void) {
    static const float before[3] = {1, 2, 3}, better[3] = {.9f, 2, 2.9f}, worse[3] = {1.1f, 2.1f, 3.1f};
    static const float bad[3] = {NAN, INFINITY, 1e6f};
    const float *gradients[1];
    float other[4], kept[4], w[4] = {1, 2, 3, 4};
    setun_optimizer_options options;
    setun_step_report report;
    setun_optimizer *optimizer = NULL;
    int32_t undone = 7;
    int i;
    report.struct_size = sizeof report;
    setun_optimizer_options_init(&options, sizeof options);
    options.guard_interval = 4;
    options.guard_spike = 0;
    CHECK_FAILS(setun_optimizer_create(&options, &optimizer), SETUN_ERR_ARGUMENT, "guard_spike is 0");
    options.guard_spike = 6;
    options.guard_tolerance = NAN;
    CHECK_FAILS(setun_optimizer_create(&options, &optimizer), SETUN_ERR_ARGUMENT, "guard_tolerance is NaN");
    options.guard_tolerance = 2;
    CHECK_OK(setun_optimizer_create(&options, &optimizer));
    CHECK_OK(setun_optimizer_add(optimizer, "w", w, matrix, 2, NULL));
    gradients[0] = gradient;
    CHECK_FAILS(setun_optimizer_judge(optimizer, before, better, 3, &undone), SETUN_ERR_STATE, "no step waits");
    for (i = 1; i <= 24; i++) {
        memcpy(kept, w, sizeof kept);
        CHECK_OK(setun_optimizer_step_guarded(optimizer, gradients, 1, 2 - .01 * i, &report));
        CHECK(report.outcome == SETUN_STEP_OUTCOME_TAKEN && report.step == i && report.check_due == (i % 4 == 0));
        if (i == 4) {
            CHECK_OK(setun_optimizer_judge(optimizer, before, better, 3, &undone));
            CHECK(undone == 0 && memcmp(kept, w, sizeof kept) != 0);
            CHECK_FAILS(setun_optimizer_judge(optimizer, before, better, 3, &undone), SETUN_ERR_STATE, "no step waits");
        }
    }
    /* Step 24 waits, and is undone; nothing but the radius tells of it. */
    CHECK_FAILS(setun_optimizer_judge(optimizer, before, worse, 0, &undone), SETUN_ERR_ARGUMENT, "n is 0");
    CHECK_FAILS(setun_optimizer_judge(optimizer, NULL, worse, 3, &undone), SETUN_ERR_ARGUMENT, "before is NULL");
    CHECK_OK(setun_optimizer_judge(optimizer, before, worse, 3, &undone));
    CHECK(undone == 1 && memcmp(kept, w, sizeof kept) == 0);
    CHECK_OK(setun_optimizer_report(optimizer, -1, &report));
    CHECK(report.undone == 1 && report.radius_factor == .25 && report.check_due == 0);
    /* What is no batch to learn from: by its loss, or by its gradient. */
    for (i = 0; i < 3; i++) {
        CHECK_OK(setun_optimizer_step_guarded(optimizer, gradients, 1, bad[i], &report));
        CHECK(report.outcome == SETUN_STEP_OUTCOME_SKIPPED && report.step == 23 && report.skipped == 2 * i + 1);
        CHECK(report.learning_rate == 1e-3 && report.radius == .05 * .25 && report.gradient_scale > 0);
        memcpy(other, gradient, sizeof other);
        other[2] = bad[i];
        gradients[0] = other;
        CHECK_OK(setun_optimizer_step_guarded(optimizer, gradients, 1, 1.76, &report));
        CHECK(report.outcome == SETUN_STEP_OUTCOME_SKIPPED && report.skipped == 2 * i + 2 && report.step_rms == 0);
        gradients[0] = gradient;
        CHECK(memcmp(kept, w, sizeof kept) == 0);
    }
    /* Without the guard such a gradient is refused, and a step that could be undone stays. */
    CHECK_OK(setun_optimizer_step_guarded(optimizer, gradients, 1, 1.76, &report));
    CHECK(report.check_due == 1 && report.step == 24);
    CHECK_OK(setun_optimizer_step(optimizer, gradients, 1, &report));
    CHECK(report.check_due == 0 && report.step == 25 && report.skipped == 6);
    CHECK_FAILS(setun_optimizer_judge(optimizer, before, worse, 3, NULL), SETUN_ERR_STATE, "no step waits");
    other[2] = NAN;
    gradients[0] = other;
    CHECK_FAILS(setun_optimizer_step(optimizer, gradients, 1, &report), SETUN_ERR_STATE, "element 2 of the gradient of w");
    gradients[0] = gradient;
    memcpy(kept, w, sizeof kept);
    for (i = 0; setun_optimizer_step_guarded(optimizer, gradients, 1, NAN, NULL) == SETUN_OK; i++) CHECK(i < 64);
    memset(&report, 0xFF, sizeof report);
    report.struct_size = sizeof report;
    CHECK_FAILS(setun_optimizer_step_guarded(optimizer, gradients, 1, NAN, &report), SETUN_ERR_STATE,
                "of the last 64 steps");
    /* The report says who refused; the batch itself is not counted, as it may come again. */
    CHECK(report.outcome == SETUN_STEP_OUTCOME_SKIPPED && report.step == 25 && report.skipped == 6 + i);
    CHECK(report.step_rms == 0 && report.gradient_norm > 0 && report.check_due == 0);
    CHECK(memcmp(kept, w, sizeof kept) == 0);
    /* A step without the guard is one; a good batch is taken all the same. */
    CHECK_OK(setun_optimizer_step(optimizer, gradients, 1, &report));
    CHECK(report.outcome == SETUN_STEP_OUTCOME_TAKEN && report.step == 26);
    CHECK_OK(setun_optimizer_step_guarded(optimizer, gradients, 1, 1.76, &report));
    CHECK(report.outcome == SETUN_STEP_OUTCOME_TAKEN);
    setun_optimizer_free(optimizer);
    /* Where every step is undone, the judge says so once they are more than half. */
    options.guard_interval = 1;
    CHECK_OK(setun_optimizer_create(&options, &optimizer));
    CHECK_OK(setun_optimizer_add(optimizer, "w", w, matrix, 2, NULL));
    memcpy(kept, w, sizeof kept);
    for (i = 0; i < 33; i++) {
        CHECK_OK(setun_optimizer_step_guarded(optimizer, gradients, 1, 1, NULL));
        if (i < 32) CHECK_OK(setun_optimizer_judge(optimizer, before, worse, 3, &undone));
    }
    undone = 7;
    CHECK_FAILS(setun_optimizer_judge(optimizer, before, worse, 3, &undone), SETUN_ERR_STATE, "33 of the last 64 steps");
    CHECK(undone == 7 && memcmp(kept, w, sizeof kept) == 0);
    CHECK_OK(setun_optimizer_step_guarded(optimizer, gradients, 1, 1, NULL));
    setun_optimizer_free(optimizer);
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
    CHECK_FAILS(setun_optimizer_set_radius(p.optimizer, -1), SETUN_ERR_ARGUMENT, "radius is -1");
    CHECK_OK(setun_optimizer_set_radius(p.optimizer, NAN)); /* that of the mode */
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
    forms(argc > 1 ? argv[1] : ".");
    compact_wrong_use();
    guarded();
    wrong_use();
    return 0;
}
