// The fused merge: reads the base and every vector once, sums in f32, rounds once, writes once.
//
//     out = base + sum_i factor_i delta_i      over the elements that the method selects
//
// Source: Shahriar et al., 2024, arXiv:2410.19206, Eq. 3. Each element is summed as on the CPU
// (`meav-vector`, module `kernels`): with fused multiply-add, in the order of the addends; a low-rank
// delta's element is sum_k b_k a_k, likewise in order.
#include "numbers.cuh"

// Laid out as in `cuda.rs`.
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
    // What is kept: with `Method::Elected` magnitudes from `cut` on, and of just those the ones before
    // `ties_end`; with `Method::Drawn` elements whose number, drawn from `key`, is not below `ties_end`.
    uint32_t cut;
    uint32_t reserved;
    uint64_t ties_end;
    uint64_t key;
};

enum Kind { DENSE, ALIGNED, LOW_RANK, SPARSE, SIGN };
enum Type { F32, F16, BF16 };
enum Method { ALL, ELECTED, DRAWN };

// Elements next to each other that one thread merges, and rows: enough that a low-rank delta's A is
// read once for all of them.
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

    __device__ uint64_t at(int row) const { return (first_row + row) * row_len + column; }
};

template <typename T>
struct alignas(sizeof(T) * WIDTH > 16 ? 16 : sizeof(T) * WIDTH) Packed {
    T values[WIDTH];
};

template <typename T>
__device__ void load(const T* from, int width, bool is_aligned, float* to) {
    if (is_aligned && width == WIDTH) {
        Packed<T> packed = *reinterpret_cast<const Packed<T>*>(from);
        for (int i = 0; i < WIDTH; ++i) to[i] = widen(packed.values[i]);
    } else {
        for (int i = 0; i < width; ++i) to[i] = widen(from[i]);
    }
}

template <typename T>
__device__ void store(const float* from, int width, bool is_aligned, T* to) {
    if (is_aligned && width == WIDTH) {
        Packed<T> packed;
        for (int i = 0; i < WIDTH; ++i) packed.values[i] = round_to<T>(from[i]);
        *reinterpret_cast<Packed<T>*>(to) = packed;
    } else {
        for (int i = 0; i < width; ++i) to[i] = round_to<T>(from[i]);
    }
}

__device__ inline void load_any(const void* from, int type, uint64_t at, int width, bool is_aligned, float* to) {
    switch (type) {
    case F32: load((const float*)from + at, width, is_aligned, to); break;
    case F16: load((const f16*)from + at, width, is_aligned, to); break;
    default: load((const bf16*)from + at, width, is_aligned, to);
    }
}

