#include "curve.h"

#include "axis.h"
#include "output.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is drawn; NaN where a report does not have it. */
typedef enum { LOSS, VALIDATION, RATE, RATIO, FLIPS, SERIES } series;

typedef struct {
    double step, values[SERIES], skipped, undone;
} point;

typedef struct {
    point *points;
    size_t count, room;
    double last_step;
} curve;

/* One plot under the others, of the series from `first` on. */
typedef struct {
    series first;
    int count, top, bottom, logarithmic;
    const char *label;
    double low, high; /* the range of the axis, of logarithms where it is logarithmic */
} panel;

static const struct {
    const char *field, *name, *color;
    double width;
    int dots, digits;
} drawn[SERIES] = {
    {"\"loss\":", "training", "#1f77b4", 1.5, 0, 4},
    {"\"validation_loss\":", "validation", "#d62728", 2, 1, 4},
    {"\"learning_rate\":", "learning rate", "#2ca02c", 1.5, 0, 2},
    {"\"step_ratio\":", "step / weights", "#9467bd", 1.5, 0, 2},
    {"\"flip_rate\":", "share of trits", "#ff7f0e", 1.5, 0, 2},
};

/* The picture, and the plots inside its margins. */
enum { WIDTH = 820, LEFT = 70, RIGHT = 800, TOP = 50, BOTTOM = 400, LOWER = 150, BETWEEN = 30, BELOW = 60 };

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
        point p = {.step = field(line, "\"step\":"),
                   .skipped = field(line, "\"skipped_batches\":"),
                   .undone = field(line, "\"undone_steps\":")};
        for (int i = 0; i < SERIES; i++)
            p.values[i] = field(line, drawn[i].field);
        if (isfinite(p.step) && isfinite(p.values[LOSS]))
            failed = add(c, p);
    }
    failed = failed || ferror(file);
    fclose(file);
    if (failed)
        fprintf(stderr, "%s cannot be read\n", path);
    return failed ? -1 : 0;
}

/* A value on the axis; NaN where it has no place on it. */
static double scaled(const panel *p, double value)
{
    return p->logarithmic ? (value > 0 ? log10(value) : NAN) : value;
}

/* Whether there is anything to draw, and the range of the axis. */
static int find_range(const curve *c, panel *p)
{
    p->low = INFINITY;
    p->high = -INFINITY;
    for (size_t i = 0; i < c->count; i++)
        for (int s = p->first; s < (int)p->first + p->count; s++) {
            p->low = fmin(p->low, scaled(p, c->points[i].values[s])); /* fmin and fmax pass over a NaN */
            p->high = fmax(p->high, scaled(p, c->points[i].values[s]));
        }
    if (!(p->low <= p->high))
        return 0;
    double margin = fmax(.05 * (p->high - p->low), p->first == LOSS || p->logarithmic ? .01 : 1e-6);
    p->low = p->logarithmic ? p->low - margin : fmax(p->low - margin, 0);
    p->high += margin;
    return 1;
}

static double x_of(const curve *c, double step)
{
    return LEFT + (RIGHT - LEFT) * step / c->last_step;
}

static double y_of(const panel *p, double value)
{
    return p->bottom - (p->bottom - p->top) * (scaled(p, value) - p->low) / (p->high - p->low);
}

static void draw_mark(FILE *out, const panel *p, double value, int decimals)
{
    double y = y_of(p, value);
    fprintf(out, "<path d=\"M%d %.1fH%d\" stroke=\"#ddd\"/>\n", LEFT, y, RIGHT);
    if (p->logarithmic)
        fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.0e</text>\n", LEFT - 8, y + 4, value);
    else
        fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.*f</text>\n", LEFT - 8, y + 4, decimals, value);
}

static void draw_heights(FILE *out, const panel *p)
{
    double range = p->high - p->low, distance = axis_distance(range);
    int decimals = distance >= 1 ? 0 : (int)ceil(-log10(distance) - 1e-9);
    if (p->logarithmic) /* tens, and where there are few of them 2 and 5 times those */
        for (double ten = floor(p->low); ten <= p->high; ten++)
            for (int i = 0; i < 3; i++) {
                double at = (i == 0 ? 1 : i == 1 ? 2 : 5) * pow(10, ten);
                if ((i == 0 || range < 1.5) && log10(at) >= p->low && log10(at) <= p->high)
                    draw_mark(out, p, at, 0);
            }
    else
        for (double at = ceil(p->low / distance) * distance; at <= p->high; at += distance)
            draw_mark(out, p, at, decimals);
    int middle = (p->top + p->bottom) / 2;
    fprintf(out, "<path d=\"M%d %dV%dH%d\" fill=\"none\" stroke=\"#333\"/>\n", LEFT, p->top, p->bottom, RIGHT);
    fprintf(out, "<text x=\"18\" y=\"%d\" text-anchor=\"middle\" ", middle);
    fprintf(out, "transform=\"rotate(-90 18 %d)\">%s</text>\n", middle, p->label);
}

