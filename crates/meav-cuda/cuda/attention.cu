// Rotary positions and attention over a cache of keys and values, as `meav-model`'s module
// `kernels::attention` on the CPU.
//
//     softmax(c tanh(s q K^T / c)) V     with scale s and soft cap c, or without cap: softmax(s q K^T) V
//
// Source: Vaswani et al., 2017, arXiv:1706.03762, Eq. 1; grouped queries, sliding windows and soft caps
// as there. The softmax is kept up while keys go by (Dao et al., 2022, arXiv:2205.14135).
#include "heads.cuh"

// Turns the new keys and puts them and the new values behind what the cache, (kv_heads, capacity, D),
// holds: a grid of (T, kv_heads).
extern "C" __global__ void append_to_cache(float* keys, float* values, const float* qkv, const float* cos, const float* sin,
                                           Heads heads, int position, int capacity) {
    int row = blockIdx.x, head = blockIdx.y, dim = heads.head_dim, half = heads.rotary_half;
    const float* own = qkv + (uint64_t)row * heads.row_len();
    const float* key = own + (heads.n_heads + head) * dim;
    const float* value = own + (heads.n_heads + heads.n_kv_heads + head) * dim;
    uint64_t at = ((uint64_t)head * capacity + position + row) * dim;
    for (int i = threadIdx.x; i < dim; i += blockDim.x) {
        keys[at + i] = rotated(key, i, cos + (uint64_t)row * half, sin + (uint64_t)row * half, half);
        values[at + i] = value[i];
    }
}

// A softmax that is not whole yet: its maximum, the sum of its weights, and a lane's part of the sum of
// weighted values.
template <int LANE_DIMS>
struct Partial {
    float max, sum, values[LANE_DIMS];
};

// Keys that a warp takes at once: one would wait for the other.
const int KEYS = 4;

// Takes more keys and their values in.
template <int LANE_DIMS>
__device__ void take(Partial<LANE_DIMS>& partial, const float (&scores)[KEYS], const float* const (&values)[KEYS], int head_dim) {
    float max = partial.max, weights[KEYS];
    for (int k = 0; k < KEYS; ++k) max = fmaxf(max, scores[k]);
    float shrink = expf(partial.max - max);
    partial.sum *= shrink;
    for (int k = 0; k < KEYS; ++k) {
        weights[k] = expf(scores[k] - max);
        partial.sum += weights[k];
    }
    for (int i = 0; i < LANE_DIMS; ++i) {
        int at = threadIdx.x % WARP_SIZE + i * WARP_SIZE;
        if (at >= head_dim) continue;
        float value = partial.values[i] * shrink;
        for (int k = 0; k < KEYS; ++k) value = fmaf(weights[k], values[k][at], value);
        partial.values[i] = value;
    }
    partial.max = max;
}

// One block of `warps` warps for a query of one head: a grid of (T, heads). The warps take keys in turns
// and put together what they found. The result is (T, heads D).
template <int LANE_DIMS>
__device__ void attend(float* out, const float* qkv, const float* keys, const float* values, const float* cos,
                       const float* sin, const Queries* blocks, const int* block_of_row, const int* slots, Heads heads,
                       Rule rule, int capacity) {
    DYNAMIC_SHARED(float, shared);
    int row = blockIdx.x, head = blockIdx.y, dim = heads.head_dim;
    int warp = threadIdx.x / WARP_SIZE, n_warps = blockDim.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    Queries own = blocks[block_of_row[row]];
    int first = own.first(row, rule), end = own.end(row);

    const float* from = qkv + (uint64_t)row * heads.row_len() + (uint64_t)head * dim;
    float query[LANE_DIMS];
    for (int i = 0; i < LANE_DIMS; ++i) {
        int at = lane + i * WARP_SIZE;
        uint64_t angle = (uint64_t)row * heads.rotary_half;
        query[i] = at < dim ? rotated(from, at, cos + angle, sin + angle, heads.rotary_half) : 0.0f;
    }
    uint64_t start = (uint64_t)(head / (heads.group())) * capacity;
    Partial<LANE_DIMS> partial = {-INFINITY, 0.0f, {}};
    int passed = 0;
    for (int range = own.slots_begin; range < own.slots_end; ++range) {
        int from_slot = slots[2 * range], n = slots[2 * range + 1] - from_slot;
        int begin = first > passed ? first - passed : 0, stop = end - passed < n ? end - passed : n;
        // Keys are dealt out by their positions, so that no warp goes short where ranges are.
        int shift = (begin + passed) % n_warps;
        for (int i = begin + (warp - shift + n_warps) % n_warps; i < stop; i += KEYS * n_warps) {
            float scores[KEYS];
            const float* own_values[KEYS];
            for (int k = 0; k < KEYS; ++k) {
                // What is not there weighs nothing.
                bool is_there = i + k * n_warps < stop;
                uint64_t at = (start + from_slot + (is_there ? i + k * n_warps : i)) * dim;
                float score = bent(dot(query, keys + at, dim), rule);
                scores[k] = is_there ? score : -INFINITY;
                own_values[k] = values + at;
            }
            take(partial, scores, own_values, dim);
        }
        passed += n;
    }

    // Maxima and sums of all warps, then their values.
    float* maxima = shared;
    float* sums = shared + n_warps;
    float* parts = shared + 2 * n_warps;
    if (lane == 0) {
        maxima[warp] = partial.max;
        sums[warp] = partial.sum;
    }
    for (int i = 0; i < LANE_DIMS; ++i) {
        int at = lane + i * WARP_SIZE;
        if (at < dim) parts[warp * dim + at] = partial.values[i];
    }
    __syncthreads();
    float max = -INFINITY, sum = 0.0f;
    for (int i = 0; i < n_warps; ++i) max = fmaxf(max, maxima[i]);
    for (int i = 0; i < n_warps; ++i) sum += sums[i] * expf(maxima[i] - max);
    for (int at = threadIdx.x; at < dim; at += blockDim.x) {
        float value = 0.0f;
        for (int i = 0; i < n_warps; ++i) value = fmaf(expf(maxima[i] - max), parts[i * dim + at], value);
        out[((uint64_t)row * heads.n_heads + head) * dim + at] = value / sum;
    }
}

KERNEL(append_to_cache)
FOR_HEADS(attention, attend,
          (float* out, const float* qkv, const float* keys, const float* values, const float* cos, const float* sin,
           const Queries* blocks, const int* block_of_row, const int* slots, Heads heads, Rule rule, int capacity),
          (out, qkv, keys, values, cos, sin, blocks, block_of_row, slots, heads, rule, capacity))
