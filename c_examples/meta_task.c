/* The tasks of meta_train: x -> relu(W1 x + b1) -> h + relu(W2 h + b2) -> W3 h + b3, where W1 and W2 are used as ternary ones:
   gamma * t with gamma = mean |W| and t = the sign of W where |W| > gamma / 2. Their gradient is that of gamma * t, as if it
   were W (straight-through estimation, arXiv 1308.3432; BitNet b1.58, arXiv 2402.17764). */
#include "meta.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH = 16,
    CHECKED = 16, /* batches of the loss that is reported */
    LAYERS = 3,
    PARAMETERS = 2 * LAYERS, /* W1, b1, W2, b2, W3, b3 */
    SYMBOLS = 32,
    CONTEXT = 4,
    TEACHER_INPUTS = 16,
    TEACHER_UNITS = 32,
    TEACHER_OUTPUTS = 4,
    CHAIN = 1 << 15, /* symbols of a Markov chain */
};

static unsigned char *text;
static int64_t text_length;

/* Letters without their case, blanks, full stop, comma, digits, other marks, the rest. */
static unsigned char symbol(int c)
{
    if (c >= 'A' && c <= 'Z')
        c += 'a' - 'A';
    if (c >= 'a' && c <= 'z')
        return (unsigned char)(c - 'a');
    if (c == ' ' || c == '\n' || c == '\t')
        return 26;
    if (c >= '0' && c <= '9')
        return 29;
    return c == '.' ? 27 : c == ',' ? 28 : c < 128 ? 30 : 31;
}

int meta_read_text(const char *path)
{
    FILE *file = fopen(path, "rb");
    int64_t room = 0;
    if (file == NULL) {
        perror(path);
        return 0;
    }
    for (int c; (c = getc(file)) != EOF; text[text_length++] = symbol(c))
        if (text_length == room) {
            unsigned char *larger = realloc(text, (size_t)(room = 2 * room + (1 << 16)));
            if (larger == NULL)
                break;
            text = larger;
        }
    int good = feof(file) && !ferror(file) && text_length >= 4096;
    fclose(file);
    if (!good)
        fprintf(stderr, "%s: cannot be read, or has less than 4096 characters\n", path);
    return good;
}

uint64_t meta_text_name(void)
{
    return text == NULL ? 0 : meta_name(text, (size_t)text_length);
}

void meta_free_text(void)
{
    free(text);
    text = NULL;
    text_length = 0;
}

/* One run: its network and its data. All arrays are parts of `memory`. */
typedef struct {
    const meta_task *task;
    int64_t in[LAYERS], out[LAYERS], count[PARAMETERS];
    float *memory, *p[PARAMETERS], *g[PARAMETERS];
    float *used[LAYERS];           /* the matrices as they multiply */
    float *x[LAYERS + 1], *dx[LAYERS + 1], *a; /* activations [BATCH, .], their gradients, a product before its relu */
    int labels[BATCH];
    unsigned char *symbols;
    int64_t length; /* of symbols */
    float teacher[TEACHER_INPUTS * TEACHER_UNITS + TEACHER_UNITS * TEACHER_OUTPUTS];
} run;

static float *part(float **next, int64_t count)
{
    float *here = *next;
    if (here != NULL)
        *next += count;
    return here;
}

/* Places the arrays of a run from `next` on; NULL only counts. */
static int64_t place(run *r, float *memory)
{
    float *next = memory;
    int64_t total = 0;
    for (int i = 0; i < PARAMETERS; i++) {
        float **arrays[] = {&r->p[i], &r->g[i]};
        r->count[i] = i % 2 == 0 ? r->in[i / 2] * r->out[i / 2] : r->out[i / 2];
        for (int j = 0; j < 2; j++, total += r->count[i])
            *arrays[j] = part(&next, r->count[i]);
    }
    for (int l = 0; l < LAYERS; l++) {
        r->used[l] = part(&next, r->count[2 * l]);
        total += r->count[2 * l];
    }
    for (int l = 0; l <= LAYERS; l++) {
        int64_t wide = BATCH * (l < LAYERS ? r->in[l] : r->out[LAYERS - 1]);
        r->x[l] = part(&next, wide), r->dx[l] = part(&next, wide);
        total += 2 * wide;
    }
    r->a = part(&next, BATCH * r->task->width);
    return total + BATCH * r->task->width;
}

