/* Hyper-connections between two sublayers: write, then mix and read; one pass over the state each way.
 *
 * B batch, T time, V streams, D width, P = V + 2 coefficients of a stream: of A_m, A_r, B
 */
#include "rows.h"

/* Mirrored field by field in hyper_connection.py. A null pointer stands for an operand that is not there. */
typedef struct {
    int64_t tokens, streams, width, is_bf16, threads; /* is_bf16: states, direction, x and their gradients */
    double eps;
    const void *state, *direction;
    const float *value, *fixed, *dynamic, *scale; /* fixed [V, P]; dynamic [P, D]; scale [P] */
    void *written, *mixed, *x;                    /* written: the state that is mixed; backward reads it */
    float *next_value, *inverse_rms, *logits;     /* [N, V], [N, V], [N, V, P] */
    /* backward only */
    const void *grad_mixed, *grad_x;
    const float *grad_next_value;
    void *grad_state, *grad_direction;
    float *grad_value;
    double *grad_weights; /* [threads, V·P + P·D + P]: fixed, dynamic, scale */
} HyperConnection;

/* y = tanh x to about 1e-7, absolute */
ROWS void bend(float *restrict y, const float *restrict x, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[i] = 1.0f - 2.0f / (exponential(2.0f * x[i]) + 1.0f);
}

/* y = Σ_v a[v·step] x_v */
ROWS void combine(float *restrict y, const float *restrict a, int64_t step, const float *restrict x, int64_t V,
                  int64_t D) {
    int64_t d = 0;
    for (; d + 2 * LANES <= D; d += 2 * LANES) {
        Lanes low = {0}, high = {0};
        for (int64_t v = 0; v < V; v++) {
            low += a[v * step] * *(const Lanes *)(x + v * D + d);
            high += a[v * step] * *(const Lanes *)(x + v * D + d + LANES);
        }
        *(Lanes *)(y + d) = low, *(Lanes *)(y + d + LANES) = high;
    }
    for (; d < D; d++) {
        y[d] = 0;
        for (int64_t v = 0; v < V; v++) y[d] += a[v * step] * x[v * D + d];
    }
}

/* y_p += a[p] x, for every row of y, and z += Σ_p a[p] w_p */
ROWS void pull_products(float *restrict y, float *restrict z, const float *restrict a, const float *restrict x,
                        const float *restrict w, int64_t P, int64_t D) {
    int64_t d = 0;
    for (; d + LANES <= D; d += LANES) {
        const Lanes here = *(const Lanes *)(x + d);
        Lanes sum = *(const Lanes *)(z + d);
        for (int64_t p = 0; p < P; p++) {
            *(Lanes *)(y + p * D + d) += a[p] * here;
            sum += a[p] * *(const Lanes *)(w + p * D + d);
        }
        *(Lanes *)(z + d) = sum;
    }
    for (; d < D; d++)
        for (int64_t p = 0; p < P; p++) {
            y[p * D + d] += a[p] * x[d];
            z[d] += a[p] * w[p * D + d];
        }
}

/* The rows of one token in fp32: themselves, or converted into `buffer`. */
HELPER const float *load_rows(const void *rows, int64_t token, int64_t V, int64_t D, int64_t bf16, float *buffer) {
    for (int64_t v = 0; bf16 && v < V; v++) load(rows, token * V + v, D, bf16, buffer + v * D);
    return bf16 ? buffer : (const float *)rows + token * V * D;
}

static void step_token(const HyperConnection *s, int64_t token, float *scratch) {
    const int64_t V = s->streams, D = s->width, P = V + 2, bf16 = s->is_bf16, first = token * V;
    float *coefficients = scratch, *buffer = scratch + V * P, *row = buffer + V * D, *spare = row + D;
    for (int64_t v = 0; s->direction && v < V; v++) {
        float *written = place(s->written, first + v, D, bf16, row);
        const float *h = load(s->direction, token, D, bf16, spare);
        sum_scaled(written, load(s->state, first + v, D, bf16, buffer), s->value[first + v], h, D);
        finish(s->written, first + v, D, bf16, written);
    }
    const float *H = load_rows(s->direction ? s->written : s->state, token, V, D, bf16, buffer);
    for (int64_t v = 0; v < V; v++) {
        const float inverse = (float)(1.0 / sqrt(square_norm(H + v * D, D) / (double)D + s->eps));
        s->inverse_rms[first + v] = inverse;
        for (int64_t p = 0; p < P; p++)
            s->logits[(first + v) * P + p] = inverse * dot(H + v * D, s->dynamic + p * D, D);
    }
    bend(coefficients, s->logits + first * P, V * P);
    for (int64_t v = 0; v < V; v++) {
        for (int64_t p = 0; p < P; p++)
            coefficients[v * P + p] = s->fixed[v * P + p] + s->scale[p] * coefficients[v * P + p];
        s->next_value[first + v] = coefficients[v * P + P - 1];
    }
    for (int64_t j = 0; j <= V; j++) {
        void *rows = j ? s->mixed : s->x;
        const int64_t index = j ? first + j - 1 : token;
        float *out = place(rows, index, D, bf16, row);
        combine(out, coefficients + j, P, H, V, D);
        finish(rows, index, D, bf16, out);
    }
}

