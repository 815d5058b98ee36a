from __future__ import annotations

import pytest

from aurora_vl.comparison.method_rows import parse_rows
from aurora_vl.errors import UserError


def test_methods_and_their_settings() -> None:
    rows = parse_rows(
        "aurora, lora+rank=1,aurora+gqt=off+objective.ice=released,vera+data.crop=0.5"
    )
    assert [(row.method, row.settings) for row in rows] == [
        ("aurora", ()),
        ("lora", ("adapter.rank=1",)),
        ("aurora", ("adapter.gqt=off", "objective.ice=released")),
        ("vera", ("data.crop=0.5",)),
    ]
    assert [row.label for row in rows] == [
        "Aurora",
        "LoRA (rank=1)",
        "Aurora (gqt=off, ice=released)",
        "VeRA (crop=0.5)",
    ]
    assert rows[2].name == "aurora+gqt=off+objective.ice=released"
    assert rows[1].sets("adapter.rank")
    assert not rows[0].sets("adapter.rank")
    assert rows[2].without("objective.ice").settings == ("adapter.gqt=off",)
    assert rows[1].without("adapter.rank", "data.limit").label == "LoRA"


def test_keys_are_found_in_their_sections() -> None:
    told = "aurora+variant=released+momentum=null+epochs=2+rerank=4+image_size=32"
    assert parse_rows(told)[0].settings == (
        *("variant=released", "objective.momentum=null", "training.epochs=2"),
        *("evaluation.rerank=4", "image_size=32"),
    )


def test_labels_keep_values_with_a_dot() -> None:
    rows = parse_rows("aurora+dropout=0.1,aurora+label_smoothing=0.1,lora+learning_rate=1.5e-3")
    assert [row.label for row in rows] == [
        *("Aurora (dropout=0.1)", "Aurora (label_smoothing=0.1)", "LoRA (learning_rate=1.5e-3)")
    ]


def test_values_may_hold_commas_and_plus_signs() -> None:
    rows = parse_rows("lora+options={target_modules: [query, value]},full+learning_rate=1e+3")
    assert rows[0].settings == ("adapter.options={target_modules: [query, value]}",)
    assert rows[1].settings == ("training.learning_rate=1e+3",)


def test_a_row_may_have_a_label_of_its_own() -> None:
    plain, wide = parse_rows("aurora, Aurora: the large one : aurora+rank=64+options={a: b}")
    assert (plain.label, plain.name) == ("Aurora", "aurora")
    assert wide.label == "Aurora: the large one"
    assert wide.name == "aurora+rank=64+options={a: b}"
    assert wide.settings == ("adapter.rank=64", "adapter.options={a: b}")
    assert wide.without("adapter.options").label == "Aurora (rank=64)"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "--methods names no method; choose among none, linear, full, aurora, lora"),
        ("aurora,lara", "--methods: 'lara' is no method; choose among none, linear, full"),
        ("lora,aurora,lora", "--methods names lora twice"),
        ("LoRA:aurora,lora", "--methods calls two rows LoRA; call each by a label of its own"),
        ("lora+rank=2,lora+adapter.rank=2", "calls two rows LoRA (rank=2)"),
        (" :aurora", "--methods: ':aurora' has no label before the colon; write label:aurora"),
        ("wide:lara", "--methods: 'lara' is no method; choose among"),
        ("aurora+depth=3", "sets 'depth', which is no key of adapter, objective, evaluation"),
        ("aurora+training.seed=3", "cannot set training.seed: it is one of --seeds"),
        ("aurora+seed=3", "cannot set training.seed"),
        ("aurora+data.world.seed=3", "nothing was tuned on it; see comparison.final_world"),
        ("aurora+method=lora", "cannot set adapter.method: it is the method's name before the +"),
        ("aurora+comparison.trials=1", "it is the same for all methods"),
        ("aurora+data.world.style=flat", "cannot set data.world.style: it is the same for all"),
        ("aurora+data.world={seed: 3}", "cannot set data.world: it is the same for all methods"),
        ("aurora+data.media=x", "cannot set data.media: it is the same for all methods"),
        ("aurora+task=vqa", "cannot set task: it is the same for all methods"),
        ("aurora+adapter={method: lora}", "sets the whole section adapter; set its keys one by"),
        ("aurora+batch_size=8", "is a key of evaluation and training; write it with its section"),
        ("lora+core=tucker", "sets adapter.core, which lora does not read"),
        ("ia3+rank=8", "sets adapter.rank, which ia3 does not read"),
        ("full+rank=8", "sets adapter.rank, which full does not read"),
        ("lokr+dropout=0.5", "sets adapter.dropout, which lokr does not read"),
        ("none+data.crop=1", "sets data.crop, which none does not read"),
        ("Aurora, larger:aurora", "'Aurora' is no method; choose among none, linear"),
        ("none+learning_rate=0.1", "sets training.learning_rate, which none does not read"),
    ],
)
def test_mistakes_are_one_sentence(text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_rows(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
