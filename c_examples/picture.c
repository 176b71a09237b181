#include "picture.h"

#include "points.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { WIDTH = 820, HEIGHT = 620, LEFT = 60, RIGHT = 640, TOP = 40, BOTTOM = 560, DRAWN = 4000, ROUNDS = 30, LEGEND = 20 };

/* How points become places: their mean, and two axes. */
typedef struct {
    double *mean, *axes[2]; /* [d] */
    int64_t d;
} view;

static double along(const view *v, int axis, const float *row)
{
    double sum = 0;
    for (int64_t j = 0; j < v->d; j++)
        sum += (row[j] - v->mean[j]) * v->axes[axis][j];
    return sum;
}

/* The axis without what lies along the first one, of length 1. */
static void straighten(view *v, int axis)
{
    double square = 0, along_first = 0;
    for (int64_t j = 0; axis == 1 && j < v->d; j++)
        along_first += v->axes[1][j] * v->axes[0][j];
    for (int64_t j = 0; j < v->d; j++) {
        v->axes[axis][j] -= axis == 1 ? along_first * v->axes[0][j] : 0;
        square += v->axes[axis][j] * v->axes[axis][j];
    }
    for (int64_t j = 0; j < v->d && square > 0; j++)
        v->axes[axis][j] /= sqrt(square);
}

/* Power iteration: the axis becomes what the points' covariance makes of it, again and again. */
static void principal_axis(view *v, int axis, const float *x, int64_t n, int64_t step, double *next)
{
    for (int64_t j = 0; j < v->d; j++)
        v->axes[axis][j] = 1 + (double)((j * 2654435761u + (uint32_t)axis * 97) % 1000) / 1000;
    straighten(v, axis);
    for (int round = 0; round < ROUNDS; round++) {
        for (int64_t j = 0; j < v->d; j++)
            next[j] = 0;
        for (int64_t i = 0; i < n; i += step) {
            double part = along(v, axis, x + i * v->d);
            for (int64_t j = 0; j < v->d; j++)
                next[j] += part * (x[i * v->d + j] - v->mean[j]);
        }
        for (int64_t j = 0; j < v->d; j++)
            v->axes[axis][j] = next[j];
        straighten(v, axis);
    }
}

static int find_view(view *v, const float *x, int64_t n, int64_t d, int64_t step)
{
    double *all = calloc((size_t)d * 4, sizeof *all);
    if (all == NULL)
        return -1;
    v->mean = all, v->axes[0] = all + d, v->axes[1] = all + 2 * d, v->d = d;
    if (d == 2) {
        v->axes[0][0] = v->axes[1][1] = 1;
    } else if (d == 1) {
        v->axes[0][0] = 1;
    } else {
        double count = 0;
        for (int64_t i = 0; i < n; i += step, count++)
            for (int64_t j = 0; j < d; j++)
                v->mean[j] += x[i * d + j];
        for (int64_t j = 0; j < d; j++)
            v->mean[j] /= count;
        principal_axis(v, 0, x, n, step, all + 3 * d);
        principal_axis(v, 1, x, n, step, all + 3 * d);
    }
    return 0;
}

/* Where a row lies along an axis; with one dimension, the other axis is the number of the point. */
static double place(const view *v, int axis, const float *row, double number)
{
    return v->d == 1 && axis == 1 ? number : along(v, axis, row);
}

/* Colours as far from each other as the golden angle makes them. */
static const char *colour(int64_t cluster, char *text)
{
    snprintf(text, 32, "hsl(%.0f,%d%%,%d%%)", fmod((double)cluster * 137.508, 360), 65, cluster % 2 == 0 ? 45 : 60);
    return text;
}

static void legend(FILE *file, int64_t k, const int64_t *sizes)
{
    char text[32];
    for (int64_t c = 0; c < k && c < LEGEND; c++)
        fprintf(file,
                "<circle cx='%d' cy='%d' r='5' fill='%s'/><text x='%d' y='%d'>%" PRId64 ": %" PRId64 " points</text>\n",
                RIGHT + 24, TOP + 14 + 22 * (int)c, colour(c, text), RIGHT + 36, TOP + 18 + 22 * (int)c, c, sizes[c]);
    if (k > LEGEND)
        fprintf(file, "<text x='%d' y='%d'>and %" PRId64 " more</text>\n", RIGHT + 36, TOP + 18 + 22 * LEGEND, k - LEGEND);
}

