#include "picture.h"

#include "axis.h"
#include "output.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The picture, and the plot inside its margins. */
enum { WIDTH = 860, HEIGHT = 620, LEFT = 80, RIGHT = 680, TOP = 50, BOTTOM = 560 };

/* Points that are drawn, and those that the axes are found from, at most; rounds of the iteration; lines of the legend. */
enum { DRAWN = 10000, SAMPLE = 2000, ROUNDS = 100, LEGEND = 22 };

/* How points become places, and which are drawn. */
typedef struct {
    const picture *picture;
    double *mean, *axes[2], *next; /* [d] */
    double share[2];               /* of the variance of the sample that lies along each axis */
    int64_t *drawn, count;
    double low[2], high[2];
} view;

/* One point of each of `count` parts of the points, anywhere in it: points whose order repeats are met alike. */
static void choose_points(view *v)
{
    int64_t n = v->picture->n;
    for (int64_t i = 0; i < v->count; i++) {
        int64_t begin = i * n / v->count, end = (i + 1) * n / v->count;
        uint64_t hash = ((uint64_t)i + 1) * UINT64_C(0x9E3779B97F4A7C15);
        v->drawn[i] = begin + (int64_t)((hash >> 33) % (uint64_t)(end - begin));
    }
}

static const float *row_of(const view *v, int64_t i)
{
    return v->picture->x + v->drawn[i] * v->picture->d;
}

static double along(const view *v, int axis, const float *row)
{
    double sum = 0;
    for (int64_t j = 0; j < v->picture->d; j++)
        sum += (row[j] - v->mean[j]) * v->axes[axis][j];
    return sum;
}

/* Takes from `next` what lies along the axis before, and makes it the axis, of length 1. Returns the length it had. */
static double turn(view *v, int axis)
{
    double before = 0, square = 0;
    int64_t d = v->picture->d;
    for (int64_t j = 0; axis == 1 && j < d; j++)
        before += v->next[j] * v->axes[0][j];
    for (int64_t j = 0; j < d; j++) {
        v->next[j] -= axis == 1 ? before * v->axes[0][j] : 0;
        square += v->next[j] * v->next[j];
    }
    double length = sqrt(square);
    for (int64_t j = 0; j < d; j++)
        v->axes[axis][j] = length > 0 ? v->next[j] / length : 0;
    return length;
}

/* Power iteration: an axis becomes what the covariance of the sample makes of it, until the variance along it stays. */
static void find_axis(view *v, int axis, int64_t sample)
{
    int64_t d = v->picture->d;
    double variance = 0, before = -1;
    for (int64_t j = 0; j < d; j++)
        v->next[j] = (double)((uint64_t)(j + 1 + axis * d) * UINT64_C(0x9E3779B97F4A7C15) >> 40) / (1 << 23) - 1;
    turn(v, axis);
    for (int round = 0; round < ROUNDS && fabs(variance - before) > 1e-9 * variance; round++) {
        memset(v->next, 0, (size_t)d * sizeof *v->next);
        for (int64_t i = 0; i < sample; i++) {
            const float *row = row_of(v, i * v->count / sample);
            double part = along(v, axis, row);
            for (int64_t j = 0; j < d; j++)
                v->next[j] += part * (row[j] - v->mean[j]);
        }
        before = variance;
        variance = turn(v, axis);
    }
    v->share[axis] = variance;
}

static void find_axes(view *v)
{
    const picture *p = v->picture;
    int64_t sample = v->count < SAMPLE ? v->count : SAMPLE;
    double total = 0;
    for (int64_t i = 0; i < sample; i++)
        for (int64_t j = 0; j < p->d; j++)
            v->mean[j] += row_of(v, i * v->count / sample)[j] / (double)sample;
    for (int64_t i = 0; i < sample; i++)
        for (int64_t j = 0; j < p->d; j++) {
            double part = row_of(v, i * v->count / sample)[j] - v->mean[j];
            total += part * part;
        }
    for (int axis = 0; axis < 2; axis++) {
        find_axis(v, axis, sample);
        v->share[axis] = total > 0 ? v->share[axis] / total : 0;
    }
}