static void pull_token(const HyperConnection *s, int64_t token, float *grad_weights, float *scratch) {
    const int64_t V = s->streams, D = s->width, P = V + 2, bf16 = s->is_bf16, first = token * V;
    float *grad_fixed = grad_weights, *grad_dynamic = grad_weights + V * P, *grad_scale = grad_dynamic + P * D;
    float *bent = scratch, *coefficients = bent + V * P, *product = coefficients + P, *along = product + P;
    float *row = along + D, *spare = row + D, *buffer = spare + D, *pulled = buffer + V * D;
    const float *H = load_rows(s->direction ? s->written : s->state, token, V, D, bf16, buffer);
    const float *mixed = load_rows(s->grad_mixed, token, V, D, bf16, pulled);
    const float *x = load(s->grad_x, token, D, bf16, pulled + V * D);
    const float *h = s->direction ? load(s->direction, token, D, bf16, spare) : NULL;
    bend(bent, s->logits + first * P, V * P);
    memset(along, 0, (size_t)D * sizeof(float));
    for (int64_t v = 0; v < V; v++) {
        float shrink = 0;
        for (int64_t p = 0; p < P; p++) {
            const float grad = p == 0       ? dot(H + v * D, x, D)
                               : p == P - 1 ? s->grad_next_value[first + v]
                                            : dot(H + v * D, mixed + (p - 1) * D, D);
            const float tanh = bent[v * P + p], through = grad * s->scale[p] * (1.0f - tanh * tanh);
            coefficients[p] = s->fixed[v * P + p] + s->scale[p] * tanh;
            grad_fixed[v * P + p] += grad;
            grad_scale[p] += grad * tanh;
            product[p] = through * s->inverse_rms[first + v];
            shrink -= through * s->logits[(first + v) * P + p];
        }
        shrink *= s->inverse_rms[first + v] * s->inverse_rms[first + v] / (float)D;
        float *grad = place(s->grad_state, first + v, D, bf16, row);
        combine(grad, coefficients + 1, 1, mixed, V, D);
        add_scaled(grad, coefficients[0], x, D);
        add_scaled(grad, shrink, H + v * D, D);
        pull_products(grad_dynamic, grad, product, H + v * D, s->dynamic, P, D);
        if (h) {
            s->grad_value[first + v] = dot(grad, h, D);
            add_scaled(along, s->value[first + v], grad, D);
        }
        finish(s->grad_state, first + v, D, bf16, grad);
    }
    if (h) {
        float *out = place(s->grad_direction, token, D, bf16, along);
        if (out != along) memcpy(out, along, (size_t)D * sizeof(float));
        finish(s->grad_direction, token, D, bf16, out);
    }
}

static int over_tokens(const HyperConnection *s, int is_backward) {
    const int64_t V = s->streams, D = s->width, P = V + 2, weights = V * P + P * D + P;
    int failed = 0;
#ifdef _OPENMP
#pragma omp parallel num_threads((int)s->threads) reduction(| : failed)
#endif
    {
        int64_t thread = 0, team = 1;
#ifdef _OPENMP
        thread = omp_get_thread_num(), team = omp_get_num_threads();
#endif
        const int64_t end = s->tokens * (thread + 1) / team;
        float *scratch = calloc((size_t)(weights + (V + 2) * P + (2 * V + 4) * D), sizeof(float));
        if (!scratch) failed |= 1;
        for (int64_t token = s->tokens * thread / team; scratch && token < end; token++) {
            if (!is_backward) {
                step_token(s, token, scratch + weights);
                continue;
            }
            pull_token(s, token, scratch, scratch + weights);
            if (token % FLUSH == 0 || token + 1 == end) flush(s->grad_weights + thread * weights, scratch, weights);
        }
        free(scratch);
    }
    return failed;
}

int ddl_hyper_connection(const HyperConnection *s) { return over_tokens(s, 0); }

int ddl_hyper_connection_backward(const HyperConnection *s) { return over_tokens(s, 1); }
