// The fused merge: reads the base and every vector once, sums in f32, rounds once, writes once.
//
//     out = base + sum_i factor_i delta_i      over the elements that the method selects
//
// Source: Shahriar et al., 2024, arXiv:2410.19206, Eq. 3. Each element is summed as on the CPU
// (`meav-vector`, module `kernels`): with fused multiply-add, in the order of the addends; a low-rank
// delta's element is sum_k b_k a_k, likewise in order.
#include "numbers.cuh"

// Laid out as in `meav-vector`, module `kernels::gpu`.
struct Addend {
    int32_t kind;
    // Of `values`.
    int32_t type;
    // lambda, for low-rank deltas times their scale.
    float factor;
    // Of a low-rank delta; bytes of a column's number, of a sparse one.
    int32_t rank;
    // Elements; of a low-rank delta A, (rank, n_columns), f32; of a sign delta its words.
    const void* values;
    // B, (n_rows, rank), f32; of a sparse delta each value's column; of a sign delta each row's scale.
    const void* second;
    // Of a sparse delta: where each row's values begin.
    const uint32_t* offsets;
    // What is kept: with `ELECTED` magnitudes from `cut` on, and of just those the ones before
    // `ties_end`; with `DRAWN` elements whose number, drawn from `key`, is not below `ties_end`.
    uint64_t cut;
    uint64_t ties_end;
    uint64_t key;
};

// A kernel's parameters are 4 KiB at most.
struct Addends {
    Addend each[32];
};

enum Kind { DENSE, ALIGNED, LOW_RANK, SPARSE, SIGN };
enum Type { F32, F16, BF16 };
enum Method { ALL, ELECTED, DRAWN };

// Elements next to each other that one thread merges, and rows: enough that a low-rank delta's A is
// read once for all of them. Loops over them have these bounds and conditions inside, since what is
// indexed by a number known only later does not stay in registers.
const int WIDTH = 8;
const int ROWS = 4;

typedef float Tile[ROWS][WIDTH];

// The elements of one thread.
struct Place {
    uint64_t first_row;
    uint64_t column;
    uint64_t row_len;
    int n_rows;
    int width;
    // Whether all of them can be loaded at once.
    bool is_whole;

    __device__ uint64_t at(int row) const { return (first_row + row) * row_len + column; }
};

template <typename T>
struct alignas(sizeof(T) * WIDTH > 16 ? 16 : sizeof(T) * WIDTH) Packed {
    T values[WIDTH];
};

template <typename T>
__device__ void load(const T* from, int width, bool is_whole, float* to) {
    if (is_whole) {
        Packed<T> packed = *reinterpret_cast<const Packed<T>*>(from);
        for (int i = 0; i < WIDTH; ++i) to[i] = widen(packed.values[i]);
    } else {
        for (int i = 0; i < WIDTH; ++i) to[i] = i < width ? widen(from[i]) : 0.0f;
    }
}

template <typename T>
__device__ void store(const float* from, int width, bool is_whole, T* to) {
    if (is_whole) {
        Packed<T> packed;
        for (int i = 0; i < WIDTH; ++i) packed.values[i] = round_to<T>(from[i]);
        *reinterpret_cast<Packed<T>*>(to) = packed;
    } else {
        for (int i = 0; i < WIDTH; ++i)
            if (i < width) to[i] = round_to<T>(from[i]);
    }
}

__device__ inline void load_any(const void* from, int type, uint64_t at, int width, bool is_whole, float* to) {
    switch (type) {
    case F32: load((const float*)from + at, width, is_whole, to); break;
    case F16: load((const f16*)from + at, width, is_whole, to); break;
    default: load((const bf16*)from + at, width, is_whole, to);
    }
}

// Adds a low-rank delta; all rows of the tile at once, so that A is read once for them.
__device__ inline void add_low_rank(const Addend& addend, float scale, const Place& place, Tile sums) {
    const float* a = (const float*)addend.values + place.column;
    const float* b = (const float*)addend.second + place.first_row * addend.rank;
    bool is_whole = place.width == WIDTH && place.row_len % 4 == 0;
    Tile products = {};
    for (int k = 0; k < addend.rank; ++k, a += place.row_len) {
        float row[WIDTH];
        load(a, place.width, is_whole, row);
        UNROLL for (int r = 0; r < ROWS; ++r) {
            float factor = r < place.n_rows ? b[r * addend.rank + k] : 0.0f;
            for (int i = 0; i < WIDTH; ++i) products[r][i] = fmaf(factor, row[i], products[r][i]);
        }
    }
    UNROLL for (int r = 0; r < ROWS; ++r)
        for (int i = 0; i < WIDTH; ++i) sums[r][i] = fmaf(scale, products[r][i], sums[r][i]);
}

// The first value of the row at or behind `column`.
template <typename Column>
__device__ uint32_t find_column(const Column* columns, uint32_t from, uint32_t to, uint64_t column) {
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (columns[middle] < column) from = middle + 1; else to = middle;
    }
    return from;
}

