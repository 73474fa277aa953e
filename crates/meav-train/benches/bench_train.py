"""Seconds and memory of a training step in PyTorch and transformers, to hold beside our own; by hand, on a quiet machine.

    python bench_train.py --model DIR [--threads 2] [--pairs 4] [--length 256] [--runs 5] [--only NAME]
                          [--device cpu|cuda] [--dtype float32|bfloat16]

DIR is a model as an HF-style folder, e.g. the demo model dequantised from its GGUF, or the seeded one that
`meav bench train --shape mistral-7b` makes in the local store. A step is the IPO loss of
--pairs pairs of --length tokens each (prompt and response, half and half), the reference's log-probabilities computed
beforehand: chosen and rejected in one forward of 2 x pairs rows as TRL has it, log-softmax and gather of the
responses' logits only (those of the prompts are never computed), backward, clipping to norm 1, AdamW. Full parameters,
and LoRA of rank 8 beside all linear layers of the blocks; each without and with gradient checkpointing, each in a
process of its own. Printed: the median, fastest and slowest step of --runs
after one warm-up, and the process's peak resident memory (ru_maxrss), which counts the loading of the model too; on a
GPU the most that tensors took of its memory. In bfloat16 the factors and what is computed with them stay in float32;
full parameters are trained as they are.
"""
import argparse, os, resource, statistics, subprocess, sys, time

CASES = ["full", "full checkpointing", "lora", "lora checkpointing"]
ap = argparse.ArgumentParser()
ap.add_argument("--model", required=True)
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--pairs", type=int, default=4)
ap.add_argument("--length", type=int, default=256)
ap.add_argument("--runs", type=int, default=5)
ap.add_argument("--attn", default="sdpa")
ap.add_argument("--device", default="cpu")
ap.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
ap.add_argument("--only", choices=CASES)
ap.add_argument("--here", help=argparse.SUPPRESS, choices=CASES)
a = ap.parse_args()

if not a.here:
    print(f"load {os.getloadavg()[0]:.2f}", flush=True)
    for name in [a.only] if a.only else CASES:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--here", name], check=True)
    sys.exit()

import torch, transformers
from torch.nn.utils import clip_grad_norm_
from transformers import AutoModelForCausalLM

BETA, RANK, ALPHA = 0.1, 8, 8
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
torch.set_num_threads(a.threads)
torch.manual_seed(0)
dtype = getattr(torch, a.dtype)
model = AutoModelForCausalLM.from_pretrained(a.model, dtype=dtype, attn_implementation=a.attn).to(a.device)
model.config.use_cache = False


class Lora(torch.nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        self.a = torch.nn.Parameter(torch.randn(RANK, linear.in_features, device=a.device) / linear.in_features**0.5)
        self.b = torch.nn.Parameter(torch.zeros(linear.out_features, RANK, device=a.device))

    def forward(self, x):
        return self.linear(x) + ((x.float() @ self.a.T) @ self.b.T * (ALPHA / RANK)).to(x.dtype)


if a.here.startswith("lora"):
    model.requires_grad_(False)
    for block in model.model.layers:
        for parent in (block.self_attn, block.mlp):
            for name, child in list(parent.named_children()):
                if isinstance(child, torch.nn.Linear):
                    setattr(parent, name, Lora(child))
if a.here.endswith("checkpointing"):
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
# Checkpointing is for models in training; without dropout nothing else changes.
model.train()

n_response = a.length // 2
ids = torch.tensor([[(i * 7919 + row * 104729 + 13) % model.config.vocab_size for i in range(a.length)]
                    for row in range(2 * a.pairs)], device=a.device)
mask = torch.ones_like(ids)
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.0)


def mean_log_probs():
    """Per response."""
    logits = model(ids, attention_mask=mask, logits_to_keep=n_response + 1, use_cache=False).logits[:, :-1]
    return logits.float().log_softmax(-1).gather(2, ids[:, -n_response:, None])[..., 0].mean(1)


with torch.no_grad():
    reference = mean_log_probs()


def wait():
    if a.device != "cpu":
        torch.cuda.synchronize()


def step():
    wait()
    start = time.perf_counter()
    chosen, rejected = (mean_log_probs() - reference).chunk(2)
    loss = ((chosen - rejected - 1 / (2 * BETA)) ** 2).mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    clip_grad_norm_(trained, 1.0)
    optimizer.step()
    wait()
    return time.perf_counter() - start


step()
secs = [step() for _ in range(a.runs)]
if a.device == "cpu":
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
else:
    peak = torch.cuda.max_memory_allocated() / 2**30
print(f"{a.here:20} {statistics.median(secs):7.2f} s/step ({min(secs):.2f} to {max(secs):.2f}), peak {peak:.2f} GiB; "
      f"{sum(p.numel() for p in trained):,} trained, torch {torch.__version__}, transformers {transformers.__version__}, "
      f"{a.attn}, {a.dtype}, {a.device if a.device != 'cpu' else f'{a.threads} threads'}", flush=True)
