// The gradient of what rotary positions and attention took, for tokens that are all new: the cache holds
// the token of row r at place r. Probabilities are computed again. Source: Dao et al., 2022,
// arXiv:2205.14135, Appendix B.2.
//
//     dV = P^T dO,   dA = P o (dO V^T - rows(P o dO V^T)),   dS = s (1 - tanh^2) o dA
//     dQ = dS K,     dK = dS^T Q,      both turned back
//
// Nothing is added up by several blocks at once, so that sums are the same whenever they are taken.
#include "heads.cuh"

// Of a query: the maximum of its scores, one over the sum of their weights, and its row's sum.
struct Stats {
    float max, inverse, along;
};

// Queries, turned, as (T, heads, D): a grid of (T, heads).
extern "C" __global__ void rotate_queries(float* queries, const float* qkv, const float* cos, const float* sin, Heads heads) {
    uint64_t row = blockIdx.x, angle = row * heads.rotary_half;
    const float* from = qkv + row * heads.row_len() + (uint64_t)blockIdx.y * heads.head_dim;
    float* to = queries + (row * heads.n_heads + blockIdx.y) * heads.head_dim;
    for (int i = threadIdx.x; i < heads.head_dim; i += blockDim.x)
        to[i] = rotated(from, i, cos + angle, sin + angle, heads.rotary_half);
}

// Calls `work` with the place of each position that the query in `row` sees, dealt out to the warps.
template <typename Work>
__device__ void for_each_place(Queries own, int row, const int* slots, Rule rule, Work work) {
    int warp = threadIdx.x / WARP_SIZE, n_warps = blockDim.x / WARP_SIZE;
    int first = own.first(row, rule), end = own.end(row), passed = 0;
    for (int range = own.slots_begin; range < own.slots_end; ++range) {
        int from = slots[2 * range], n = slots[2 * range + 1] - from;
        int begin = first > passed ? first - passed : 0, stop = end - passed < n ? end - passed : n;
        int shift = (begin + passed) % n_warps;
        for (int i = begin + (warp - shift + n_warps) % n_warps; i < stop; i += n_warps) work(from + i);
        passed += n;
    }
}

// Of every thread's warp one value; everybody gets all of them combined, in the order of the warps.
template <typename Combine>
__device__ float over_warps(float value, float* shared, Combine combine) {
    __syncthreads();
    if (threadIdx.x % WARP_SIZE == 0) shared[threadIdx.x / WARP_SIZE] = value;
    __syncthreads();
    float all = shared[0];
    for (unsigned i = 1; i < blockDim.x / WARP_SIZE; ++i) all = combine(all, shared[i]);
    return all;
}

// dQ turned back, into the queries' columns of d_qkv, and each query's stats, (T, heads): a block of
// whole warps for a query of one head, a grid of (T, heads).
template <int LANE_DIMS>
__device__ void queries_backward(float* d_qkv, Stats* stats, const float* queries, const float* keys, const float* values,
                                 const float* d_out, const float* cos, const float* sin, const Queries* blocks,
                                 const int* block_of_row, const int* slots, Heads heads, Rule rule, int capacity) {
    DYNAMIC_SHARED(float, shared);
    int row = blockIdx.x, head = blockIdx.y, dim = heads.head_dim;
    int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE, n_warps = blockDim.x / WARP_SIZE;
    Queries own = blocks[block_of_row[row]];
    uint64_t query_at = ((uint64_t)row * heads.n_heads + head) * dim;
    uint64_t start = (uint64_t)(head / heads.group()) * capacity;
    float query[LANE_DIMS], d_own[LANE_DIMS];
    for (int i = 0; i < LANE_DIMS; ++i) {
        int at = lane + i * WARP_SIZE;
        query[i] = at < dim ? queries[query_at + at] : 0.0f;
        d_own[i] = at < dim ? d_out[query_at + at] : 0.0f;
    }

    // The sums so far are scaled down whenever a larger score turns up.
    float max = -INFINITY, sum = 0.0f, along = 0.0f;
    for_each_place(own, row, slots, rule, [&](int place) {
        uint64_t at = (start + place) * dim;
        float score = bent(dot(query, keys + at, dim), rule), slope = dot(d_own, values + at, dim);
        float larger = fmaxf(max, score), shrink = expf(max - larger), weight = expf(score - larger);
        sum = fmaf(sum, shrink, weight);
        along = fmaf(along, shrink, weight * slope);
        max = larger;
    });
    float all_max = over_warps(max, shared, [](float a, float b) { return fmaxf(a, b); });
    auto add = [](float a, float b) { return a + b; };
    float shrink = expf(max - all_max);
    float inverse = 1.0f / over_warps(sum * shrink, shared, add);
    along = over_warps(along * shrink, shared, add) * inverse;
    if (threadIdx.x == 0) stats[(uint64_t)row * heads.n_heads + head] = Stats{all_max, inverse, along};

    float gradient[LANE_DIMS] = {};
    for_each_place(own, row, slots, rule, [&](int place) {
        uint64_t at = (start + place) * dim;
        float score = bent(dot(query, keys + at, dim), rule), slope = dot(d_own, values + at, dim);
        float d_score = expf(score - all_max) * inverse * (slope - along) * bent_slope(score, rule);
        for (int i = 0; i < LANE_DIMS; ++i) {
            int element = lane + i * WARP_SIZE;
            if (element < dim) gradient[i] = fmaf(d_score, keys[at + element], gradient[i]);
        }
    });
    __syncthreads();
    for (int i = 0; i < LANE_DIMS; ++i) {
        int at = lane + i * WARP_SIZE;
        if (at < dim) shared[warp * dim + at] = gradient[i];
    }
    __syncthreads();
    for (int at = threadIdx.x; at < dim; at += blockDim.x)
        for (int i = 1; i < n_warps; ++i) shared[at] += shared[i * dim + at];
    __syncthreads();
    uint64_t angle = (uint64_t)row * heads.rotary_half;
    float* to = d_qkv + (uint64_t)row * heads.row_len() + (uint64_t)head * dim;
    for (int at = threadIdx.x; at < dim; at += blockDim.x)
        to[at] = rotated_back(shared, at, cos + angle, sin + angle, heads.rotary_half);
}

