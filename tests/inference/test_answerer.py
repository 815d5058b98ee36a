"""`Answerer`: one or many, chosen or written, with the settings in the adapter's folder."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from random_adapters import save_adapter
from tiny_blip import fill, tiny_config, tiny_tokenizer

from aurora_vl import Answerer
from aurora_vl.backbones.blip.modeling import BlipForQuestionAnswering
from aurora_vl.data.records import QuestionRecord
from aurora_vl.errors import UserError
from aurora_vl.evaluation.answering import answer_questions
from aurora_vl.inference.answerer import Answer

QUESTION = "what color is the box"
COLOURS = ["red", "green", "blue", "yellow"]


def forget_settings(adapter: Path) -> None:
    """Make an adapter's folder one of an earlier version."""
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text())
    del config["usage"]
    path.write_text(json.dumps(config))


@pytest.fixture(scope="module")
def answerer(asking: dict[str, Path]) -> Answerer:
    return Answerer.load("mini", adapters=asking)


def test_an_answer_is_a_text_with_its_likelihood(answerer: Answerer, pictures: list[Path]) -> None:
    found = answerer.answer(pictures[0], QUESTION)
    assert isinstance(found, str)
    assert found.log_likelihood < 0
    copy = pickle.loads(pickle.dumps(found))
    assert (copy, copy.log_likelihood) == (found, found.log_likelihood)
    chosen = answerer.answer(pictures[0], QUESTION, answers=COLOURS)
    assert chosen in COLOURS
    alone = answerer.answer(pictures[0], QUESTION, answers=[str(found)])
    assert alone.log_likelihood == pytest.approx(found.log_likelihood, abs=1e-4)


def test_one_or_many(answerer: Answerer, pictures: list[Path], videos: list[Path]) -> None:
    """Media for a question, questions about a medium, and pairs."""
    media = [pictures[0], videos[0], pictures[1].read_bytes()]
    questions = [QUESTION, "how many stars are there", QUESTION]
    pairs = answerer.answer(media, questions, answers=COLOURS)
    assert [str(each) for each in pairs] == [
        answerer.answer(one, question, answers=COLOURS)
        for one, question in zip(media, questions, strict=True)
    ]
    several = answerer.answer(pictures[0], questions)
    assert [several[0], several[2]] == [several[0]] * 2
    assert len(answerer.answer(pictures[:4], QUESTION)) == 4
    assert answerer.answer([pictures[0]], [QUESTION]) == [answerer.answer(pictures[0], QUESTION)]
    assert answerer.answer([], []) == []
    with pytest.raises(UserError, match="2 media and 3 questions were given"):
        answerer.answer(pictures[:2], questions)


def test_what_is_scored_is_what_is_told(answerer: Answerer, pictures: list[Path]) -> None:
    """To the last bit."""
    records = [
        QuestionRecord(n, path.name, path, "image", QUESTION, ("red",))
        for n, path in enumerate(pictures)
    ]
    scored = answer_questions(answerer, records)
    told = answerer.answer(pictures, QUESTION)
    assert scored == told
    assert [a.log_likelihood for a in scored] == [a.log_likelihood for a in told]


def test_adapters_mixed_and_alone(
    answerer: Answerer, asking: dict[str, Path], pictures: list[Path]
) -> None:
    names = ["a", "b", "base", "b"]
    mixed = answerer.answer(pictures[:4], QUESTION, adapter=names, answers=COLOURS)
    written = answerer.answer(pictures[:4], QUESTION, adapter=names)
    for row, name in enumerate(names):
        if name == "base":
            alone = Answerer.load("mini")
        else:
            alone = Answerer.load("mini", adapter=asking[name])
        chosen = alone.answer(pictures[row], QUESTION, answers=COLOURS)
        assert mixed[row] == chosen
        assert mixed[row].log_likelihood == pytest.approx(chosen.log_likelihood, abs=1e-3)
        assert written[row] == alone.answer(pictures[row], QUESTION)


def test_sixteen_threads_get_what_one_gets(answerer: Answerer, pictures: list[Path]) -> None:
    def work(number: int) -> Answer:
        name = ("a", "b", "base")[number % 3]
        listed = COLOURS if number % 2 else None
        return answerer.answer(pictures[number % 6], QUESTION, adapter=name, answers=listed)

    alone = [work(number) for number in range(6)]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(work, range(36)))
    for number, found in enumerate(together):
        assert found == alone[number % 6]
        assert found.log_likelihood == alone[number % 6].log_likelihood


