/* The network for the learning rate: factors of 1, bounds, learning, weights, files, wrong use. */
#include "check.h"

#include <math.h>

enum { WEIGHTS = 133, FEATURES = 9, HEAD = 120 };

static setun_lr_net_observation seen_by(double cosine) {
    setun_lr_net_observation seen;
    memset(&seen, 0, sizeof seen);
    seen.struct_size = sizeof seen;
    seen.kind = SETUN_PARAMETER_KIND_TERNARY;
    seen.relative_step = 3e-3;
    seen.flip_rate = 1e-3;
    seen.cosine = cosine;
    seen.signal = .1;
    seen.progress = .5;
    return seen;
}

static setun_lr_net *made(double largest_factor, double online_rate) {
    setun_lr_net *net = NULL;
    setun_lr_net_options options;
    setun_lr_net_options_init(&options, sizeof options);
    CHECK(options.struct_size == sizeof options && options.largest_factor == 4 && options.online_rate == 0);
    options.largest_factor = largest_factor;
    options.online_rate = online_rate;
    CHECK_OK(setun_lr_net_create(&options, &net));
    return net;
}

static double factor(setun_lr_net *net, int64_t index, double cosine) {
    setun_lr_net_observation seen = seen_by(cosine);
    double found = -1;
    CHECK_OK(setun_lr_net_factor(net, index, &seen, &found));
    return found;
}

/* Weights that make the factor follow the cosine alone: y = 4 tanh(8 cosine). */
static void follow_the_cosine(setun_lr_net *net) {
    double weights[WEIGHTS] = {0};
    weights[2] = 8;
    weights[HEAD] = 4;
    CHECK_OK(setun_lr_net_set_weights(net, weights, WEIGHTS));
}

static void factors(void) {
    setun_lr_net *net = made(4, 0);
    setun_lr_net_observation seen = seen_by(.5);
    double found[FEATURES], weights[WEIGHTS], last = 1, now = 0, nothing = 0;
    int i;
    CHECK_OK(setun_lr_net_weights(net, weights, WEIGHTS));
    for (i = 0; i < WEIGHTS; i++) CHECK(i < 108 ? weights[i] != 0 : weights[i] == 0);
    for (i = 0; i < 20; i++) {
        CHECK_OK(setun_lr_net_observe_loss(net, 2 - .01 * i));
        CHECK(factor(net, i % 3, .1 * i - 1) == 1);
    }
    follow_the_cosine(net);
    /* ln of the factor: 0.3 a step up to ln 4, and as slowly down to -ln 4. */
    for (i = 1; i <= 12; i++) {
        last = now;
        now = log(factor(net, 0, 1));
        CHECK_NEAR(now, i < 5 ? .3 * i : log(4), 2e-3);
        CHECK(now - last < .3 + 1e-9);
    }
    for (i = 1; i <= 12; i++) now = log(factor(net, 0, -1));
    CHECK_NEAR(now, -log(4), 2e-3);
    CHECK(exp(now) >= .25 - 1e-15);
    CHECK_NEAR(log(factor(net, 1, 1)), .3, 1e-12); /* a parameter of its own */

    /* What is no number: a factor of 1, and no trace. */
    seen.cosine = NAN;
    CHECK_OK(setun_lr_net_factor(net, 0, &seen, &nothing));
    CHECK(nothing == 1);
    CHECK_OK(setun_lr_net_features(net, &seen, found));
    for (i = 0; i < FEATURES; i++) CHECK(isnan(found[i]));
    CHECK_OK(setun_lr_net_observe_loss(net, INFINITY));
    CHECK(factor(net, 0, -1) == 1);
    CHECK_OK(setun_lr_net_observe_loss(net, 1));
    CHECK_NEAR(log(factor(net, 0, -1)), now, 1e-12);

    seen = seen_by(.5);
    CHECK_OK(setun_lr_net_features(net, &seen, found));
    CHECK(found[2] == .5 && found[6] == 0 && found[7] == 1 && found[8] == 0);
    CHECK_NEAR(found[0], log10(3.) / 3, 1e-12);
    CHECK_NEAR(found[1], 0, 1e-12);
    CHECK_NEAR(found[3], 0, 1e-12);
    CHECK(found[4] < 0 && found[5] == 0);
    CHECK_OK(setun_lr_net_reset(net));
    CHECK_NEAR(log(factor(net, 0, -1)), -.3, 1e-12);
    setun_lr_net_free(net);
}

