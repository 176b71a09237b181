/* Quantizes a matrix to ternary: cc -std=c99 -O2 -I../include quantize.c -L../target/release -lsetun -lm
   -Wl,-rpath,../target/release -o quantize && ./quantize [FILE ROWS COLUMNS]   (raw f32; default: random, 512 x 768) */
#include <math.h>
#include <setun.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    int64_t rows, columns;
    float *w, *back, *y; /* the matrix, what comes back after quantization, and a product with it */
    int8_t *codes;
    uint8_t *packed;
} matrix;

static int failed(setun_status status)
{
    if (status != SETUN_OK)
        fprintf(stderr, "%s: %s\n", setun_status_name(status), setun_last_error());
    return status != SETUN_OK;
}

/* Prints what a packing costs and loses, and checks the product with the first row against plain arithmetic. */
static int report(matrix *m, int32_t packing, const char *name)
{
    size_t bytes;
    float scale, x_scale;
    int64_t trits[3], n = m->rows, k = m->columns;
    double lost = 0, norm = 0, off = 0, product = 0;
    setun_quantize_options o;
    setun_quantize_options_init(&o, sizeof o);
    o.packing = packing;
    if (failed(setun_pack_size(n, k, packing, &bytes)) ||
        failed(setun_quantize(m->w, n, k, &o, m->packed, &bytes, &scale, 1)) ||
        failed(setun_dequantize(m->packed, bytes, n, k, &scale, 1, &o, m->back)) ||
        failed(setun_trit_histogram(m->packed, bytes, n, k, &o, trits)) ||
        failed(setun_matmul(m->w, 1, m->packed, bytes, n, k, &scale, 1, &o, m->y)) ||
        failed(setun_quantize_activations(m->w, 1, k, &o, m->codes, &x_scale)))
        return 1;
    for (int64_t row = 0; row < n; row++) {
        const float *w = m->w + row * k, *back = m->back + row * k;
        double sum = 0;
        for (int64_t i = 0; i < k; i++) {
            lost += pow((double)w[i] - back[i], 2);
            norm += pow(w[i], 2);
            sum += (double)m->codes[i] * x_scale * back[i];
        }
        off += pow(m->y[row] - sum, 2);
        product += pow(sum, 2);
    }
    double count = (double)(n * k), share = 100. * (double)trits[1] / count;
    printf("%-12s %zu bytes, %.1fx smaller, relative error %.3f, zeros %.1f%%, products agree to %.0e\n", name, bytes,
           4. * count / (double)bytes, sqrt(lost / fmax(norm, 1e-30)), share, sqrt(off / fmax(product, 1e-30)));
    return off > 1e-10 * product;
}

int main(int argc, char **argv)
{
    int random = argc != 4, bad;
    matrix m = {random ? 512 : atoll(argv[2]), random ? 768 : atoll(argv[3]), NULL, NULL, NULL, NULL, NULL};
    int fits = m.rows > 0 && m.columns > 0 && m.rows <= 65536 && m.columns <= 65536;
    size_t count = fits ? (size_t)(m.rows * m.columns) : 1, got = count;
    m.w = calloc(count, sizeof(float)), m.back = calloc(count, sizeof(float)), m.y = calloc(count, sizeof(float));
    m.codes = calloc(count, 1), m.packed = calloc(count, 1); /* more than enough */
    FILE *file = random ? NULL : fopen(argv[1], "rb");
    bad = !fits || m.w == NULL || m.back == NULL || m.y == NULL || m.codes == NULL || m.packed == NULL;
    for (size_t i = 0; random && !bad && i < 12 * count; i++) /* sums of twelve uniform numbers are nearly Gaussian */
        m.w[i / 12] += (float)rand() / (float)RAND_MAX - .5f;
    if (!random && !bad)
        got = file != NULL ? fread(m.w, sizeof(float), count, file) : 0;
    if (bad || got != count)
        fprintf(stderr, "usage: quantize [FILE ROWS COLUMNS]: rows x columns numbers, at most 65536 each\n");
    bad = bad || got != count || report(&m, SETUN_PACKING_TWO_BIT, "2 bits") ||
          report(&m, SETUN_PACKING_FIVE_PER_BYTE, "five a byte");
    if (file != NULL)
        fclose(file);
    free(m.w), free(m.back), free(m.y), free(m.codes), free(m.packed);
    return bad;
}