// Where the place stands among those that a block of queries sees, or -1.
__device__ inline int index_of(int place, Queries queries, const int* slots) {
    int passed = 0;
    for (int range = queries.slots_begin; range < queries.slots_end; ++range) {
        int from = slots[2 * range], to = slots[2 * range + 1];
        if (place >= from && place < to) return passed + place - from;
        passed += to - from;
    }
    return -1;
}

// dK, turned back, and dV of one place, into their columns of d_qkv: a block of whole warps, a grid of
// (T, kv_heads). The warps take queries in turns, each its own sums, added up in the order of the warps.
template <int LANE_DIMS>
__device__ void keys_backward(float* d_qkv, const Stats* stats, const float* queries, const float* keys, const float* values,
                              const float* d_out, const float* cos, const float* sin, const Queries* blocks, int n_blocks,
                              const int* slots, Heads heads, Rule rule, int capacity) {
    DYNAMIC_SHARED(float, shared);
    int place = blockIdx.x, kv_head = blockIdx.y, dim = heads.head_dim, group = heads.group();
    int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE, n_warps = blockDim.x / WARP_SIZE;
    uint64_t own_at = ((uint64_t)kv_head * capacity + place) * dim;
    float key[LANE_DIMS], value[LANE_DIMS], d_key[LANE_DIMS] = {}, d_value[LANE_DIMS] = {};
    for (int i = 0; i < LANE_DIMS; ++i) {
        int at = lane + i * WARP_SIZE;
        key[i] = at < dim ? keys[own_at + at] : 0.0f;
        value[i] = at < dim ? values[own_at + at] : 0.0f;
    }
    for (int block = 0; block < n_blocks; ++block) {
        Queries seen_by = blocks[block];
        int index = index_of(place, seen_by, slots);
        if (index < 0) continue;
        for (int i = warp; i < seen_by.len * group; i += n_warps) {
            int row = seen_by.row + i / group, head = kv_head * group + i % group;
            if (index >= seen_by.end(row) || index < seen_by.first(row, rule)) continue;
            uint64_t query = (uint64_t)row * heads.n_heads + head, at = query * dim;
            Stats own = stats[query];
            float score = bent(dot(key, queries + at, dim), rule), slope = dot(value, d_out + at, dim);
            float probability = expf(score - own.max) * own.inverse;
            float d_score = probability * (slope - own.along) * bent_slope(score, rule);
            for (int j = 0; j < LANE_DIMS; ++j) {
                int element = lane + j * WARP_SIZE;
                if (element < dim) {
                    d_key[j] = fmaf(d_score, queries[at + element], d_key[j]);
                    d_value[j] = fmaf(probability, d_out[at + element], d_value[j]);
                }
            }
        }
    }
    float* d_keys = shared;
    float* d_values = shared + n_warps * dim;
    for (int i = 0; i < LANE_DIMS; ++i) {
        int at = lane + i * WARP_SIZE;
        if (at < dim) {
            d_keys[warp * dim + at] = d_key[i];
            d_values[warp * dim + at] = d_value[i];
        }
    }
    __syncthreads();
    for (int at = threadIdx.x; at < dim; at += blockDim.x)
        for (int i = 1; i < n_warps; ++i) {
            d_keys[at] += d_keys[i * dim + at];
            d_values[at] += d_values[i * dim + at];
        }
    __syncthreads();
    uint64_t angle = (uint64_t)place * heads.rotary_half;
    float* to = d_qkv + (uint64_t)place * heads.row_len();
    for (int at = threadIdx.x; at < dim; at += blockDim.x) {
        to[(heads.n_heads + kv_head) * dim + at] = rotated_back(d_keys, at, cos + angle, sin + angle, heads.rotary_half);
        to[(heads.n_heads + heads.n_kv_heads + kv_head) * dim + at] = d_values[at];
    }
}

KERNEL(rotate_queries)
FOR_HEADS(attention_backward_queries, queries_backward,
          (float* d_qkv, Stats* stats, const float* queries, const float* keys, const float* values, const float* d_out,
           const float* cos, const float* sin, const Queries* blocks, const int* block_of_row, const int* slots, Heads heads,
           Rule rule, int capacity),
          (d_qkv, stats, queries, keys, values, d_out, cos, sin, blocks, block_of_row, slots, heads, rule, capacity))
FOR_HEADS(attention_backward_keys, keys_backward,
          (float* d_qkv, const Stats* stats, const float* queries, const float* keys, const float* values, const float* d_out,
           const float* cos, const float* sin, const Queries* blocks, int n_blocks, const int* slots, Heads heads, Rule rule,
           int capacity),
          (d_qkv, stats, queries, keys, values, d_out, cos, sin, blocks, n_blocks, slots, heads, rule, capacity))