/* Where a row lies along an axis; of points of one number, the other axis says which one it is. */
static double place(const view *v, int axis, const float *row, int64_t number)
{
    return v->picture->d == 1 && axis == 1 ? (double)number : along(v, axis, row);
}

static void widen(view *v, int axis, double value)
{
    v->low[axis] = fmin(v->low[axis], value);
    v->high[axis] = fmax(v->high[axis], value);
}

static void find_ranges(view *v)
{
    const picture *p = v->picture;
    for (int axis = 0; axis < 2; axis++) {
        v->low[axis] = INFINITY, v->high[axis] = -INFINITY;
        for (int64_t i = 0; i < v->count; i++)
            widen(v, axis, place(v, axis, row_of(v, i), v->drawn[i]));
        for (int64_t c = 0; c < p->k; c++)
            widen(v, axis, place(v, axis, p->centroids + c * p->d, p->n / 2));
        double margin = .03 * (v->high[axis] - v->low[axis]);
        margin = fmax(margin, 1e-6 * fmax(fabs(v->low[axis]), fabs(v->high[axis])));
        margin = margin > 0 ? margin : 1;
        v->low[axis] -= margin, v->high[axis] += margin;
    }
}

static int find_view(view *v)
{
    const picture *p = v->picture;
    v->count = p->n < DRAWN ? p->n : DRAWN;
    v->mean = calloc((size_t)p->d * 4, sizeof *v->mean);
    v->drawn = malloc((size_t)v->count * sizeof *v->drawn);
    if (v->mean == NULL || v->drawn == NULL) {
        fprintf(stderr, "there is no memory for the picture\n");
        return -1;
    }
    v->axes[0] = v->mean + p->d, v->axes[1] = v->mean + 2 * p->d, v->next = v->mean + 3 * p->d;
    choose_points(v);
    if (p->d > 2)
        find_axes(v);
    else
        v->axes[0][0] = 1;
    if (p->d == 2)
        v->axes[1][1] = 1;
    find_ranges(v);
    return 0;
}

static double across(const view *v, double value)
{
    return LEFT + (RIGHT - LEFT) * (value - v->low[0]) / (v->high[0] - v->low[0]);
}

static double up(const view *v, double value)
{
    return BOTTOM - (BOTTOM - TOP) * (value - v->low[1]) / (v->high[1] - v->low[1]);
}

/* Colours as far from each other as the golden angle makes them, lighter and darker in turn. */
static const char *colour(int64_t cluster, char *text)
{
    double hue = fmod((double)cluster * 137.508 + 210, 360) / 60, light = cluster % 2 == 0 ? .42 : .58, part[3];
    double chroma = .7 * (1 - fabs(2 * light - 1)), middle = chroma * (1 - fabs(fmod(hue, 2) - 1));
    int sector = (int)hue;
    part[(sector + 1) / 2 % 3] = chroma;
    part[(7 - sector) % 3] = middle;
    part[(sector / 2 + 2) % 3] = 0;
    for (int i = 0; i < 3; i++)
        snprintf(text + 2 * i + 1, 3, "%02x", (unsigned)(255 * (part[i] + light - chroma / 2)) & 255);
    text[0] = '#';
    return text;
}

static void draw_ticks(FILE *out, const view *v, int axis)
{
    double distance = axis_distance(v->high[axis] - v->low[axis]), first = ceil(v->low[axis] / distance);
    for (int i = 0; i < 20 && (first + i) * distance <= v->high[axis]; i++) {
        double at = (first + i) * distance;
        if (axis == 0)
            fprintf(out, "<path d='M%.1f %dv5' stroke='#333'/><text x='%.1f' y='%d' text-anchor='middle'>%.9g</text>\n",
                    across(v, at), BOTTOM, across(v, at), BOTTOM + 20, at);
        else
            fprintf(out, "<path d='M%d %.1fh-5' stroke='#333'/><text x='%d' y='%.1f' text-anchor='end'>%.9g</text>\n", LEFT,
                    up(v, at), LEFT - 8, up(v, at) + 4, at);
    }
}

