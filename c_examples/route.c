/* Experts of clusters beside dense models: cc -std=c99 -O2 -I../include route.c route_options.c route_text.c route_cluster.c
   route_train.c route_evaluate.c route_generate.c route_results.c arguments.c output.c -L../target/release -lsetun -lm
   -Wl,-rpath,../target/release -o route

   All begin at one seed model: a dense model that goes on for the steps of one expert, which is as long where there are as many
   workers as experts; one that goes on for the tokens of all experts; the experts; and experts of random parts of the text, which
   say what clusters are good for. */
#define _POSIX_C_SOURCE 200809L /* mkdir, sysconf */

#include "route.h"

#include "output.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEED, DENSE_LONG, DENSE, EXPERTS, PARTS, SETS, ROWS = 7, CHOICE = 2 << 20 };

typedef struct {
    const char *name; /* in the file of results */
    int set, mixed;   /* models that predict a window, less one */
} row;

static const row rows[ROWS] = {{"seed", SEED, 0},         {"dense", DENSE, 0},           {"dense-long", DENSE_LONG, 0},
                               {"clusters-1", EXPERTS, 0}, {ROUTE_WEIGHED, EXPERTS, 1}, {"random-1", PARTS, 0},
                               {"random-2", PARTS, 1}};

typedef struct {
    route_options options;
    route_text text;
    route_validation validation;
    router router;
    route_set sets[SETS];
    route_result results[ROWS];
    int found[ROWS];
    int32_t *labels; /* where the windows of the validation are routed to, and how much each counts [windows, ROUTE_TOP] */
    float *weights;
    setun_context *context;
} run;

static int open_context(run *r)
{
    setun_context_options where;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (r->options.workers == 0)
        r->options.workers = processors > 0 ? processors : 1;
    setun_context_options_init(&where, sizeof where);
    where.backend = SETUN_BACKEND_PARALLEL; /* processes are forked, which a GPU does not stand */
    where.threads = (int32_t)r->options.workers;
    return check(setun_context_create(&where, &r->context), "context");
}

/* A folder is of one text, configuration and seed: its models are found by their names alone. Before there is a seed model it
   is of none. */
static int open_folder(const route_options *o)
{
    char path[ROUTE_PATH], seed[ROUTE_PATH], router[ROUTE_PATH], is[ROUTE_KEY + 64], line[ROUTE_KEY + 64] = "";
    output out;
    snprintf(is, sizeof is, "{\"key\":\"%s\",\"seed\":%" PRId64 "}\n", o->key, o->seed);
    if (mkdir(o->out, 0777) != 0 && errno != EEXIST) {
        perror(o->out);
        return -1;
    }
    if (route_path(o, path, "run", -1, "json") != 0 || route_path(o, seed, "seed", -1, "safetensors") != 0 ||
        route_path(o, router, "router", -1, "safetensors") != 0)
        return -1;
    FILE *file = fopen(path, "r");
    int read = file != NULL && fgets(line, sizeof line, file) != NULL;
    if (file != NULL)
        fclose(file);
    if (read && strcmp(line, is) == 0)
        return 0;
    if (!route_exists(seed)) {
        remove(router);
        return output_open(&out, path) != 0 || (fputs(is, out.file), output_close(&out, 0)) != 0 ? -1 : 0;
    }
    fprintf(stderr, "%s holds another run, of another text, other options or another seed: give another --out\nthere: %shere:  %s",
            o->out, line, is);
    return -1;
}

/* Trains what is missing: first the seed model, then all the others at once, the longest first. */
static int make_models(run *r)
{
    const route_options *o = &r->options;
    int64_t k = o->clusters, steps = o->expert_steps;
    const route_set seed = {"seed", 0, o->seed_steps, NULL}, dense = {"dense", 0, steps, NULL};
    const route_set dense_long = {"dense-long", 0, k * steps, NULL};
    if (router_open(&r->router, o, &r->text, r->context) != 0)
        return -1;
    const route_set experts = {"expert", k, steps, r->router.labels}, parts = {"random", k, steps, r->router.parts};
    r->sets[SEED] = seed, r->sets[DENSE] = dense, r->sets[DENSE_LONG] = dense_long;
    r->sets[EXPERTS] = experts, r->sets[PARTS] = parts;
    return route_train(o, &r->text, r->sets, 1, 1, o->workers) != 0 ||
                   route_train(o, &r->text, r->sets + 1, SETS - 1, o->workers, 1) != 0
               ? -1
               : 0;
}

/* Two different parts for each window, by chance, of equal weight. */
static void choose_parts(run *r)
{
    uint64_t k = (uint64_t)r->options.clusters;
    for (int64_t i = 0; i < r->validation.windows; i++) {
        uint64_t drawn = route_random(r->options.seed, CHOICE, (uint64_t)i), first = drawn % k;
        uint64_t second = (first + 1 + (drawn >> 32) % (k - 1)) % k;
        r->labels[i * ROUTE_TOP] = (int32_t)first, r->labels[i * ROUTE_TOP + 1] = (int32_t)second;
        r->weights[i * ROUTE_TOP] = r->weights[i * ROUTE_TOP + 1] = .5f;
    }
}

