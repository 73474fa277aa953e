// Log-probabilities of tokens, without those of all others.
//
//     log p = z_t - max z - log sum exp(z - max z)
#include "reduce.cuh"

// One block of whole warps for each target: a row of logits, (rows, n), and a token below n.
extern "C" __global__ void token_log_probs(float* log_probs, const float* logits, const uint32_t* rows, const uint32_t* tokens, int n) {
    const float* row = logits + (uint64_t)rows[blockIdx.x] * n;
    float max = -INFINITY;
    for (int i = threadIdx.x; i < n; i += blockDim.x) max = fmaxf(max, row[i]);
    max = block_max(max);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += expf(row[i] - max);
    sum = block_sum(sum);
    if (threadIdx.x == 0) log_probs[blockIdx.x] = row[tokens[blockIdx.x]] - max - logf(sum);
}

KERNEL(token_log_probs)
