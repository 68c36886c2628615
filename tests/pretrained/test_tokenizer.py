"""Tokenizers: the tokens of the model's author, and those that cannot be."""

import json

import numpy as np
import pytest

from jaxnn import pretrained
from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.pretrained.gguf_tokenizer import PRE, gguf_tokenizer
from jaxnn.pretrained.source import open_source
from jaxnn.pretrained.tokenizer import read_tokenizer
from tests.pretrained.files import CONFIG, tensors_of, write_folder, write_gguf
from tests.pretrained.peers import minilm, peer, smollm, transformers

TEXTS = ["Hello 12345 world!", "  two  spaces\n\n", "Ünï 日本 🙂 don't", "<|im_end|>x", ""]
WORDS = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "b": 4}


def small():
    """A tokenizer of words, with marks at both ends."""
    library = peer("tokenizers")
    inner = library.Tokenizer(library.models.WordLevel(WORDS, unk_token="[UNK]"))
    inner.pre_tokenizer = library.pre_tokenizers.Whitespace()
    inner.post_processor = library.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    inner.add_special_tokens(["[CLS]", "[SEP]"])
    return inner


def folder_with(path, template=None, **about):
    """A folder of a model of 11 rows and a tokenizer of 5 words."""
    write_folder(path)
    small().save(str(path / "tokenizer.json"))
    about |= {"eos_token": {"content": "[SEP]"}, "chat_template": template}
    (path / "tokenizer_config.json").write_text(json.dumps(about))
    return path


def test_text_becomes_tokens_and_text_again(tmp_path):
    tokenizer = pretrained.load(folder_with(tmp_path)).tokenizer
    assert repr(tokenizer) == "Tokenizer(5 symbols)" and tokenizer.stop == (2,)
    assert tokenizer.encode("a b x") == [1, 3, 4, 0, 2]
    assert tokenizer.encode("a b", special=False) == [3, 4]
    assert tokenizer.decode(np.array([1, 3, 4, 2])) == "a b"
    assert tokenizer.decode([1, 3, 2], special=True) == "[CLS] a [SEP]"


def test_texts_of_different_lengths_are_masked(tmp_path):
    tokenizer = pretrained.load(folder_with(tmp_path)).tokenizer
    batch = tokenizer.batch(["a", "a b b"])
    assert batch.values.tolist() == [[1, 3, 2, 0, 0], [1, 3, 4, 4, 2]]
    assert batch.mask.sum(1).tolist() == [3, 5]
    pairs = tokenizer.batch([("a", "b"), ("a b", "b b")])
    assert pairs["types"].values.tolist() == [[0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1]]
    with pytest.raises(InvalidType, match="not text"):
        tokenizer.batch(["a", 3])
    with pytest.raises(InvalidType, match=r"Got a single text.*Pass \[text\]"):
        tokenizer.batch("a b b")


def test_the_length_of_sentence_transformers_cuts_texts(tmp_path):
    folder_with(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 4}')
    assert pretrained.load(tmp_path).tokenizer.encode("a a a a") == [1, 3, 3, 2]


def test_text_is_lowered_as_by_sentence_transformers(tmp_path):
    folder_with(tmp_path)
    assert pretrained.load(tmp_path).tokenizer.encode("A b") == [1, 0, 4, 2]
    (tmp_path / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    assert pretrained.load(tmp_path).tokenizer.encode("A b") == [1, 3, 4, 2]


def test_a_prompt_that_is_put_before_each_text_is_refused(tmp_path):
    folder_with(tmp_path)
    (tmp_path / "modules.json").write_text("[]")
    for name, settings in (("query", {"query": "find: "}), (None, {"query": "find: "})):
        about = {"prompts": settings, "default_prompt_name": name}
        (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(about))
        if name is None:
            open_source(tmp_path)
        else:
            with pytest.raises(InvalidValue, match="default_prompt_name='query' in config_sent"):
                open_source(tmp_path)


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path):
    config = CONFIG | {"vocab_size": 4}
    folder_with(tmp_path)
    write_folder(tmp_path, tensors_of(vocabulary=4), config)
    with pytest.raises(InvalidValue, match="does not fit.*5 tokens for 4 rows"):
        pretrained.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidValue, match="not a tokenizer"):
        pretrained.load(tmp_path)