static void draw_steps(FILE *out, const curve *c, int bottom)
{
    double distance = fmax(axis_distance(c->last_step), 1);
    for (double at = 0; at <= c->last_step; at += distance) {
        fprintf(out, "<path d=\"M%.1f %dv5\" stroke=\"#333\"/>\n", x_of(c, at), bottom);
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n", x_of(c, at), bottom + 20, at);
    }
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">step</text>\n", (LEFT + RIGHT) / 2, bottom + 44);
}

/* A line, and dots where values are few and exact. Returns the last value, NaN when there is none. */
static double draw_series(FILE *out, const curve *c, const panel *p, int s)
{
    double last = NAN;
    fprintf(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%g\" points=\"", drawn[s].color, drawn[s].width);
    for (size_t i = 0; i < c->count; i++)
        if (!isnan(scaled(p, c->points[i].values[s])))
            fprintf(out, "%.1f,%.1f ", x_of(c, c->points[i].step), y_of(p, c->points[i].values[s]));
    fprintf(out, "\"/>\n");
    for (size_t i = 0; i < c->count; i++) {
        double value = c->points[i].values[s];
        if (isnan(scaled(p, value)))
            continue;
        last = value;
        if (drawn[s].dots)
            fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>\n", x_of(c, c->points[i].step),
                    y_of(p, value), drawn[s].color);
    }
    return last;
}

static void draw_panel(FILE *out, const curve *c, const panel *p)
{
    int line = 0;
    draw_heights(out, p);
    for (int s = p->first; s < (int)p->first + p->count; s++) {
        double last = draw_series(out, c, p, s);
        if (isnan(last))
            continue;
        int x = RIGHT - 210, y = p->top + 12 + 22 * line++;
        fprintf(out, "<path d=\"M%d %dh30\" stroke=\"%s\" stroke-width=\"%g\"/>\n", x, y, drawn[s].color, drawn[s].width);
        if (drawn[s].dots)
            fprintf(out, "<circle cx=\"%d\" cy=\"%d\" r=\"4\" fill=\"%s\"/>\n", x + 15, y, drawn[s].color);
        fprintf(out, "<text x=\"%d\" y=\"%d\">%s, last %.*g</text>\n", x + 38, y + 4, drawn[s].name,
                drawn[s].digits, last);
    }
}

/* Upright lines where the guard has skipped batches or undone steps since the report before. */
static void draw_events(FILE *out, const curve *c, int bottom)
{
    const point *last = &c->points[c->count - 1];
    double before = 0;
    for (size_t i = 0; i < c->count; i++) {
        double events = c->points[i].skipped + c->points[i].undone;
        if (events > before)
            fprintf(out, "<path d=\"M%.1f %dV%d\" stroke=\"#888\" stroke-dasharray=\"4 3\"/>\n", x_of(c, c->points[i].step), TOP,
                    bottom);
        before = fmax(before, events);
    }
    if (before > 0)
        fprintf(out, "<text x=\"%d\" y=\"28\" text-anchor=\"end\">batches skipped: %.0f, steps undone: %.0f</text>\n", RIGHT,
                last->skipped, last->undone);
}

static int draw(const curve *c, const char *path)
{
    panel panels[] = {{LOSS, 2, TOP, BOTTOM, 0, "loss, nats a token", 0, 0},
                      {RATE, 2, 0, 0, 1, "rates", 0, 0},
                      {FLIPS, 1, 0, 0, 0, "flips", 0, 0}};
    int bottom = TOP - BETWEEN, there[3];
    for (int i = 0; i < 3; i++) {
        panel *p = &panels[i];
        there[i] = find_range(c, p);
        if (!there[i])
            continue;
        p->top = bottom + BETWEEN;
        bottom = p->bottom = i == 0 ? BOTTOM : p->top + LOWER;
    }
    output o;
    if (output_open(&o, path) != 0)
        return -1;
    FILE *out = o.file;
    int height = bottom + BELOW;
    fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "
                 "font-family=\"sans-serif\" font-size=\"13\" fill=\"#333\">\n",
            WIDTH, height, WIDTH, height);
    fprintf(out, "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", WIDTH, height);
    fprintf(out, "<text x=\"%d\" y=\"28\" font-size=\"16\">Loss after %.0f steps</text>\n", LEFT, c->last_step);
    draw_events(out, c, bottom);
    for (int i = 0; i < 3; i++)
        if (there[i])
            draw_panel(out, c, &panels[i]);
    draw_steps(out, c, bottom);
    fprintf(out, "</svg>\n");
    return output_close(&o, 0);
}

int curve_write(const char *folder, char *path, int size)
{
    curve c = {NULL, 0, 0, 0};
    if (snprintf(path, (size_t)size, "%s/metrics.jsonl", folder) >= size) {
        fprintf(stderr, "the name of the folder %s is too long\n", folder);
        return -1;
    }
    int result = read_points(&c, path);
    path[0] = '\0';
    if (result == 0 && c.count >= 2) {
        for (size_t i = 0; i < c.count; i++)
            c.last_step = fmax(c.last_step, c.points[i].step);
        snprintf(path, (size_t)size, "%s/loss.svg", folder); /* shorter than the name above */
        result = draw(&c, path);
    }
    free(c.points);
    return result;
}
