// The next token, drawn from logits.
#include "reduce.cuh"

struct Sampling {
    // 1 over the temperature; 0 takes the likeliest token.
    float sharpness;
    float top_p;
    float min_p;
    // Divides positive logits of recent tokens and multiplies negative ones.
    float penalty;
    // All tokens if 0.
    uint32_t top_k;
    // In [0, 1).
    float draw;
};

const int SAMPLE_THREADS = 1024;

const uint32_t NO_TOKEN = 0xffffffffu;

// The bits of 1: weights, the likeliest token's being 1, are none above.
const uint32_t ONE_BITS = 0x3f800000u;

// Sum of `each(weight)` over the weights from `lowest` on.
template <typename Each>
__device__ float sum_from(const float* weights, int n, float lowest, Each each) {
    float sum = 0.0f;
    UNROLL_BY(8) for (int i = threadIdx.x; i < n; i += blockDim.x)
        sum += weights[i] >= lowest ? each(weights[i]) : 0.0f;
    return block_sum(sum);
}

// The largest number for which the sum over weights from there on reaches `enough`: the order of bits
// is that of positive numbers. 0 if there is none.
template <typename Each>
__device__ float highest_from(const float* weights, int n, float lowest, float enough, Each each) {
    uint32_t reached = 0;
    for (uint32_t bit = 1u << 29; bit > 0; bit /= 2) {
        uint32_t tried = reached | bit;
        if (tried > ONE_BITS) continue;
        float from = fmaxf(bits_to_float(tried), lowest);
        if (sum_from(weights, n, from, each) >= enough) reached = tried;
    }
    return bits_to_float(reached);
}

__device__ inline uint32_t likeliest(const float* logits, int n, float max) {
    // Numbers of tokens are exact in f32.
    float first = (float)n;
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        if (logits[i] == max) first = fminf(first, (float)i);
    first = -block_max(-first);
    return first < (float)n ? (uint32_t)first : 0u;
}

// One block; `logits`, (n,), are written over. `recent` has no token twice. Where logits are no numbers
// there is no token, NO_TOKEN.
extern "C" __global__ void __launch_bounds__(SAMPLE_THREADS) sample(uint32_t* token, float* logits, const uint32_t* recent, int n_recent, Sampling sampling, int n) {
    __shared__ float sums[SAMPLE_THREADS];
    for (int i = threadIdx.x; i < n_recent; i += blockDim.x) {
        float logit = logits[recent[i]];
        logits[recent[i]] = logit >= 0.0f ? logit / sampling.penalty : logit * sampling.penalty;
    }
    __syncthreads();
    float max = -INFINITY, n_bad = 0.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        max = fmaxf(max, logits[i]);
        n_bad += isnan(logits[i]) ? 1.0f : 0.0f;
    }
    max = block_max(max);
    if (block_sum(n_bad) > 0.0f || isinf(max)) {
        if (threadIdx.x == 0) *token = NO_TOKEN;
        return;
    }
    if (sampling.sharpness == 0.0f) {
        uint32_t first = likeliest(logits, n, max);
        if (threadIdx.x == 0) *token = first;
        return;
    }
    float* weights = logits;
    for (int i = threadIdx.x; i < n; i += blockDim.x) weights[i] = expf((logits[i] - max) * sampling.sharpness);
    __syncthreads();

    auto itself = [](float weight) { return weight; };
    auto one = [](float) { return 1.0f; };
    float lowest = sampling.min_p, enough = sampling.top_p * sum_from(weights, n, 0.0f, itself);
    if (sampling.top_k > 0 && sampling.top_k < (uint32_t)n)
        lowest = fmaxf(lowest, highest_from(weights, n, 0.0f, (float)sampling.top_k, one));
    if (sampling.top_p < 1.0f) lowest = fmaxf(lowest, highest_from(weights, n, lowest, enough, itself));

    // Each thread adds up tokens next to each other; the first one finds among the sums the thread, and
    // among its tokens the token.
    int per_thread = (n + blockDim.x - 1) / blockDim.x;
    int from = threadIdx.x * per_thread, to = from + per_thread < n ? from + per_thread : n;
    float sum = 0.0f;
    for (int i = from; i < to; ++i) sum += weights[i] >= lowest ? weights[i] : 0.0f;
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x > 0) return;
    float total = 0.0f;
    for (unsigned i = 0; i < blockDim.x; ++i) total += sums[i];
    float left = sampling.draw * total;
    // Rounding may leave a little behind the last one, which is taken then.
    unsigned owner = 0;
    for (unsigned i = 0; i < blockDim.x; ++i) {
        if (sums[i] == 0.0f) continue;
        owner = i;
        if (left < sums[i]) break;
        left -= sums[i];
    }
    uint32_t found = 0;
    for (int i = owner * per_thread; i < (int)(owner + 1) * per_thread && i < n; ++i) {
        if (weights[i] < lowest || weights[i] == 0.0f) continue;
        found = (uint32_t)i;
        if (left < weights[i]) break;
        left -= weights[i];
    }
    *token = found;
}

KERNEL(sample)
