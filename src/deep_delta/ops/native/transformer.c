/* The elementwise parts of a transformer's sublayers, one pass each way: SwiGLU's product; and the split of a joint
 * query-key-value product into heads, with rotary positions and RMSNorm on queries and keys.
 *
 * B batch, T time, H heads, K head width, R rotated features, F hidden features
 */
#include "rows.h"

ROWS void silu_product(float *restrict y, const float *restrict gate, const float *restrict up, int64_t F) {
    for (int64_t f = 0; f < F; f++) y[f] = gate[f] / (1.0f + exponential(-gate[f])) * up[f];
}

ROWS void pull_silu_product(float *restrict pull_gate, float *restrict pull_up, const float *restrict pull,
                            const float *restrict gate, const float *restrict up, int64_t F) {
    for (int64_t f = 0; f < F; f++) {
        const float sigmoid = 1.0f / (1.0f + exponential(-gate[f])), silu = gate[f] * sigmoid;
        pull_up[f] = pull[f] * silu;
        pull_gate[f] = pull[f] * up[f] * (sigmoid + silu * (1.0f - sigmoid));
    }
}

/* y = x turned by its angles, feature i with feature i + R/2; `sign` −1 turns back. The features after R pass. */
ROWS void rotate(float *restrict y, const float *restrict x, const float *restrict cosine, const float *restrict sine,
                 float sign, int64_t half, int64_t K) {
    for (int64_t i = 0; i < half; i++) {
        y[i] = x[i] * cosine[i] - sign * x[half + i] * sine[i];
        y[half + i] = x[half + i] * cosine[i] + sign * x[i] * sine[i];
    }
    for (int64_t i = 2 * half; i < K; i++) y[i] = x[i];
}

/* Mirrored field by field in the Python beside it. */
typedef struct {
    int64_t rows, features, is_bf16, threads;
    const void *gate_up, *grad;
    void *out; /* forward [N, F]; backward [N, 2·F] */
} SiluProduct;

typedef struct {
    int64_t batch, time, heads, width, half, is_bf16, threads;
    double eps;
    const float *cosine, *sine, *gain; /* [T, R/2], [T, R/2]; [2, K], or null for no norm */
    void *qkv, *q, *k, *v;             /* [B, T, 3, H, K]; [B, H, T, K]; backward: their gradients, qkv's written */
    float *inverse_rms;                /* [B, T, 2, H] */
    const void *input;                 /* backward: the qkv of the forward pass */
    double *grad_gain;                 /* [threads, 2, K] */
} SplitHeads;

int ddl_silu_product(const SiluProduct *s) {
    const int64_t F = s->features, bf16 = s->is_bf16;
    int failed = 0;
#ifdef _OPENMP
#pragma omp parallel num_threads((int)s->threads) reduction(| : failed)
#endif
    {
        float *scratch = malloc((size_t)(6 * F) * sizeof(float));
        if (!scratch) failed |= 1;
#ifdef _OPENMP
#pragma omp for schedule(static)
#endif
        for (int64_t n = 0; n < s->rows; n++) {
            if (!scratch) continue;
            const float *gate = load(s->gate_up, 2 * n, F, bf16, scratch);
            const float *up = load(s->gate_up, 2 * n + 1, F, bf16, scratch + F);
            if (s->grad) {
                const float *pull = load(s->grad, n, F, bf16, scratch + 2 * F);
                float *pull_gate = place(s->out, 2 * n, F, bf16, scratch + 3 * F);
                float *pull_up = place(s->out, 2 * n + 1, F, bf16, scratch + 4 * F);
                pull_silu_product(pull_gate, pull_up, pull, gate, up, F);
                finish(s->out, 2 * n, F, bf16, pull_gate);
                finish(s->out, 2 * n + 1, F, bf16, pull_up);
            } else {
                float *y = place(s->out, n, F, bf16, scratch + 2 * F);
                silu_product(y, gate, up, F);
                finish(s->out, n, F, bf16, y);
            }
        }
        free(scratch);
    }
    return failed;
}