def test_the_adapters_own_answers_and_words(pictures: list[Path], tmp_path: Path) -> None:
    """As it was scored, unless the call says otherwise."""
    listed = {"inference": "rank", "answers": ("north", "south"), "max_words": 2}
    adapter = save_adapter(tmp_path / "adapter", "vqa", 3, **listed)
    answerer = Answerer.load(adapter=adapter)
    found = answerer.answer(pictures[0], QUESTION)
    assert found in ("north", "south")
    assert answerer.answer(pictures[0], QUESTION, answers=COLOURS) in COLOURS
    assert answerer.answer(pictures[0], QUESTION, answers=[]) not in ("north", "south")
    cut = answerer.answer(pictures[0], "what color")
    assert cut.log_likelihood == pytest.approx(found.log_likelihood)


@pytest.mark.parametrize("place", ["folder", "recipe"])
def test_frames_size_and_words_are_as_in_training(
    pictures: list[Path], videos: list[Path], tmp_path: Path, place: str
) -> None:
    """From the adapter's folder; of an older folder from the recipe beside it."""
    usual = save_adapter(tmp_path / "usual" / "adapter", "video-qa", 3)
    settings = {"frames": 2, "image_size": 32} if place == "folder" else {}
    other = save_adapter(tmp_path / "other" / "adapter", "video-qa", 3, **settings)
    if place == "recipe":
        forget_settings(other)
        (other.parent / "recipe.yaml").write_text("image_size: 32\ndata: {frames: 2}\n")
    found = Answerer.load(adapter=other).answer(videos[0], QUESTION)
    assert found.log_likelihood != Answerer.load(adapter=usual).answer(videos[0], QUESTION)
    frames = Answerer.load(adapter=usual, image_size=32).answer(videos[0], QUESTION)
    assert found.log_likelihood != pytest.approx(frames.log_likelihood, abs=1e-4)
    assert Answerer.load(adapter=other).tuned.image_size == 32


LONG = (
    "is there a red star and a blue box and a green heart to the left of the big box that is "
    "above the small star on the right and below the yellow heart and "
)
ENDS = ("what color is the star", "how many red shapes")


def likelihoods(answerer: Answerer, picture: Path) -> list[float]:
    """Of answers to two long questions whose ends differ."""
    asked = [LONG + end for end in ENDS]
    found = answerer.answer(picture, asked, answers=["red", "two"])
    return [answer.log_likelihood for answer in found]


def test_long_questions_are_read_to_their_end(pictures: list[Path], tmp_path: Path) -> None:
    first, second = likelihoods(Answerer.load("mini"), pictures[0])
    assert first != pytest.approx(second, abs=1e-4)
    cut = save_adapter(tmp_path / "adapter", "vqa", 3, max_tokens=35)
    answerer = Answerer.load(adapter=cut)
    first, second = likelihoods(answerer, pictures[0])
    assert first == pytest.approx(second, abs=1e-5)
    assert answerer.cut(LONG + ENDS[0])
    assert not answerer.cut(ENDS[0])


def test_an_adapter_of_an_earlier_version_reads_what_it_read(
    pictures: list[Path], tmp_path: Path
) -> None:
    """Then 35 tokens were kept whatever the recipe said."""
    adapter = save_adapter(tmp_path / "run" / "adapter", "vqa", 3)
    forget_settings(adapter)
    (adapter.parent / "recipe.yaml").write_text("data: {max_words: 50}\n")
    answerer = Answerer.load(adapter=adapter)
    first, second = likelihoods(answerer, pictures[0])
    assert first == pytest.approx(second, abs=1e-5)


def test_a_whole_model_reads_with_its_own_tokenizer(pictures: list[Path], tmp_path: Path) -> None:
    config = tiny_config()
    config.vision_config.hidden_size = config.text_config.encoder_hidden_size = 16
    model = BlipForQuestionAnswering(config)
    fill(model)
    model.save_pretrained(tmp_path / "adapter")
    tiny_tokenizer().save_pretrained(tmp_path / "adapter")
    question = "the big red box"
    found = Answerer.load(adapter=tmp_path / "adapter").answer(pictures[0], question)
    again = Answerer.load(tmp_path / "adapter").answer(pictures[0], question)
    assert (found, found.log_likelihood) == (again, again.log_likelihood)


def test_what_cannot_be_asked(answerer: Answerer, pictures: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the question ' ' has no words"):
        answerer.answer(pictures[0], " ")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        answerer.answer(pictures[0], "what \udcff")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: {\n")
    adapter = save_adapter(tmp_path / "adapter", "vqa", 1)
    forget_settings(adapter)
    with pytest.raises(UserError) as caught:
        Answerer.load(adapter=adapter)
    assert str(caught.value).startswith(f"{recipe}, a run's recipe, cannot be read")
