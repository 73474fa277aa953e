"""Tokens per second of transformers, to hold beside `meav bench decode`; by hand, on a quiet machine.

    python bench_decode.py --model DIR [--device cpu|cuda] [--dtype bfloat16] [--threads 2] [--runs 4] [--json FILE]

DIR is a model as an HF-style folder, e.g. the seeded one that `meav bench decode --shape mistral-7b` makes in the local
store. As there: 128 tokens greedily behind a prompt of 60, each waited for, and the reading of 512; medians of --runs
after one warm-up.
"""
import argparse, json, statistics, time

ap = argparse.ArgumentParser()
ap.add_argument("--model", required=True)
ap.add_argument("--device", default="cpu")
ap.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--runs", type=int, default=4)
ap.add_argument("--json")
a = ap.parse_args()

import torch, transformers
from transformers import AutoModelForCausalLM

SHORT, LONG, DECODED = 60, 512, 129
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(a.threads)
model = AutoModelForCausalLM.from_pretrained(a.model, dtype=getattr(torch, a.dtype)).to(a.device).eval()
ids = torch.tensor([[(i * 7919 + 13) % model.config.vocab_size for i in range(LONG)]], device=a.device)


def now():
    if a.device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


@torch.no_grad()
def prefill():
    start = now()
    model(ids, logits_to_keep=1)
    return now() - start


@torch.no_grad()
def decode():
    out = model(ids[:, :SHORT], logits_to_keep=1, use_cache=True)
    token = out.logits[:, -1].argmax(-1, keepdim=True)
    start = now()
    for _ in range(DECODED - 1):
        out = model(token, past_key_values=out.past_key_values, use_cache=True)
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        token.item()
    return now() - start


prefill(), decode()
measured = {
    "decode, tokens/s": (DECODED - 1) / statistics.median(decode() for _ in range(a.runs)),
    f"prefill of {LONG}, tokens/s": LONG / statistics.median(prefill() for _ in range(a.runs)),
}
for name, value in measured.items():
    print(f"{name}: {value:.1f}")
if a.json:
    about = {"torch": torch.__version__, "transformers": transformers.__version__, "device": a.device, "dtype": a.dtype}
    with open(a.json, "w") as file:
        json.dump(about | measured, file, indent=2)