/* Where a head of one of the three (0 query, 1 key, 2 value) lies among rows of K. */
static int64_t joint_row(const SplitHeads *s, int64_t token, int64_t which, int64_t head) {
    return (token * 3 + which) * s->heads + head;
}

static int64_t split_row(const SplitHeads *s, int64_t token, int64_t head) {
    return ((token / s->time) * s->heads + head) * s->time + token % s->time;
}

static void split_token(const SplitHeads *s, int64_t token, float *scratch) {
    const int64_t H = s->heads, K = s->width, bf16 = s->is_bf16;
    const float *cosine = s->cosine + (token % s->time) * s->half, *sine = s->sine + (token % s->time) * s->half;
    void *outputs[3] = {s->q, s->k, s->v};
    for (int64_t which = 0; which < 3; which++)
        for (int64_t head = 0; head < H; head++) {
            const int64_t to = split_row(s, token, head);
            const float *x = load(s->qkv, joint_row(s, token, which, head), K, bf16, scratch);
            float *y = place(outputs[which], to, K, bf16, scratch + K);
            if (which == 2) {
                memcpy(y, x, (size_t)K * sizeof(float));
            } else {
                rotate(y, x, cosine, sine, 1.0f, s->half, K);
                if (s->gain) {
                    const float inverse = (float)(1.0 / sqrt((double)dot(x, x, K) / (double)K + s->eps));
                    s->inverse_rms[(token * 2 + which) * H + head] = inverse;
                    multiply_scaled(y, inverse, s->gain + which * K, K);
                }
            }
            finish(outputs[which], to, K, bf16, y);
        }
}

static void join_token(const SplitHeads *s, int64_t token, float *grad_gain, float *scratch) {
    const int64_t H = s->heads, K = s->width, bf16 = s->is_bf16;
    const float *cosine = s->cosine + (token % s->time) * s->half, *sine = s->sine + (token % s->time) * s->half;
    const void *gradients[3] = {s->q, s->k, s->v};
    float *unit = scratch, *turned = unit + K, *buffer = turned + K;
    for (int64_t which = 0; which < 3; which++)
        for (int64_t head = 0; head < H; head++) {
            const int64_t to = joint_row(s, token, which, head);
            const float *grad = load(gradients[which], split_row(s, token, head), K, bf16, buffer);
            float *pull = place(s->qkv, to, K, bf16, buffer + K);
            if (which == 2) {
                memcpy(pull, grad, (size_t)K * sizeof(float));
            } else if (!s->gain) {
                rotate(pull, grad, cosine, sine, -1.0f, s->half, K);
            } else {
                const float inverse = s->inverse_rms[(token * 2 + which) * H + head];
                scaled(unit, inverse, load(s->input, to, K, bf16, buffer + 2 * K), K);
                rotate(turned, unit, cosine, sine, 1.0f, s->half, K);
                add_product(grad_gain + which * K, grad, turned, K);
                scaled_product(turned, 1.0f, grad, s->gain + which * K, K);
                rotate(pull, turned, cosine, sine, -1.0f, s->half, K);
                project(pull, inverse, dot(pull, unit, K) / (float)K, unit, K);
            }
            finish(s->qkv, to, K, bf16, pull);
        }
}

static int over_tokens(const SplitHeads *s, int is_backward) {
    const int64_t tokens = s->batch * s->time, K = s->width;
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
        float *scratch = calloc((size_t)(7 * K), sizeof(float)), *grad_gain = scratch + 5 * K;
        if (!scratch) failed |= 1;
        for (int64_t token = tokens * thread / team; scratch && token < end; token++) {
            if (!is_backward) {
                split_token(s, token, scratch);
                continue;
            }
            join_token(s, token, grad_gain, scratch);
            if (s->gain && (token % FLUSH == 0 || token + 1 == end)) flush(s->grad_gain + thread * 2 * K, grad_gain, 2 * K);
        }
        free(scratch);
    }
    return failed;
}

int ddl_split_heads(const SplitHeads *s) { return over_tokens(s, 0); }

int ddl_join_heads(const SplitHeads *s) { return over_tokens(s, 1); }
