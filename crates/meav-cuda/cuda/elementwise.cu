// What is done element by element.
#include "numbers.cuh"

__device__ inline float silu(float x) { return x / (1.0f + expf(-x)); }

// (1 + tanh z) / 2 is sigma(2 z), with z = sqrt(2 / pi) (x + 0.044715 x^3).
__device__ inline float gelu_tanh(float x) {
    const float ROOT_8_OVER_PI = 1.5957691216057308f, CUBIC = 0.044715f;
    return x / (1.0f + expf(-ROOT_8_OVER_PI * fmaf(CUBIC * x * x, x, x)));
}

// y = a(g) u for x = [g | u], (T, 2 n); the result is (T, n). Source: Shazeer, 2020, arXiv:2002.05202, Eq. 5.
extern "C" __global__ void gated(float* y, const float* x, uint64_t n_rows, int n, int is_gelu) {
    uint64_t at = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= n_rows * n) return;
    uint64_t row = at / n, i = at % n;
    float gate = x[2 * row * n + i], up = x[(2 * row + 1) * n + i];
    y[at] = (is_gelu ? gelu_tanh(gate) : silu(gate)) * up;
}

// y = cap tanh(x / cap), in place. Source: Gemma Team, 2024, arXiv:2408.00118, Section 2.
extern "C" __global__ void soft_cap(float* x, uint64_t n, float cap) {
    uint64_t at = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at < n) x[at] = cap * tanhf(x[at] / cap);
}

// y += scale x
extern "C" __global__ void add_to(float* y, const float* x, float scale, uint64_t n) {
    uint64_t at = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at < n) y[at] = fmaf(scale, x[at], y[at]);
}

KERNEL(gated)
KERNEL(soft_cap)
KERNEL(add_to)