template <typename Column>
__device__ void add_sparse_row(const Addend& addend, float scale, const Place& place, int row, float* sums) {
    const Column* columns = (const Column*)addend.second;
    uint32_t from = addend.offsets[place.first_row + row], to = addend.offsets[place.first_row + row + 1];
    for (uint32_t at = find_column(columns, from, to, place.column); at < to; ++at) {
        uint64_t column = columns[at] - place.column;
        if (column >= (uint64_t)place.width) return;
        float value[WIDTH];
        load_any(addend.values, addend.type, at, 1, false, value);
        for (int i = 0; i < WIDTH; ++i)
            if (i == (int)column) sums[i] = fmaf(scale, value[0], sums[i]);
    }
}

__device__ inline void add_sign_row(const Addend& addend, float scale, const Place& place, int row, float* sums) {
    uint64_t words_per_row = (place.row_len + 31) / 32, own_row = place.first_row + row;
    // Places begin at multiples of 8, so that their signs stand in one word.
    uint32_t word = ((const uint32_t*)addend.values)[own_row * words_per_row + place.column / 32] >> place.column % 32;
    uint32_t magnitude = float_to_bits(((const float*)addend.second)[own_row]);
    for (int i = 0; i < WIDTH; ++i) {
        float value = bits_to_float(magnitude ^ (word >> i & 1u) << 31);
        sums[i] = fmaf(scale, value, sums[i]);
    }
}

// sums += scale delta
template <typename Base>
__device__ void add(const Addend& addend, float scale, const Place& place, const Base* base, Tile sums) {
    if (addend.kind == LOW_RANK) return add_low_rank(addend, scale, place, sums);
    UNROLL for (int r = 0; r < ROWS; ++r) {
        if (r >= place.n_rows) continue;
        float values[WIDTH], own[WIDTH];
        switch (addend.kind) {
        case SPARSE:
            if (addend.rank == 2) add_sparse_row<uint16_t>(addend, scale, place, r, sums[r]);
            else add_sparse_row<uint32_t>(addend, scale, place, r, sums[r]);
            break;
        case SIGN: add_sign_row(addend, scale, place, r, sums[r]); break;
        case ALIGNED:
            load_any(addend.values, addend.type, place.at(r), place.width, place.is_whole, values);
            load(base + place.at(r), place.width, place.is_whole, own);
            for (int i = 0; i < WIDTH; ++i) sums[r][i] = fmaf(scale, values[i] - own[i], sums[r][i]);
            break;
        default:
            load_any(addend.values, addend.type, place.at(r), place.width, place.is_whole, values);
            for (int i = 0; i < WIDTH; ++i) sums[r][i] = fmaf(scale, values[i], sums[r][i]);
        }
    }
}

// The delta's values themselves, low-rank ones without their scale.
template <typename Base>
__device__ void read(const Addend& addend, const Place& place, const Base* base, Tile values) {
    UNROLL for (int r = 0; r < ROWS; ++r)
        for (int i = 0; i < WIDTH; ++i) values[r][i] = 0.0f;
    add(addend, 1.0f, place, base, values);
}

__device__ inline float trim(const Addend& addend, uint64_t at, float value) {
    uint32_t magnitude = float_to_bits(value) & 0x7fffffffu;
    bool is_kept = magnitude > addend.cut || (magnitude == addend.cut && at < addend.ties_end);
    return is_kept ? value : 0.0f;
}

// TIES: of what the cuts leave, the elements whose sign is that of the sum of all. Source: Yadav et al.,
// 2023, arXiv:2306.01708.
template <typename Base>
__device__ void add_elected(const Addend* addends, int n, const Place& place, const Base* base, Tile sums) {
    Tile votes = {}, values;
    for (int index = 0; index < n; ++index) {
        const Addend& addend = addends[index];
        read(addend, place, base, values);
        UNROLL for (int r = 0; r < ROWS; ++r)
            for (int i = 0; i < WIDTH; ++i)
                votes[r][i] = votes[r][i] + addend.factor * trim(addend, place.at(r) + i, values[r][i]);
    }
    for (int index = 0; index < n; ++index) {
        const Addend& addend = addends[index];
        read(addend, place, base, values);
        UNROLL for (int r = 0; r < ROWS; ++r)
            for (int i = 0; i < WIDTH; ++i) {
                float value = trim(addend, place.at(r) + i, values[r][i]);
                float contribution = addend.factor * value;
                bool agrees = votes[r][i] >= 0.0f ? contribution > 0.0f : contribution < 0.0f;
                if (agrees) sums[r][i] = fmaf(addend.factor, value, sums[r][i]);
            }
    }
}

