// From logits, a part of the vocabulary at a time, to log-probabilities and their gradients; see
// `meav-model`, module `kernels::backward::head`. Sums over the vocabulary are scaled down whenever a
// larger logit turns up. Source: Milakov and Gimelshein, 2018, arXiv:1805.02867.
#include "reduce.cuh"

// A row's max z, sum of exp(z - max z), z of its target, and what sums over exp(z - max z) have last
// shrunk by.
struct State {
    double max, sum, target, shrinkage;
};

// What a row's logits lack to be log-probabilities.
struct Normaliser {
    float max, sum;
};

__device__ inline Normaliser normaliser(const float* row, int n) {
    float max = -INFINITY, sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) max = fmaxf(max, row[i]);
    max = block_max(max);
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += expf(row[i] - max);
    return Normaliser{max, block_sum(sum)};
}

// The slope of the soft cap where it gives `capped`; a cap of 0 is none.
__device__ inline float cap_slope(float capped, float cap) {
    return cap == 0.0f ? 1.0f : fmaf(capped / cap, -capped / cap, 1.0f);
}

// Takes the logits, (R, n), of the tokens from `first` on into the states: a block for each row.
extern "C" __global__ void head_fold(State* states, const float* logits, const uint32_t* targets, uint32_t first, int n) {
    const float* row = logits + (uint64_t)blockIdx.x * n;
    Normaliser part = normaliser(row, n);
    if (threadIdx.x != 0) return;
    State state = states[blockIdx.x];
    double max = fmax(state.max, (double)part.max);
    state.shrinkage = exp(state.max - max);
    state.sum = state.sum * state.shrinkage + part.sum * exp(part.max - max);
    state.max = max;
    uint32_t own = targets[blockIdx.x] - first;
    if (targets[blockIdx.x] >= first && own < (uint32_t)n) state.target = row[own];
    states[blockIdx.x] = state;
}

// Scales sums, (R, n), down to a new maximum.
extern "C" __global__ void head_shrink(float* sums, const State* states, uint64_t n_rows, int n) {
    uint64_t at = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= n_rows * n) return;
    double shrinkage = states[at / n].shrinkage;
    if (shrinkage < 1.0) sums[at] *= (float)shrinkage;
}

// Turns capped logits, (R, n), into exp(z - max z) (1 - z^2 / c^2).
extern "C" __global__ void head_weigh(float* logits, const State* states, uint64_t n_rows, int n, float cap) {
    uint64_t at = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= n_rows * n) return;
    logits[at] = expf(logits[at] - (float)states[at / n].max) * cap_slope(logits[at], cap);
}

// (1 - z_t^2 / c^2) W_t - sums / sum of exp(z - max z), in place; `own` has each row's W_t, (R, n).
extern "C" __global__ void head_finish(float* sums, const State* states, const float* own, uint64_t n_rows, int n, float cap) {
    uint64_t at = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= n_rows * n) return;
    State state = states[at / n];
    sums[at] = cap_slope((float)state.target, cap) * own[at] - (float)(1.0 / state.sum) * sums[at];
}

// Turns capped logits, (R, n), into u ([i = t] - p_i) (1 - z_i^2 / c^2): a block for each row.
extern "C" __global__ void head_logit_gradient(float* logits, const uint32_t* targets, const float* upstream, int n, float cap) {
    float* row = logits + (uint64_t)blockIdx.x * n;
    uint32_t target = targets[blockIdx.x];
    float own = upstream[blockIdx.x] * cap_slope(row[target], cap);
    Normaliser part = normaliser(row, n);
    float scale = (float)((double)-upstream[blockIdx.x] / part.sum);
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < (uint32_t)n; i += blockDim.x) {
        float value = scale * expf(row[i] - part.max) * cap_slope(row[i], cap);
        row[i] = i == target ? value + own : value;
    }
}

KERNEL(head_fold)
KERNEL(head_shrink)
KERNEL(head_weigh)
KERNEL(head_finish)
KERNEL(head_logit_gradient)
