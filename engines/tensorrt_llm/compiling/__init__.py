"""From a checkpoint to an engine folder: ModelOpt and GPTQModel here, NVIDIA's programs in the container."""
