/* The boundary step on a CPU: one pass over the state forward, one backward. The algebra is in README.md.
 *
 * Plain C with a plain ABI: independent of PyTorch's. States, k, x and c are fp32 or bf16 (then converted a row at a
 * time); everything else, and all arithmetic, is fp32, with sums over tokens and ‖k‖² in fp64. Rows are contiguous.
 *
 * B batch, T time, V value channels, D width, S taps, P heads
 */
#include "rows.h"

enum { ADDITIVE = 0, WRITE_ONLY = 1, DELTA = 2 };

/* Mirrored field by field in native.py. A null pointer stands for an operand that is not there. */
typedef struct {
    int64_t batch, time, channels, width, taps, heads, kind, threads;
    double eps, norm_eps;
    int64_t state_is_bf16; /* state in and out, k, x, c and their gradients */
    int64_t saved_is_bf16; /* the state that backward reads: fp32 where it was rebuilt */
    const void *state, *k;
    const float *v, *beta, *read, *gain, *head_rows, *gate, *gate_bias;
    void *x, *c, *new_state;
    float *scores, *gates, *delta, *inverse_norm, *inverse_rms;
    /* backward only */
    const void *grad_new_state, *grad_x, *grad_c;
    const float *grad_scores, *grad_gates;
    void *grad_state, *grad_k;
    float *grad_v, *grad_beta, *rebuilt;
    double *grad_weights; /* [threads, number_of_weights]: read, gain, heads and gate before the gain, gate's bias */
    /* forward only, [B, S − 1, D]: what earlier tokens add to the first reads, and all tokens to the next ones */
    const float *late;
    float *next_late;
} Step;

static int64_t number_of_weights(const Step *s) {
    return (s->taps * s->channels + 1 + s->heads) * s->width + (s->gate ? s->width + 1 : 0);
}

/* ---- rows of the backward pass ---- */

/* Through one tap: pull = base + w ⊙ late, and the tap's own gradient, grad += x ⊙ late */
ROWS void pull_first_tap(float *restrict pull, const float *restrict base, float *restrict grad,
                         const float *restrict w, const float *restrict x, const float *restrict late, int64_t D) {
    for (int64_t d = 0; d < D; d++) {
        pull[d] = base[d] + w[d] * late[d];
        grad[d] += x[d] * late[d];
    }
}

/* The same where pull is the base itself. */
ROWS void pull_tap(float *restrict pull, float *restrict grad, const float *restrict w, const float *restrict x,
                   const float *restrict late, int64_t D) {
    for (int64_t d = 0; d < D; d++) {
        pull[d] += w[d] * late[d];
        grad[d] += x[d] * late[d];
    }
}

/* Through one head: pull += a head, and the head's own gradient, grad += a unit */
ROWS void pull_head(float *restrict pull, float *restrict grad, float a, const float *restrict head,
                    const float *restrict unit, int64_t D) {
    for (int64_t d = 0; d < D; d++) {
        pull[d] += a * head[d];
        grad[d] += a * unit[d];
    }
}

/* Through the gain: grad += pull ⊙ unit, then pull ⊙= gain; returns pull · unit */
ROWS float pull_gain(float *restrict pull, float *restrict grad, const float *restrict gain, const float *restrict unit,
                     int64_t D) {
    for (int64_t d = 0; d < D; d++) {
        grad[d] += pull[d] * unit[d];
        pull[d] *= gain[d];
    }
    return dot(pull, unit, D);
}

/* Through the rewrite of one channel: grad_k += δ G − g X', and G −= β g k */
ROWS void pull_channel(float *restrict grad_k, float *restrict pull, const float *restrict x, const float *restrict unit,
                       float delta, float readout, float beta, int64_t D) {
    const float step = beta * readout;
    for (int64_t d = 0; d < D; d++) {
        grad_k[d] += delta * pull[d] - readout * x[d];
        pull[d] -= step * unit[d];
    }
}

/* The unit direction of a token; returns its inverse norm. */
static float direction(const Step *s, int64_t token, float *unit, float *buffer) {
    const float *k = load(s->k, token, s->width, s->state_is_bf16, buffer);
    float inverse = 1.0f;
    if (s->kind != ADDITIVE) {
        const double square = square_norm(k, s->width) + s->eps * s->eps;
        inverse = square > 0 ? (float)(1.0 / sqrt(square)) : 0.0f;
    }
    scaled(unit, inverse, k, s->width);
    return inverse;
}

