"""Every method of `adapter.method`: where it starts, what it trains, that saved equals loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from in_use import by_part
from tiny_blip import batch, save_backbone, tiny_config, tiny_tokenizer
from torch import Tensor, nn
from transformers import BlipConfig

from aurora_vl.backbones.blip.dual_encoder import BlipDualEncoder, retrieval_backbone
from aurora_vl.backbones.blip.family import BlipFamily
from aurora_vl.backbones.blip.modeling import HEADS, BlipForQuestionAnswering, BlipForRetrieval
from aurora_vl.errors import UserError
from aurora_vl.inference.settings import AdapterSettings, save_tuned
from aurora_vl.methods import METHODS
from aurora_vl.methods.parameter_count import count_parameters, part_of
from aurora_vl.objectives.retrieval import RetrievalSettings, RetrievalTask
from aurora_vl.recipes.recipe import Recipe, load_recipe
from aurora_vl.training.building import build_model, in_use, load_trained, own_rates
from aurora_vl.training.parameter_report import parameter_report
from aurora_vl.training.tasks import kind_of

MakeRecipe = Callable[..., Recipe]
TRAINED = [name for name in METHODS if name != "none"]


def one_width() -> BlipConfig:
    """Vision and text of one width, which uniadapter needs, and another than the MLP's."""
    config = tiny_config()
    config.vision_config.hidden_size = config.text_config.hidden_size = 16
    config.text_config.encoder_hidden_size = 16
    return config


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("backbone")
    BlipForRetrieval(one_width()).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def answering_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("answering-backbone")
    BlipForQuestionAnswering(one_width()).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def recipe(make_recipe: MakeRecipe) -> MakeRecipe:
    def make(method: str, *settings: str) -> Recipe:
        return make_recipe(f"adapter.method={method}", "adapter.dropout=0", *settings)

    return make


def outputs(model: nn.Module) -> list[Tensor]:
    """Features of both sides and the matching logits."""
    given = batch([0, 1, 2])
    with torch.no_grad():
        out = model(given["pixel_values"].float(), given["input_ids"], given["attention_mask"])
        backbone = retrieval_backbone(model)
        cross = backbone.cross_keys(out.image_states)
        logits = backbone.match(given["input_ids"], given["attention_mask"], cross)
    return [out.image_features, out.text_features, logits]


def distance(a: list[Tensor], b: list[Tensor]) -> list[float]:
    return [(x - y).abs().max().item() for x, y in zip(a, b, strict=True)]


def pairs(index: list[int]) -> dict[str, Any]:
    """A batch of pairs with pictures in float32."""
    given = batch(index)
    return by_part(given | {"pixel_values": given["pixel_values"].float()})


def questions() -> dict[str, Any]:
    """Three pictures with a question each, the same words as its answer."""
    given = pairs([0, 1, 2])
    return {
        "media": given["media"],
        **{"questions": given["texts"], "answers": given["texts"]},
        **{"answer_counts": torch.ones(3, dtype=torch.long), "answer_weights": torch.ones(3)},
    }


def trained_a_bit(model: nn.Module) -> nn.Module:
    """After two steps on the task's loss, with a moving average."""
    settings = RetrievalSettings(queue=0, momentum=0.5)
    task = RetrievalTask(BlipDualEncoder(model), settings).train()
    chosen = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(chosen, lr=0.05)
    given = pairs([0, 1, 2, 3])
    for _ in range(2):
        task(**given)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.mark.parametrize("method", TRAINED)
def test_start_and_numbers(recipe: MakeRecipe, method: str) -> None:
    """It starts as the frozen model, trains the heads too, and is counted without weights."""
    told = recipe(method)
    model, plain = build_model(told).eval(), build_model(recipe("none")).eval()
    start = max(distance(outputs(model), outputs(plain)))
    assert start < 1e-6 if METHODS[method].same_start else 0 < start < 0.1
    report, count = parameter_report(told), count_parameters(model)
    assert report.count == count
    assert sum(module.numbers for module in report.modules) == count.trainable
    heads = sum(p.numel() for name in HEADS for p in plain.get_submodule(name).parameters())
    assert count.heads == heads
    whole = sum(p.numel() for p in plain.parameters())
    added = 0 if method == "ln-tuning" else count.factors + count.gates  # its norms replace others
    assert count.total == whole + added