static void learning(void) {
    setun_lr_net *up = made(4, .05), *down = made(4, .05), *still = made(4, 0);
    double before = 1, now = 1;
    int i;
    CHECK_OK(setun_lr_net_learn(up, 0, 1)); /* before its first factor: nothing */
    for (i = 0; i < 40; i++) {
        now = factor(up, 0, .2);
        CHECK(i == 0 ? now == 1 : now >= before);
        CHECK(now * factor(down, 0, .2) > 1 - 1e-12 && now * factor(down, 0, .2) < 1 + 1e-12);
        CHECK(factor(still, 0, .2) == 1);
        CHECK_OK(setun_lr_net_learn(up, 0, i % 2 ? 1 : 1e9)); /* 1e9 counts as 1 */
        CHECK_OK(setun_lr_net_learn(down, 0, -1));
        CHECK_OK(setun_lr_net_learn(still, 0, 1));
        CHECK_OK(setun_lr_net_learn(up, 0, NAN));
        before = now;
    }
    CHECK(now > 3);
    setun_lr_net_free(up);
    setun_lr_net_free(down);
    setun_lr_net_free(still);
}

static void files(const char *folder) {
    char path[4096];
    setun_lr_net *first = made(3, .05), *second = made(2, .05);
    FILE *file;
    int i;
    snprintf(path, sizeof path, "%s/lr_net.safetensors", folder);
    follow_the_cosine(first);
    for (i = 0; i < 30; i++) {
        CHECK_OK(setun_lr_net_observe_loss(first, 2 + sin(i)));
        factor(first, i % 3, cos(i));
        CHECK_OK(setun_lr_net_learn(first, i % 3, cos(3 * i)));
    }
    CHECK_OK(setun_lr_net_save(first, path));
    CHECK_OK(setun_lr_net_load(second, path));
    for (i = 0; i < 30; i++) {
        CHECK_OK(setun_lr_net_observe_loss(first, 1 + sin(i)));
        CHECK_OK(setun_lr_net_observe_loss(second, 1 + sin(i)));
        CHECK(factor(first, i % 3, sin(i)) == factor(second, i % 3, sin(i)));
        CHECK_OK(setun_lr_net_learn(first, i % 3, .3));
        CHECK_OK(setun_lr_net_learn(second, i % 3, .3));
    }
    file = fopen(path, "r+b");
    CHECK(file != NULL && fseek(file, -3, SEEK_END) == 0 && fputc(0x55, file) != EOF && fclose(file) == 0);
    CHECK_FAILS(setun_lr_net_load(second, path), SETUN_ERR_FORMAT, "damaged");
    file = fopen(path, "wb");
    CHECK(file != NULL && fputs("no network", file) != EOF && fclose(file) == 0);
    CHECK_FAILS(setun_lr_net_load(second, path), SETUN_ERR_FORMAT, "lr_net.safetensors");
    CHECK(factor(first, 0, .1) == factor(second, 0, .1));
    CHECK_FAILS(setun_lr_net_save(first, "no/such/folder/file"), SETUN_ERR_IO, "no/such/folder");
    CHECK_FAILS(setun_lr_net_load(first, "no/such/file"), SETUN_ERR_IO, "no/such/file");
    CHECK_FAILS(setun_lr_net_load(first, NULL), SETUN_ERR_ARGUMENT, "path is NULL");
    setun_lr_net_free(first);
    setun_lr_net_free(second);
}

