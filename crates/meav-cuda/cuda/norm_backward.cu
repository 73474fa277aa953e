// Gradients of root mean square norms.
//
//     dx = r ((w + offset) dy) - r^3 x mean((w + offset) dy x)
//     dw += sum over rows of r x dy                              with r = 1 / sqrt(mean(x^2) + eps)
#include "reduce.cuh"

// Parts of each row that are normalised by themselves: `count` of `dim` elements from `start` on.
struct Parts {
    int row_len, start, count, dim;
};

// Turns dy into dx, in place: a grid of (T, count) blocks of whole warps.
template <typename T>
__device__ void backward(float* dy, const float* x, const T* weight, float offset, float eps, Parts parts) {
    uint64_t at = (uint64_t)blockIdx.x * parts.row_len + parts.start + (uint64_t)blockIdx.y * parts.dim;
    float squares = 0.0f, along = 0.0f;
    for (int i = threadIdx.x; i < parts.dim; i += blockDim.x) {
        squares = fmaf(x[at + i], x[at + i], squares);
        along = fmaf(x[at + i], dy[at + i] * (widen(weight[i]) + offset), along);
    }
    float scale = 1.0f / sqrtf(block_sum(squares) / parts.dim + eps);
    along = block_sum(along) / parts.dim * scale * scale;
    for (int i = threadIdx.x; i < parts.dim; i += blockDim.x)
        dy[at + i] = scale * (dy[at + i] * (widen(weight[i]) + offset) - along * x[at + i]);
}

#define BACKWARD(name, T) \
    extern "C" __global__ void name(float* dy, const float* x, const T* weight, float offset, float eps, Parts parts) { \
        backward<T>(dy, x, weight, offset, eps, parts); \
    } \
    KERNEL(name)

BACKWARD(norm_backward_f32, float)
BACKWARD(norm_backward_f16, f16)
BACKWARD(norm_backward_bf16, bf16)

// What each part adds to the weight's gradient, r x dy, a row for each, (T count, dim): the same grid,
// before dx is written over dy.
extern "C" __global__ void norm_weight_parts(float* d_weights, const float* dy, const float* x, float eps, Parts parts) {
    uint64_t at = (uint64_t)blockIdx.x * parts.row_len + parts.start + (uint64_t)blockIdx.y * parts.dim;
    float* to = d_weights + ((uint64_t)blockIdx.x * parts.count + blockIdx.y) * parts.dim;
    float squares = 0.0f;
    for (int i = threadIdx.x; i < parts.dim; i += blockDim.x) squares = fmaf(x[at + i], x[at + i], squares);
    float scale = 1.0f / sqrtf(block_sum(squares) / parts.dim + eps);
    for (int i = threadIdx.x; i < parts.dim; i += blockDim.x) to[i] = scale * x[at + i] * dy[at + i];
}

// Adds all rows of x, (n_rows, n), to `sums`, (n,): a thread for each element, the rows in their order, so
// that the sum is the same whenever it is taken.
extern "C" __global__ void add_rows(float* sums, const float* x, uint64_t n_rows, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float sum = 0.0f;
    for (uint64_t row = 0; row < n_rows; ++row) sum += x[row * n + i];
    sums[i] += sum;
}

// Sums of up to `len` rows of x, (n_rows, n), each a row of `parts`: a grid of blocks over columns and parts.
extern "C" __global__ void sum_rows(float* parts, const float* x, uint64_t n_rows, uint64_t len, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    uint64_t from = blockIdx.y * len, to = from + len < n_rows ? from + len : n_rows;
    float sum = 0.0f;
    for (uint64_t row = from; row < to; ++row) sum += x[row * n + i];
    parts[(uint64_t)blockIdx.y * n + i] = sum;
}

KERNEL(norm_weight_parts)
KERNEL(add_rows)
KERNEL(sum_rows)
