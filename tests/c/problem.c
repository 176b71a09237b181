/* The solver: known minima under every kind of constraint, what callbacks may do, limits, wrong use; and the subproblem. */
#include "check.h"

#include <math.h>

/* What the functions below are told to do, and what they saw. */
typedef struct {
    int64_t objectives, gradients, products, reports;
    int64_t stop_objective, stop_gradient, stop_report; /* at which call; 0 = never */
    double lower[2], upper[2];                          /* in which every point has to be */
    double cliff;                                       /* f is a NaN where x[0] is above */
    setun_problem *again;                               /* which a callback tries to solve */
    setun_cancel *cancel;                               /* which a callback raises */
} world;

static world fresh(void)
{
    world w;
    memset(&w, 0, sizeof w);
    w.lower[0] = w.lower[1] = -HUGE_VAL;
    w.upper[0] = w.upper[1] = w.cliff = HUGE_VAL;
    return w;
}

static void check_inside(const world *w, const double *x)
{
    int i;
    for (i = 0; i < 2; i++) CHECK(w->lower[i] <= x[i] && x[i] <= w->upper[i]);
}

static int32_t rosenbrock(int64_t n, const double *x, double *f, void *user_data)
{
    world *w = user_data;
    CHECK(n == 2);
    check_inside(w, x);
    *f = x[0] > w->cliff ? NAN : 100 * pow(x[1] - x[0] * x[0], 2) + pow(1 - x[0], 2);
    if (w->again != NULL) {
        double y[2] = {0, 0};
        CHECK_FAILS(setun_problem_solve(w->again, y, NULL, NULL), SETUN_ERR_STATE, "in use by another call");
        CHECK_FAILS(setun_problem_bounds(w->again, NULL, NULL), SETUN_ERR_STATE, "in use by another call");
    }
    if (w->cancel != NULL) CHECK_OK(setun_cancel_request(w->cancel));
    return ++w->objectives != w->stop_objective;
}

static int32_t gradient(int64_t n, const double *x, double *g, void *user_data)
{
    world *w = user_data;
    double t = x[1] - x[0] * x[0];
    CHECK(n == 2);
    check_inside(w, x);
    g[0] = -400 * x[0] * t - 2 * (1 - x[0]);
    g[1] = 200 * t;
    return ++w->gradients != w->stop_gradient;
}

static int32_t product(int64_t n, const double *x, const double *v, double *hv, void *user_data)
{
    CHECK(n == 2);
    hv[0] = (1200 * x[0] * x[0] - 400 * x[1] + 2) * v[0] - 400 * x[0] * v[1];
    hv[1] = -400 * x[0] * v[0] + 200 * v[1];
    ((world *)user_data)->products++;
    return 1;
}

static int32_t progress(const setun_problem_report *report, void *user_data)
{
    world *w = user_data;
    CHECK(report->struct_size == sizeof *report);
    CHECK(report->iterations == ++w->reports);
    return w->reports != w->stop_report;
}

static setun_problem *made(world *w, setun_product_callback with)
{
    setun_problem *problem = NULL;
    CHECK_OK(setun_problem_create(2, rosenbrock, gradient, with, w, &problem));
    return problem;
}

static void the_minimum_with_and_without_products(void)
{
    int with;
    for (with = 0; with < 2; with++) {
        int32_t how;
        for (how = SETUN_SUBPROBLEM_AUTO; how <= SETUN_SUBPROBLEM_EXACT; how++) {
            world w = fresh();
            setun_problem *problem = made(&w, with ? product : NULL);
            double x[2] = {-1.2, 1};
            setun_problem_options options;
            setun_problem_report report;
            report.struct_size = sizeof report;
            setun_problem_options_init(&options, sizeof options);
            options.subproblem = how;
            options.progress = progress;
            options.user_data = &w;
            w.again = problem;
            CHECK_OK(setun_problem_solve(problem, x, &options, &report));
            CHECK_NEAR(x[0], 1, 1e-6);
            CHECK_NEAR(x[1], 1, 1e-6);
            CHECK(report.f < 1e-14 && report.projected_gradient <= 1e-8 && report.violation == 0);
            CHECK(report.termination == SETUN_TERMINATION_GRADIENT && report.radius > 0);
            CHECK(report.objectives == w.objectives && report.gradients == w.gradients && report.products == w.products);
            CHECK(report.iterations == w.reports && (w.products > 0) == with && w.objectives < 100);
            setun_problem_free(problem);
        }
    }
}

