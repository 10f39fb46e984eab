"""How near a text and an item are, and the words of both that make it so."""

from typing import Any

from nlp.explain import match_reasons
from profiles.schema import ContractError
from serving.explain import words_of
from serving.workspace import Workspace


def match(workspace: Workspace, text: str, item_id: str) -> dict[str, Any]:
    """Return `cosine`, and of the "text" and the "item" its words with their weights, the other held.

    What the item says is of the newest snapshot, the encoder that of the settings. Of each side: text,
    words (word, start, end, weight), baseline (the cosine without its words), error (by how much the
    weights miss cosine − baseline) and method.
    """
    texts = workspace.snapshot.frame("texts").filter(owner="item", id=item_id)
    if not len(texts):
        raise ContractError(f"the newest snapshot has no text of an item {item_id!r}")
    said, encoder = texts["text"][0], workspace.words.encoder
    for whose, one in (("the text", text), (f"item {item_id!r}", said)):
        if not encoder.encode([one]).any():
            raise ContractError(f"{whose} holds no words: there is nothing to be near to")
    sides = {}
    for name, (of, other) in {"text": (text, said), "item": (said, text)}.items():
        found = match_reasons(encoder, of, other)
        about = {"baseline": found.baseline, "error": found.error, "method": found.method}
        sides[name] = {"text": of, "cosine": found.score, "words": words_of(of, found), **about}
    return {"cosine": sides["text"]["cosine"], **sides}
