/* Where the time of a training step goes. */
#ifndef BREAKDOWN_H
#define BREAKDOWN_H

#include <setun.h>

typedef struct {
    int32_t size;                    /* 0: S, 1: M */
    int32_t f32;                     /* the twin */
    int64_t batch, steps, threads;   /* 0: those of the size; as many as there are */
    int32_t input_gradient, weight_gradient; /* a setun_gradient_products each */
    int32_t activation_checkpointing;
} breakdown_options;

/* Trains a few steps and prints what each operation took of them; SETUN_OK unless the library failed, and then it has said why. */
setun_status breakdown(const breakdown_options *options);

#endif
