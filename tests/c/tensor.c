/* Tensors: create, wrap, shape, read, write, and what is refused. */
#include "check.h"

int main(void) {
    static const int32_t dtypes[6] = {SETUN_DTYPE_F32, SETUN_DTYPE_F16, SETUN_DTYPE_I8,
                                      SETUN_DTYPE_U8,  SETUN_DTYPE_I32, SETUN_DTYPE_U32};
    static const size_t sizes[6] = {4, 2, 1, 1, 4, 4};
    int64_t dims[4] = {2, 3, 1, 5}, got[4] = {9, 9, 9, 9}, negative[2] = {2, -1}, huge[2];
    float data[6] = {1, 2, 3, 4, 5, 6}, back[6] = {0}, lent[6] = {0};
    int32_t rank = -1, dtype = -1;
    size_t bytes = 0;
    setun_tensor *tensor = NULL, *wrapped = NULL;
    int i;

    for (i = 0; i < 6; i++) {
        CHECK_OK(setun_tensor_create(dtypes[i], dims, 4, &tensor));
        CHECK_OK(setun_tensor_dtype(tensor, &dtype));
        CHECK_OK(setun_tensor_nbytes(tensor, &bytes));
        CHECK(dtype == dtypes[i] && bytes == 30 * sizes[i]);
        setun_tensor_free(tensor);
    }

    CHECK_OK(setun_tensor_create(SETUN_DTYPE_F32, dims, 2, &tensor));
    CHECK_OK(setun_tensor_dims(tensor, got, &rank));
    CHECK(rank == 2 && got[0] == 2 && got[1] == 3 && got[2] == 1 && got[3] == 1);
    CHECK_OK(setun_tensor_read(tensor, back, sizeof back));
    for (i = 0; i < 6; i++) CHECK(back[i] == 0);
    CHECK_OK(setun_tensor_write(tensor, data, sizeof data));
    CHECK_OK(setun_tensor_read(tensor, back, sizeof back));
    CHECK(memcmp(data, back, sizeof data) == 0);
    CHECK_FAILS(setun_tensor_write(tensor, data, 20), SETUN_ERR_SHAPE, "nbytes is 20");
    CHECK_FAILS(setun_tensor_read(tensor, back, 28), SETUN_ERR_SHAPE, "holds 24 bytes");
    CHECK_FAILS(setun_tensor_write(tensor, NULL, 24), SETUN_ERR_ARGUMENT, "data is NULL");
    CHECK_FAILS(setun_tensor_dims(tensor, NULL, &rank), SETUN_ERR_ARGUMENT, "dims is NULL");
    setun_tensor_free(tensor);

    /* A wrapped tensor is the caller's memory. */
    CHECK_OK(setun_tensor_wrap(lent, SETUN_DTYPE_F32, dims, 2, &wrapped));
    CHECK_OK(setun_tensor_write(wrapped, data, sizeof data));
    CHECK(memcmp(lent, data, sizeof data) == 0);
    lent[0] = 42;
    CHECK_OK(setun_tensor_read(wrapped, back, sizeof back));
    CHECK(back[0] == 42);
    CHECK_FAILS(setun_tensor_write(wrapped, lent, sizeof lent), SETUN_ERR_ARGUMENT, "overlaps");
    CHECK_FAILS(setun_tensor_read(wrapped, lent, sizeof lent), SETUN_ERR_ARGUMENT, "overlaps");
    setun_tensor_free(wrapped);
    CHECK(lent[0] == 42);
    wrapped = NULL;
    CHECK_FAILS(setun_tensor_wrap((char *)lent + 1, SETUN_DTYPE_F32, dims, 1, &wrapped), SETUN_ERR_ARGUMENT,
                "data is at");
    CHECK_FAILS(setun_tensor_wrap(NULL, SETUN_DTYPE_F32, dims, 1, &wrapped), SETUN_ERR_ARGUMENT, "data is NULL");

    /* Numbers and empty tensors. */
    CHECK_OK(setun_tensor_create(SETUN_DTYPE_F32, NULL, 0, &tensor));
    CHECK_OK(setun_tensor_nbytes(tensor, &bytes));
    CHECK(bytes == 4);
    setun_tensor_free(tensor);
    dims[1] = 0;
    CHECK_OK(setun_tensor_wrap(NULL, SETUN_DTYPE_F32, dims, 2, &tensor));
    CHECK_OK(setun_tensor_nbytes(tensor, &bytes));
    CHECK(bytes == 0);
    CHECK_OK(setun_tensor_write(tensor, NULL, 0));
    setun_tensor_free(tensor);
    tensor = NULL;

    CHECK_FAILS(setun_tensor_create(17, dims, 2, &tensor), SETUN_ERR_ARGUMENT, "dtype is 17");
    CHECK_FAILS(setun_tensor_create(SETUN_DTYPE_F32, dims, 5, &tensor), SETUN_ERR_ARGUMENT, "rank is 5");
    CHECK_FAILS(setun_tensor_create(SETUN_DTYPE_F32, dims, -1, &tensor), SETUN_ERR_ARGUMENT, "rank is -1");
    CHECK_FAILS(setun_tensor_create(SETUN_DTYPE_F32, NULL, 2, &tensor), SETUN_ERR_ARGUMENT, "dims is NULL");
    CHECK_FAILS(setun_tensor_create(SETUN_DTYPE_F32, negative, 2, &tensor), SETUN_ERR_ARGUMENT, "dims[1] is -1");
    CHECK_FAILS(setun_tensor_create(SETUN_DTYPE_F32, dims, 2, NULL), SETUN_ERR_ARGUMENT, "out is NULL");
    huge[0] = huge[1] = INT64_MAX;
    CHECK_FAILS(setun_tensor_create(SETUN_DTYPE_F32, huge, 2, &tensor), SETUN_ERR_SHAPE, "too many elements");
    huge[0] = (int64_t)1 << 58;
    CHECK_FAILS(setun_tensor_create(SETUN_DTYPE_F32, huge, 1, &tensor), SETUN_ERR_MEMORY, "memory");
    CHECK(tensor == NULL);
    return 0;
}