static void constraints_hold(void)
{
    static const double row[2] = {1, 1}, other[2] = {1, -1}, centre[2] = {0, 0}, none = -HUGE_VAL;
    double x[2] = {-1.2, 1}, b = 0, one = 1;
    world w = fresh();
    setun_problem *problem = made(&w, product);
    setun_problem_report report;
    report.struct_size = sizeof report;
    w.lower[0] = -5, w.lower[1] = -5, w.upper[0] = .5, w.upper[1] = 5;
    CHECK_OK(setun_problem_bounds(problem, w.lower, w.upper));
    CHECK_OK(setun_problem_solve(problem, x, NULL, &report));
    CHECK(x[0] == .5);
    CHECK_NEAR(x[1], .25, 1e-9);
    CHECK_NEAR(report.f, .25, 1e-12);
    /* From outside. */
    x[0] = 100, x[1] = -100;
    CHECK_OK(setun_problem_solve(problem, x, NULL, NULL));
    CHECK(x[0] == .5);
    /* Half of the ball is out of bounds; its minimum is on its edge. */
    CHECK_OK(setun_problem_ball(problem, centre, .3));
    CHECK_OK(setun_problem_solve(problem, x, NULL, &report));
    CHECK_NEAR(x[0] * x[0] + x[1] * x[1], .09, 1e-10);
    CHECK(report.violation < 1e-12);
    /* On a line, then in a corner of it. */
    CHECK_OK(setun_problem_ball(problem, centre, 100));
    CHECK_OK(setun_problem_equalities(problem, other, &b, 1));
    CHECK_OK(setun_problem_solve(problem, x, NULL, &report));
    CHECK_NEAR(x[0], x[1], 1e-12);
    CHECK_OK(setun_problem_inequalities(problem, row, NULL, &none, 0));
    CHECK_OK(setun_problem_inequalities(problem, row, &one, NULL, 1));
    CHECK_OK(setun_problem_solve(problem, x, NULL, &report));
    CHECK_NEAR(x[0], .5, 1e-12);
    CHECK_NEAR(x[1], .5, 1e-12);
    /* No point at all is an error that says so, and x stays. */
    one = 2;
    CHECK_OK(setun_problem_inequalities(problem, row, &one, NULL, 1));
    x[0] = 3;
    CHECK_FAILS(setun_problem_solve(problem, x, NULL, NULL), SETUN_ERR_ARGUMENT, "no common point");
    CHECK(x[0] == 3);
    b = 1;
    CHECK_FAILS(setun_problem_equalities(problem, other, &b, 1), SETUN_ERR_ARGUMENT, "equality 0 says 1");
    setun_problem_free(problem);
}

static void callbacks_may_stop_fail_and_cancel(void)
{
    double x[2] = {-1.2, 1};
    world w = fresh();
    setun_problem *problem = made(&w, product);
    setun_problem_options options;
    setun_problem_report report;
    report.struct_size = sizeof report;
    setun_problem_options_init(&options, sizeof options);
    options.progress = progress;
    options.user_data = &w;
    w.stop_report = 4;
    CHECK_OK(setun_problem_solve(problem, x, &options, &report));
    CHECK(report.termination == SETUN_TERMINATION_STOPPED && report.iterations == 4);
    CHECK_NEAR(report.f, 100 * pow(x[1] - x[0] * x[0], 2) + pow(1 - x[0], 2), 1e-12);
    w = fresh();
    w.stop_objective = 3;
    CHECK_OK(setun_problem_solve(problem, x, NULL, &report));
    CHECK(report.termination == SETUN_TERMINATION_STOPPED && report.objectives == 3);
    w = fresh();
    w.stop_gradient = 1;
    x[0] = 7;
    report.f = 5;
    CHECK_FAILS(setun_problem_solve(problem, x, NULL, &report), SETUN_ERR_CANCELLED, "at the start");
    CHECK(x[0] == 7 && report.f == 5);
    /* f may be a NaN beyond a cliff; not at the start. */
    w = fresh();
    w.cliff = 1.01;
    x[0] = -1.2, x[1] = 1;
    CHECK_OK(setun_problem_solve(problem, x, NULL, &report));
    CHECK_NEAR(x[0], 1, 1e-6);
    w.cliff = -5;
    CHECK_FAILS(setun_problem_solve(problem, x, NULL, NULL), SETUN_ERR_ARGUMENT, "the objective is NaN at the start");
    /* A token that a callback raises. */
    w = fresh();
    x[0] = -1.2;
    CHECK_OK(setun_cancel_create(&w.cancel));
    options.cancel = w.cancel;
    CHECK_FAILS(setun_problem_solve(problem, x, &options, &report), SETUN_ERR_CANCELLED, "token");
    CHECK(x[0] == -1.2);
    setun_cancel_free(w.cancel);
    setun_problem_free(problem);
}

