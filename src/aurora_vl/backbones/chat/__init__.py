"""Chat models of transformers that see: SmolVLM, Qwen-VL, LLaVA, InternVL."""
