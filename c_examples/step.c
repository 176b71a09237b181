/* Trains a small network of its own with Setun's step: cc -std=c99 -O2 -I../include step.c -L../target/release -lsetun
   -lm -Wl,-rpath,../target/release -o step && ./step [STEPS] */
#include <math.h>
#include <setun.h>
#include <stdio.h>
#include <stdlib.h>

enum { POINTS = 64, HIDDEN = 32 };

/* y = b2 + w2 . tanh(w1 x + b1), and the gradient of its mean squared error against sin(3 x) + x / 2. */
typedef struct {
    float w1[HIDDEN], b1[HIDDEN], w2[HIDDEN], b2[1];
} network;

static double loss_and_gradient(const network *p, network *g)
{
    double loss = 0;
    *g = (network){{0}, {0}, {0}, {0}};
    for (int i = 0; i < POINTS; i++) {
        double x = -2 + 4. * i / (POINTS - 1), h[HIDDEN], y = p->b2[0];
        for (int j = 0; j < HIDDEN; j++)
            y += p->w2[j] * (h[j] = tanh(p->w1[j] * x + p->b1[j]));
        double error = y - (sin(3 * x) + x / 2), dy = 2 * error / POINTS;
        loss += error * error / POINTS;
        g->b2[0] += (float)dy;
        for (int j = 0; j < HIDDEN; j++) {
            double dh = dy * p->w2[j] * (1 - h[j] * h[j]);
            g->w2[j] += (float)(dy * h[j]), g->w1[j] += (float)(dh * x), g->b1[j] += (float)dh;
        }
    }
    return loss;
}

/* Trains from the same start; returns the last loss, or -1 after an error message. */
static double train(int steps, double rate, int32_t mode, int show)
{
    network p, g;
    double loss = -1;
    const float *gradients[] = {g.w1, g.b1, g.w2, g.b2};
    const int64_t column[] = {HIDDEN, 1}, row[] = {1, HIDDEN}, vector[] = {HIDDEN}, single[] = {1};
    setun_optimizer *optimizer = NULL;
    setun_optimizer_options o;
    setun_step_report report = {.struct_size = sizeof report};
    setun_optimizer_options_init(&o, sizeof o);
    o.radius_mode = mode;
    if (getenv("R")) o.radius = atof(getenv("R"));
    if (getenv("VF")) o.vector_floor = atof(getenv("VF"));
    if (getenv("WD")) o.weight_decay = atof(getenv("WD"));
    srand(1);
    for (int j = 0; j < HIDDEN; j++) {
        p.w1[j] = 4.f * (float)rand() / (float)RAND_MAX - 2, p.w2[j] = (float)rand() / (float)RAND_MAX * .3f - .15f;
        p.b1[j] = 0;
    }
    p.b2[0] = 0;
    setun_status status = setun_optimizer_create(&o, &optimizer);
    if (status == SETUN_OK && (status = setun_optimizer_add(optimizer, "w1", p.w1, column, 2, NULL)) == SETUN_OK &&
        (status = setun_optimizer_add(optimizer, "b1", p.b1, vector, 1, NULL)) == SETUN_OK &&
        (status = setun_optimizer_add(optimizer, "w2", p.w2, row, 2, NULL)) == SETUN_OK)
        status = setun_optimizer_add(optimizer, "b2", p.b2, single, 1, NULL);
    for (int step = 0; status == SETUN_OK && step < steps; step++) {
        double left = 1 - (double)step / steps; /* both go down along a line */
        loss = loss_and_gradient(&p, &g);
        if ((status = setun_optimizer_set_learning_rate(optimizer, rate * left)) == SETUN_OK &&
            (status = setun_optimizer_set_radius(optimizer, o.radius * left)) == SETUN_OK)
            status = setun_optimizer_step(optimizer, gradients, 4, &report);
        if (show && step % (steps / 5) == 0)
            printf("step %4d: loss %.6f, gradient %.3g, ratio %.3g, held %d\n", step, loss, report.gradient_norm,
                   report.ratio, (int)report.held);
    }
    if (status != SETUN_OK)
        fprintf(stderr, "%s: %s\n", setun_status_name(status), setun_last_error());
    setun_optimizer_free(optimizer);
    return status == SETUN_OK ? loss_and_gradient(&p, &g) : -1;
}

int main(int argc, char **argv)
{
    int steps = argc > 1 ? atoi(argv[1]) : 2000;
    train(steps, 1e-2, SETUN_RADIUS_MODE_CAP, 1);
    printf("learning rate   AdamW       cap         exact\n");
    for (double rate = 1e-4; rate < 2; rate *= sqrt(10))
        printf("%13.4g   %.3e   %.3e   %.3e\n", rate, train(steps, rate, SETUN_RADIUS_MODE_OFF, 0),
               train(steps, rate, SETUN_RADIUS_MODE_CAP, 0), train(steps, rate, SETUN_RADIUS_MODE_EXACT, 0));
    return 0;
}