static void limits_and_wrong_use(void)
{
    double x[2] = {-1.2, 1}, bad[2] = {0, NAN}, low[2] = {0, 2}, high[2] = {1, 1};
    world w = fresh();
    setun_problem *problem = made(&w, NULL), *other = NULL;
    setun_problem_options options;
    setun_problem_report report;
    report.struct_size = sizeof report;
    setun_problem_options_init(&options, sizeof options);
    options.max_iterations = 3;
    CHECK_OK(setun_problem_solve(problem, x, &options, &report));
    CHECK(report.termination == SETUN_TERMINATION_MAX_ITERATIONS && report.iterations == 3);
    options.max_iterations = 1000;
    options.max_evaluations = 5;
    CHECK_OK(setun_problem_solve(problem, x, &options, &report));
    CHECK(report.termination == SETUN_TERMINATION_MAX_EVALUATIONS && report.objectives == 5);
    CHECK_FAILS(setun_problem_create(0, rosenbrock, gradient, NULL, NULL, &other), SETUN_ERR_ARGUMENT, "n is 0, expected 1 or more");
    CHECK_FAILS(setun_problem_create(-2, rosenbrock, gradient, NULL, NULL, &other), SETUN_ERR_ARGUMENT, "n is -2, expected 1 or more");
    CHECK_FAILS(setun_problem_create(INT64_MAX, rosenbrock, gradient, NULL, NULL, &other), SETUN_ERR_MEMORY,
                "9223372036854775807 elements of 8 bytes");
    CHECK_FAILS(setun_problem_create(2, NULL, gradient, NULL, NULL, &other), SETUN_ERR_ARGUMENT, "objective is NULL");
    CHECK_FAILS(setun_problem_create(2, rosenbrock, NULL, NULL, NULL, &other), SETUN_ERR_ARGUMENT, "gradient is NULL");
    CHECK(other == NULL);
    CHECK_FAILS(setun_problem_bounds(problem, low, high), SETUN_ERR_ARGUMENT, "lower bound 1 is 2");
    CHECK_FAILS(setun_problem_bounds(problem, bad, NULL), SETUN_ERR_ARGUMENT, "lower bound 1 is NaN");
    CHECK_FAILS(setun_problem_ball(problem, bad, 1), SETUN_ERR_ARGUMENT, "centre 1 is NaN");
    CHECK_FAILS(setun_problem_ball(problem, low, 0), SETUN_ERR_ARGUMENT, "radius is 0");
    CHECK_FAILS(setun_problem_equalities(problem, bad, low, 1), SETUN_ERR_ARGUMENT, "row 0 of a has NaN in column 1");
    CHECK_FAILS(setun_problem_inequalities(problem, low, NULL, bad + 1, 1), SETUN_ERR_ARGUMENT, "upper 0 is NaN");
    CHECK_FAILS(setun_problem_solve(problem, bad, NULL, NULL), SETUN_ERR_ARGUMENT, "x 1 is NaN");
    options.subproblem = 9;
    CHECK_FAILS(setun_problem_solve(problem, x, &options, NULL), SETUN_ERR_ARGUMENT, "subproblem is 9");
    setun_problem_options_init(&options, sizeof options);
    options.initial_radius = -1;
    CHECK_FAILS(setun_problem_solve(problem, x, &options, NULL), SETUN_ERR_ARGUMENT, "initial_radius is -1");
    setun_problem_free(problem);
    CHECK_FAILS(setun_problem_solve(problem, x, NULL, NULL), SETUN_ERR_ARGUMENT, "freed already");
}

static void the_subproblem(void)
{
    static const double ones[3] = {1, 1, 1}, convex[9] = {1, 0, 0, 0, 2, 0, 0, 0, 3};
    static const double g[3] = {0, 1, 1}, saddle[9] = {-2, 0, 0, 0, 1, 0, 0, 0, 3}, bad[3] = {0, 0, HUGE_VAL};
    double step[3], multiplier, value;
    CHECK_OK(setun_trust_region_subproblem(ones, convex, 3, .5, step, &multiplier, &value));
    CHECK_NEAR(value, -.63915578, 1e-7);
    CHECK_NEAR(multiplier, 1.7348183, 1e-7);
    CHECK_NEAR(step[0] * step[0] + step[1] * step[1] + step[2] * step[2], .25, 1e-12);
    CHECK_OK(setun_trust_region_subproblem(g, saddle, 3, 1, step, &multiplier, &value));
    CHECK_NEAR(value, -19. / 15, 1e-7);
    CHECK_NEAR(multiplier, 2, 1e-7);
    CHECK_OK(setun_trust_region_subproblem(g, saddle, 3, 1, NULL, NULL, NULL));
    CHECK_FAILS(setun_trust_region_subproblem(g, saddle, 3, 0, step, NULL, NULL), SETUN_ERR_ARGUMENT, "radius is 0");
    CHECK_FAILS(setun_trust_region_subproblem(bad, saddle, 3, 1, step, NULL, NULL), SETUN_ERR_ARGUMENT, "gradient 2 is inf");
    CHECK_FAILS(setun_trust_region_subproblem(g, saddle, 0, 1, step, NULL, NULL), SETUN_ERR_ARGUMENT, "n is 0");
    step[0] = 1, step[1] = 2, step[2] = 3;
    CHECK_FAILS(setun_trust_region_subproblem(step, saddle, 3, 1, step, NULL, NULL), SETUN_ERR_ARGUMENT, "overlaps");
}

int main(void)
{
    the_minimum_with_and_without_products();
    constraints_hold();
    callbacks_may_stop_fail_and_cancel();
    limits_and_wrong_use();
    the_subproblem();
    return 0;
}
