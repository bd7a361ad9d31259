"""TensorRT-LLM 1.2.1 on NVIDIA GPUs, in the container ``nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3``."""