/* A chain in which a symbol has four successors, others for each quarter of the alphabet that the one before is from. Its
   entropy is 1.2 nats, that of 32 symbols 3.5. */
static void fill_chain(run *r, uint64_t seed)
{
    meta_random random = meta_stream(seed, 1, 0, 0);
    for (int64_t i = 0; i < r->length; i++) {
        double u = meta_uniform(&random);
        int which = u < .5 ? 0 : u < .75 ? 1 : u < .9 ? 2 : 3;
        uint64_t before = i < 2 ? 0 : (uint64_t)r->symbols[i - 1] * 4 + r->symbols[i - 2] / 8;
        meta_random successor = meta_stream(seed, 2, before, (uint64_t)which);
        r->symbols[i] = (unsigned char)(SYMBOLS * meta_uniform(&successor));
    }
}

static void stop_run(run *r)
{
    free(r->memory);
    if (r->symbols != text)
        free(r->symbols);
}

static int start_run(run *r, const meta_task *task)
{
    int characters = task->family == META_CHARACTERS;
    int64_t w = task->width;
    memset(r, 0, sizeof *r);
    r->task = task;
    r->in[0] = characters ? SYMBOLS * CONTEXT : TEACHER_INPUTS;
    r->in[1] = r->in[2] = r->out[0] = r->out[1] = w;
    r->out[2] = characters ? SYMBOLS : TEACHER_OUTPUTS;
    r->memory = calloc((size_t)place(r, NULL), sizeof(float));
    r->symbols = text;
    r->length = text == NULL ? CHAIN : text_length;
    if (text == NULL && characters)
        r->symbols = malloc(CHAIN);
    if (r->memory == NULL || (characters && r->symbols == NULL)) {
        fprintf(stderr, "no memory for a network of width %lld\n", (long long)w);
        stop_run(r);
        return 0;
    }
    place(r, r->memory);
    meta_random random = meta_stream(task->seed, 0, 0, 0);
    for (int l = 0; l < LAYERS; l++)
        for (int64_t i = 0; i < r->count[2 * l]; i++) /* He et al., arXiv 1502.01852; the last layer smaller */
            r->p[2 * l][i] = (float)(meta_normal(&random) * sqrt((l < 2 ? 2. : .25) / (double)r->in[l]));
    for (size_t i = 0; i < sizeof r->teacher / sizeof *r->teacher; i++)
        r->teacher[i] = (float)(meta_normal(&random) / 4);
    if (characters && text == NULL)
        fill_chain(r, task->seed);
    return 1;
}

/* Batch `number` of the training data, or of the data that is never trained on. */
static void fill_batch(run *r, int64_t number, int held)
{
    float *x = r->x[0], *y = r->dx[LAYERS];
    meta_random random = meta_stream(r->task->seed, held ? 4 : 3, (uint64_t)number, 0);
    memset(x, 0, sizeof(float) * BATCH * (size_t)r->in[0]);
    for (int b = 0; b < BATCH; b++) {
        if (r->task->family == META_CHARACTERS) {
            int64_t first = held ? r->length / 8 * 7 : 0, last = (held ? r->length : r->length / 8 * 7) - CONTEXT;
            int64_t at = first + (int64_t)((double)(last - first) * meta_uniform(&random));
            for (int i = 0; i < CONTEXT; i++)
                x[b * r->in[0] + i * SYMBOLS + r->symbols[at + i]] = 1;
            r->labels[b] = r->symbols[at + CONTEXT];
            continue;
        }
        const float *second = r->teacher + TEACHER_INPUTS * TEACHER_UNITS;
        double units[TEACHER_UNITS] = {0};
        for (int i = 0; i < TEACHER_INPUTS; i++) {
            x[b * TEACHER_INPUTS + i] = (float)meta_normal(&random);
            for (int j = 0; j < TEACHER_UNITS; j++)
                units[j] += 2 * x[b * TEACHER_INPUTS + i] * r->teacher[i * TEACHER_UNITS + j];
        }
        for (int k = 0; k < TEACHER_OUTPUTS; k++) {
            double sum = .1 * meta_normal(&random);
            for (int j = 0; j < TEACHER_UNITS; j++)
                sum += tanh(units[j]) * second[j * TEACHER_OUTPUTS + k];
            y[b * TEACHER_OUTPUTS + k] = (float)sum; /* the loss turns it into a gradient in place */
        }
    }
}