typedef struct {
    double low[2], high[2];
} range;

static void widen(range *r, int axis, double value)
{
    r->low[axis] = value < r->low[axis] ? value : r->low[axis];
    r->high[axis] = value > r->high[axis] ? value : r->high[axis];
}

static double across(const range *r, double value)
{
    return LEFT + (value - r->low[0]) / (r->high[0] - r->low[0]) * (RIGHT - LEFT);
}

static double up(const range *r, double value)
{
    return BOTTOM - (value - r->low[1]) / (r->high[1] - r->low[1]) * (BOTTOM - TOP);
}

static void frame(FILE *file, const view *v, const range *r, int64_t n)
{
    static const char *const names[3][2] = {{"value", "point"}, {"column 1", "column 2"}, {"first axis", "second axis"}};
    const char *const *name = names[v->d < 3 ? v->d - 1 : 2];
    fprintf(file,
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' font-family='sans-serif' font-size='12'>\n"
            "<rect width='%d' height='%d' fill='white'/>\n"
            "<rect x='%d' y='%d' width='%d' height='%d' fill='none' stroke='#888'/>\n"
            "<text x='%d' y='24' font-size='15'>%" PRId64 " points of %" PRId64 " numbers</text>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT, LEFT, TOP, RIGHT - LEFT, BOTTOM - TOP, LEFT, n, v->d);
    fprintf(file,
            "<text x='%d' y='%d'>%.4g</text><text x='%d' y='%d' text-anchor='end'>%.4g</text>"
            "<text x='%d' y='%d' text-anchor='middle'>%s</text>\n",
            LEFT, BOTTOM + 18, r->low[0], RIGHT, BOTTOM + 18, r->high[0], (LEFT + RIGHT) / 2, BOTTOM + 34, name[0]);
    fprintf(file,
            "<text x='%d' y='%d' text-anchor='end'>%.4g</text><text x='%d' y='%d' text-anchor='end'>%.4g</text>"
            "<text x='20' y='%d' text-anchor='middle' transform='rotate(-90 20 %d)'>%s</text>\n",
            LEFT - 6, BOTTOM, r->low[1], LEFT - 6, TOP + 10, r->high[1], (TOP + BOTTOM) / 2, (TOP + BOTTOM) / 2, name[1]);
}

int picture_write(const char *path, const float *x, int64_t n, int64_t d, const int32_t *labels, const float *centroids,
                  int64_t k, const int64_t *sizes)
{
    char beside[4096], text[32];
    int64_t step = (n + DRAWN - 1) / DRAWN;
    range r = {{INFINITY, INFINITY}, {-INFINITY, -INFINITY}};
    view v = {0};
    FILE *file = find_view(&v, x, n, d, step) == 0 ? points_create(path, beside, sizeof beside) : NULL;
    if (file == NULL) {
        if (v.mean == NULL)
            fprintf(stderr, "%s: there is no memory for it\n", path);
        free(v.mean);
        return -1;
    }
    for (int axis = 0; axis < 2; axis++) {
        for (int64_t i = 0; i < n; i += step)
            widen(&r, axis, place(&v, axis, x + i * d, (double)i));
        double margin = r.high[axis] > r.low[axis] ? .03 * (r.high[axis] - r.low[axis]) : 1;
        r.low[axis] -= margin, r.high[axis] += margin;
    }
    frame(file, &v, &r, n);
    for (int64_t i = 0; i < n; i += step)
        fprintf(file, "<circle cx='%.1f' cy='%.1f' r='2' fill='%s' fill-opacity='.6'/>\n",
                across(&r, place(&v, 0, x + i * d, 0)), up(&r, place(&v, 1, x + i * d, (double)i)),
                colour(labels[i], text));
    for (int64_t c = 0; c < k; c++)
        fprintf(file, "<path d='M%.1f %.1fm-6 0h12m-6 -6v12' stroke='black' stroke-width='2'/>\n",
                across(&r, place(&v, 0, centroids + c * d, 0)), up(&r, place(&v, 1, centroids + c * d, (double)n / 2)));
    legend(file, k, sizes);
    fprintf(file, "</svg>\n");
    free(v.mean);
    return points_close(file, path, beside, 0);
}
