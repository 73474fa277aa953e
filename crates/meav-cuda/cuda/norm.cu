// Root mean square norms. Source: Zhang and Sennrich, 2019, arXiv:1910.07467, Eq. 4.
//
//     y = x / sqrt(mean(x^2) + eps) (w + offset)
#include "reduce.cuh"

// x and y (T, n); one block of whole warps for each row.
template <typename T>
__device__ void norm_row(float* y, const float* x, const T* weight, float offset, float eps, int n) {
    const float* from = x + (uint64_t)blockIdx.x * n;
    float* to = y + (uint64_t)blockIdx.x * n;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum = fmaf(from[i], from[i], sum);
    float scale = 1.0f / sqrtf(block_sum(sum) / n + eps);
    for (int i = threadIdx.x; i < n; i += blockDim.x) to[i] = from[i] * scale * (widen(weight[i]) + offset);
}

// Queries and keys of qkv (T, row_len) head by head, in place: a grid of (T, heads + kv_heads) warps.
template <typename T>
__device__ void norm_head(float* qkv, const T* q_weight, const T* k_weight, float offset, float eps, int n_heads,
                          int head_dim, int row_len) {
    int head = blockIdx.y;
    const T* weight = head < n_heads ? q_weight : k_weight;
    float* values = qkv + (uint64_t)blockIdx.x * row_len + (uint64_t)head * head_dim;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < head_dim; i += WARP_SIZE) sum = fmaf(values[i], values[i], sum);
    float scale = 1.0f / sqrtf(warp_sum(sum) / head_dim + eps);
    for (int i = threadIdx.x; i < head_dim; i += WARP_SIZE) values[i] = values[i] * (scale * (widen(weight[i]) + offset));
}

#define NORMS(norm, heads, T) \
    extern "C" __global__ void norm(float* y, const float* x, const T* weight, float offset, float eps, int n) { \
        norm_row<T>(y, x, weight, offset, eps, n); \
    } \
    extern "C" __global__ void heads(float* qkv, const T* q_weight, const T* k_weight, float offset, float eps, \
                                     int n_heads, int head_dim, int row_len) { \
        norm_head<T>(qkv, q_weight, k_weight, offset, eps, n_heads, head_dim, row_len); \
    } \
    KERNEL(norm) \
    KERNEL(heads)

NORMS(rms_norm_f32, head_norm_f32, float)
NORMS(rms_norm_f16, head_norm_f16, f16)
NORMS(rms_norm_bf16, head_norm_bf16, bf16)
