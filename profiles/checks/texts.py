"""Is text there, and is it what people wrote."""

import polars as pl

from profiles.checks.findings import TOLERATED, Finding, Log, first
from profiles.sources.privacy import KINDS, find, mask, mask_json

NAMES = """
    p br div span a b i u em strong ul ol li img table tr td th h[1-6] font script style iframe html body head
    meta section article blockquote pre code hr sup sub center form input button svg
"""
LETTERS = r"[a-zA-Z](?:uml|acute|grave|circ|tilde|cedil)|szlig|euro|copy|reg|trade|deg|bull|middot"
TAG = rf"</?(?i:{'|'.join(NAMES.split())})(?:\s[^<>]*)?/?>"
ENTITY = (
    r"&(?:#\d{1,6}|#[xX][0-9a-fA-F]{1,6}|amp|lt|gt|quot|apos|nbsp|[lr]squo|[lr]dquo|[mn]dash|hellip"
    rf"|{LETTERS});"
)
# UTF-8 read as Latin-1 or Windows-1252, and the mark of what could not be read at all.
DAMAGE = r"\x{FFFD}|[ÃÂ][\x{80}-\x{BF}]|Ã[ƒ‚„…†‡ˆ‰Š‹Œž‘’“”•–—˜™š›œŸ¡-¿]|â€|ï»¿"
SHOWN = 60


def items_without_title(log: Log) -> Finding:
    """Items have a title to show."""
    bare = log.items.filter(pl.col("title").is_null())["item_id"]
    if bare.is_empty():
        return Finding("items_without_title", "PASS", 0, f"{log.items.height:,} items, all with a title")
    message = f"{bare.len():,} of {log.items.height:,} items have no title"
    return Finding(
        "items_without_title", "WARN", bare.len(), message, first(bare), "people will see their ids"
    )


def texts_present(log: Log) -> Finding:
    """There is text to learn from, written by users or about items."""
    written, described = (int(frame["text"].count()) for frame in (log.events, log.items))
    titled = int(log.items["title"].count())
    if written or described or titled:
        message = f"text of {written:,} events and {described:,} items, {titled:,} titles"
        return Finding("texts_present", "PASS", 0, message)
    message = "no event and no item has text or title"
    return Finding(
        "texts_present", "WARN", 1, message, None, "map text or title where there is any to use text"
    )


def html_in_text(log: Log) -> Finding:
    """Text is text, without tags or entities."""
    advice = "take the markup out in the source: words inside tags count as words, and people will see it"
    return _marred(log, "html_in_text", f"{TAG}|{ENTITY}", "hold HTML", advice)


def broken_encoding(log: Log) -> Finding:
    """Text was read in the encoding it was written in."""
    advice = "it was read as Latin-1 once on its way; export it again as UTF-8"
    return _marred(log, "broken_encoding", DAMAGE, "hold letters of a wrong encoding", advice)


def personal_data(log: Log) -> Finding:
    """What users wrote holds no e-mail addresses, phone, card or account numbers."""
    held = find(log.events)
    if held.is_empty():
        return Finding("personal_data", "PASS", 0, "none is seen in what users wrote")
    count, example = held.height, _masked_example(log.events[int(held["row"][0])])
    kinds = ", ".join(f"{n:,} {kind}" for kind in KINDS if (n := int(held[kind].sum())))
    message = f"{count:,} events hold personal data in their text: {kinds}"
    advice = "have it masked when it is read (privacy.mask = true), and ask whether it may be here at all"
    return Finding("personal_data", "WARN", count, message, example, advice)


def _masked_example(events: pl.DataFrame) -> str:
    """Show where the first event holds personal data without showing the data."""
    name, text, properties = events.select("event_id", "text", "properties").row(0)
    masked = mask(pl.Series([text], dtype=pl.String))[0]
    if masked == text:
        masked = mask_json(pl.Series([properties], dtype=pl.String))[0]
    place = min(at for kind in KINDS if (at := masked.find(f"[{kind}]")) >= 0)
    start = max(0, place - SHOWN // 2)
    return f"{name}: {masked[start : start + SHOWN]}"


def _marred(log: Log, check: str, pattern: str, what: str, advice: str) -> Finding:
    """Count the texts and titles in which the pattern stands; warn where they are more than a few."""
    texts = {"of events": log.events["text"], "of items": log.items["text"], "titles": log.items["title"]}
    bad = {name: text.filter(text.str.contains(pattern).fill_null(False)) for name, text in texts.items()}
    count = sum(text.len() for text in bad.values())
    if not count:
        return Finding(check, "PASS", 0, f"no texts {what}")
    many = any(bad[name].len() > TOLERATED * texts[name].count() for name in texts)
    said = ", ".join(
        f"{bad[name].len():,} of {texts[name].count():,} {name}" for name in texts if bad[name].len()
    )
    sample = next(text for text in bad.values() if text.len())
    cut = mask(sample.head(1)).str.extract(rf"((?s:.){{0,20}}(?:{pattern})(?s:.){{0,20}})").str.strip_chars()
    return Finding(check, "WARN" if many else "PASS", count, f"texts that {what}: {said}", first(cut), advice)