/* ---- forward ---- */

/* One token's new state, V rows of fp32 (as rounded, where the state is bf16). A token that is not this thread's own is
 * only needed by the reads of the tokens after it, and nothing of it is stored. */
static const float *write_token(const Step *s, int64_t token, float *rows, float *unit, float *buffer, int own) {
    const int64_t V = s->channels, D = s->width, bf16 = s->state_is_bf16;
    const float inverse = direction(s, token, unit, buffer);
    if (own && s->inverse_norm) s->inverse_norm[token] = inverse;
    if (own) rows = place(s->new_state, token * V, D, bf16, rows);
    for (int64_t v = 0; v < V; v++) {
        const float *x = load(s->state, token * V + v, D, bf16, buffer);
        float step = 1.0f;
        if (s->kind != ADDITIVE) {
            const float delta = s->v[token * V + v] - (s->kind == DELTA ? dot(x, unit, D) : 0.0f);
            if (own && s->delta) s->delta[token * V + v] = delta;
            step = s->beta[token] * delta;
        }
        sum_scaled(rows + v * D, x, step, unit, D);
        if (bf16) {
            uint16_t *rounded = own ? (uint16_t *)s->new_state + (token * V + v) * D : (uint16_t *)buffer;
            narrow(rounded, rows + v * D, D);
            widen(rows + v * D, rounded, D);
        }
    }
    return rows;
}

/* Add what one token's state contributes to the reads of this token and of the S − 1 after it: a ring of sums. */
static void read_token(const Step *s, int64_t t, const float *rows, float *ring) {
    const int64_t V = s->channels, D = s->width, S = s->taps;
    memset(ring + ((t + S - 1) % S) * D, 0, (size_t)D * sizeof(float));
    for (int64_t v = 0; v < V; v++)
        for (int64_t ahead = 0; ahead < S; ahead++)
            add_product(ring + ((t + ahead) % S) * D, s->read + ((S - 1 - ahead) * V + v) * D, rows + v * D, D);
}

static void normalize_token(const Step *s, int64_t token, const float *x, float *buffer) {
    const int64_t D = s->width, P = s->heads, bf16 = s->state_is_bf16;
    const float inverse = (float)(1.0 / sqrt((double)dot(x, x, D) / (double)D + s->norm_eps));
    float *c = place(s->c, token, D, bf16, buffer);
    scaled_product(c, inverse, x, s->gain, D);
    for (int64_t p = 0; p < P; p++) s->scores[token * P + p] = dot(c, s->head_rows + p * D, D);
    if (s->gate) s->gates[token] = 2.0f / (1.0f + expf(-dot(c, s->gate, D) - s->gate_bias[0]));
    finish(s->c, token, D, bf16, c);
    if (s->inverse_rms) s->inverse_rms[token] = inverse;
}

static void forward_range(const Step *s, int64_t begin, int64_t end, float *scratch) {
    const int64_t V = s->channels, D = s->width, S = s->taps, T = s->time, bf16 = s->state_is_bf16;
    float *scratch_rows = scratch, *unit = scratch_rows + V * D, *buffer = unit + D, *ring = buffer + D;
    for (int64_t token = begin; token < end; token++) {
        const int64_t t = token % T;
        if (S > 1 && (token == begin || t == 0)) { /* a sequence is entered: the reads need the tokens before */
            memset(ring, 0, (size_t)(S * D) * sizeof(float));
            if (s->late && t < S)
                memcpy(ring, s->late + token / T * (S - 1) * D, (size_t)((S - 1) * D) * sizeof(float));
            for (int64_t past = t < S - 1 ? t : S - 1; past > 0; past--)
                read_token(s, t - past, write_token(s, token - past, scratch_rows, unit, buffer, 0), ring);
        }
        const float *rows = write_token(s, token, scratch_rows, unit, buffer, 1), *x = rows;
        if (S) {
            read_token(s, t, rows, ring);
            x = ring + (t % S) * D;
            if (!bf16) memcpy((float *)s->x + token * D, x, (size_t)D * sizeof(float));
            finish(s->x, token, D, bf16, x);
        }
        normalize_token(s, token, x, buffer);
        for (int64_t ahead = 1; s->next_late && t == T - 1 && ahead < S; ahead++)
            memcpy(s->next_late + (token / T * (S - 1) + ahead - 1) * D, ring + ((t + ahead) % S) * D,
                   (size_t)D * sizeof(float));
    }
}

