/* setun_benchmark: what it reports, what it refuses, how it stops. Not how fast anything is. */
#include "check.h"

typedef struct {
    int heard, most; /* most: after which it says stop; 0 = never */
    int ceilings, rows[SETUN_BACKEND_PARALLEL + 1];
} seen;

static int32_t hear(const setun_benchmark_result *r, void *user_data)
{
    seen *s = user_data;
    double amount = strcmp(r->unit, "GB/s") == 0 ? r->bytes : r->operations;
    CHECK(r->struct_size == sizeof *r && r->agrees == -1 && *r->difference == '\0');
    CHECK(*r->operation != '\0' && *r->backend_name != '\0');
    CHECK(r->backend >= SETUN_BACKEND_SCALAR && r->backend <= SETUN_BACKEND_PARALLEL);
    CHECK((*r->level == '\0') == (r->backend == SETUN_BACKEND_SCALAR));
    CHECK(r->seconds > 0 && r->seconds <= r->median_seconds && r->median_seconds < 60 && r->repeats >= 3);
    CHECK_NEAR(r->rate * r->seconds * 1e9 / amount, 1, 1e-9);
    CHECK(r->threads == 1 || r->backend == SETUN_BACKEND_PARALLEL);
    if (r->is_ceiling) {
        CHECK(s->rows[SETUN_BACKEND_SCALAR] == 0); /* they come first */
        CHECK(*r->ceiling == '\0' && r->share != r->share && r->speedup != r->speedup);
        s->ceilings++;
    } else {
        CHECK(strstr(r->operation, "cross_entropy") != NULL && strcmp(r->sizes, "64 x 65") == 0);
        CHECK(r->call_size == 64 * 65);
        s->rows[r->backend]++;
    }
    return ++s->heard != s->most;
}

static void reports(void)
{
    setun_benchmark_options o;
    seen s;
    memset(&s, 0, sizeof s);
    setun_benchmark_options_init(&o, sizeof o);
    CHECK(o.filter == NULL && o.scalar == 1 && o.simd == 1 && o.parallel == 1 && o.ceilings == 1 && o.quick == 0);
    o.filter = "cross_entropy";
    o.quick = 1;
    o.threads = 2;
    CHECK_OK(setun_benchmark(&o, hear, &s));
    CHECK(s.ceilings == 10);                   /* three peaks, reading and copying, on one thread and on two */
    CHECK(s.rows[SETUN_BACKEND_SCALAR] == 2);  /* the loss, and its gradient */
    CHECK(s.rows[SETUN_BACKEND_SIMD] % 2 == 0 && s.rows[SETUN_BACKEND_SIMD] >= 2);
    CHECK(s.rows[SETUN_BACKEND_PARALLEL] == 2);

    memset(&s, 0, sizeof s);
    o.level = "baseline";
    o.ceilings = o.scalar = 0;
    CHECK_OK(setun_benchmark(&o, hear, &s));
    CHECK(s.heard == 4 && s.rows[SETUN_BACKEND_SIMD] == 2 && s.rows[SETUN_BACKEND_PARALLEL] == 2);

    memset(&s, 0, sizeof s);
    s.most = 3;
    CHECK_OK(setun_benchmark(&o, hear, &s));
    CHECK(s.heard == 3);
}

typedef struct {
    int heard, rows[SETUN_BACKEND_PARALLEL + 1];
} compared;

static int32_t hear_comparison(const setun_benchmark_result *r, void *user_data)
{
    compared *c = user_data;
    c->heard++;
    c->rows[r->backend]++;
    if (r->agrees != 1)
        fprintf(stderr, "%s %s on %s %s: %s\n", r->operation, r->sizes, r->backend_name, r->level, r->difference);
    CHECK(r->agrees == 1 && *r->difference == '\0' && r->is_ceiling == 0);
    CHECK(r->repeats == 1 && r->speedup != r->speedup && r->share != r->share);
    return 1;
}

static void compares(void)
{
    setun_benchmark_options o;
    compared c;
    memset(&c, 0, sizeof c);
    setun_benchmark_options_init(&o, sizeof o);
    CHECK(o.parity == 0);
    o.filter = "matmul_ternary";
    o.quick = o.parity = 1;
    o.threads = 2;
    o.scalar = 0; /* it is what the others are compared with */
    CHECK_OK(setun_benchmark(&o, hear_comparison, &c));
    /* Both operations at their smallest size and the odd sizes; at each level simd and then parallel. */
    CHECK(c.rows[SETUN_BACKEND_SCALAR] > 30 && c.rows[SETUN_BACKEND_SIMD] >= c.rows[SETUN_BACKEND_SCALAR]);
    CHECK(c.rows[SETUN_BACKEND_SIMD] == c.rows[SETUN_BACKEND_PARALLEL]);
    CHECK(c.heard == c.rows[SETUN_BACKEND_SCALAR] + 2 * c.rows[SETUN_BACKEND_SIMD]);
}

static void refuses(void)
{
    setun_benchmark_options o;
    setun_cancel *cancel = NULL;
    seen s;
    volatile double zero = 0;
    memset(&s, 0, sizeof s);
#define REFUSED(field, value, status, text)                                                                  \
    setun_benchmark_options_init(&o, sizeof o);                                                              \
    o.quick = 1;                                                                                             \
    o.field = value;                                                                                         \
    CHECK_FAILS(setun_benchmark(&o, hear, &s), status, text)
    REFUSED(filter, "no such thing", SETUN_ERR_ARGUMENT, "filter is 'no such thing'");
    REFUSED(filter, "\xff", SETUN_ERR_ARGUMENT, "filter is not UTF-8");
    REFUSED(level, "x86-64-v9", SETUN_ERR_ARGUMENT, "level is 'x86-64-v9', expected 'baseline'");
    REFUSED(seconds, 0, SETUN_ERR_ARGUMENT, "seconds is 0");
    REFUSED(seconds, -1, SETUN_ERR_ARGUMENT, "seconds is -1");
    REFUSED(seconds, 61, SETUN_ERR_ARGUMENT, "seconds is 61");
    REFUSED(seconds, zero / zero, SETUN_ERR_ARGUMENT, "seconds is NaN");
    REFUSED(threads, -1, SETUN_ERR_ARGUMENT, "threads is -1");
    REFUSED(threads, 5000, SETUN_ERR_ARGUMENT, "threads is 5000");
    REFUSED(cancel, (setun_cancel *)&s, SETUN_ERR_ARGUMENT, "cancel is not a handle");
    REFUSED(struct_size, 3, SETUN_ERR_ABI, "options: struct_size is 3");
    setun_benchmark_options_init(&o, sizeof o);
    o.scalar = o.simd = o.parallel = o.cuda = 0;
    CHECK_FAILS(setun_benchmark(&o, hear, &s), SETUN_ERR_ARGUMENT, "all off");
    CHECK_FAILS(setun_benchmark(NULL, NULL, NULL), SETUN_ERR_ARGUMENT, "callback is NULL");

    CHECK_OK(setun_cancel_create(&cancel));
    CHECK_OK(setun_cancel_request(cancel));
    REFUSED(cancel, cancel, SETUN_ERR_CANCELLED, "cancelled");
    CHECK(s.heard == 0);
    setun_cancel_free(cancel);
}

int main(void)
{
    reports();
    compares();
    refuses();
    return 0;
}
