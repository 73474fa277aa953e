// What attention is made of, forward and backward.
#pragma once

#include "reduce.cuh"

// How heads lie in a row of projected queries, keys and values: [q ... | k ... | v ...].
struct Heads {
    int n_heads, n_kv_heads, head_dim;
    // Elements that are turned, halved.
    int rotary_half;

    __device__ int row_len() const { return (n_heads + 2 * n_kv_heads) * head_dim; }
    __device__ int group() const { return n_heads / n_kv_heads; }
};

struct Rule {
    float scale;
    // 0 for none.
    float softcap;
    // Positions that a token sees, its own included; 0 for all.
    int window;
};

// Queries of one sequence that lie side by side, and what they see: `lowest` is the first position that
// any of them sees, `slots_begin..slots_end` the pairs (from, to) of places in the cache of the positions
// from there on.
struct Queries {
    int row, len, position, lowest, slots_begin, slots_end;

    // Which of the positions from `lowest` on the query in this row sees: those before `end`.
    __device__ int end(int at_row) const { return position + at_row - row + 1 - lowest; }
    __device__ int first(int at_row, Rule rule) const {
        int first = rule.window == 0 ? 0 : end(at_row) - rule.window;
        return first < 0 ? 0 : first;
    }
};

// Element i together with i + half; the rest stays.
__device__ inline float rotated(const float* from, int i, const float* cos, const float* sin, int half) {
    if (i < half) return from[i] * cos[i] - from[i + half] * sin[i];
    if (i < 2 * half) return from[i] * cos[i - half] + from[i - half] * sin[i - half];
    return from[i];
}

// The gradient of what `rotated` takes, given that of what it gives.
__device__ inline float rotated_back(const float* from, int i, const float* cos, const float* sin, int half) {
    if (i < half) return from[i] * cos[i] + from[i + half] * sin[i];
    if (i < 2 * half) return from[i] * cos[i - half] - from[i - half] * sin[i - half];
    return from[i];
}

__device__ inline float bent(float score, Rule rule) {
    score *= rule.scale;
    return rule.softcap == 0.0f ? score : rule.softcap * tanhf(score / rule.softcap);
}

// What `bent` changes by with the score, where it gives `value`.
__device__ inline float bent_slope(float value, Rule rule) {
    float part = rule.softcap == 0.0f ? 0.0f : value / rule.softcap;
    return rule.scale * (1.0f - part * part);
}

// The lanes' parts of a product of two heads' elements, added up; a lane holds up to LANE_DIMS of them.
template <int LANE_DIMS>
__device__ float dot(const float (&own)[LANE_DIMS], const float* values, int dim) {
    float sum = 0.0f;
    for (int i = 0; i < LANE_DIMS; ++i) {
        int at = threadIdx.x % WARP_SIZE + i * WARP_SIZE;
        if (at < dim) sum = fmaf(own[i], values[at], sum);
    }
    return warp_sum(sum);
}

// Kernels for heads of up to 64, 128 and 256 elements.
#define FOR_HEADS(name, work, PARAMETERS, ARGUMENTS) \
    extern "C" __global__ void name##_64 PARAMETERS { work<2> ARGUMENTS; } \
    KERNEL(name##_64) \
    extern "C" __global__ void name##_128 PARAMETERS { work<4> ARGUMENTS; } \
    KERNEL(name##_128) \
    extern "C" __global__ void name##_256 PARAMETERS { work<8> ARGUMENTS; } \
    KERNEL(name##_256)
