/* Rows of D numbers: the small loops that the kernels are made of, each compiled for several processors.
 *
 * A function marked ROWS is chosen once, when the library is loaded; explicit lanes make sums vectorise without
 * -ffast-math. Tensors are fp32, or bf16, which is converted a row at a time; all arithmetic is fp32.
 */
#ifndef DEEP_DELTA_ROWS_H
#define DEEP_DELTA_ROWS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__x86_64__) && defined(__GNUC__) && defined(__linux__)
#define DISPATCHED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define DISPATCHED
#endif
#define ROWS DISPATCHED static __attribute__((noinline, unused))
#define HELPER static __attribute__((unused))

static inline __attribute__((always_inline)) float power_of_two(int32_t exponent) {
    const union { uint32_t bits; float value; } power = {(uint32_t)(exponent + 127) << 23};
    return power.value;
}

/* e^x to about 1e-7, relative; 0 and infinity beyond fp32's range, and a NaN stays one. x = n ln 2 + r, |r| ≤ ln 2 / 2. */
static inline __attribute__((always_inline)) float exponential(float x) {
    x = x > 110.0f ? 110.0f : x;
    x = x < -110.0f ? -110.0f : x;
    const float n = rintf(x * 1.44269504f), r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const int32_t exponent = (int32_t)n, half = exponent / 2;
    return p * power_of_two(half) * power_of_two(exponent - half); /* in two steps, as 2^n itself may be out of range */
}

ROWS void widen(float *restrict y, const uint16_t *restrict x, int64_t D) {
    for (int64_t d = 0; d < D; d++) {
        const uint32_t bits = (uint32_t)x[d] << 16;
        memcpy(y + d, &bits, 4);
    }
}

/* To the nearest bf16, ties to even; a NaN stays one. */
ROWS void narrow(uint16_t *restrict y, const float *restrict x, int64_t D) {
    for (int64_t d = 0; d < D; d++) {
        uint32_t bits;
        memcpy(&bits, x + d, 4);
        const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        y[d] = (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded);
    }
}

/* Eight lanes at a time in four sums: explicit, because a compiler may not reorder a sum of floats by itself. */
typedef float Lanes __attribute__((vector_size(32), aligned(4), may_alias));
typedef double WideLanes __attribute__((vector_size(32), may_alias));
enum { LANES = 8 };

ROWS float dot(const float *restrict a, const float *restrict b, int64_t D) {
    Lanes sums[4] = {0};
    int64_t d = 0;
    for (; d + 4 * LANES <= D; d += 4 * LANES) {
        sums[0] += *(const Lanes *)(a + d) * *(const Lanes *)(b + d);
        sums[1] += *(const Lanes *)(a + d + LANES) * *(const Lanes *)(b + d + LANES);
        sums[2] += *(const Lanes *)(a + d + 2 * LANES) * *(const Lanes *)(b + d + 2 * LANES);
        sums[3] += *(const Lanes *)(a + d + 3 * LANES) * *(const Lanes *)(b + d + 3 * LANES);
    }
    const Lanes sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    float tail = 0;
    for (; d < D; d++) tail += a[d] * b[d];
    return (((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]))) + tail;
}

/* In fp64, because directions of 1e20 and of 1e-20 are directions. */
ROWS double square_norm(const float *restrict a, int64_t D) {
    WideLanes sums[2] = {0};
    int64_t d = 0;
    for (; d + LANES <= D; d += LANES) {
        const WideLanes low = {a[d], a[d + 1], a[d + 2], a[d + 3]};
        const WideLanes high = {a[d + 4], a[d + 5], a[d + 6], a[d + 7]};
        sums[0] += low * low;
        sums[1] += high * high;
    }
    const WideLanes sum = sums[0] + sums[1];
    double tail = 0;
    for (; d < D; d++) tail += (double)a[d] * (double)a[d];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + tail;
}

/* y = a x */
ROWS void scaled(float *restrict y, float a, const float *restrict x, int64_t D) {
    for (int64_t d = 0; d < D; d++) y[d] = a * x[d];
}

/* y += a x */
ROWS void add_scaled(float *restrict y, float a, const float *restrict x, int64_t D) {
    for (int64_t d = 0; d < D; d++) y[d] += a * x[d];
}

/* y = x + a u */
ROWS void sum_scaled(float *restrict y, const float *restrict x, float a, const float *restrict u, int64_t D) {
    for (int64_t d = 0; d < D; d++) y[d] = x[d] + a * u[d];
}

/* y = a x ⊙ w */
ROWS void scaled_product(float *restrict y, float a, const float *restrict x, const float *restrict w, int64_t D) {
    for (int64_t d = 0; d < D; d++) y[d] = a * x[d] * w[d];
}

/* y *= a w */
ROWS void multiply_scaled(float *restrict y, float a, const float *restrict w, int64_t D) {
    for (int64_t d = 0; d < D; d++) y[d] *= a * w[d];
}

/* y += w ⊙ x */
ROWS void add_product(float *restrict y, const float *restrict w, const float *restrict x, int64_t D) {
    for (int64_t d = 0; d < D; d++) y[d] += w[d] * x[d];
}

/* y = a (y − b u) */
ROWS void project(float *restrict y, float a, float b, const float *restrict u, int64_t D) {
    for (int64_t d = 0; d < D; d++) y[d] = a * (y[d] - b * u[d]);
}

/* One row of a tensor in fp32: itself, or converted into `buffer`. */
HELPER const float *load(const void *rows, int64_t row, int64_t D, int64_t is_bf16, float *buffer) {
    if (!is_bf16) return (const float *)rows + row * D;
    widen(buffer, (const uint16_t *)rows + row * D, D);
    return buffer;
}

/* Where to compute one row of an output: in its place, or, for bf16, in `buffer`, which `finish` then converts. */
HELPER float *place(void *rows, int64_t row, int64_t D, int64_t is_bf16, float *buffer) {
    return is_bf16 ? buffer : (float *)rows + row * D;
}

HELPER void finish(void *rows, int64_t row, int64_t D, int64_t is_bf16, const float *values) {
    if (is_bf16) narrow((uint16_t *)rows + row * D, values, D);
}

enum { FLUSH = 64 }; /* tokens whose weight gradients are summed in fp32 before they join the fp64 totals */

HELPER void flush(double *restrict totals, float *restrict partial, int64_t count) {
    for (int64_t i = 0; i < count; i++) totals[i] += (double)partial[i], partial[i] = 0;
}

#endif