/* The matrices as they multiply. */
static void make_ternary(run *r)
{
    for (int l = 0; l < 2; l++) {
        double sum = 0;
        for (int64_t i = 0; i < r->count[2 * l]; i++)
            sum += fabsf(r->p[2 * l][i]);
        float gamma = (float)(sum / (double)r->count[2 * l]), h = gamma / 2;
        for (int64_t i = 0; i < r->count[2 * l]; i++) {
            int t = (r->p[2 * l][i] > h) - (r->p[2 * l][i] < -h);
            r->used[l][i] = gamma * (float)t;
        }
    }
    memcpy(r->used[2], r->p[4], sizeof(float) * (size_t)r->count[4]);
}

/* y += k x */
static void add(float *restrict y, float k, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += k * x[i];
}

/* Sums in eight lanes, so that the compiler may use vectors. */
static float dot(const float *x, const float *y, int64_t n)
{
    float lanes[8] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++)
            lanes[j] += x[i + j] * y[i + j];
    for (; i < n; i++)
        sum += x[i] * y[i];
    for (int j = 0; j < 8; j++)
        sum += lanes[j];
    return sum;
}

/* x[l + 1] from x[l]. */
static void forward(run *r, int l)
{
    int64_t in = r->in[l], out = r->out[l];
    for (int b = 0; b < BATCH; b++) {
        float *a = l < 2 ? r->a + b * out : r->x[3] + b * out, *x = r->x[l] + b * in, *y = r->x[l + 1] + b * out;
        memcpy(a, r->p[2 * l + 1], sizeof(float) * (size_t)out);
        for (int64_t i = 0; i < in; i++)
            if (x[i] != 0)
                add(a, x[i], r->used[l] + i * out, out);
        for (int64_t j = 0; l < 2 && j < out; j++)
            y[j] = (a[j] > 0 ? a[j] : 0) + (l == 1 ? x[j] : 0);
    }
}

/* dx[l] and the gradients of layer l from dx[l + 1]; x[l + 1] says which units were above 0. */
static void backward(run *r, int l)
{
    int64_t in = r->in[l], out = r->out[l];
    for (int b = 0; b < BATCH; b++) {
        float *x = r->x[l] + b * in, *dx = r->dx[l] + b * in, *y = r->x[l + 1] + b * out, *dy = r->dx[l + 1] + b * out;
        for (int64_t i = 0; l == 1 && i < in; i++)
            dx[i] = dy[i];
        for (int64_t j = 0; l < 2 && j < out; j++)
            if (!(y[j] > (l == 1 ? x[j] : 0)))
                dy[j] = 0;
        add(r->g[2 * l + 1], 1, dy, out);
        for (int64_t i = 0; i < in; i++) {
            if (x[i] != 0)
                add(r->g[2 * l] + i * out, x[i], dy, out);
            if (l > 0)
                dx[i] = dot(r->used[l] + i * out, dy, out) + (l == 1 ? dx[i] : 0);
        }
    }
}

/* The mean loss of the batch; dx[LAYERS] becomes its gradient. */
static double loss_of(run *r)
{
    int64_t n = r->out[2];
    double loss = 0;
    for (int b = 0; b < BATCH; b++) {
        float *y = r->x[LAYERS] + b * n, *d = r->dx[LAYERS] + b * n;
        double most = y[0], sum = 0;
        for (int64_t j = 0; r->task->family == META_TEACHER && j < n; j++) {
            double error = y[j] - d[j];
            loss += error * error / (double)(BATCH * n);
            d[j] = (float)(2 * error / (double)(BATCH * n));
        }
        if (r->task->family == META_TEACHER)
            continue;
        for (int64_t j = 1; j < n; j++)
            most = y[j] > most ? y[j] : most;
        for (int64_t j = 0; j < n; j++)
            sum += exp(y[j] - most);
        loss += (most + log(sum) - y[r->labels[b]]) / BATCH;
        for (int64_t j = 0; j < n; j++)
            d[j] = (float)((exp(y[j] - most) / sum - (j == r->labels[b])) / BATCH);
    }
    return loss;
}

