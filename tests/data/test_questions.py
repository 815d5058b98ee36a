"""Answers as texts and votes, and the training set of questions with its batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_blip import tiny_config, tiny_tokenizer
from torch.utils.data import DataLoader
from videos import write_numbered

from aurora_vl.backbones.base import PreparationSettings
from aurora_vl.backbones.blip.preparation import MAX_ANSWER_TOKENS, BlipPreprocessor
from aurora_vl.data.answers import answer_vocabulary, shares_of_votes
from aurora_vl.data.collate import QuestionCollator
from aurora_vl.data.questions import QuestionTrainSet
from aurora_vl.data.records import QuestionRecord
from aurora_vl.data.transforms import ImageTransform
from aurora_vl.errors import UserError

CROP = ImageTransform(8, (0.3, 1.0), frames=3)
PREPARE = BlipPreprocessor(tiny_tokenizer(), tiny_config(), PreparationSettings())


def asked(path: Path, *answers: str, question: str = "What?", source: str = "") -> QuestionRecord:
    kind: Any = "video" if path.suffix == ".mp4" else "image"
    return QuestionRecord(path.stem, path.name, path, kind, question, answers, source=source)


@pytest.fixture
def records(tmp_path: Path, write_pictures: Any) -> list[QuestionRecord]:
    first, second, third = (tmp_path / name for name in write_pictures(3))
    return [
        asked(first, "Dog", "dog", "a  cat", "", question="Is it a DOG?!"),
        asked(second),
        asked(second, " "),
        asked(third, "ball", source="vg"),
    ]


def test_votes_are_shares_of_all_annotators(records: list[QuestionRecord]) -> None:
    assert shares_of_votes(records[0]) == {"dog": 0.5, "a cat": 0.25}
    assert shares_of_votes(records[1]) == shares_of_votes(records[2]) == {}


def test_the_commonest_answers_come_first(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    records = [
        asked(path, "red", "red", "blue"),
        asked(path, "Blue", "green", "red"),
        asked(path, "blue"),
        asked(path, "green", "green", "black"),
    ]
    assert answer_vocabulary(records) == ["blue", "green", "red", "black"]
    assert answer_vocabulary(records[::-1], 2) == ["blue", "green"]


def test_visual_genomes_answers_are_no_votes_for_the_commonest(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    genome = [asked(path, "on the table", source="vg") for _ in range(5)]
    assert answer_vocabulary([*genome, asked(path, "red", source="vqa")]) == ["red"]
    assert answer_vocabulary(genome) == ["on the table"]  # where there is nothing else


def test_answers_begin_with_dec_and_end_with_sep() -> None:
    texts = PREPARE.texts(["red", "the big dog"], "answer")
    assert texts["input_ids"].tolist() == [[4, 12, 3, 0, 0], [4, 7, 8, 16, 3]]
    assert texts["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    cut = PREPARE.texts(["the " * 30], "answer")["input_ids"]
    assert cut.tolist() == [[4, *[7] * (MAX_ANSWER_TOKENS - 2), 3]]


def test_an_item_per_answered_question(records: list[QuestionRecord]) -> None:
    items = QuestionTrainSet(records, CROP, seed=0, answer_weight=0.5, genome_weight=0.2)
    assert len(items) == 2
    first, last = items[0], items[1]
    assert first["media"].shape == (3, 8, 8)
    assert first["asked"] == [("Is it a DOG?!", ["dog", "a cat"], [0.25, 0.125])]
    assert [each.weights for each in last["asked"]] == [[0.2]]  # Visual Genome's


def test_questions_about_a_medium_together(records: list[QuestionRecord]) -> None:
    mixed = [records[0], records[-1], records[0], records[0], records[-1]]
    mixed = [replace(record, question=f"question {n}") for n, record in enumerate(mixed)]

    def asked_in(together: int) -> list[list[str]]:
        items = QuestionTrainSet(mixed, CROP, seed=0, questions_per_item=together)
        return [[each.question for each in items[n]["asked"]] for n in range(len(items))]

    assert asked_in(1) == [[f"question {n}"] for n in range(5)]
    assert asked_in(2) == [
        ["question 0", "question 2"],
        ["question 1", "question 4"],
        ["question 3"],
    ]
    assert asked_in(9) == [["question 0", "question 2", "question 3"], ["question 1", "question 4"]]


def test_items_come_from_seed_and_epoch(records: list[QuestionRecord]) -> None:
    one, two = (QuestionTrainSet(records, CROP, seed=1) for _ in range(2))
    assert torch.equal(one[0]["media"], two[0]["media"])
    assert one[0]["augment_seed"] == two[0]["augment_seed"]
    two.set_epoch(1)
    assert one[0]["augment_seed"] != two[0]["augment_seed"]
    assert not torch.equal(one[0]["media"], two[0]["media"])


def test_a_damaged_picture_may_be_skipped(records: list[QuestionRecord]) -> None:
    records[0].path.write_bytes(b"broken")
    with pytest.raises(UserError, match=r"0\.png"):
        QuestionTrainSet(records, CROP, seed=0)[0]
    skipping = QuestionTrainSet(records, CROP, seed=0, on_error="skip")
    assert [each.answers for each in skipping[0]["asked"]] == [["ball"]]
    assert skipping.skipped() == [str(records[0].path)]


def test_no_answered_question(records: list[QuestionRecord]) -> None:
    with pytest.raises(UserError, match="has no answered question"):
        QuestionTrainSet(records[1:3], CROP, seed=0)


def test_a_batch(records: list[QuestionRecord]) -> None:
    loader = DataLoader(
        QuestionTrainSet(records, CROP, seed=0),
        2,
        collate_fn=QuestionCollator(PREPARE),
    )
    (batch,) = loader
    assert batch["media"]["pixel_values"].shape == (2, 3, 8, 8)
    questions, answers = batch["questions"], batch["answers"]
    assert questions["input_ids"].shape == questions["attention_mask"].shape == (2, 7)
    assert questions["attention_mask"].sum(1).tolist() == [7, 4]
    assert answers["input_ids"].tolist() == [[4, 16, 3, 0], [4, 6, 17, 3], [4, 18, 3, 0]]
    assert answers["attention_mask"].sum(1).tolist() == [3, 4, 3]
    assert batch["answer_counts"].tolist() == [2, 1]
    assert batch["question_counts"].tolist() == [1, 1]
    torch.testing.assert_close(batch["answer_weights"], torch.tensor([0.5, 0.25, 0.2]))


def test_a_batch_of_videos(tmp_path: Path) -> None:
    records = []
    for name in ("a.mp4", "b.mp4"):
        write_numbered(tmp_path / name, 6)
        records.append(asked(tmp_path / name, "dog"))
    items = QuestionTrainSet(records, CROP, seed=0)
    batch = QuestionCollator(PREPARE)([items[0], items[1]])
    assert batch["media"]["pixel_values"].shape == (2, 3, 3, 8, 8)
