"""Re-ranking, searching, media, and what is told about the server."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from served import Client, data_uri

from aurora_vl.gallery.gallery import Gallery
from aurora_vl.gallery.items import Filter
from aurora_vl.inference.retriever import Retriever

QUERY = "a big red star on grass"


def test_pictures_are_reranked_by_the_matching_head(
    client: Client, retriever: Retriever, pictures: list[Path]
) -> None:
    documents = [{"image": data_uri(path)} for path in pictures[:5]]
    asked = {"model": "b", "query": QUERY, "documents": documents, "top_n": 3}
    results = client.post("/v1/rerank", asked).json["results"]
    (scores,) = retriever.match(QUERY, pictures[:5], adapter="b")
    assert [each["index"] for each in results] == list((-scores).argsort()[:3])
    for each in results:
        assert each["relevance_score"] == pytest.approx(scores[each["index"]], abs=1e-6)


def test_texts_and_pictures_are_reranked_by_cosine(
    client: Client, retriever: Retriever, pictures: list[Path]
) -> None:
    documents = ["a red star", {"image": data_uri(pictures[0])}, {"text": "two boats"}]
    asked = {"query": QUERY, "documents": documents, "return_documents": True}
    results = client.post("/v1/rerank", asked).json["results"]
    query, red, boats = retriever.encode_texts([QUERY, "a red star", "two boats"])
    scores = [query @ red, query @ retriever.encode_images(pictures[0])[0], query @ boats]
    assert [each["index"] for each in results] == sorted(range(3), key=lambda i: -scores[i])
    for each in results:
        assert each["relevance_score"] == pytest.approx(scores[each["index"]], abs=1e-6)
    assert {each["index"]: each["document"] for each in results}[2] == {"text": "two boats"}


@pytest.mark.parametrize("rerank", [0, 8])
@pytest.mark.parametrize(("model", "adapter"), [("mini", "base"), ("a", "a"), ("b", "b")])
def test_search_is_the_gallery_s(
    client: Client, gallery: Gallery, retriever: Retriever, model: str, adapter: str, rerank: int
) -> None:
    asked = {"query": QUERY, "model": model, "top": 5, "rerank": rerank, "kind": "image"}
    results = client.post("/v1/search", asked).json["results"]
    hits = gallery.search(
        QUERY, retriever, top=5, adapter=adapter, rerank=rerank, where=Filter(kind="image")
    )
    assert [each["id"] for each in results] == [hit.item.key for hit in hits]
    scores = [hit.score for hit in hits]
    assert [each["score"] for each in results] == pytest.approx(scores, abs=1e-6)


def test_a_picture_finds_itself(client: Client, pictures: list[Path]) -> None:
    with Image.open(pictures[7]) as picture:
        small = picture.resize((100, 100))
    results = client.post("/v1/search", {"image": data_uri(small), "top": 1}).json["results"]
    assert results[0]["path"] == str(pictures[7])


def test_media_are_given_by_id(client: Client, videos: list[Path]) -> None:
    found = client.post("/v1/search", {"query": QUERY, "kind": "video"}).json["results"]
    assert {each["path"] for each in found} == {str(path) for path in videos}
    path = Path(found[0]["path"])
    whole = client.get(found[0]["media"])
    assert (whole.status, whole.headers["content-type"]) == (200, "video/mp4")
    assert whole.body == path.read_bytes()
    part = client.get(found[0]["media"], Range="bytes=10-19")  # as players ask
    assert (part.status, part.body) == (206, path.read_bytes()[10:20])
    small = client.get(found[0]["media"] + "?thumbnail=true")
    assert (small.headers["content-type"], small.body[:2]) == ("image/jpeg", b"\xff\xd8")


def test_health_and_metrics_are_told(client: Client) -> None:
    assert client.get("/healthz").json == {"status": "ok"}
    client.post("/v1/embeddings", {"input": "a star"})
    text = client.get("/metrics").body.decode()
    assert 'aurora_requests_total{method="POST",route="/v1/embeddings",status="200"}' in text
    assert "aurora_batch_rows_count" in text
    assert "aurora_waiting_rows 0.0" in text
