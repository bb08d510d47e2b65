"""What tests, lab, benchmarks and docs share: ComfyUI in this process, as a server and in a browser; nodes as calls."""
