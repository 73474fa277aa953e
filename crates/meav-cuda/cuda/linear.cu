// Products of few rows with weight matrices: bound by reading the weights, which are read once.
#include "reduce.cuh"

// Of weights of several projections of the same input, whose outputs stand side by side: outputs up to
// each one's end.
struct Ends {
    int at[4];
};

// Rows of x that one pass takes.
const int MAX_ROWS = 8;

// Elements that a lane reads at once: 16 bytes of the narrow types.
const int CHUNK = 8;

template <typename T>
struct alignas(sizeof(T) * CHUNK > 16 ? 16 : sizeof(T) * CHUNK) Chunk {
    T values[CHUNK];
};

// y (T, n_out) = x (T, n_in) W^T, T up to MAX_ROWS: a warp for each output. `n_in` is a multiple of CHUNK.
template <typename T, int N>
__device__ void multiply(float* y, const float* x, const T* weight, int n_in, int n_out, int out) {
    int lane = threadIdx.x % WARP_SIZE;
    float sums[N] = {};
    for (int i = lane * CHUNK; i < n_in; i += WARP_SIZE * CHUNK) {
        Chunk<T> weights = *reinterpret_cast<const Chunk<T>*>(weight + i);
        for (int row = 0; row < N; ++row) {
            Chunk<float> inputs = *reinterpret_cast<const Chunk<float>*>(x + (uint64_t)row * n_in + i);
            for (int j = 0; j < CHUNK; ++j) sums[row] = fmaf(inputs.values[j], widen(weights.values[j]), sums[row]);
        }
    }
    for (int row = 0; row < N; ++row) {
        float sum = warp_sum(sums[row]);
        if (lane == 0) y[(uint64_t)row * n_out + out] = sum;
    }
}

template <typename T>
__device__ void multiply_rows(float* y, const float* x, const T* weight, int n_out, int own, int out, int n_rows,
                              int n_in) {
    weight += (uint64_t)own * n_in;
    switch (n_rows) {
    case 1: multiply<T, 1>(y, x, weight, n_in, n_out, out); break;
    case 2: multiply<T, 2>(y, x, weight, n_in, n_out, out); break;
    case 3: multiply<T, 3>(y, x, weight, n_in, n_out, out); break;
    case 4: multiply<T, 4>(y, x, weight, n_in, n_out, out); break;
    case 5: multiply<T, 5>(y, x, weight, n_in, n_out, out); break;
    case 6: multiply<T, 6>(y, x, weight, n_in, n_out, out); break;
    case 7: multiply<T, 7>(y, x, weight, n_in, n_out, out); break;
    default: multiply<T, MAX_ROWS>(y, x, weight, n_in, n_out, out);
    }
}

// Weights (ends[i] - ends[i - 1], n_in), of which there are `n`.
#define LINEAR(name, T) \
    extern "C" __global__ void name(float* y, const float* x, const T* a, const T* b, const T* c, const T* d, Ends ends, \
                                    int n, int n_rows, int n_in) { \
        int out = blockIdx.x * (blockDim.x / WARP_SIZE) + threadIdx.x / WARP_SIZE, n_out = ends.at[n - 1]; \
        if (out >= n_out) return; \
        int panel = 0; \
        while (out >= ends.at[panel]) ++panel; \
        const T* weight = panel == 0 ? a : panel == 1 ? b : panel == 2 ? c : d; \
        int own = panel == 0 ? out : out - ends.at[panel - 1]; \
        multiply_rows<T>(y, x, weight, n_out, own, out, n_rows, n_in); \
    } \
    KERNEL(name)

LINEAR(linear_f32, float)
LINEAR(linear_f16, f16)
LINEAR(linear_bf16, bf16)

// Columns from `start` on of y, (T, row_len), += bias, (n,): a grid of (T, columns) threads.
#define ADD_BIAS(name, T) \
    extern "C" __global__ void name(float* y, const T* bias, int row_len, int start, int n) { \
        int i = blockIdx.y * blockDim.x + threadIdx.x; \
        if (i < n) y[(uint64_t)blockIdx.x * row_len + start + i] += widen(bias[i]); \
    } \
    KERNEL(name)

ADD_BIAS(add_bias_f32, float)
ADD_BIAS(add_bias_f16, f16)
ADD_BIAS(add_bias_bf16, bf16)
