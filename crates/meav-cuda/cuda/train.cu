// What a step of training does beside the passes through the model.
#include "reduce.cuh"

// Adds to rows of grad, (V, n), those of dx, (T, n), that belong to them: a block for each of the tokens
// that occur, whose rows of dx are `order[starts[i]..starts[i + 1]]`, in their order.
extern "C" __global__ void embedding_backward(float* grad, const float* dx, const uint32_t* tokens, const uint32_t* order,
                                              const uint32_t* starts, int n) {
    uint32_t from = starts[blockIdx.x], to = starts[blockIdx.x + 1];
    float* row = grad + (uint64_t)tokens[order[from]] * n;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        float sum = row[i];
        for (uint32_t at = from; at < to; ++at) sum += dx[(uint64_t)order[at] * n + i];
        row[i] = sum;
    }
}

// Squares of `n` elements added up in double precision, a part for each block.
extern "C" __global__ void square_sums(double* sums, const float* x, uint64_t n) {
    __shared__ double of_threads[256];
    double sum = 0.0;
    for (uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (uint64_t)gridDim.x * blockDim.x)
        sum += (double)x[i] * (double)x[i];
    of_threads[threadIdx.x] = sum;
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) of_threads[threadIdx.x] += of_threads[threadIdx.x + half];
    }
    if (threadIdx.x == 0) sums[blockIdx.x] = of_threads[0];
}

// A step of AdamW; see `meav-train`, module `optimizer`. Each operation rounds by itself.
struct Update {
    float gradient_scale, keep, rate, root_correction;
};

__device__ inline float updated(Update update, float weight, float gradient, float& m, float& v) {
    const float ONE_LESS_BETA_1 = (float)(1.0 - 0.9), ONE_LESS_BETA_2 = (float)(1.0 - 0.999);
    float g = gradient * update.gradient_scale;
    m = m + ONE_LESS_BETA_1 * (g - m);
    v = 0.999f * v + ONE_LESS_BETA_2 * (g * g);
    float root = sqrtf(v) / update.root_correction + 1e-8f;
    return weight * update.keep - update.rate * (m / root);
}

// `rounded` is what the model reads: `weights` themselves where that is f32.
template <typename T>
__device__ void adamw(float* weights, T* rounded, const float* gradient, float* m, float* v, uint64_t n, Update update) {
    uint64_t at = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= n) return;
    float weight = updated(update, weights[at], gradient[at], m[at], v[at]);
    weights[at] = weight;
    if (sizeof(T) != sizeof(float)) rounded[at] = round_to<T>(weight);
}

#define ADAMW(name, T) \
    extern "C" __global__ void name(float* weights, T* rounded, const float* gradient, float* m, float* v, uint64_t n, Update update) { \
        adamw<T>(weights, rounded, gradient, m, v, n, update); \
    } \
    KERNEL(name)

ADAMW(adamw_f32, float)
ADAMW(adamw_f16, f16)
ADAMW(adamw_bf16, bf16)

// Moments in eight bits, in blocks with a scale each; see `meav-train`, module `optimizer::eight_bit`.
const int BLOCK = 256;
const int DROPPED_BITS = 20;
const uint32_t CODE_OF_ONE = 127u << 3, SIGN = 0x80;
// The largest codes; among those beside a sign, 0 stands for 0.
const uint32_t SIGNED = 127, POSITIVE = 255;

__device__ inline float decoded(uint32_t code, uint32_t largest) {
    float x = bits_to_float((code + CODE_OF_ONE - largest) << DROPPED_BITS);
    return largest == SIGNED && code == 0 ? 0.0f : x;
}

__device__ inline uint32_t encoded(float x, uint32_t largest, uint32_t noise) {
    uint32_t bits = (float_to_bits(x) + (noise >> (32 - DROPPED_BITS))) >> DROPPED_BITS;
    uint32_t smallest = CODE_OF_ONE - largest, code = bits > smallest ? bits - smallest : 0;
    return code < largest ? code : largest;
}

// Source: Wellons, 2018, "Prospecting for hash functions" (`lowbias32`).
__device__ inline uint32_t noise(uint32_t seed, uint32_t index) {
    uint32_t x = seed + index * 0x9e3779b9u;
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

// Source: Steele et al., 2014, doi:10.1145/2660193.2660195.
__device__ inline uint32_t block_seed(uint64_t seed, uint64_t block) {
    uint64_t z = (seed * 0xd1290be18a5f6f3bu) ^ (block * 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) >> 32);
}

// Codes are filled up to whole blocks.
struct Moments {
    uint8_t* codes;
    float* scales;

    __device__ float signed_moment() const {
        uint32_t code = codes[at()];
        float size = decoded(code & ~SIGN, SIGNED) * scales[blockIdx.x];
        return bits_to_float(float_to_bits(size) | ((code & SIGN) << 24));
    }

    __device__ float positive_moment() const { return decoded(codes[at()], POSITIVE) * scales[blockIdx.x]; }

    // All threads of the block come here, with 0 behind the last element.
    __device__ void write(float x, uint32_t largest, uint32_t seed) const {
        float scale = block_max(fabsf(x));
        float size = fabsf(x) / (scale > 0.0f ? scale : 1.0f);
        uint32_t sign = largest == SIGNED ? (float_to_bits(x) >> 24) & SIGN : 0;
        codes[at()] = (uint8_t)(encoded(size, largest, noise(seed, threadIdx.x)) | sign);
        if (threadIdx.x == 0) scales[blockIdx.x] = scale;
    }

    __device__ uint64_t at() const { return (uint64_t)blockIdx.x * BLOCK + threadIdx.x; }
};

template <typename T>
__device__ void adamw_in_blocks(float* weights, T* rounded, const float* gradient, Moments m, Moments v, uint64_t n,
                                Update update, uint64_t seed) {
    uint64_t at = m.at();
    float mean = 0.0f, square = 0.0f;
    if (at < n) {
        mean = m.signed_moment();
        square = v.positive_moment();
        float weight = updated(update, weights[at], gradient[at], mean, square);
        weights[at] = weight;
        if (sizeof(T) != sizeof(float)) rounded[at] = round_to<T>(weight);
    }
    // All have read the old scales before a thread writes the new ones: they look for the largest together.
    m.write(mean, SIGNED, block_seed(seed, 2 * (uint64_t)blockIdx.x));
    v.write(square, POSITIVE, block_seed(seed, 2 * (uint64_t)blockIdx.x + 1));
}

#define ADAMW_IN_BLOCKS(name, T) \
    extern "C" __global__ void name(float* weights, T* rounded, const float* gradient, uint8_t* m_codes, float* m_scales, \
                                    uint8_t* v_codes, float* v_scales, uint64_t n, Update update, uint64_t seed) { \
        adamw_in_blocks<T>(weights, rounded, gradient, Moments{m_codes, m_scales}, Moments{v_codes, v_scales}, n, update, \
                           seed); \
    } \
    KERNEL(name)

ADAMW_IN_BLOCKS(adamw_in_blocks_f32, float)
ADAMW_IN_BLOCKS(adamw_in_blocks_f16, f16)
ADAMW_IN_BLOCKS(adamw_in_blocks_bf16, bf16)

KERNEL(embedding_backward)
KERNEL(square_sums)
