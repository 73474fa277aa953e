// Number types, and how sums are rounded to them: as `meav-vector`'s `Element` does on the CPU.
//
// Everything here is compiled twice: by nvcc for the GPU, and as C++ for tests (see emulated.hpp).
// Contraction is off in both; where a multiplication and an addition are to be one, `fma` says so.
#pragma once

#include <stdint.h>

#ifdef __CUDACC__
#include <cuda_fp16.h>
typedef __half f16;
#define KERNEL(name)
#define UNROLL _Pragma("unroll")
#define UNROLL_BY(n) _Pragma(UNROLL_TEXT(unroll n))
#define UNROLL_TEXT(text) #text
#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) unsigned char name##_bytes[]; \
    type* name = reinterpret_cast<type*>(name##_bytes)
#else
#include "emulated.hpp"
typedef _Float16 f16;
#endif

struct bf16 {
    uint16_t bits;
};

__device__ inline float bits_to_float(uint32_t bits) {
    union { uint32_t bits; float value; } both;
    both.bits = bits;
    return both.value;
}

__device__ inline uint32_t float_to_bits(float value) {
    union { float value; uint32_t bits; } both;
    both.value = value;
    return both.bits;
}

__device__ inline float widen(float value) { return value; }
__device__ inline float widen(bf16 value) { return bits_to_float((uint32_t)value.bits << 16); }
__device__ inline float widen(f16 value) { return (float)value; }

template <typename T>
__device__ T round_to(float value);

template <>
__device__ inline float round_to<float>(float value) { return value; }

// To nearest, ties to even; a NaN stays a quiet one.
template <>
__device__ inline bf16 round_to<bf16>(float value) {
    uint32_t bits = float_to_bits(value);
    bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return bf16{(uint16_t)(is_nan ? (bits >> 16) | 0x40u : rounded)};
}

template <>
__device__ inline f16 round_to<f16>(float value) { return (f16)value; }
