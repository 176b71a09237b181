#include "curve.h"

#include "axis.h"
#include "output.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    double step, loss, validation; /* validation is NaN where it was not measured */
} point;

typedef struct {
    point *points;
    size_t count, room;
    double last_step, low, high; /* the ranges of the axes */
} curve;

/* The picture, and the plot inside its margins. */
enum { WIDTH = 820, HEIGHT = 460, LEFT = 70, RIGHT = 800, TOP = 50, BOTTOM = 400 };

/* The number of a field in a line of JSON; NaN when it is absent or null. */
static double field(const char *line, const char *name)
{
    const char *at = strstr(line, name);
    char *end;
    if (at == NULL)
        return NAN;
    at += strlen(name);
    double value = strtod(at, &end);
    return end == at ? NAN : value;
}

static int add(curve *c, point p)
{
    if (c->count == c->room) {
        size_t room = c->room == 0 ? 256 : 2 * c->room;
        point *points = realloc(c->points, room * sizeof *points);
        if (points == NULL)
            return -1;
        c->points = points;
        c->room = room;
    }
    c->points[c->count++] = p;
    return 0;
}

static int read_points(curve *c, const char *path)
{
    char line[1024];
    FILE *file = fopen(path, "r");
    if (file == NULL && errno == ENOENT)
        return 0; /* a run of very few steps reports nothing */
    if (file == NULL) {
        fprintf(stderr, "%s cannot be read: %s\n", path, strerror(errno));
        return -1;
    }
    int failed = 0;
    while (!failed && fgets(line, sizeof line, file) != NULL) {
        point p = {field(line, "\"step\":"), field(line, "\"loss\":"), field(line, "\"validation_loss\":")};
        if (isfinite(p.step) && isfinite(p.loss))
            failed = add(c, p);
    }
    failed = failed || ferror(file);
    fclose(file);
    if (failed)
        fprintf(stderr, "%s cannot be read\n", path);
    return failed ? -1 : 0;
}

static void find_ranges(curve *c)
{
    c->low = INFINITY;
    c->high = -INFINITY;
    for (size_t i = 0; i < c->count; i++) {
        const point *p = &c->points[i];
        c->last_step = fmax(c->last_step, p->step);
        c->low = fmin(c->low, fmin(p->loss, p->validation)); /* fmin and fmax pass over a NaN */
        c->high = fmax(c->high, fmax(p->loss, p->validation));
    }
    double margin = fmax(.05 * (c->high - c->low), .01);
    c->low = fmax(c->low - margin, 0);
    c->high += margin;
}

static double x_of(const curve *c, double step)
{
    return LEFT + (RIGHT - LEFT) * step / c->last_step;
}

static double y_of(const curve *c, double loss)
{
    return BOTTOM - (BOTTOM - TOP) * (loss - c->low) / (c->high - c->low);
}

static void draw_axes(FILE *out, const curve *c)
{
    double distance = axis_distance(c->high - c->low);
    int decimals = distance >= 1 ? 0 : distance >= .1 ? 1 : distance >= .01 ? 2 : 3;
    for (double at = ceil(c->low / distance) * distance; at <= c->high; at += distance) {
        fprintf(out, "<path d=\"M%d %.1fH%d\" stroke=\"#ddd\"/>\n", LEFT, y_of(c, at), RIGHT);
        fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.*f</text>\n", LEFT - 8, y_of(c, at) + 4, decimals,
                at);
    }
    distance = fmax(axis_distance(c->last_step), 1);
    for (double at = 0; at <= c->last_step; at += distance) {
        fprintf(out, "<path d=\"M%.1f %dv5\" stroke=\"#333\"/>\n", x_of(c, at), BOTTOM);
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n", x_of(c, at), BOTTOM + 20, at);
    }
    fprintf(out, "<path d=\"M%d %dV%dH%d\" fill=\"none\" stroke=\"#333\"/>\n", LEFT, TOP, BOTTOM, RIGHT);
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">step</text>\n", (LEFT + RIGHT) / 2, BOTTOM + 44);
    int middle = (TOP + BOTTOM) / 2;
    fprintf(out, "<text x=\"18\" y=\"%d\" text-anchor=\"middle\" ", middle);
    fprintf(out, "transform=\"rotate(-90 18 %d)\">loss, nats a token</text>\n", middle);
}

