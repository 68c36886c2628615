"""Small random models of transformers, of every family, saved in folders."""

from tests.pretrained.peers import peer, shaken, transformers

DECODER = dict(
    vocab_size=37, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
    rms_norm_eps=3e-3, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
ENCODER = dict(
    hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
    layer_norm_eps=3e-3,
)  # fmt: skip
BERT = ENCODER | dict(vocab_size=37, max_position_embeddings=32, pad_token_id=0)
VIT = ENCODER | dict(image_size=12, patch_size=4, num_channels=3)
GPT2 = dict(
    vocab_size=37, n_embd=24, n_head=4, n_layer=2, n_positions=32, layer_norm_epsilon=3e-3,
    bos_token_id=1, eos_token_id=2,
)  # fmt: skip
RESNET = dict(embedding_size=8, depths=[1, 2], num_channels=3)
ROPE = {"rope_type": "default", "rope_theta": 500.0}
LINEAR = {"rope_type": "linear", "factor": 3.0, "rope_theta": 500.0}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
}  # fmt: skip
YARN = {
    "rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip

LM, CLASSES = "ForCausalLM", "ForImageClassification"
THREE = {"num_labels": 3}
# By name: the class, without its library's prefix, and the settings of its configuration.
DECODERS = {
    "gpt2": ("GPT2", "LMHeadModel", GPT2),
    "gpt2_untied": (
        "GPT2",
        "LMHeadModel",
        GPT2 | {"tie_word_embeddings": False, "n_inner": 20, "activation_function": "gelu"},
    ),
    "llama": ("Llama", LM, DECODER | {"rope_parameters": ROPE}),
    "llama_tied": ("Llama", LM, DECODER | {"rope_parameters": ROPE, "tie_word_embeddings": True}),
    "llama_biased": (
        "Llama",
        LM,
        DECODER | {"rope_parameters": ROPE, "attention_bias": True, "mlp_bias": True},
    ),
    "llama_heads": ("Llama", LM, DECODER | {"rope_parameters": ROPE, "head_dim": 10}),
    "llama_linear": ("Llama", LM, DECODER | {"rope_parameters": LINEAR}),
    "llama3": ("Llama", LM, DECODER | {"rope_parameters": LLAMA3}),
    "llama_yarn": ("Llama", LM, DECODER | {"rope_parameters": YARN, "head_dim": 16}),
    "mistral": ("Mistral", LM, DECODER | {"rope_parameters": ROPE, "sliding_window": 5}),
    "qwen2": ("Qwen2", LM, DECODER | {"rope_parameters": ROPE}),
    "qwen2_yarn": (
        "Qwen2",
        LM,
        DECODER | {"rope_parameters": YARN | {"attention_factor": 1.5, "beta_fast": 4.0}},
    ),
    "qwen3": (
        "Qwen3",
        LM,
        DECODER | {"rope_parameters": ROPE, "head_dim": 8, "tie_word_embeddings": True},
    ),
}
ENCODERS = {
    "bert": ("Bert", "Model", BERT),
    "bert_classes": ("Bert", "ForSequenceClassification", BERT | THREE),
    "bert_tags": ("Bert", "ForTokenClassification", BERT | THREE | {"hidden_act": "gelu_new"}),
}
IMAGES = {
    "vit": ("ViT", CLASSES, VIT | THREE),
    "vit_features": ("ViT", "Model", VIT | {"qkv_bias": False}),
    "resnet": (
        "ResNet",
        CLASSES,
        RESNET | THREE | {"hidden_sizes": [8, 16], "layer_type": "basic"},
    ),
    "resnet_bottleneck": ("ResNet", CLASSES, RESNET | THREE | {"hidden_sizes": [32, 64]}),
}
ALL = DECODERS | ENCODERS | IMAGES


def saved(name, folder, **options):
    """Saves a random model in a folder, and returns it."""
    library = transformers()
    kind, head, settings = ALL[name]
    peer("torch").manual_seed(0)
    model = getattr(library, kind + head)(getattr(library, f"{kind}Config")(**settings))
    # Where the numbers grow from block to block, or in products of norms, a smaller factor does.
    model = shaken(model, factor={"ResNet": 1.0, "Qwen3": 2.0}.get(kind, 3.0))
    model.save_pretrained(folder, **options)
    return model
