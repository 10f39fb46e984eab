"""What personal data looks like in text: for each kind what to look at, and what proves it.

A `candidate` is found by one regular expression of Rust's engine, which takes time linear in the text
whatever it holds. It reaches over what is glued to a number (a currency sign, a letter, a longer chain of
digits), so that `proof`, which must hold for all of it, refuses a piece of something else: a price, a
version, a part number, an ISBN. Checksums decide where there are any: ISO 13616 for an IBAN, Luhn for a
card. Plain runs of digits are no phone numbers without a word that says so, but for mobile numbers of
a form nothing else has: those of China, Germany and Britain.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import polars as pl

Kind = Literal["email", "iban", "card", "phone"]


@dataclass(frozen=True)
class Pattern:
    """How one kind is found: the candidate, its proof, and the part of it that is masked."""

    candidate: str
    proof: Callable[[pl.Expr], pl.Expr]
    part: str = r"(?s)^.*$"


# ASCII's word boundary: in Chinese a number stands against the words beside it.
EDGE = r"(?-u:\b)"
# What stands before a number without a blank and makes it a part of something else, and what stands after.
GLUED = r"(?:[\p{Latin}_#$€£¥=&@%\\]+[-/+]*|\d+[-/+.:,]+|[-/]+)*?"
GLUED_AFTER = r"(?:[-.:]\d[\d.:-]*)?"

NUMBER_AT_END = r"[+＋(]*\d[\d\s.\-/()–]*$"

# E-mail: letters of any script that parts words by blanks; Chinese, Japanese and Korean only by themselves.
WORD = r"\p{Latin}\p{Greek}\p{Cyrillic}\p{Arabic}\p{Hebrew}\p{Devanagari}\p{Armenian}\p{Georgian}\p{M}\p{Nd}"
CJK = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]+"
LABEL = rf"[{WORD}](?:[{WORD}-]*[{WORD}])?"
LOCAL = rf"""(?:"[^"\n@\[\]]{{1,64}}"|[{WORD}_+](?:[{WORD}._%+'’!#$*^{{|}}~-])*|{CJK})"""
DOMAIN = (
    rf"(?:(?:{LABEL}[.．])+(?:[xX][nN]--[a-zA-Z\d-]*[a-zA-Z\d]|[\p{{L}}--{CJK[:-1]}]{{2,}})"
    rf"|(?:{CJK}[.．])+{CJK}|\[\d{{1,3}}(?:\.\d{{1,3}}){{3}}\])"
)
AT, DOT = r" {0,2}[\[({] ?(?i:at) ?[\])}] {0,2}", r"(?:\.| {0,2}[\[({] ?(?i:dot|punkt|point) ?[\])}] {0,2})"
SPELT = rf"[{WORD}_+][{WORD}._%+-]*{AT}{LABEL}(?:{DOT}{LABEL})+"
EMAIL = rf"(?:{LOCAL}[@＠]{DOMAIN}|{SPELT})"
PICTURE = r"(?i)@[1-4]x\.(?:png|jpe?g|gif|webp|svg)$"  # icon@2x.png

# IBAN: how many characters follow the country and the two check digits.
IBAN_TAILS = {
    11: "NO", 12: "BE", 14: "DK|FI|FK|FO|GL|NL|SD", 15: "MK|SI", 16: "AT|BA|EE|KZ|LT|LU|MN|XK",
    17: "CH|HR|LI|LV", 18: "BG|BH|CR|DE|GB|GE|IE|ME|RS|VA", 19: "AE|GI|IL|IQ|OM|SO|TL",
    20: "AD|CZ|ES|MD|PK|RO|SA|SE|SK|TN|VG", 21: "LY|PT|ST", 22: "IS|TR",
    23: "BI|DJ|FR|GR|IT|MC|MR|SM", 24: "AL|AZ|BY|CY|DO|GT|HN|HU|LB|NI|PL|SV", 25: "BR|EG|PS|QA|UA",
    26: "JO|KW|MU|YE", 27: "MT|SC", 28: "LC", 29: "RU",
}  # fmt: skip
IBAN = (
    EDGE
    + "(?i:"
    + "|".join(
        rf"(?:{who})\d\d(?:[ -]?[A-Z\d]{{4}}){{{n // 4}}}" + (rf"[ -]?[A-Z\d]{{{n % 4}}}" if n % 4 else "")
        for n, who in IBAN_TAILS.items()
    )
    + ")"
    + EDGE
)