static void draw_training(FILE *out, const curve *c)
{
    fprintf(out, "<polyline fill=\"none\" stroke=\"#1f77b4\" stroke-width=\"1.5\" points=\"");
    for (size_t i = 0; i < c->count; i++)
        fprintf(out, "%.1f,%.1f ", x_of(c, c->points[i].step), y_of(c, c->points[i].loss));
    fprintf(out, "\"/>\n");
}

/* Few and exact values: dots as well as a line. Returns the last one, NaN when there is none. */
static double draw_validation(FILE *out, const curve *c)
{
    double last = NAN;
    fprintf(out, "<polyline fill=\"none\" stroke=\"#d62728\" stroke-width=\"2\" points=\"");
    for (size_t i = 0; i < c->count; i++)
        if (!isnan(c->points[i].validation))
            fprintf(out, "%.1f,%.1f ", x_of(c, c->points[i].step), y_of(c, c->points[i].validation));
    fprintf(out, "\"/>\n");
    for (size_t i = 0; i < c->count; i++) {
        if (isnan(c->points[i].validation))
            continue;
        last = c->points[i].validation;
        fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"#d62728\"/>\n", x_of(c, c->points[i].step),
                y_of(c, last));
    }
    return last;
}

static void draw_legend(FILE *out, const curve *c, double validation)
{
    const point *last = &c->points[c->count - 1];
    int x = RIGHT - 190;
    fprintf(out, "<path d=\"M%d %dh30\" stroke=\"#1f77b4\" stroke-width=\"1.5\"/>\n", x, TOP + 12);
    fprintf(out, "<text x=\"%d\" y=\"%d\">training, last %.3f</text>\n", x + 38, TOP + 16, last->loss);
    if (isnan(validation))
        return;
    fprintf(out, "<path d=\"M%d %dh30\" stroke=\"#d62728\" stroke-width=\"2\"/>\n", x, TOP + 34);
    fprintf(out, "<circle cx=\"%d\" cy=\"%d\" r=\"4\" fill=\"#d62728\"/>\n", x + 15, TOP + 34);
    fprintf(out, "<text x=\"%d\" y=\"%d\">validation, last %.3f</text>\n", x + 38, TOP + 38, validation);
}

static int draw(const curve *c, const char *path)
{
    output o;
    if (output_open(&o, path) != 0)
        return -1;
    FILE *out = o.file;
    fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "
                 "font-family=\"sans-serif\" font-size=\"13\" fill=\"#333\">\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT);
    fprintf(out, "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", WIDTH, HEIGHT);
    fprintf(out, "<text x=\"%d\" y=\"28\" font-size=\"16\">Loss after %.0f steps</text>\n", LEFT, c->last_step);
    draw_axes(out, c);
    draw_training(out, c);
    draw_legend(out, c, draw_validation(out, c));
    fprintf(out, "</svg>\n");
    return output_close(&o, 0);
}

int curve_write(const char *folder, char *path, int size)
{
    curve c = {NULL, 0, 0, 0, 0, 0};
    if (snprintf(path, (size_t)size, "%s/metrics.jsonl", folder) >= size) {
        fprintf(stderr, "the name of the folder %s is too long\n", folder);
        return -1;
    }
    int result = read_points(&c, path);
    path[0] = '\0';
    if (result == 0 && c.count >= 2) {
        find_ranges(&c);
        snprintf(path, (size_t)size, "%s/loss.svg", folder); /* shorter than the name above */
        result = draw(&c, path);
    }
    free(c.points);
    return result;
}
