// All kernels in one piece, for tests.
#include "heads.cuh"

namespace attention_cu {
#include "attention.cu"
}
namespace attention_backward_cu {
#include "attention_backward.cu"
}
namespace elementwise_cu {
#include "elementwise.cu"
}
namespace gated_backward_cu {
#include "gated_backward.cu"
}
namespace head_cu {
#include "head.cu"
}
namespace linear_cu {
#include "linear.cu"
}
namespace log_probs_cu {
#include "log_probs.cu"
}
namespace merge_cu {
#include "merge.cu"
}
namespace norm_cu {
#include "norm.cu"
}
namespace norm_backward_cu {
#include "norm_backward.cu"
}
namespace sample_cu {
#include "sample.cu"
}
namespace train_cu {
#include "train.cu"
}

#ifndef __x86_64__
#error "the emulation switches stacks on x86-64 only"
#endif
asm(R"(
.text
.globl meav_switch_stacks
meav_switch_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    # Not by `ret`: processors would take it for the return from another call.
    popq %rcx
    jmpq *%rcx
)");

// Runs a kernel; 0 if there is none of this name.
extern "C" int meav_emulate(const char* name, const unsigned* blocks, const unsigned* threads, unsigned shared_bytes, void** args) {
    auto found = emulation::kernels().find(name);
    if (found == emulation::kernels().end()) return 0;
    emulation::launch(dim3(blocks[0], blocks[1], blocks[2]), dim3(threads[0], threads[1], threads[2]), shared_bytes,
                      [&] { found->second(args); });
    return 1;
}
