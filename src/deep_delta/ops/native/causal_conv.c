/* A causal depthwise convolution over time that expands D features to V channels of D, one pass each way.
 *
 * B batch, T time, V value channels, D width, S taps
 */
#include "rows.h"

/* Mirrored field by field in causal_conv.py. */
typedef struct {
    int64_t batch, time, channels, width, taps, is_bf16, threads;
    const void *embedded; /* [B, T, D] */
    const float *weight;  /* [S, V, D], the last tap the present token's */
    void *expanded;       /* [B, T, V, D]; backward: its gradient, read */
    void *grad_embedded;
    double *grad_weight; /* [threads, S, V, D] */
} CausalConv;

static void expand_token(const CausalConv *s, int64_t token, float *scratch) {
    const int64_t V = s->channels, D = s->width, S = s->taps, bf16 = s->is_bf16, t = token % s->time;
    for (int64_t v = 0; v < V; v++) {
        float *row = place(s->expanded, token * V + v, D, bf16, scratch);
        for (int64_t age = 0; age < S && age <= t; age++) {
            const float *x = load(s->embedded, token - age, D, bf16, scratch + D);
            const float *w = s->weight + ((S - 1 - age) * V + v) * D;
            if (age)
                add_product(row, w, x, D);
            else
                scaled_product(row, 1.0f, x, w, D);
        }
        finish(s->expanded, token * V + v, D, bf16, row);
    }
}

static void pull_token(const CausalConv *s, int64_t token, float *grad_weight, float *scratch) {
    const int64_t V = s->channels, D = s->width, S = s->taps, bf16 = s->is_bf16, t = token % s->time;
    float *pull = place(s->grad_embedded, token, D, bf16, scratch);
    memset(pull, 0, (size_t)D * sizeof(float));
    for (int64_t age = 0; age < S; age++)
        for (int64_t v = 0; v < V; v++) {
            const int64_t tap = ((S - 1 - age) * V + v) * D;
            if (t + age < s->time)
                add_product(pull, s->weight + tap, load(s->expanded, (token + age) * V + v, D, bf16, scratch + D), D);
            if (age <= t)
                add_product(grad_weight + tap, load(s->expanded, token * V + v, D, bf16, scratch + D),
                            load(s->embedded, token - age, D, bf16, scratch + 2 * D), D);
        }
    finish(s->grad_embedded, token, D, bf16, pull);
}

static int over_tokens(const CausalConv *s, int is_backward) {
    const int64_t tokens = s->batch * s->time, weights = s->taps * s->channels * s->width;
    int failed = 0;
#ifdef _OPENMP
#pragma omp parallel num_threads((int)s->threads) reduction(| : failed)
#endif
    {
        int64_t thread = 0, team = 1;
#ifdef _OPENMP
        thread = omp_get_thread_num(), team = omp_get_num_threads();
#endif
        const int64_t end = tokens * (thread + 1) / team;
        float *scratch = calloc((size_t)(weights + 3 * s->width), sizeof(float)), *grad_weight = scratch;
        if (!scratch) failed |= 1;
        for (int64_t token = tokens * thread / team; scratch && token < end; token++) {
            if (!is_backward) {
                expand_token(s, token, scratch + weights);
                continue;
            }
            pull_token(s, token, grad_weight, scratch + weights);
            if (token % FLUSH == 0 || token + 1 == end) flush(s->grad_weight + thread * weights, grad_weight, weights);
        }
        free(scratch);
    }
    return failed;
}

int ddl_causal_conv(const CausalConv *s) { return over_tokens(s, 0); }

int ddl_causal_conv_backward(const CausalConv *s) { return over_tokens(s, 1); }