/* Measures a set, unless all its rows are known. */
static int measure(run *r, int set)
{
    const route_validation *v = &r->validation;
    double losses[ROUTE_TOP];
    route_cost cost;
    int known = 1, routed = set == EXPERTS || set == PARTS;
    for (int i = 0; i < ROWS; i++)
        known = known && (rows[i].set != set || r->found[i]);
    if (known)
        return 0;
    if (set == PARTS)
        choose_parts(r);
    if ((set == EXPERTS && router_route(&r->router, r->options.sharpness, r->text.bytes, r->text.count, v->begins, v->ends,
                                        v->windows, r->labels, r->weights) != 0) ||
        route_evaluate(&r->options, r->context, v, &r->sets[set], routed ? r->labels : NULL, r->weights, losses) != 0 ||
        route_cost_of(&r->options, &r->sets[set], &cost) != 0)
        return -1;
    for (int i = 0; i < ROWS; i++) {
        const route_result here = {losses[rows[i].mixed], (double)(v->windows * v->context),
                                   set == EXPERTS ? r->router.core_seconds : 0, cost};
        if (rows[i].set != set || r->found[i])
            continue;
        r->results[i] = here, r->found[i] = 1;
        if (route_append(&r->options, rows[i].name, &here) != 0)
            return -1;
    }
    return 0;
}

static int find_results(run *r)
{
    int all = 1;
    for (int i = 0; i < ROWS; i++)
        all &= r->found[i] = route_find(&r->options, rows[i].name, &r->results[i]);
    if (all)
        return 0;
    if (route_validation_open(&r->validation, &r->options, &r->text) != 0 || open_folder(&r->options) != 0 ||
        make_models(r) != 0)
        return -1;
    size_t count = (size_t)r->validation.windows;
    r->labels = calloc(count, ROUTE_TOP * sizeof *r->labels);
    r->weights = calloc(count, ROUTE_TOP * sizeof *r->weights);
    if (r->labels == NULL || r->weights == NULL) {
        fprintf(stderr, "there is not enough memory for the routes\n");
        return -1;
    }
    for (int set = 0; set < SETS; set++)
        if (measure(r, set) != 0)
            return -1;
    return 0;
}

static void name_row(const run *r, int i, char name[80])
{
    static const char *const names[ROWS] = {"the seed model, %" PRId64 " steps",
                                            "dense, %" PRId64 " steps more",
                                            "dense, %" PRId64 " steps more",
                                            "%" PRId64 " experts of clusters, the nearest",
                                            "%" PRId64 " experts of clusters, the two nearest",
                                            "%" PRId64 " experts of random parts, any one",
                                            "%" PRId64 " experts of random parts, any two"};
    const route_options *o = &r->options;
    int64_t numbers[SETS] = {o->seed_steps, o->clusters * o->expert_steps, o->expert_steps, o->clusters, o->clusters};
    snprintf(name, 80, names[i], numbers[rows[i].set]);
}

static void print_results(const run *r)
{
    const route_result *seed = &r->results[0], *dense = &r->results[1], *experts = &r->results[3];
    const route_cost *c = &experts->cost;
    printf("%-44s %8s %12s %13s %13s\n", "model", "loss", "tokens", "core-seconds", "of the longest");
    for (int i = 0; i < ROWS; i++) {
        char name[80];
        const route_result *here = &r->results[i];
        name_row(r, i, name);
        printf("%-44s %8.4f %12.0f %13.1f %13.1f\n", name, here->loss, here->cost.tokens, here->cost.core_seconds,
               here->cost.longest);
    }
    printf("losses in nats a token, over %.0f tokens; tokens and seconds of training after the seed model, of the seed model its own\n",
           seed->predicted);
    printf("with the seed model's %.1f core-seconds: the dense model of as many steps %.1f, the experts %.1f, %.1f of them for the "
           "clusters\n", seed->cost.core_seconds, seed->cost.core_seconds + dense->cost.core_seconds,
           seed->cost.core_seconds + c->core_seconds + experts->router_seconds, experts->router_seconds);
    printf("with %" PRId64 " workers, as many as experts, after the seed model: the dense model of as many steps %.1f s, the experts %.1f s; two "
           "experts take twice as long to predict\n", r->options.clusters, dense->cost.longest,
           c->longest + experts->router_seconds);
}

int main(int argc, char **argv)
{
    static run r;
    arguments_result read = route_options_read(&r.options, argc, argv);
    if (read != ARGUMENTS_OK)
        return read == ARGUMENTS_HELP ? 0 : 2;
    int failed = open_context(&r) != 0;
    if (!failed && r.options.text != NULL) {
        failed = route_text_open(&r.text, &r.options) != 0 || find_results(&r) != 0;
        if (!failed)
            print_results(&r);
    }
    if (!failed && r.options.prompt != NULL)
        failed = route_generate(&r.options, r.context) != 0;
    router_free(&r.router);
    route_validation_free(&r.validation);
    route_text_free(&r.text);
    free(r.labels), free(r.weights);
    setun_context_free(r.context);
    return failed;
}
