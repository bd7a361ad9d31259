"""The serving side of TensorRT-LLM 1.2.1: one runtime over its LLM class, one over two models of Triton's backend."""