// SplitMix64 in its state `key + (index + 1) 2^64 / phi`. Source: Steele et al., 2014, Fig. 17.
__device__ inline bool is_drawn(const Addend& addend, uint64_t index) {
    uint64_t z = addend.key + (index + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return (z ^ z >> 31) >= addend.ties_end;
}

// DARE: the elements that were drawn. Source: Yu et al., 2023, arXiv:2311.03099.
template <typename Base>
__device__ void add_drawn(const Addend* addends, int n, const Place& place, const Base* base, Tile sums) {
    Tile values;
    for (int index = 0; index < n; ++index) {
        const Addend& addend = addends[index];
        read(addend, place, base, values);
        UNROLL for (int r = 0; r < ROWS; ++r)
            for (int i = 0; i < WIDTH; ++i)
                // Adding 0 would take the sign from a -0.0 of the base where a vector has nothing.
                if (values[r][i] != 0.0f && is_drawn(addend, place.at(r) + i))
                    sums[r][i] = fmaf(addend.factor, values[r][i], sums[r][i]);
    }
}

// Any deltas: a grid of (columns / WIDTH, rows / ROWS) threads.
template <Method METHOD, typename Base, typename Out>
__device__ void merge(Out* out, const Base* base, const Addend* addends, int n, uint64_t n_rows, uint64_t row_len) {
    uint64_t column = ((uint64_t)blockIdx.x * blockDim.x + threadIdx.x) * WIDTH;
    uint64_t first_row = ((uint64_t)blockIdx.y * blockDim.y + threadIdx.y) * ROWS;
    if (column >= row_len) return;
    // The second dimension of a grid is short: rows beyond it are taken in turns.
    for (; first_row < n_rows; first_row += (uint64_t)gridDim.y * blockDim.y * ROWS) {
        uint64_t rows_left = n_rows - first_row, columns_left = row_len - column;
        int width = columns_left < WIDTH ? (int)columns_left : WIDTH;
        Place place = {first_row, column, row_len, rows_left < ROWS ? (int)rows_left : ROWS, width,
                       width == WIDTH && row_len % WIDTH == 0};
        Tile sums = {};
        UNROLL for (int r = 0; r < ROWS; ++r)
            if (r < place.n_rows) load(base + place.at(r), width, place.is_whole, sums[r]);
        switch (METHOD) {
        case ELECTED: add_elected(addends, n, place, base, sums); break;
        case DRAWN: add_drawn(addends, n, place, base, sums); break;
        default:
            for (int i = 0; i < n; ++i) add(addends[i], addends[i].factor, place, base, sums);
        }
        UNROLL for (int r = 0; r < ROWS; ++r)
            if (r < place.n_rows) store(sums[r], width, place.is_whole, out + place.at(r));
    }
}

// All elements of dense deltas and whole aligned tensors, wherever a row ends: bound by memory alone.
template <typename Base, typename Out>
__device__ void merge_flat(Out* out, const Base* base, const Addend* addends, int n, uint64_t n_elements) {
    uint64_t at = ((uint64_t)blockIdx.x * blockDim.x + threadIdx.x) * WIDTH;
    if (at >= n_elements) return;
    int width = n_elements - at < WIDTH ? (int)(n_elements - at) : WIDTH;
    float sums[WIDTH], own[WIDTH], values[WIDTH];
    load(base + at, width, width == WIDTH, own);
    for (int i = 0; i < WIDTH; ++i) sums[i] = own[i];
    for (int index = 0; index < n; ++index) {
        const Addend& addend = addends[index];
        load_any(addend.values, addend.type, at, width, width == WIDTH, values);
        for (int i = 0; i < WIDTH; ++i) {
            float value = addend.kind == ALIGNED ? values[i] - own[i] : values[i];
            sums[i] = fmaf(addend.factor, value, sums[i]);
        }
    }
    store(sums, width, width == WIDTH, out + at);
}

// `work` with pointers of the types that the numbers stand for.
template <typename Work>
__device__ void with_types(void* out, int out_type, const void* base, int base_type, Work work) {
    switch (base_type * 3 + out_type) {
    case F32 * 3 + F32: work((float*)out, (const float*)base); break;
    case F32 * 3 + F16: work((f16*)out, (const float*)base); break;
    case F32 * 3 + BF16: work((bf16*)out, (const float*)base); break;
    case F16 * 3 + F32: work((float*)out, (const f16*)base); break;
    case F16 * 3 + F16: work((f16*)out, (const f16*)base); break;
    case F16 * 3 + BF16: work((bf16*)out, (const f16*)base); break;
    case BF16 * 3 + F32: work((float*)out, (const bf16*)base); break;
    case BF16 * 3 + F16: work((f16*)out, (const bf16*)base); break;
    case BF16 * 3 + BF16: work((bf16*)out, (const bf16*)base); break;
    }
}

extern "C" __global__ void merge_dense(void* out, int out_type, const void* base, int base_type, const __grid_constant__ Addends addends,
                                       int n, uint64_t n_elements) {
    with_types(out, out_type, base, base_type,
               [&](auto* out, auto* base) { merge_flat(out, base, addends.each, n, n_elements); });
}

#define MERGE(METHOD, name) \
    extern "C" __global__ void name(void* out, int out_type, const void* base, int base_type, const __grid_constant__ Addends addends, \
                                    int n, uint64_t n_rows, uint64_t row_len) { \
        with_types(out, out_type, base, base_type, \
                   [&](auto* out, auto* base) { merge<METHOD>(out, base, addends.each, n, n_rows, row_len); }); \
    } \
    KERNEL(name)

KERNEL(merge_dense)
MERGE(ALL, merge_all)
MERGE(ELECTED, merge_elected)
MERGE(DRAWN, merge_drawn)
