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
KERNEL(embedding_backward)
KERNEL(square_sums)
