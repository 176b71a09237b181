/* A packed matrix as a handle: the same numbers as the calls on plain pointers, and what is refused. */
#include "check.h"

#include <math.h>

enum { M = 3, N = 5, K = 70 };

static float weights[N * K], x[2 * M * K], y[2 * M * N], plain[2 * M * N], restored[N * K];

static setun_tensor *wrap(float *data, int64_t a, int64_t b, int64_t c, int32_t rank) {
    setun_tensor *tensor = NULL;
    int64_t dims[3];
    dims[0] = a;
    dims[1] = b;
    dims[2] = c;
    CHECK_OK(setun_tensor_wrap(data, SETUN_DTYPE_F32, dims, rank, &tensor));
    return tensor;
}

static void round_trip(int32_t packing, int64_t group) {
    setun_quantize_options options;
    setun_packed *packed = NULL;
    setun_tensor *w = wrap(weights, N, K, 0, 2), *in = wrap(x, 2, M, K, 3), *out = wrap(y, 2, M, N, 3);
    setun_tensor *back = wrap(restored, N, K, 0, 2);
    uint8_t bytes[N * K];
    int64_t count = 0;
    float scales[N * K], held_scales[N * K];
    size_t size = 0, held = 0;
    int i;

    setun_quantize_options_init(&options, sizeof options);
    options.packing = packing;
    options.group = group;
    CHECK_OK(setun_pack_size(N, K, packing, &size));
    CHECK_OK(setun_scale_count(N, K, group, &count));
    CHECK_OK(setun_quantize(weights, N, K, &options, bytes, &size, scales, count));
    CHECK_OK(setun_packed_create(NULL, w, &options, &packed));
    CHECK_OK(setun_packed_scales(packed, held_scales, count));
    CHECK_OK(setun_packed_nbytes(packed, &held));
    CHECK(memcmp(held_scales, scales, (size_t)count * sizeof *scales) == 0 && held == size);
    CHECK_FAILS(setun_packed_scales(packed, held_scales, count + 1), SETUN_ERR_SHAPE, "scales");

    memset(y, 0, sizeof y);
    CHECK_OK(setun_packed_matmul(packed, in, out));
    CHECK_OK(setun_matmul(x, 2 * M, bytes, size, N, K, scales, count, &options, plain));
    CHECK(memcmp(y, plain, sizeof y) == 0);
    CHECK_FAILS(setun_matmul(x, 2 * M, bytes, size, N, K, scales, count + 1, &options, plain), SETUN_ERR_SHAPE,
                "scale_count");
    CHECK_OK(setun_packed_dequantize(packed, back));
    for (i = 0; i < N * K; i++) {
        int64_t width = group > 0 ? group : K, per_row = (K + width - 1) / width;
        float scale = scales[group == 0 ? 0 : i / K * per_row + i % K / width];
        CHECK(restored[i] == 0 || fabsf(restored[i]) == scale);
        if (fabsf(weights[i]) > .51f * scale) CHECK(restored[i] == (weights[i] > 0 ? scale : -scale));
    }
    setun_tensor_free(w);
    setun_tensor_free(in);
    setun_tensor_free(out);
    setun_tensor_free(back);
    setun_packed_free(packed);
    CHECK_FAILS(setun_packed_scales(packed, scales, count), SETUN_ERR_ARGUMENT, "freed already");
}

static void refused(void) {
    int64_t dims[2] = {N, K};
    setun_packed *packed = NULL, *none = NULL;
    setun_tensor *w = wrap(weights, N, K, 0, 2), *in = wrap(x, M, K, 0, 2), *out = wrap(y, M, N, 0, 2);
    setun_tensor *short_in = wrap(x, M, K - 1, 0, 2), *long_out = wrap(y, M + 1, N, 0, 2);
    setun_tensor *inside = wrap(x + 1, M, N, 0, 2), *cube = wrap(weights, N, 7, 10, 3), *integers = NULL;
    CHECK_OK(setun_tensor_create(SETUN_DTYPE_I8, dims, 2, &integers));
    CHECK_OK(setun_packed_create(NULL, w, NULL, &packed));
    CHECK_FAILS(setun_packed_matmul(packed, short_in, out), SETUN_ERR_SHAPE, "x has 69 columns, weight has 70");
    CHECK_FAILS(setun_packed_matmul(packed, in, long_out), SETUN_ERR_SHAPE, "y has shape [4, 5], expected [3, 5]");
    CHECK_FAILS(setun_packed_matmul(packed, in, inside), SETUN_ERR_ARGUMENT, "y overlaps x");
    CHECK_FAILS(setun_packed_matmul(packed, in, in), SETUN_ERR_STATE, "in use");
    CHECK_FAILS(setun_packed_dequantize(packed, integers), SETUN_ERR_DTYPE, "expected a tensor of f32, got i8");
    CHECK_FAILS(setun_packed_dequantize(packed, in), SETUN_ERR_SHAPE, "w has shape [3, 70]");
    CHECK_FAILS(setun_packed_create(NULL, integers, NULL, &none), SETUN_ERR_DTYPE, "got i8");
    CHECK_FAILS(setun_packed_create(NULL, cube, NULL, &none), SETUN_ERR_SHAPE, "expected [n, k]");
    CHECK_FAILS(setun_packed_create(NULL, w, NULL, NULL), SETUN_ERR_ARGUMENT, "out is NULL");
    weights[3] = NAN;
    CHECK_FAILS(setun_packed_create(NULL, w, NULL, &none), SETUN_ERR_ARGUMENT, "[3] is NaN");
    CHECK(none == NULL);
    setun_tensor_free(w);
    setun_tensor_free(in);
    setun_tensor_free(out);
    setun_tensor_free(short_in);
    setun_tensor_free(long_out);
    setun_tensor_free(inside);
    setun_tensor_free(cube);
    setun_tensor_free(integers);
    setun_packed_free(packed);
}

int main(void) {
    int i;
    for (i = 0; i < N * K; i++) weights[i] = (float)sin(i * 1.7) * .1f;
    for (i = 0; i < 2 * M * K; i++) x[i] = (float)cos(i * .9);
    for (i = 0; i < 4; i++) {
        static const int64_t groups[] = {0, SETUN_GROUP_ROW, 32, 25};
        round_trip(SETUN_PACKING_TWO_BIT, groups[i]);
        round_trip(SETUN_PACKING_FIVE_PER_BYTE, groups[i]);
        round_trip(SETUN_PACKING_MASK_SIGN, groups[i]);
    }
    refused();
    return 0;
}