// Adds a low-rank delta; all rows of the tile at once, so that A is read once for them.
__device__ inline void add_low_rank(const Addend& addend, const Place& place, Tile sums) {
    const float* a = (const float*)addend.values + place.column;
    const float* b = (const float*)addend.second + place.first_row * addend.rank;
    Tile products = {};
    for (int k = 0; k < addend.rank; ++k, a += place.row_len) {
        float row[WIDTH] = {};
        load(a, place.width, place.row_len % 4 == 0, row);
        for (int r = 0; r < ROWS; ++r) {
            float factor = r < place.n_rows ? b[r * addend.rank + k] : 0.0f;
            for (int i = 0; i < WIDTH; ++i) products[r][i] = fmaf(factor, row[i], products[r][i]);
        }
    }
    for (int r = 0; r < ROWS; ++r)
        for (int i = 0; i < WIDTH; ++i) sums[r][i] = fmaf(addend.factor, products[r][i], sums[r][i]);
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
__device__ void add_sparse_row(const Addend& addend, const Place& place, int row, float* sums) {
    const Column* columns = (const Column*)addend.second;
    uint32_t from = addend.offsets[place.first_row + row], to = addend.offsets[place.first_row + row + 1];
    for (uint32_t i = find_column(columns, from, to, place.column); i < to; ++i) {
        uint64_t column = columns[i] - place.column;
        if (column >= (uint64_t)place.width) return;
        float value;
        load_any(addend.values, addend.type, i, 1, false, &value);
        sums[column] = fmaf(addend.factor, value, sums[column]);
    }
}

__device__ inline void add_sign_row(const Addend& addend, const Place& place, int row, float* sums) {
    uint64_t words_per_row = (place.row_len + 31) / 32, own_row = place.first_row + row;
    const uint32_t* words = (const uint32_t*)addend.values + own_row * words_per_row;
    uint32_t scale = float_to_bits(((const float*)addend.second)[own_row]);
    for (int i = 0; i < place.width; ++i) {
        uint64_t column = place.column + i;
        uint32_t sign = words[column / 32] >> (column % 32) & 1u;
        sums[i] = fmaf(addend.factor, bits_to_float(scale ^ sign << 31), sums[i]);
    }
}

// sums += factor delta
template <typename Base>
__device__ void add(const Addend& addend, const Place& place, const Base* base, bool is_aligned, Tile sums) {
    if (addend.kind == LOW_RANK) return add_low_rank(addend, place, sums);
    for (int r = 0; r < place.n_rows; ++r) {
        float values[WIDTH], own[WIDTH];
        switch (addend.kind) {
        case SPARSE:
            if (addend.rank == 2) add_sparse_row<uint16_t>(addend, place, r, sums[r]);
            else add_sparse_row<uint32_t>(addend, place, r, sums[r]);
            break;
        case SIGN: add_sign_row(addend, place, r, sums[r]); break;
        case ALIGNED:
            load_any(addend.values, addend.type, place.at(r), place.width, is_aligned, values);
            load(base + place.at(r), place.width, is_aligned, own);
            for (int i = 0; i < place.width; ++i) sums[r][i] = fmaf(addend.factor, values[i] - own[i], sums[r][i]);
            break;
        default:
            load_any(addend.values, addend.type, place.at(r), place.width, is_aligned, values);
            for (int i = 0; i < place.width; ++i) sums[r][i] = fmaf(addend.factor, values[i], sums[r][i]);
        }
    }
}

// The delta's values themselves, low-rank ones without their scale.
template <typename Base>
__device__ void read(Addend addend, const Place& place, const Base* base, bool is_aligned, Tile values) {
    for (int r = 0; r < ROWS; ++r)
        for (int i = 0; i < WIDTH; ++i) values[r][i] = 0.0f;
    addend.factor = 1.0f;
    add(addend, place, base, is_aligned, values);
}

__device__ inline float trim(const Addend& addend, uint64_t at, float value) {
    uint32_t magnitude = float_to_bits(value) & 0x7fffffffu;
    bool is_kept = magnitude > addend.cut || (magnitude == addend.cut && at < addend.ties_end);
    return is_kept ? value : 0.0f;
}

// TIES: of what the cuts leave, the elements whose sign is that of the sum of all. Source: Yadav et al.,
// 2023, arXiv:2306.01708.
template <typename Base>
__device__ void add_elected(const Addend* addends, int n, const Place& place, const Base* base, bool is_aligned, Tile sums) {
    Tile votes = {}, values;
    for (int n_votes = 0; n_votes < n; ++n_votes) {
        const Addend& addend = addends[n_votes];
        read(addend, place, base, is_aligned, values);
        for (int r = 0; r < place.n_rows; ++r)
            for (int i = 0; i < place.width; ++i)
                votes[r][i] = votes[r][i] + addend.factor * trim(addend, place.at(r) + i, values[r][i]);
    }
    for (int index = 0; index < n; ++index) {
        const Addend& addend = addends[index];
        read(addend, place, base, is_aligned, values);
        for (int r = 0; r < place.n_rows; ++r)
            for (int i = 0; i < place.width; ++i) {
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
__device__ void add_drawn(const Addend* addends, int n, const Place& place, const Base* base, bool is_aligned, Tile sums) {
    Tile values;
    for (int index = 0; index < n; ++index) {
        const Addend& addend = addends[index];
        read(addend, place, base, is_aligned, values);
        for (int r = 0; r < place.n_rows; ++r)
            for (int i = 0; i < place.width; ++i)
                // Adding 0 would take the sign from a -0.0 of the base where a vector has nothing.
                if (values[r][i] != 0.0f && is_drawn(addend, place.at(r) + i))
                    sums[r][i] = fmaf(addend.factor, values[r][i], sums[r][i]);
    }
}

// A grid of (columns / WIDTH, rows / ROWS) threads; `is_aligned` where rows begin at multiples of WIDTH.
template <typename Base, typename Out>
__device__ void merge(Out* out, const Base* base, const Addend* addends, int n, int method, uint64_t n_rows, uint64_t row_len) {
    uint64_t column = ((uint64_t)blockIdx.x * blockDim.x + threadIdx.x) * WIDTH;
    uint64_t first_row = ((uint64_t)blockIdx.y * blockDim.y + threadIdx.y) * ROWS;
    if (column >= row_len) return;
    // The second dimension of a grid is short: rows beyond it are taken in turns.
    for (; first_row < n_rows; first_row += (uint64_t)gridDim.y * blockDim.y * ROWS) {
        uint64_t rows_left = n_rows - first_row, columns_left = row_len - column;
        Place place = {first_row, column, row_len, (int)(rows_left < ROWS ? rows_left : ROWS),
                       (int)(columns_left < WIDTH ? columns_left : WIDTH)};
        bool is_aligned = row_len % WIDTH == 0;
        Tile sums = {};
        for (int r = 0; r < place.n_rows; ++r) load(base + place.at(r), place.width, is_aligned, sums[r]);
        switch (method) {
        case ELECTED: add_elected(addends, n, place, base, is_aligned, sums); break;
        case DRAWN: add_drawn(addends, n, place, base, is_aligned, sums); break;
        default:
            for (int i = 0; i < n; ++i) add(addends[i], place, base, is_aligned, sums);
        }
        for (int r = 0; r < place.n_rows; ++r) store(sums[r], place.width, is_aligned, out + place.at(r));
    }
}

#define MERGE(name, Base, Out) \
    extern "C" __global__ void name(Out* out, const Base* base, const Addend* addends, int n, int method, \
                                    uint64_t n_rows, uint64_t row_len) { \
        merge<Base, Out>(out, base, addends, n, method, n_rows, row_len); \
    } \
    KERNEL(name)

MERGE(merge_f32_f32, float, float)
MERGE(merge_f32_f16, float, f16)
MERGE(merge_f32_bf16, float, bf16)
MERGE(merge_f16_f32, f16, float)
MERGE(merge_f16_f16, f16, f16)
MERGE(merge_f16_bf16, f16, bf16)
MERGE(merge_bf16_f32, bf16, float)
MERGE(merge_bf16_f16, bf16, f16)
MERGE(merge_bf16_bf16, bf16, bf16)