static void wrong_use(void) {
    setun_lr_net *net = NULL;
    setun_lr_net_options options;
    setun_lr_net_observation seen = seen_by(1);
    double weights[WEIGHTS] = {0}, found = 7;
    setun_lr_net_options_init(&options, sizeof options);
    options.largest_factor = NAN;
    CHECK_FAILS(setun_lr_net_create(&options, &net), SETUN_ERR_ARGUMENT, "largest_factor is NaN");
    options.largest_factor = 1;
    options.online_rate = -1;
    CHECK_FAILS(setun_lr_net_create(&options, &net), SETUN_ERR_ARGUMENT, "online_rate is -1");
    CHECK_FAILS(setun_lr_net_create(NULL, NULL), SETUN_ERR_ARGUMENT, "out is NULL");
    CHECK(net == NULL);
    CHECK_OK(setun_lr_net_create(NULL, &net));
    follow_the_cosine(net);
    CHECK_FAILS(setun_lr_net_factor(net, -1, &seen, &found), SETUN_ERR_ARGUMENT, "index is -1");
    CHECK_FAILS(setun_lr_net_factor(net, 65536, &seen, &found), SETUN_ERR_ARGUMENT, "index is 65536");
    CHECK_FAILS(setun_lr_net_factor(net, 0, NULL, &found), SETUN_ERR_ARGUMENT, "observation is NULL");
    CHECK_FAILS(setun_lr_net_factor(net, 0, &seen, NULL), SETUN_ERR_ARGUMENT, "factor is NULL");
    CHECK_FAILS(setun_lr_net_factor(NULL, 0, &seen, &found), SETUN_ERR_ARGUMENT, "net is NULL");
    seen.kind = 9;
    CHECK_FAILS(setun_lr_net_factor(net, 0, &seen, &found), SETUN_ERR_ARGUMENT, "kind is 9");
    seen.kind = SETUN_PARAMETER_KIND_AUTO;
    seen.struct_size = 3;
    CHECK_FAILS(setun_lr_net_factor(net, 0, &seen, &found), SETUN_ERR_ABI, "struct_size is 3");
    CHECK_FAILS(setun_lr_net_learn(net, -1, 1), SETUN_ERR_ARGUMENT, "index is -1");
    CHECK_FAILS(setun_lr_net_weights(net, weights, 132), SETUN_ERR_ARGUMENT, "count is 132");
    CHECK_FAILS(setun_lr_net_set_weights(net, weights, 134), SETUN_ERR_ARGUMENT, "count is 134");
    weights[131] = NAN;
    CHECK_FAILS(setun_lr_net_set_weights(net, weights, WEIGHTS), SETUN_ERR_ARGUMENT, "weights[131] is NaN");
    weights[131] = 16.5;
    CHECK_FAILS(setun_lr_net_set_weights(net, weights, WEIGHTS), SETUN_ERR_ARGUMENT, "weights[131] is 16.5");
    CHECK(found == 7);
    CHECK_NEAR(log(factor(net, 0, 1)), .3, 1e-12); /* the first step: nothing was remembered */
    setun_lr_net_free(net);
    setun_lr_net_free(NULL);
    CHECK_FAILS(setun_lr_net_reset(net), SETUN_ERR_ARGUMENT, "freed already");
}

/* In an optimizer: what the network says multiplies the rate, and the trits that change are counted for it, until it is
   taken away. */
static void inside_an_optimizer(void) {
    static float w[4096], gradient[4096];
    static const float *const gradients[1] = {gradient};
    static const int64_t square[2] = {64, 64};
    double weights[WEIGHTS] = {0};
    setun_lr_net *net = made(4, 0), *copy = NULL;
    setun_optimizer *optimizer = NULL;
    setun_optimizer_options options;
    setun_parameter_options own;
    setun_step_report report;
    int i;
    report.struct_size = sizeof report;
    for (i = 0; i < 4096; i++) w[i] = (float)(i * 7919 % 1009 - 504) / 5040;
    for (i = 0; i < 4096; i++) gradient[i] = (float)(i * 104729 % 2003 - 1001) / 1001;
    weights[132] = 16;
    CHECK_OK(setun_lr_net_set_weights(net, weights, WEIGHTS));
    setun_optimizer_options_init(&options, sizeof options);
    options.radius_mode = SETUN_RADIUS_MODE_OFF;
    setun_parameter_options_init(&own, sizeof own);
    own.kind = SETUN_PARAMETER_KIND_TERNARY;
    CHECK_OK(setun_optimizer_create(&options, &optimizer));
    CHECK_OK(setun_optimizer_add(optimizer, "w", w, square, 2, &own));
    CHECK_FAILS(setun_optimizer_lr_net(optimizer, &copy), SETUN_ERR_STATE, "no network");
    CHECK_OK(setun_optimizer_set_lr_net(optimizer, net));
    for (i = 1; i <= 2; i++) {
        CHECK_OK(setun_optimizer_step_guarded(optimizer, gradients, 1, 1, &report));
        CHECK(report.trits == 4096 && report.flips > 0);
        CHECK_OK(setun_optimizer_report(optimizer, 0, &report));
        CHECK_NEAR(log(report.learning_rate / 1e-3), .3 * i, 1e-12);
    }
    CHECK_OK(setun_optimizer_lr_net(optimizer, &copy));
    CHECK_NEAR(log(factor(copy, 0, .1)), .9, 1e-12);
    setun_lr_net_free(copy);
    CHECK_OK(setun_optimizer_set_lr_net(optimizer, NULL));
    CHECK_OK(setun_optimizer_step(optimizer, gradients, 1, &report));
    CHECK(report.trits == 0 && report.flips == 0);
    CHECK_OK(setun_optimizer_report(optimizer, 0, &report));
    CHECK(report.learning_rate == 1e-3);
    setun_optimizer_free(optimizer);
    setun_lr_net_free(net);
}

int main(int argc, char **argv) {
    factors();
    learning();
    files(argc > 1 ? argv[1] : ".");
    wrong_use();
    inside_an_optimizer();
    return 0;
}
