// The words of CUDA that the kernels use, for a compiler of C++: a grid runs block by block, the
// threads of a block in turns, each until the next point where it waits for others. What a kernel
// computes can so be tested where there is no GPU. Nothing of this is in a program that ships.
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __grid_constant__
#define UNROLL
#define UNROLL_BY(n)
// One block runs at a time, so what its threads share can be there once for all.
#define __shared__ static
#define __launch_bounds__(...)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
    unsigned volume() const { return x * y * z; }
};

namespace emulation {

const unsigned WARP = 32;
const size_t STACK = 1 << 16;

// Keeps what a function has to leave as it was on the stack, that stack in `from`, and goes on with `to`.
extern "C" void meav_switch_stacks(void** from, void* to);

struct Thread {
    void* top;
    std::vector<char> stack;
    dim3 place;
    bool has_ended;
};

// Lets nobody through before all have come.
struct Barrier {
    unsigned arrived, passed;
};

struct Block {
    std::vector<Thread> threads;
    Barrier all;
    Barrier warps[1024 / WARP];
    void* scheduler;
    size_t current;
    std::function<void()> kernel;
    uint32_t exchanged[1024];
};

inline Block block;
inline dim3 block_place, block_dim, grid_dim;
inline std::vector<unsigned char> dynamic_shared;

inline void give_way() { meav_switch_stacks(&block.threads[block.current].top, block.scheduler); }

inline void run_thread() {
    block.kernel();
    block.threads[block.current].has_ended = true;
    give_way();
}

// A stack that begins with `run_thread`: its address, below that six registers.
inline void* fresh_stack(std::vector<char>& stack) {
    stack.resize(STACK);
    uintptr_t end = (uintptr_t)(stack.data() + STACK) / 16 * 16;
    void** top = reinterpret_cast<void**>(end) - 8;
    for (int i = 0; i < 8; ++i) top[i] = nullptr;
    top[6] = reinterpret_cast<void*>(run_thread);
    return top;
}

// Lets the other threads of the block come as far; `size` of them do.
inline void wait(Barrier& barrier, unsigned size) {
    unsigned passed = barrier.passed;
    if (++barrier.arrived == size) {
        barrier.arrived = 0;
        ++barrier.passed;
    }
    while (barrier.passed == passed) give_way();
}

inline void wait_for_block() { wait(block.all, (unsigned)block.threads.size()); }

inline void wait_for_warp() {
    unsigned warp = (unsigned)block.current / WARP, left = (unsigned)block.threads.size() - warp * WARP;
    wait(block.warps[warp], left < WARP ? left : WARP);
}

inline void run_block() {
    block.all = Barrier{};
    memset(block.warps, 0, sizeof block.warps);
    for (Thread& thread : block.threads) {
        thread.has_ended = false;
        thread.top = fresh_stack(thread.stack);
    }
    // A GPU promises no order: what depends on one is to be seen.
    static bool is_backwards = false;
    is_backwards = !is_backwards;
    size_t n = block.threads.size();
    for (bool goes_on = true; goes_on;) {
        goes_on = false;
        for (size_t place = 0; place < n; ++place) {
            size_t i = is_backwards ? n - 1 - place : place;
            if (!block.threads[i].has_ended) {
                block.current = i;
                meav_switch_stacks(&block.scheduler, block.threads[i].top);
                goes_on |= !block.threads[i].has_ended;
            }
        }
    }
}

// Runs a kernel as the GPU would, `shared` bytes of dynamic shared memory with it.
inline void launch(dim3 grid, dim3 threads, size_t shared, std::function<void()> kernel) {
    grid_dim = grid;
    block_dim = threads;
    block.kernel = kernel;
    block.threads.resize(threads.volume());
    for (unsigned i = 0; i < threads.volume(); ++i) {
        unsigned x = i % threads.x, y = i / threads.x % threads.y, z = i / threads.x / threads.y;
        block.threads[i].place = dim3(x, y, z);
    }
    // What a kernel forgets to write is to be seen.
    for (block_place.z = 0; block_place.z < grid.z; ++block_place.z)
        for (block_place.y = 0; block_place.y < grid.y; ++block_place.y)
            for (block_place.x = 0; block_place.x < grid.x; ++block_place.x) {
                dynamic_shared.assign(shared, 0xff);
                run_block();
            }
}

template <typename T>
T exchange(T value, unsigned from) {
    static_assert(sizeof(T) == 4, "warps exchange words");
    size_t own = block.current;
    memcpy(&block.exchanged[own], &value, 4);
    wait_for_warp();
    size_t first = own / WARP * WARP;
    T got;
    memcpy(&got, &block.exchanged[first + from % WARP], 4);
    wait_for_warp();
    return got;
}

// Kernels by their names, taking the addresses of their arguments as a driver does.
inline std::map<std::string, std::function<void(void**)>>& kernels() {
    static std::map<std::string, std::function<void(void**)>> all;
    return all;
}

template <typename... Args, size_t... I>
std::function<void(void**)> caller(void (*kernel)(Args...), std::index_sequence<I...>) {
    return [kernel](void** args) { kernel(*reinterpret_cast<Args*>(args[I])...); };
}

struct Registered {
    template <typename... Args>
    Registered(const char* name, void (*kernel)(Args...)) {
        kernels()[name] = caller(kernel, std::index_sequence_for<Args...>());
    }
};

}  // namespace emulation

// Stands behind each kernel.
#define KERNEL(name) static emulation::Registered name##_registered(#name, name);

#define threadIdx (emulation::block.threads[emulation::block.current].place)
#define blockIdx emulation::block_place
#define blockDim emulation::block_dim
#define gridDim emulation::grid_dim
#define DYNAMIC_SHARED(type, name) \
    type* name = reinterpret_cast<type*>(emulation::dynamic_shared.data())

inline void __syncthreads() { emulation::wait_for_block(); }
inline void __syncwarp() { emulation::wait_for_warp(); }

template <typename T>
T __shfl_xor_sync(unsigned, T value, unsigned mask) {
    return emulation::exchange(value, (emulation::block.current % emulation::WARP) ^ mask);
}

template <typename T>
T __shfl_sync(unsigned, T value, unsigned from) {
    return emulation::exchange(value, from);
}

inline float __expf(float x) { return expf(x); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }

template <typename T>
T atomicAdd(T* at, T value) {
    T before = *at;
    *at = before + value;
    return before;
}
