// Sums and maxima over the threads of a warp or a block.
#pragma once

#include "numbers.cuh"

const unsigned ALL_LANES = 0xffffffffu;
const int WARP_SIZE = 32;

__device__ inline float warp_sum(float value) {
    for (int mask = WARP_SIZE / 2; mask > 0; mask /= 2) value += __shfl_xor_sync(ALL_LANES, value, mask);
    return value;
}

__device__ inline float warp_max(float value) {
    for (int mask = WARP_SIZE / 2; mask > 0; mask /= 2)
        value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, mask));
    return value;
}

// Of a block of whole warps, at most 32 of them, in one dimension; every thread gets what `over_warp`
// makes of all values, `neutral` where there are fewer.
template <typename OverWarp>
__device__ float over_block(float value, float neutral, OverWarp over_warp) {
    __shared__ float of_warps[WARP_SIZE];
    int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    value = over_warp(value);
    // What is there may still be read by who was here before.
    __syncthreads();
    if (lane == 0) of_warps[warp] = value;
    __syncthreads();
    int n_warps = blockDim.x / WARP_SIZE;
    return over_warp(lane < n_warps ? of_warps[lane] : neutral);
}

__device__ inline float block_sum(float value) {
    return over_block(value, 0.0f, [](float own) { return warp_sum(own); });
}

__device__ inline float block_max(float value) {
    return over_block(value, -INFINITY, [](float own) { return warp_max(own); });
}
