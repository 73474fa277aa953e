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
#include <memory>
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
// One block runs at a time on each thread of the processor, so what the block's threads share can be
// there once for it.
#define __shared__ static thread_local
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
    std::unique_ptr<char[]> stack;
    dim3 place;
    unsigned number;
    // Times that its warp has exchanged words.
    unsigned n_exchanges;
    bool has_ended;
};

// Lets nobody through before all have come.
struct Barrier {
    unsigned arrived, passed;
};

struct Block {
    // As many as the largest block had, so that their stacks stay; the first `n_threads` run.
    std::vector<Thread> threads;
    unsigned n_threads;
    Barrier all;
    Barrier warps[1024 / WARP];
    void* scheduler;
    Thread* current;
    dim3 place, size, grid;
    std::function<void()> kernel;
    // By turns: who is late still reads the one while the next words are written to the other.
    uint32_t exchanged[2][1024];
    std::vector<unsigned char> dynamic_shared;
};

// What runs on this thread of the processor.
static thread_local Block* block;

// The next thread behind these that has not ended.
inline Thread* next_of(Thread* thread) {
    Thread* end = block->threads.data() + block->n_threads;
    while (thread != end && thread->has_ended) ++thread;
    return thread == end ? nullptr : thread;
}

// Lets the next thread go on, behind the last one whoever began.
inline void give_way() {
    Thread* own = block->current;
    Thread* next = next_of(own + 1);
    if (next != nullptr) block->current = next;
    meav_switch_stacks(&own->top, next == nullptr ? block->scheduler : next->top);
}

inline void run_thread() {
    block->kernel();
    block->current->has_ended = true;
    give_way();
}

// A stack that begins with `run_thread`: its address, below that six registers.
inline void* fresh_stack(std::unique_ptr<char[]>& stack) {
    if (stack == nullptr) stack.reset(new char[STACK]);
    uintptr_t end = (uintptr_t)(stack.get() + STACK) / 16 * 16;
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

inline void wait_for_block() { wait(block->all, block->n_threads); }

inline void wait_for_warp() {
    unsigned warp = block->current->number / WARP, left = block->n_threads - warp * WARP;
    wait(block->warps[warp], left < WARP ? left : WARP);
}

inline void run_block() {
    block->all = Barrier{};
    memset(block->warps, 0, sizeof block->warps);
    // A GPU promises no order: every other block begins with its last thread.
    static thread_local bool is_backwards = false;
    is_backwards = !is_backwards;
    dim3 size = block->size;
    for (unsigned i = 0; i < block->n_threads; ++i) {
        Thread& thread = block->threads[i];
        unsigned n = is_backwards ? block->n_threads - 1 - i : i;
        thread.number = n;
        thread.place = dim3(n % size.x, n / size.x % size.y, n / size.x / size.y);
        thread.has_ended = false;
        thread.n_exchanges = 0;
        thread.top = fresh_stack(thread.stack);
    }
    while (Thread* first = next_of(block->threads.data())) {
        block->current = first;
        meav_switch_stacks(&block->scheduler, first->top);
    }
}

// Runs a kernel as the GPU would, `shared` bytes of dynamic shared memory with it.
inline void launch(dim3 grid, dim3 threads, size_t shared, std::function<void()> kernel) {
    static thread_local std::unique_ptr<Block> own = std::make_unique<Block>();
    block = own.get();
    block->grid = grid;
    block->size = threads;
    block->kernel = kernel;
    block->n_threads = threads.volume();
    if (block->threads.size() < block->n_threads) block->threads.resize(block->n_threads);
    dim3& place = block->place;
    // What a kernel forgets to write is to be seen.
    for (place.z = 0; place.z < grid.z; ++place.z)
        for (place.y = 0; place.y < grid.y; ++place.y)
            for (place.x = 0; place.x < grid.x; ++place.x) {
                block->dynamic_shared.assign(shared, 0xff);
                run_block();
            }
}

template <typename T>
T exchange(T value, unsigned from) {
    static_assert(sizeof(T) == 4, "warps exchange words");
    unsigned own = block->current->number;
    uint32_t* words = block->exchanged[block->current->n_exchanges++ % 2];
    memcpy(&words[own], &value, 4);
    wait_for_warp();
    T got;
    memcpy(&got, &words[own / WARP * WARP + from % WARP], 4);
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

#define threadIdx (emulation::block->current->place)
#define blockIdx (emulation::block->place)
#define blockDim (emulation::block->size)
#define gridDim (emulation::block->grid)
#define DYNAMIC_SHARED(type, name) \
    type* name = reinterpret_cast<type*>(emulation::block->dynamic_shared.data())

inline void __syncthreads() { emulation::wait_for_block(); }
inline void __syncwarp() { emulation::wait_for_warp(); }

template <typename T>
T __shfl_xor_sync(unsigned, T value, unsigned mask) {
    return emulation::exchange(value, (emulation::block->current->number % emulation::WARP) ^ mask);
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