# Cards: the numbers their issuers use, in the groups people write.
FOUR = r"[ -]?\d{4}"
CARD = (
    r"(?:62\d\d(?:[ -]\d{4}){3}[ -]\d{3}|62\d{4} \d{13}"
    rf"|(?:4\d{{3}}|5[0-8]\d\d|2[2-7]\d\d|3[5]\d\d|6\d{{3}})(?:{FOUR}){{3}}"
    r"|3[47]\d\d[ -]?\d{6}[ -]?\d{5}|3(?:0[0-5]|[68]\d)\d[ -]\d{6}[ -]\d{4})"
)
# Nineteen digits in a row are as often the id of something; a word has to say that they are a card.
CARD_NAMED = r"(?:卡号?|(?i:card)" + EDGE + r")[^\d\n]{0,12}62\d{17}"

# Phone numbers. Digits are counted one by one, each with what may stand before it.
DIGIT = r"(?: ?\(|\)[ .\-/]?|[ .\-/\x{a0}–])?\d"
COUNTRY = (
    r"(?:2[07]|2[1-689]\d|3[0-469]|3[578]\d|4[013-9]|42\d|5[1-8]|5[09]\d|6[0-6]|6[789]\d|7"
    r"|8[1246]|8[05789]\d|9[0-58]|9[679]\d)"
)
ABROAD = (
    rf"(?:\([+＋] ?1\)|[+＋] ?1)(?:{DIGIT}){{10}}"
    rf"|(?:\([+＋] ?{COUNTRY}\)|[+＋] ?{COUNTRY})(?:{DIGIT}){{6,12}}"
)
DIALLED = rf"{EDGE}00[ -]?(?:1[ -](?:{DIGIT}){{10}}|{COUNTRY}(?:{DIGIT}){{7,11}})"
AMERICA = (
    rf"(?:{EDGE}1[-. ]?)?\([2-9]\d\d\) ?\d{{3}}[-. –]\d{{4}}"
    rf"|{EDGE}(?:1[-. ])?[2-9]\d\d(?:-\d{{3}}-|\.\d{{3}}\.|–\d{{3}}–|/\d{{3}}-)\d{{4}}"
)
PAIRS = rf"{EDGE}0[1-9](?:(?: \d\d){{4}}|(?:\.\d\d){{4}}|(?:-\d\d){{4}})"
TRUNK = (  # after the area only short groups, or a last one of four digits and more
    rf"(?:\(0[1-9]\d{{0,4}}\)|{EDGE}0[1-9]\d{{0,4}}) ?[ ./] ?"
    r"(?:\d{2,3}(?:[ .]\d{2,3}){1,4}|(?:\d{2,4}[ .]){0,3}\d{4,8})(?:-\d{1,4})?"
    r"|\(0[1-9]\d{1,4}\) ?-? ?\d{4,8}(?:[ -]\d{1,5})?"
    rf"|{EDGE}0[1-9]\d{{0,4}}-\d{{3,4}}-\d{{4}}|{EDGE}0[1-9]\d{{1,4}} ?[-–] ?\d{{5,8}}"
)
MOBILE = (
    rf"{EDGE}(?:(?:86[- ]?)?1[3-9]\d(?:\d{{8}}| \d{{4}} \d{{4}}|-\d{{4}}-\d{{4}})"  # China
    r"|01(?:5\d|6[023]|7\d)\d{7,8}|07[1-57-9]\d{8})"  # Germany, Britain
)
NUMBER = rf"(?:\([+＋]?\d{{1,5}}\)|[+＋]?\d)(?:{DIGIT}){{6,14}}"
SAID = (  # a word that says what follows
    rf"(?:{EDGE}(?i:telephone|telefon|teléfono|téléphone|tel|phone|fax|whatsapp|handy|rufnummer){EDGE}"
    rf"|(?:电话|手机)(?:号码?)?是?)[\s.:：#-]{{0,4}}"
    rf"(?:(?i:number|nummer|no|nr|is|at){EDGE}[\s.:：#]{{1,3}}){{0,2}}"
)
MEANT = (  # a word that has other senses, with what makes it mean that
    rf"{EDGE}(?:(?i:call|text|sms|reach|ring)(?: (?i:me|us|him|her|them))? (?i:at|on)"
    rf"|(?i:cell|mobile|mobil)(?: (?i:number|no|nummer|nr))?[.:]) ?"
)
NAMED = f"(?:{SAID}|{MEANT})"
CALLED = rf"{EDGE}(?i:call|dial|text|ring|reach)(?: (?i:me|us|him|her|them))? [2-9]\d\d [2-9]\d\d \d{{4}}"
PHONES = rf"{ABROAD}|{DIALLED}|{AMERICA}|{PAIRS}|{TRUNK}|{MOBILE}"
YEAR, MONTH = r"(?:19|20)\d\d", r"(?:0?[1-9]|1[0-2])"
DATE = (
    rf"(?:^|\D)(?:{YEAR}[-/. ](?:{MONTH}|{YEAR}){EDGE}|\d\d?[-/. ]\d\d?[-/. ]{YEAR}{EDGE}"
    rf"|0[1-9][-/. ]{YEAR}{EDGE})"
)