/* ---- backward ---- */

/* The gradient of one token's x, from those of c, of the scores and of x itself. The weights' gradients are counted
 * into `grad_gain`, which the heads', the gate's and its bias's follow. */
static void pull_read(const Step *s, int64_t token, const float *x, float *pull, float *unit, float *buffer,
                      float *grad_gain) {
    const int64_t D = s->width, P = s->heads, bf16 = s->state_is_bf16;
    float *grad_heads = grad_gain + D, *grad_gate = grad_heads + P * D;
    const float rms = s->inverse_rms[token];
    scaled(unit, rms, x, D);
    if (s->grad_c)
        memcpy(pull, load(s->grad_c, token, D, bf16, buffer), (size_t)D * sizeof(float));
    else
        memset(pull, 0, (size_t)D * sizeof(float));
    for (int64_t p = 0; s->grad_scores && p < P; p++)
        pull_head(pull, grad_heads + p * D, s->grad_scores[token * P + p], s->head_rows + p * D, unit, D);
    if (s->grad_gates) {
        const float gate = s->gates[token], logit = s->grad_gates[token] * gate * (1.0f - 0.5f * gate);
        pull_head(pull, grad_gate, logit, s->gate, unit, D);
        grad_gate[D] += logit;
    }
    project(pull, rms, pull_gain(pull, grad_gain, s->gain, unit, D) / (float)D, unit, D);
    if (s->grad_x) add_scaled(pull, 1.0f, load(s->grad_x, token, D, bf16, buffer), D);
}

/* Through the rewrite: from the gradient of the new state, in `pull`, to those of X (in its place), k, v and β. */
static void pull_write(const Step *s, int64_t token, const float *rows, float *pull, float *unit, float *grad_k,
                       float *buffer) {
    const int64_t V = s->channels, D = s->width, bf16 = s->state_is_bf16;
    if (s->kind == ADDITIVE) {
        if (!bf16) memcpy((float *)s->grad_k + token * D, pull, (size_t)D * sizeof(float));
        finish(s->grad_k, token, D, bf16, pull);
        if (s->rebuilt) sum_scaled(s->rebuilt + token * D, rows, -1.0f, load(s->k, token, D, bf16, buffer), D);
        return;
    }
    const float inverse = s->inverse_norm[token], beta = s->beta[token], *delta = s->delta + token * V;
    scaled(unit, inverse, load(s->k, token, D, bf16, buffer), D);
    grad_k = place(s->grad_k, token, D, bf16, grad_k);
    memset(grad_k, 0, (size_t)D * sizeof(float));
    float grad_beta = 0;
    for (int64_t v = 0; v < V; v++) {
        const float readout = dot(pull + v * D, unit, D);
        grad_beta += delta[v] * readout;
        s->grad_v[token * V + v] = beta * readout;
        if (s->kind == DELTA)
            pull_channel(grad_k, pull + v * D, rows + v * D, unit, delta[v], readout, beta, D);
        else
            add_scaled(grad_k, delta[v], pull + v * D, D);
        if (s->rebuilt) sum_scaled(s->rebuilt + (token * V + v) * D, rows + v * D, -beta * delta[v], unit, D);
    }
    s->grad_beta[token] = grad_beta;
    if (s->kind == DELTA) add_scaled(grad_k, beta * grad_beta, unit, D); /* rows hold X', and X = X' − β k δᵀ */
    project(grad_k, beta * inverse, dot(unit, grad_k, D), unit, D);
    finish(s->grad_k, token, D, bf16, grad_k);
}

