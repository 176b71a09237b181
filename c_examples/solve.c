/* Fits two exponentials to a decay, inside of constraints, with Setun's solver: cc -std=c99 -O2 -I../include solve.c
   -L../target/release -lsetun -lm -Wl,-rpath,../target/release -o solve && ./solve [NOISE] */
#include <math.h>
#include <setun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 40 };

typedef struct {
    double t[SAMPLES], y[SAMPLES];
} decay;

/* What x = (a, b, c, d) says of sample i, a e^(-b t) + c e^(-d t), less what was measured; and its slopes. */
static double miss(const decay *data, int i, const double *x, double slope[4])
{
    double t = data->t[i], fast = exp(-x[1] * t), slow = exp(-x[3] * t);
    slope[0] = fast, slope[1] = -t * x[0] * fast, slope[2] = slow, slope[3] = -t * x[2] * slow;
    return x[0] * fast + x[2] * slow - data->y[i];
}

static int32_t sum_of_squares(int64_t n, const double *x, double *f, void *data)
{
    double slope[4];
    *f = 0;
    for (int i = 0; i < SAMPLES && n == 4; i++)
        *f += pow(miss(data, i, x, slope), 2);
    return 1; /* 0 would stop the solve */
}

static int32_t its_gradient(int64_t n, const double *x, double *gradient, void *data)
{
    double slope[4];
    memset(gradient, 0, (size_t)n * sizeof *gradient);
    for (int i = 0; i < SAMPLES; i++) {
        double twice = 2 * miss(data, i, x, slope);
        for (int k = 0; k < n; k++) gradient[k] += twice * slope[k];
    }
    return 1;
}

static int32_t show(const setun_problem_report *report, void *often)
{
    if (report->iterations % *(int *)often == 0)
        printf("%3d: f %.9f, projected gradient %.1e, radius %g\n", (int)report->iterations, report->f,
               report->projected_gradient, report->radius);
    return 1;
}

int main(int argc, char **argv)
{
    static const char *const ends[] = {"gradient", "step", "function", "iterations", "evaluations", "stopped"};
    double noise = argc > 1 ? atof(argv[1]) : .01, x[4] = {.5, 1, .5, 1};
    double lower[4] = {0, 0, 0, 0}, upper[4] = {1, 20, 1, 20}; /* shares and rates */
    double whole[4] = {1, 0, 1, 0}, one = 1;                   /* a + c = 1 */
    double order[4] = {0, 1, 0, -1}, apart = .1;               /* b - d >= 0.1 */
    int often = 3;
    setun_problem *problem = NULL;
    setun_problem_report report = {.struct_size = sizeof report};
    setun_problem_options options;
    decay data;
    for (int i = 0; i < SAMPLES; i++) {
        data.t[i] = .2 * i;
        data.y[i] = .7 * exp(-2 * data.t[i]) + .3 * exp(-.3 * data.t[i]) + noise * sin(37. * i);
    }
    setun_problem_options_init(&options, sizeof options);
    options.progress = show, options.user_data = &often;
    setun_status status = setun_problem_create(4, sum_of_squares, its_gradient, NULL, &data, &problem);
    if (status == SETUN_OK) status = setun_problem_bounds(problem, lower, upper);
    if (status == SETUN_OK) status = setun_problem_equalities(problem, whole, &one, 1);
    if (status == SETUN_OK) status = setun_problem_inequalities(problem, order, &apart, NULL, 1);
    if (status == SETUN_OK) status = setun_problem_solve(problem, x, &options, &report);
    setun_problem_free(problem);
    if (status != SETUN_OK) return fprintf(stderr, "%s: %s\n", setun_status_name(status), setun_last_error()), 1;
    printf("y = %.4f e^(-%.4f t) + %.4f e^(-%.4f t)\n", x[0], x[1], x[2], x[3]);
    printf("f %.9f after %d evaluations, ended by: %s\n", report.f, (int)report.objectives, ends[report.termination]);
    return 0;
}