def _is_iban(text: pl.Expr) -> pl.Expr:
    """Hold where the number that ISO 13616 makes of the text leaves 1 when divided by 97."""
    flat = text.str.replace_all("[ -]", "").str.to_uppercase()
    letters = {chr(65 + n): str(10 + n) for n in range(26)}
    turned = pl.concat_str(flat.str.slice(4), flat.str.head(4))
    # At most 34 characters make 68 digits; five parts of 14 and a rest below 97 each fit 64 bits.
    digits = turned.str.replace_many(letters).str.pad_start(70, "0")
    rest = pl.lit(0, pl.Int64)
    for start in range(0, 70, 14):
        rest = (rest * 10**14 + digits.str.slice(start, 14).cast(pl.Int64, strict=False)) % 97
    return (rest == 1).fill_null(False)


def _is_card(text: pl.Expr) -> pl.Expr:
    """Hold where nothing is glued to the number, Luhn's sum fits and it is no row of round numbers."""
    digits = text.str.replace_all(r"\D", "").str.pad_start(20, "0")
    total = pl.lit(0, pl.Int64)
    for place in range(20):
        digit = digits.str.slice(place, 1).cast(pl.Int64, strict=False)
        # Doubled are the second from the right and every other before it; 18 counts as 1 + 8.
        total = total + (digit if place % 2 else digit * 2 - pl.when(digit > 4).then(9).otherwise(0))
    round_numbers = text.str.contains(r"^(?:\d\d00[ -]?)+$")
    return (
        text.str.contains(rf"^(?:{CARD}|{CARD_NAMED})$") & (total % 10 == 0).fill_null(False) & ~round_numbers
    )


def _is_phone(text: pl.Expr) -> pl.Expr:
    """Hold where nothing is glued to it, its digits are as many as its form asks, and it holds no date."""
    digits = text.str.count_matches(r"\d")
    whole = text.str.contains(
        rf"^(?:{ABROAD}|{DIALLED}|{AMERICA}|{PAIRS}|{MOBILE}|{CALLED}|{NAMED}{NUMBER})$"
    )
    national = text.str.contains(rf"^(?:{TRUNK})$") & digits.is_between(9, 12)
    dated = text.str.contains(DATE) & ~text.str.contains(rf"^(?:{NAMED})?(?:{ABROAD}|{PAIRS})$")
    return (whole | national) & ~dated


PATTERNS: dict[Kind, Pattern] = {
    "email": Pattern(EMAIL, lambda text: ~text.str.contains(PICTURE)),
    "iban": Pattern(IBAN, _is_iban),
    "card": Pattern(
        rf"{CARD_NAMED}{EDGE}{GLUED_AFTER}|{GLUED}{EDGE}{CARD}{EDGE}{GLUED_AFTER}", _is_card, NUMBER_AT_END
    ),
    "phone": Pattern(
        rf"(?:{CALLED}|{NAMED}{NUMBER}){EDGE}{GLUED_AFTER}|{GLUED}(?:{PHONES}){EDGE}{GLUED_AFTER}",
        _is_phone,
        NUMBER_AT_END,
    ),
}
