/* Trains a network of its own with Setun's step, at rates too low, right and too high: cc -std=c99 -O2 -I../include step.c
   -L../target/release -lsetun -lm -Wl,-rpath,../target/release -o step && ./step [STEPS] */
#include <math.h>
#include <setun.h>
#include <stdio.h>
#include <stdlib.h>

enum { POINTS = 64, HIDDEN = 32 };

typedef struct { /* y = b2 + w2 . tanh(w1 x + b1) */
    float w1[HIDDEN], b1[HIDDEN], w2[HIDDEN], b2[1];
} network;

/* The mean squared error against sin(3 x) + x / 2, and its gradient. */
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

/* Trains, always from the same start. The loss at the end, or -1 after an error message. */
static double train(int steps, double rate, int32_t mode, int show)
{
    network p = {{0}, {0}, {0}, {0}}, g;
    float *parameters[] = {p.w1, p.b1, p.w2, p.b2};
    const float *gradients[] = {g.w1, g.b1, g.w2, g.b2};
    const char *names[] = {"w1", "b1", "w2", "b2"};
    const int64_t dims[][2] = {{HIDDEN, 1}, {HIDDEN}, {1, HIDDEN}, {1}}; /* matrices and vectors */
    setun_optimizer *optimizer = NULL;
    setun_step_report report = {.struct_size = sizeof report};
    setun_optimizer_options o;
    setun_optimizer_options_init(&o, sizeof o);
    o.learning_rate = rate;
    o.radius_mode = mode;
    srand(1);
    for (int j = 0; j < 3 * HIDDEN; j++) /* w1 and b1 from -2 to 2, w2 from -.15 to .15 */
        parameters[j / HIDDEN][j % HIDDEN] = (j < 2 * HIDDEN ? 4 : .3f) * ((float)rand() / (float)RAND_MAX - .5f);
    setun_status status = setun_optimizer_create(&o, &optimizer);
    for (int i = 0; i < 4 && status == SETUN_OK; i++)
        status = setun_optimizer_add(optimizer, names[i], parameters[i], dims[i], i % 2 == 0 ? 2 : 1, NULL);
    for (int step = 0; step < steps && status == SETUN_OK; step++) {
        double loss = loss_and_gradient(&p, &g);
        status = setun_optimizer_step(optimizer, gradients, 4, &report);
        if (show && step % (steps / 5 + 1) == 0)
            printf("step %4d: loss %.6f, moved by %.4f of the weights, the radius held %d of 4\n", step, loss,
                   report.step_rms / report.weight_rms, (int)report.held);
    }
    if (status != SETUN_OK)
        fprintf(stderr, "%s: %s\n", setun_status_name(status), setun_last_error());
    setun_optimizer_free(optimizer);
    return status == SETUN_OK ? loss_and_gradient(&p, &g) : -1;
}

int main(int argc, char **argv)
{
    static const double rates[] = {1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1};
    int steps = argc > 1 ? atoi(argv[1]) : 1000, bad = train(steps, 1e-2, SETUN_RADIUS_MODE_CAP, 1) < 0;
    printf("\nloss after %d steps, by learning rate\n   rate   AdamW      with a cap\n", steps);
    for (size_t i = 0; i < sizeof rates / sizeof *rates && !bad; i++) {
        double plain = train(steps, rates[i], SETUN_RADIUS_MODE_OFF, 0);
        double capped = train(steps, rates[i], SETUN_RADIUS_MODE_CAP, 0);
        bad = plain < 0 || capped < 0;
        printf("%7g   %.2e   %.2e\n", rates[i], plain, capped);
    }
    return bad;
}