static double step_loss(run *r, int64_t number, int held)
{
    fill_batch(r, number, held);
    for (int l = 0; l < LAYERS; l++)
        forward(r, l);
    double loss = loss_of(r);
    for (int i = 0; i < PARAMETERS && !held; i++)
        memset(r->g[i], 0, sizeof(float) * (size_t)r->count[i]);
    for (int l = LAYERS - 1; l >= 0 && !held; l--)
        backward(r, l);
    return loss;
}

static double held_loss(run *r)
{
    double sum = 0;
    make_ternary(r);
    for (int i = 0; i < CHECKED; i++)
        sum += step_loss(r, i, 1);
    return sum / CHECKED;
}

/* Trains, and adds up the logarithms of the factors that the steps had beside the radius by its schedule. */
static setun_status train(run *r, setun_optimizer *optimizer, const setun_optimizer_options *o, double *sum)
{
    setun_step_report report = {0};
    setun_status status = SETUN_OK;
    const float *gradients[PARAMETERS];
    report.struct_size = sizeof report;
    for (int i = 0; i < PARAMETERS; i++)
        gradients[i] = r->g[i];
    for (int64_t t = 0; t < r->task->steps && status == SETUN_OK; t++) {
        make_ternary(r);
        double loss = step_loss(r, t, 0), logarithms = 0;
        status = setun_optimizer_step_guarded(optimizer, gradients, PARAMETERS, loss, &report);
        double radius = report.radius;
        for (int i = 0; i < PARAMETERS && status == SETUN_OK; i++) {
            status = setun_optimizer_report(optimizer, i, &report);
            logarithms += report.ratio > 0 && radius > 0 ? log(report.ratio / radius) : 0;
        }
        *sum += logarithms / PARAMETERS / (double)o->total_steps;
    }
    return status;
}

int meta_run(const meta_task *task, const double *weights, const setun_context *context, meta_outcome *outcome)
{
    static const char *const names[PARAMETERS] = {"w1", "b1", "w2", "b2", "w3", "b3"};
    run r;
    setun_optimizer *optimizer = NULL;
    setun_lr_net *net = NULL;
    setun_optimizer_options o;
    setun_parameter_options own;
    double sum = 0;
    if (!start_run(&r, task))
        return 0;
    setun_optimizer_options_init(&o, sizeof o);
    o.context = context;
    o.radius_mode = SETUN_RADIUS_MODE_EXACT;
    o.radius = o.vector_radius = task->rate;
    o.schedule = SETUN_SCHEDULE_LINEAR; /* 5% of the steps up, then down to 0 in a line */
    o.total_steps = task->steps;
    o.warmup_steps = task->steps / 20;
    o.minimum_lr_ratio = 0;
    o.guard_interval = 0; /* the guard is for its ears: it hears losses, and does nothing */
    o.guard_spike = 1e9;
    setun_parameter_options_init(&own, sizeof own);
    setun_status status = setun_optimizer_create(&o, &optimizer);
    for (int i = 0; i < PARAMETERS && status == SETUN_OK; i++) {
        int64_t matrix[2] = {r.in[i / 2], r.out[i / 2]};
        own.kind = i % 2 == 1 ? SETUN_PARAMETER_KIND_VECTOR : i < 4 ? SETUN_PARAMETER_KIND_TERNARY : SETUN_PARAMETER_KIND_MATRIX;
        status = setun_optimizer_add(optimizer, names[i], r.p[i], i % 2 == 0 ? matrix : matrix + 1, 2 - i % 2, &own);
    }
    if (status == SETUN_OK && weights != NULL)
        status = setun_lr_net_create(NULL, &net);
    if (status == SETUN_OK && weights != NULL)
        status = setun_lr_net_set_weights(net, weights, META_WEIGHTS);
    if (status == SETUN_OK && weights != NULL)
        status = setun_optimizer_set_lr_net(optimizer, net);
    outcome->first = held_loss(&r);
    if (status == SETUN_OK)
        status = train(&r, optimizer, &o, &sum);
    outcome->last = held_loss(&r);
    outcome->factor = exp(sum);
    if (status == SETUN_ERR_STATE) { /* a step was refused: the run broke */
        outcome->last = INFINITY;
        status = SETUN_OK;
    }
    if (status != SETUN_OK)
        fprintf(stderr, "%s: %s\n", setun_status_name(status), setun_last_error());
    setun_lr_net_free(net);
    setun_optimizer_free(optimizer);
    stop_run(&r);
    return status == SETUN_OK;
}