static void backward_range(const Step *s, int64_t begin, int64_t end, double *totals, float *scratch) {
    const int64_t V = s->channels, D = s->width, S = s->taps, T = s->time, bf16 = s->state_is_bf16;
    const int64_t weights = number_of_weights(s);
    float *partial = scratch, *others = partial + weights, *scratch_pull = others + weights;
    float *unit = scratch_pull + V * D, *grad_k = unit + D, *buffer = grad_k + D;
    float *x_buffer = buffer + D, *state = x_buffer + D, *zeros = state + V * D, *ring = zeros + D;
    memset(zeros, 0, (size_t)D * sizeof(float));
    memset(partial, 0, (size_t)weights * sizeof(float));
    for (int64_t token = end - 1; token >= begin; token--) { /* from the last, because later tokens read a state */
        const int64_t t = token % T;
        if (S > 1 && (token == end - 1 || t == T - 1))
            for (int64_t ahead = T - 1 - t < S - 1 ? T - 1 - t : S - 1; ahead > 0; ahead--) /* not this thread's own */
                pull_read(s, token + ahead, load(s->x, token + ahead, D, bf16, x_buffer),
                          ring + ((t + ahead) % S) * D, unit, buffer, others);
        for (int64_t v = 0; s->saved_is_bf16 && v < V; v++) load(s->new_state, token * V + v, D, 1, state + v * D);
        const float *rows = s->saved_is_bf16 ? state : (const float *)s->new_state + token * V * D, *x = rows;
        if (S == 1) {
            memset(x_buffer, 0, (size_t)D * sizeof(float));
            for (int64_t v = 0; v < V; v++) add_product(x_buffer, s->read + v * D, rows + v * D, D);
            x = x_buffer;
        } else if (S > 1) {
            x = load(s->x, token, D, bf16, x_buffer);
        }
        float *late = ring + (S ? t % S : 0) * D, *pull = place(s->grad_state, token * V, D, bf16, scratch_pull);
        pull_read(s, token, x, late, unit, buffer, partial + S * V * D);
        for (int64_t v = 0; v < V; v++) {
            const float *base = zeros;
            if (s->grad_new_state) base = load(s->grad_new_state, token * V + v, D, bf16, buffer);
            if (!S) sum_scaled(pull, base, 1.0f, late, D);
            for (int64_t ahead = 0; ahead < S && t + ahead < T; ahead++) {
                const int64_t tap = ((S - 1 - ahead) * V + v) * D;
                const float *later = ring + ((t + ahead) % S) * D;
                if (!ahead)
                    pull_first_tap(pull + v * D, base, partial + tap, s->read + tap, rows + v * D, later, D);
                else
                    pull_tap(pull + v * D, partial + tap, s->read + tap, rows + v * D, later, D);
            }
        }
        pull_write(s, token, rows, pull, unit, grad_k, buffer);
        for (int64_t v = 0; v < V; v++) finish(s->grad_state, token * V + v, D, bf16, pull + v * D);
        if ((token - begin) % FLUSH == 0) flush(totals, partial, weights);
    }
}

/* ---- the two entries; 0, or 1 where memory for the scratch rows is not to be had ---- */

static int over_tokens(const Step *s, int is_backward) {
    const int64_t V = s->channels, D = s->width, S = s->taps, tokens = s->batch * s->time;
    const int64_t weights = number_of_weights(s), floats = 2 * weights + (2 * V + 6 + S) * D;
    int64_t threads = s->threads < tokens ? s->threads : tokens;
    int failed = 0;
#ifdef _OPENMP
#pragma omp parallel num_threads((int)threads) reduction(| : failed)
#else
    threads = 1;
#endif
    {
        int64_t thread = 0, team = 1;
#ifdef _OPENMP
        thread = omp_get_thread_num(), team = omp_get_num_threads();
#endif
        float *scratch = malloc((size_t)floats * sizeof(float));
        const int64_t begin = tokens * thread / team, end = tokens * (thread + 1) / team;
        if (!scratch) failed |= 1;
        else if (is_backward) backward_range(s, begin, end, s->grad_weights + thread * weights, scratch);
        else forward_range(s, begin, end, scratch);
        free(scratch);
    }
    (void)threads;
    return failed;
}

int ddl_stream_step_forward(const Step *s) { return over_tokens(s, 0); }

int ddl_stream_step_backward(const Step *s) { return over_tokens(s, 1); }