@pytest.mark.parametrize("rows", [69, 1024])
def test_a_vocabulary_may_be_padded(rows, tmp_path):
    folder_with(tmp_path)
    write_folder(tmp_path, tensors_of(vocabulary=rows), CONFIG | {"vocab_size": rows})
    assert pretrained.load(tmp_path).tokenizer.symbols == 5


@pytest.mark.parametrize("rows", [70, 1032])
def test_a_tokenizer_of_another_size_than_the_model_s_is_refused(rows, tmp_path):
    """The tokenizer of another model, swapped with its settings, often has far fewer tokens."""
    folder_with(tmp_path)
    write_folder(tmp_path, tensors_of(vocabulary=rows), CONFIG | {"vocab_size": rows})
    words = rf"does not fit.*5 tokens for {rows:,} rows; expected .* at most .* more.*or remove it"
    with pytest.raises(InvalidValue, match=words):
        pretrained.load(tmp_path)


def test_a_tokenizer_in_which_the_model_s_end_is_an_ordinary_token_is_refused(tmp_path):
    folder_with(tmp_path)
    for end, words in ((3, "'a'"), (9, "no token"), ([3, 4], "'a'")):
        write_folder(tmp_path, config=CONFIG | {"eos_token_id": end})
        with pytest.raises(InvalidValue, match=f"eos_token_id=.*which is {words}; expected a spec"):
            pretrained.load(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 4]}')
    assert pretrained.load(tmp_path).tokenizer.stop == (2, 4)
    (tmp_path / "generation_config.json").unlink()
    write_folder(tmp_path, config=CONFIG | {"eos_token_id": 50256})  # a default, without a row
    assert pretrained.load(tmp_path).tokenizer.stop == (50256,)


def test_a_tokenizer_without_the_special_tokens_of_the_model_is_refused(tmp_path):
    folder_with(tmp_path, cls_token="[START]")
    with pytest.raises(InvalidValue, match=r"does not fit.*'\[START\]' in tokenizer_config.json"):
        pretrained.load(tmp_path)


def test_a_conversation_is_written_by_the_template(tmp_path):
    peer("jinja2")
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}a{% endif %}"
    )
    tokenizer = pretrained.load(folder_with(tmp_path, template)).tokenizer
    messages = [{"role": "user", "content": "b"}]
    assert tokenizer.chat_text(messages) == "user: b[SEP]a"
    assert tokenizer.chat_text(messages, answer=False) == "user: b[SEP]"
    assert tokenizer.chat(messages)[-2:] == [2, 3]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (None, "no chat template"),
        ("{{ messages.__class__.__mro__ }}", "SecurityError"),
        ("{% for x in range(10**9) %}{% endfor %}", "OverflowError"),
        ("{{ raise_exception('no system, please') }}", "no system, please"),
        ("{% if %}", "TemplateSyntaxError"),
    ],
    ids=["none", "escape", "endless", "refusal", "syntax"],
)
def test_a_template_that_does_not_take_the_messages_says_so(template, words, tmp_path):
    peer("jinja2")
    tokenizer = pretrained.load(folder_with(tmp_path, template)).tokenizer
    with pytest.raises(InvalidValue, match=words):
        tokenizer.chat([{"role": "user", "content": "b"}])
    with pytest.raises((InvalidType, InvalidValue), match="wrong form|no chat template"):
        tokenizer.chat([{"content": "b"}])


# --- In GGUF files -------------------------------------------------------------------------------

