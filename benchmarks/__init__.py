"""Speed, measured side by side: our kernels, plain PyTorch, peers, and the machine's own limits."""
