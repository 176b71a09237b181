/* NULL, freed, foreign and wrong-type handles are errors; freeing twice is harmless; ids are not reused. */
#include "check.h"

#define MANY 1000

int main(void) {
    int64_t dims[2] = {2, 3};
    size_t bytes = 0;
    int on_the_stack = 0, i;
    setun_tensor *tensor = NULL, *again = NULL, *many[MANY];
    setun_cancel *token = NULL;

    CHECK_OK(setun_tensor_create(SETUN_DTYPE_F32, dims, 2, &tensor));
    CHECK_OK(setun_cancel_create(&token));

    CHECK_FAILS(setun_tensor_nbytes(NULL, &bytes), SETUN_ERR_ARGUMENT, "tensor is NULL");
    CHECK_FAILS(setun_tensor_nbytes((const setun_tensor *)&on_the_stack, &bytes), SETUN_ERR_ARGUMENT,
                "tensor is not a handle");
    CHECK_FAILS(setun_tensor_nbytes((const setun_tensor *)((const char *)tensor + 7), &bytes), SETUN_ERR_ARGUMENT,
                "tensor is not a handle");
    CHECK_FAILS(setun_tensor_nbytes((const setun_tensor *)token, &bytes), SETUN_ERR_ARGUMENT,
                "tensor is a setun_cancel, expected a setun_tensor");

    /* A free of the wrong type leaves the object alone. */
    setun_context_free((setun_context *)tensor);
    CHECK(strstr(setun_last_error(), "context_free: the handle is a setun_tensor") != NULL);
    CHECK_OK(setun_tensor_nbytes(tensor, &bytes));
    CHECK(bytes == 24);

    setun_tensor_free(tensor);
    CHECK_FAILS(setun_tensor_nbytes(tensor, &bytes), SETUN_ERR_ARGUMENT, "tensor was freed already");
    CHECK_FAILS(setun_tensor_write(tensor, dims, 8), SETUN_ERR_ARGUMENT, "tensor was freed already");
    CHECK_OK(setun_tensor_create(SETUN_DTYPE_U8, dims, 1, &again));
    CHECK(again != tensor);
    setun_tensor_free(tensor);
    setun_tensor_free(tensor);
    CHECK_OK(setun_tensor_nbytes(again, &bytes));
    CHECK(bytes == 2);
    setun_tensor_free(again);
    setun_tensor_free((setun_tensor *)&on_the_stack);
    setun_cancel_free(token);

    /* NULL is fine everywhere. */
    setun_cancel_free(NULL);
    setun_context_free(NULL);
    setun_tensor_free(NULL);
    setun_packed_free(NULL);
    setun_tokenizer_free(NULL);
    setun_dataset_free(NULL);
    setun_model_free(NULL);
    setun_trainer_free(NULL);
    setun_sampler_free(NULL);

    for (i = 0; i < MANY; i++) {
        dims[0] = i;
        CHECK_OK(setun_tensor_create(SETUN_DTYPE_I8, dims, 1, &many[i]));
    }
    for (i = 0; i < MANY; i++) {
        CHECK_OK(setun_tensor_nbytes(many[i], &bytes));
        CHECK(bytes == (size_t)i);
        setun_tensor_free(many[i]);
        CHECK_FAILS(setun_tensor_nbytes(many[i], &bytes), SETUN_ERR_ARGUMENT, "freed already");
    }
    return 0;
}