BYTES = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": ["<end>", "a", "b", "ab", "1", "2", "12"],
    "tokenizer.ggml.token_type": [3, 1, 1, 1, 1, 1, 1],
    "tokenizer.ggml.merges": ["a b", "1 2"],
    "tokenizer.ggml.eos_token_id": 0,
}


def test_symbols_are_merged_as_the_file_says(tmp_path):
    peer("tokenizers")
    tokenizer = gguf_tokenizer(tmp_path, BYTES)
    assert tokenizer.encode("abb12<end>") == [3, 2, 4, 5, 0]  # digits stand alone
    assert gguf_tokenizer(tmp_path, BYTES | {"tokenizer.ggml.pre": "gpt-2"}).encode("12") == [6]
    assert tokenizer.stop == (0,) and tokenizer.decode([3, 0]) == "ab"
    first = {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": 0}
    assert gguf_tokenizer(tmp_path, BYTES | first).encode("a") == [0, 1]
    both = first | {"tokenizer.ggml.add_eos_token": True}
    assert gguf_tokenizer(tmp_path, BYTES | both).encode("a") == [0, 1, 0]
    assert gguf_tokenizer(tmp_path, {}) is None


@pytest.mark.parametrize(("said", "first"), [(None, [4]), (True, [4]), (False, [])])
def test_texts_of_llama_3_begin_with_their_first_token_unless_the_file_says_not(
    said, first, tmp_path
):
    """llama.cpp assumes so of files that were written before they said it."""
    peer("tokenizers")
    settings = BYTES | {"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.bos_token_id": 4}
    settings |= {} if said is None else {"tokenizer.ggml.add_bos_token": said}
    assert gguf_tokenizer(tmp_path, settings).encode("a") == [*first, 1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pre": "tekken"}, "pre='tekken'.*smollm"),
        ({"model": "llama"}, "model='llama'"),
        ({"tokens": ["a"]}, "inconsistent"),
        ({"tokens": ["a", "a", "b", "ab", "1", "2", "12"]}, "inconsistent"),
        ({"merges": ["a c"]}, "inconsistent"),
        ({"merges": ["a b c"]}, "inconsistent"),
        ({"merges": None}, "has no merges"),
        ({"eos_token_id": 99}, "inconsistent"),
    ],
    ids=["pre", "model", "few", "twice", "unknown", "three", "none", "eos"],
)
def test_a_tokenizer_of_another_kind_is_refused(change, words, tmp_path):
    peer("tokenizers")
    settings = BYTES | {f"tokenizer.ggml.{name}": value for name, value in change.items()}
    with pytest.raises(InvalidValue, match=words):
        gguf_tokenizer(tmp_path / "model.gguf", settings)


def gguf_file(path, **more):
    """Writes the model of `CONFIG` as llama.cpp does, with a tokenizer; returns its tensors."""
    tensors = tensors_of(vocabulary=7)
    names = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
        "model.layers": "blk",
    }  # fmt: skip
    arrays = {}
    for name, array in tensors.items():
        if "q_proj" in name or "k_proj" in name:
            array = array.reshape(2, 2, 2, 8).swapaxes(1, 2).reshape(8, 8)
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        arrays[name] = array
    settings = BYTES | {
        "general.architecture": "llama", "llama.embedding_length": 8, "llama.block_count": 2,
        "llama.attention.head_count": 2, "llama.feed_forward_length": 12,
        "llama.context_length": 32, "llama.attention.layer_norm_rms_epsilon": 1e-5,
    }  # fmt: skip
    write_gguf(path, settings | more, arrays)
    return tensors


