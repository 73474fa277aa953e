// The gradient of the gated activation.
//
//     dx = [a'(g) u dy | a(g) dy]      for x = [g | u]
//     a'(g) = s (1 + g (1 - s) z')     with a(g) = g s, s = sigma(z); z = g for SiLU, and
//                                      z = sqrt(8 / pi) (g + 0.044715 g^3) for GELU
#include "numbers.cuh"

// gate_up and the result are (T, 2 n), dy (T, n).
extern "C" __global__ void gated_backward(float* dx, const float* gate_up, const float* dy, uint64_t n_rows, int n, int is_gelu) {
    const float ROOT_8_OVER_PI = 1.5957691216057308f, CUBIC = 0.044715f;
    uint64_t at = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= n_rows * n) return;
    uint64_t gate_at = at / n * 2 * n + at % n, up_at = gate_at + n;
    float gate = gate_up[gate_at], up = gate_up[up_at];
    float z = gate, z_slope = 1.0f;
    if (is_gelu) {
        float square = CUBIC * gate * gate;
        z = ROOT_8_OVER_PI * fmaf(square, gate, gate);
        z_slope = ROOT_8_OVER_PI * fmaf(3.0f, square, 1.0f);
    }
    float sigmoid = 1.0f / (1.0f + expf(-z));
    float slope = sigmoid * fmaf(gate * (1.0f - sigmoid), z_slope, 1.0f);
    dx[gate_at] = slope * up * dy[at];
    dx[up_at] = gate * sigmoid * dy[at];
}

KERNEL(gated_backward)