@pytest.mark.parametrize("method", TRAINED)
def test_it_trains_its_own_numbers_and_keeps_them(
    recipe: MakeRecipe, tmp_path: Path, method: str
) -> None:
    """Nothing else moves, features and matching do, and saved equals loaded."""
    told = recipe(method)
    model = build_model(told).eval()
    before = outputs(model)
    values = {name: p.clone() for name, p in model.named_parameters()}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    trained_a_bit(model)
    after = outputs(model)
    assert all(d > 1e-5 for d in distance(after, before))
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, values[name])}
    assert moved <= trained
    parts = {"full": {"heads", "backbone"}, "linear": {"heads"}, "aurora": {"gates"}}
    assert {part_of(name, BlipFamily.heads) for name in moved} >= parts.get(
        method, {"heads", "factors"}
    )
    folder, settings = tmp_path / "adapter", AdapterSettings(backbone=told.backbone)
    save_tuned(model, folder, settings, tiny_tokenizer())
    again = load_trained(told, folder, settings, torch.device("cpu")).model
    torch.testing.assert_close(outputs(again), after, rtol=0, atol=0)
    size = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    numbers = count_parameters(model).trainable
    assert 4 * numbers <= size < 4 * numbers + 20_000


@pytest.mark.parametrize("task", ["retrieval", "vqa"])
@pytest.mark.parametrize("method", TRAINED)
def test_every_trained_number_is_learned(
    recipe: MakeRecipe, answering_backbone: Path, method: str, task: str
) -> None:
    """None is counted and saved that no loss reaches; torchrun would refuse it, too."""
    asked = ["task=vqa", f"backbone={answering_backbone}"] if task == "vqa" else []
    told = recipe(method, *asked)
    model = build_model(told)
    given = questions() if task == "vqa" else pairs([0, 1, 2])
    tuned = in_use(told, model, AdapterSettings())
    kind_of(told).module(told, tuned, 3, 1).train()(**given)["loss"].backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trained.values()) == count_parameters(model).trainable
    assert [name for name, p in trained.items() if p.grad is None] == []


def test_numbers_on_blip_base(tmp_path: Path) -> None:
    """The sizes of the papers: UniAdapter's 4.78M and 18.95M; LoRA by its formula."""

    def adapter(method: str, *settings: str) -> int:
        told = load_recipe(
            "demo-retrieval",
            ["backbone=blip-base", f"adapter.method={method}", "adapter.rank=null", *settings],
        )
        return parameter_report(told).adapter

    assert adapter("uniadapter", "adapter.rank=128") == 4_784_640
    assert round(adapter("uniadapter", "adapter.rank=512") / 1e6, 2) in (18.94, 18.95)
    vision = (768 + 2304) + (768 + 768) + 2 * (768 + 3072)
    assert adapter("lora") == 8 * 12 * (vision + 6 * (768 + 768))
    assert adapter("uni-lora") == 23_040


def test_options_reach_the_configuration(recipe: MakeRecipe) -> None:
    """Which maps are targeted, and the method's own arguments, from the command line."""
    all_maps = parameter_report(recipe("lora")).count.factors
    given = recipe("lora", "adapter.options={target_modules: [query, value], lora_alpha: 3}")
    model = build_model(given)
    names = {n for n, p in model.named_parameters() if part_of(n, BlipFamily.heads) == "factors"}
    assert {n.split(".lora_")[0].rpartition(".")[2] for n in names} == {"query", "value"}
    assert 0 < count_parameters(model).factors < all_maps
    config = model.peft_config["default"]
    assert config.lora_alpha == 3


@pytest.mark.parametrize(
    ("form", "size"),
    [
        ("[query, key, value]", 16),
        ("[self.query, self.key, self.value]", 16),
        ("'.*(query|key)'", 16),
        ("all-linear", 8),  # the frozen projection of pictures has 8 outputs
    ],
)
def test_targets_by_longer_names(recipe: MakeRecipe, form: str, size: int) -> None:
    """Sizes follow from the maps that PEFT finds, however they are named."""
    model = build_model(recipe("vb-lora", f"adapter.options={{target_modules: {form}}}"))
    config = model.peft_config["default"]
    assert config.vector_length == config.num_vectors == size