def test_a_whole_file_loads(tmp_path):
    """What llama.cpp writes of a model is that model, its queries in their own order again."""
    peer("tokenizers")
    path = tmp_path / "model.gguf"
    tensors = gguf_file(path)
    loaded = pretrained.load(path)
    for block in (1, 2):
        query = loaded.params["body"][f"block_{block}"]["attention"]["branch"]["attention"]["query"]
        expected = tensors[f"model.layers.{block - 1}.self_attn.q_proj.weight"]
        np.testing.assert_array_equal(query["weight"], expected.T)
    assert loaded.tokenizer.stop == (0,) and loaded.config["vocab_size"] == 7
    gguf_file(path, **{"llama.expert_count": 8})
    with pytest.raises(InvalidValue, match="expert_count=8"):
        pretrained.load(path)
    gguf_file(path, **{"llama.attention.softcap": 2.0})
    with pytest.raises(InvalidValue, match="attention.softcap=2.0"):
        pretrained.load(path)


def test_a_single_file_is_saved_with_its_tokenizer(tmp_path):
    peer("jinja2")
    template = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    gguf_file(tmp_path / "model.gguf", **{"tokenizer.chat_template": template})
    model = pretrained.load(tmp_path / "model.gguf")
    pretrained.save(model, tmp_path / "folder")
    weights = tmp_path / "folder" / "model.safetensors"
    for source in (tmp_path / "folder", weights):
        again = pretrained.load(source)
        assert again.tokenizer.to_json() == model.tokenizer.to_json()
        assert again.tokenizer.chat([{"role": "user", "content": "ab1"}]) == [3, 4, 0]
    pretrained.save(again, tmp_path / "third")  # of a safetensors file alone
    assert pretrained.load(tmp_path / "third").tokenizer.to_json() == model.tokenizer.to_json()


def test_a_safetensors_file_is_saved_with_all_that_its_tokenizer_has(tmp_path):
    folder_with(tmp_path / "source", template="{{ messages }}")
    (tmp_path / "source" / "sentence_bert_config.json").write_text('{"max_seq_length": 4}')
    model = pretrained.load(tmp_path / "source" / "model.safetensors")
    pretrained.save(model, tmp_path / "folder")
    assert pretrained.load(tmp_path / "folder").tokenizer.to_json() == model.tokenizer.to_json()


def test_transformers_reads_the_tokenizer_of_a_single_file(tmp_path):
    library = transformers()
    gguf_file(tmp_path / "model.gguf")
    model = pretrained.load(tmp_path / "model.gguf")
    pretrained.save(model, tmp_path / "folder")
    theirs = library.AutoTokenizer.from_pretrained(tmp_path / "folder")
    assert theirs("abb12<end>")["input_ids"] == model.tokenizer.encode("abb12<end>")
    assert theirs.eos_token_id == 0


# --- Against the libraries -----------------------------------------------------------------------


def test_tokens_of_smollm_are_those_of_its_own_tokenizer():
    """transformers' own conversion of the file drops the split of digits; all else is the same."""
    path = smollm()
    theirs = transformers().AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    from jaxnn.pretrained.gguf_file import read_gguf

    ours = gguf_tokenizer(path, read_gguf(path).settings)
    for text in TEXTS:
        expected = [
            token
            for piece in ([text] if not any(map(str.isdigit, text)) else _by_digits(text))
            for token in theirs(piece, add_special_tokens=False)["input_ids"]
        ]
        assert ours.encode(text) == expected, text
        assert ours.decode(expected, special=True) == text


def _by_digits(text):
    pieces = [""]
    for letter in text:
        if letter.isdigit():
            pieces += [letter, ""]
        else:
            pieces[-1] += letter
    return [piece for piece in pieces if piece]


def test_tokens_of_minilm_are_those_of_transformers():
    folder = minilm()
    theirs = transformers().AutoTokenizer.from_pretrained(folder)
    ours = read_tokenizer(folder, {})
    for text in TEXTS:
        assert ours.encode(text) == theirs(text)["input_ids"]


def test_the_known_splits_are_named():
    assert {"smollm", "llama-bpe", "qwen2", "gpt-2"} <= PRE.keys()