static void draw_axes(FILE *out, const view *v)
{
    static const char *const names[2][3] = {{"number", "column 1", "first principal axis"},
                                            {"point", "column 2", "second principal axis"}};
    char name[2][80];
    int kind = v->picture->d < 3 ? (int)v->picture->d - 1 : 2;
    for (int axis = 0; axis < 2; axis++) {
        draw_ticks(out, v, axis);
        if (kind == 2)
            snprintf(name[axis], sizeof *name, "%s, %.1f%% of the variance", names[axis][kind], 100 * v->share[axis]);
        else
            snprintf(name[axis], sizeof *name, "%s", names[axis][kind]);
    }
    fprintf(out, "<path d='M%d %dV%dH%d' fill='none' stroke='#333'/>\n", LEFT, TOP, BOTTOM, RIGHT);
    fprintf(out, "<text x='%d' y='%d' text-anchor='middle'>%s</text>\n", (LEFT + RIGHT) / 2, BOTTOM + 44, name[0]);
    fprintf(out, "<text x='18' y='%d' text-anchor='middle' transform='rotate(-90 18 %d)'>%s</text>\n", (TOP + BOTTOM) / 2,
            (TOP + BOTTOM) / 2, name[1]);
}

static void draw_points(FILE *out, const view *v)
{
    char text[8];
    const picture *p = v->picture;
    fprintf(out, "<g fill-opacity='.6'>\n");
    for (int64_t i = 0; i < v->count; i++)
        fprintf(out, "<circle cx='%.1f' cy='%.1f' r='2.5' fill='%s'/>\n", across(v, place(v, 0, row_of(v, i), 0)),
                up(v, place(v, 1, row_of(v, i), v->drawn[i])), colour(p->labels[v->drawn[i]], text));
    fprintf(out, "</g>\n<g stroke='#000' stroke-width='1.5'>\n");
    for (int64_t c = 0; c < p->k; c++) {
        const float *row = p->centroids + c * p->d;
        fprintf(out, "<circle cx='%.1f' cy='%.1f' r='6' fill='%s'/>\n", across(v, place(v, 0, row, 0)),
                up(v, place(v, 1, row, p->n / 2)), colour(c, text));
    }
    fprintf(out, "</g>\n");
}

static void draw_legend(FILE *out, const picture *p)
{
    char text[8];
    int x = RIGHT + 24, y = TOP + 8;
    for (int64_t c = 0; c < p->k && c < LEGEND; c++, y += 22)
        fprintf(out, "<circle cx='%d' cy='%d' r='6' fill='%s'/><text x='%d' y='%d'>%" PRId64 ": %" PRId64 " points</text>\n", x,
                y, colour(c, text), x + 14, y + 4, c, p->sizes[c]);
    if (p->k > LEGEND)
        fprintf(out, "<text x='%d' y='%d'>and %" PRId64 " more</text>\n", x + 14, y + 4, p->k - LEGEND);
}

static void draw(FILE *out, const view *v)
{
    const picture *p = v->picture;
    fprintf(out,
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' width='%d' height='%d' font-family='sans-serif' "
            "font-size='13' fill='#333'>\n<rect width='%d' height='%d' fill='#fff'/>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT);
    fprintf(out, "<text x='%d' y='28' font-size='16'>%" PRId64 " points in %" PRId64 " clusters", LEFT, p->n, p->k);
    if (v->count < p->n)
        fprintf(out, ", %" PRId64 " of them drawn", v->count);
    fprintf(out, "</text>\n");
    draw_axes(out, v);
    draw_points(out, v);
    draw_legend(out, p);
    fprintf(out, "</svg>\n");
}

int picture_write(const picture *p, const char *path)
{
    output o;
    view v = {0};
    v.picture = p;
    int failed = find_view(&v) != 0 || output_open(&o, path) != 0;
    if (!failed) {
        draw(o.file, &v);
        failed = output_close(&o, 0) != 0;
    }
    free(v.mean), free(v.drawn);
    return failed ? -1 : 0;
}