def test_ia3_scales_what_the_second_map_reads(recipe: MakeRecipe) -> None:
    by_name = build_model(recipe("ia3", "adapter.options={target_modules: [fc1, fc2]}"))
    by_pattern = build_model(recipe("ia3", "adapter.options={target_modules: '.*[.]mlp[.]fc.'}"))
    sizes = [
        {name: p.shape for name, p in model.named_parameters() if "ia3" in name}
        for model in (by_name, by_pattern)
    ]
    assert sizes[0] == sizes[1]
    text = build_model(recipe("ia3", "adapter.options={target_modules: [dense]}"))
    layer = text.get_submodule("base_model.model.text_encoder.encoder.layer.0")
    assert layer.get_submodule("output.dense").is_feedforward
    assert not layer.get_submodule("attention.output.dense").is_feedforward


def test_the_seed_draws_the_fixed_projections(recipe: MakeRecipe) -> None:
    """Also those that are not saved: a method is judged over draws, not on one."""
    for method in ("vera", "randlora", "fourierft", "uni-lora"):
        configs = [
            build_model(recipe(method, f"training.seed={seed}")).peft_config["default"]
            for seed in (1, 2)
        ]
        assert configs[0] != configs[1], method


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        ("c3a", ["adapter.options={block_size: 7}"], "the block size is 7"),
        ("fourierft", ["adapter.options={n_frequency: 100000}"], "n_frequency"),
        ("vb-lora", ["adapter.options={vector_length: 5}"], "5"),
        ("lora", ["adapter.options={target_modules: [nowhere]}"], "No modules were targeted"),
        ("aurora", ["adapter.options={listed_widths: [0]}"], "listed_widths"),
        ("bottleneck", ["adapter.options={target_modules: '.*query'}"], "none"),
    ],
)
def test_a_method_that_does_not_fit(
    recipe: MakeRecipe, method: str, settings: list[str], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        build_model(recipe(method, *settings))
    assert str(caught.value).startswith(f"adapter.method {method} does not fit the backbone ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_option_that_the_method_lacks(recipe: MakeRecipe) -> None:
    with pytest.raises(UserError, match=r"adapter\.options\.depth is no option of lora; known: "):
        build_model(recipe("lora", "adapter.options={depth: 3}"))


def test_uniadapter_needs_one_width(recipe: MakeRecipe, tmp_path: Path) -> None:
    other = save_backbone(tmp_path / "other")
    with pytest.raises(UserError, match=r"of width 24, and text, of width 16: they must be equal"):
        build_model(recipe("uniadapter", f"backbone={other}"))


@pytest.mark.parametrize(
    ("method", "ratio", "ending"), [("aurora", "4", "aurora_V_"), ("lora", "16", "lora_B")]
)
def test_rates_of_their_own(recipe: MakeRecipe, method: str, ratio: str, ending: str) -> None:
    told = recipe(method, f"training.factor_rate_ratio={ratio}", "training.learning_rate=0.5")
    model = build_model(told)
    names = {id(p): name for name, p in model.named_parameters()}
    (heads, head_rate), (outputs, rate) = own_rates(told, model)
    assert head_rate == told.training.head_learning_rate
    assert {part_of(names[id(p)], BlipFamily.heads) for p in heads} == {"heads"}
    assert rate == 0.5 * float(ratio)
    assert outputs
    assert all(f".{ending}" in names[id(p)] for p in outputs)
    assert not any(p.any() for p in outputs)  # they start at zero
    plain = recipe(method)
    assert len(own_rates(plain, model)) == 1


def test_a_ratio_of_rates_needs_two_factors(recipe: MakeRecipe) -> None:
    with pytest.raises(UserError, match=r"\(aurora, lora, dora\), which ia3 is not"):
        recipe("ia3", "training.factor_rate_ratio=2")


def test_sharing_is_counted_by_part(recipe: MakeRecipe) -> None:
    """`aurora params` sums what every map has of its own."""
    modules = {
        sharing: [
            m.module
            for m in parameter_report(recipe("aurora", f"adapter.sharing={sharing}")).modules
        ]
        for sharing in ("model", "modality", "layer")
    }
    assert "aurora_U_16" in modules["model"]
    assert {"aurora_U_vision_16", "aurora_U_text_16", "aurora_U_fusion_16"} <= {
        *modules["modality"]
    }
    assert "aurora_U_vision_model.*" in modules["layer"]
    assert len(modules["layer"]) < 20


def test_an_unknown_method(make_recipe: MakeRecipe) -> None:
    with pytest.raises(UserError) as caught:
        make_recipe("adapter.method=lara")
    assert "'adapter.method': must be one of none, linear, full, aurora, lora" in str(caught.value)
    assert str(caught.value).endswith("not 'lara'.")
