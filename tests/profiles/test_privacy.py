"""Privacy: what is masked and what is not, each form named; checksums against oracles of their own."""

import json
import os
import re
import string
from pathlib import Path
from time import process_time
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from profiles.events import assign_ids
from profiles.schema import EVENTS
from profiles.sources.personal_data import IBAN_TAILS, Kind
from profiles.sources.privacy import KINDS, PrivacyConfig, apply, find, mask, mask_json

DATA = Path(os.environ.get("ATTUNE_DATA", "/nowhere"))
REAL = pytest.mark.skipif(not (DATA / "medquad").is_dir(), reason="ATTUNE_DATA names no folder of real data")


def masked(text: str, *kinds: Kind) -> str:
    return str(mask(pl.Series([text]), kinds or KINDS)[0])


# What is masked


@pytest.mark.parametrize(
    "number",
    [
        "+49 30 1234567", "+49 (0)30 1234567", "+49(0)30/1234567", "+4930123456", "(+49) 30 1234567",
        "+44 20 7946 0958", "+44 (0)20 7946 0958", "+33 6 12 34 56 78", "+33.6.12.34.56.78",
        "+1 (555) 123-4567", "+1 555 123 4567", "+15551234567", "+1-555-123-4567", "+91 98765 43210",
        "+86 138 1234 5678", "＋86 13812345678", "+5511987654321", "+7 495 123-45-67", "+353 1 123 4567",
        "0049 30 1234567", "004930123456789", "00 49 30 1234567", "001 555 123 4567", "0033-6-12-34-56-78",
        "(555) 123-4567", "(555)123-4567", "(555) 123 4567", "555-123-4567", "555.123.4567", "555–123–4567",
        "1-800-283-7800", "1 (800) 555-1234", "1.555.123.4567", "555/123-4567",
        "030 1234567", "030/1234567", "030-1234567", "(030) 1234567", "(030)1234567", "0171 1234567",
        "0171-1234567", "0171 / 1234567", "089 12 34 56-0", "030 123 456 78", "01711234567", "015112345678",
        "020 7946 0958", "07700 900123", "07700 900 123", "07700900123", "(020) 79460958",
        "06 12 34 56 78", "06.12.34.56.78", "01-23-45-67-89", "0412 345 678", "03-1234-5678", "090-1234-5678",
        "13812345678", "138 1234 5678", "138-1234-5678", "8613812345678", "86-13812345678", "19912345678",
        "0755-12345678", "010-12345678", "021 12345678",
    ],
)  # fmt: skip
def test_phone_numbers_are_masked(number: str) -> None:
    assert masked(number) == "[phone]"
    assert masked(f"so {number}, please") == "so [phone], please"
    assert masked(f"({number})") == "([phone])"
    assert masked(f"{number}, {number} / {number}\n{number}") == "[phone], [phone] / [phone]\n[phone]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Tel.: 1234567", "Tel.: [phone]"),
        ("tel:5551234567", "tel:[phone]"),
        ("Telefon: 5551234", "Telefon: [phone]"),
        ("phone no. 555 123 4567", "phone no. [phone]"),
        ("Fax 7315545283", "Fax [phone]"),
        ("my phone number is 555-1234", "my phone number is [phone]"),
        ("call me at 5551234567!", "call me at [phone]!"),
        ("please call 404 639 1075 today", "please call [phone] today"),
        ("cell: 5551234567", "cell: [phone]"),
        ("tel +49 2001 12 34", "tel [phone]"),
        ("手机号码是13812345678谢谢", "手机号码是[phone]谢谢"),
        ("电话：1234567，请联系", "电话：[phone]，请联系"),
        ("我的电话13812345678谢谢", "我的电话[phone]谢谢"),
        ("office,555-123-4567;home:555-123-4568", "office,[phone];home:[phone]"),
        ("ruf an:0171-1234567.", "ruf an:[phone]."),
    ],
)
def test_a_word_says_that_a_number_is_a_phone(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    "address",
    [
        "a@b.de", "John.O'Neil+shop@sub.example.co.uk", "x_y-z@xn--kln-sna.de", "müller@köln.de",
        "a@b-c.museum",
        "иван@почта.рф", "用户@例子.广告", "用户@example.com", '"john doe"@x.de', '"john..doe"@x.de',
        "a@[192.168.0.1]", "ＡＢＣ＠ｑｑ．ｃｏｍ", "1234567890@qq.com",
        "x [at] y [dot] com", "name(at)firma.de",
        "name (at) firma.de", "jose\u0301@x.es",
    ],
)  # fmt: skip
def test_addresses_are_masked(address: str) -> None:
    assert masked(address) == "[email]"
    assert masked(f"<{address}>, or {address}.") == "<[email]>, or [email]."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我的邮箱是abc@qq.com谢谢", "我的邮箱是[email]谢谢"),
        ("mailto:a@b.de?subject=x", "mailto:[email]?subject=x"),
        ("http://x.de/u?email=a@b.de&n=1", "http://x.de/u?email=[email]&n=1"),
        ("'a@b.de','c@d.de';e@f.de", "'[email]','[email]';[email]"),
        ("a@b.de.5", "[email].5"),
    ],
)
def test_only_the_address_is_masked(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    "number",
    [
        "DE89 3704 0044 0532 0130 00", "DE89370400440532013000", "de89370400440532013000",
        "GB29 NWBK 6016 1331 9268 19", "FR14 2004 1010 0505 0001 3M02 606", "NO93 8601 1117 947",
        "AT61 1904 3002 3457 3201", "NL91ABNA0417164300", "MT84MALT011000012345MTLCAST001S",
        "BE68-5390-0754-7034",
    ],
)  # fmt: skip
def test_accounts_are_masked(number: str) -> None:
    assert masked(f"to {number} dann") == "to [iban] dann"
    assert masked(f"账户{number}，") == "账户[iban]，"


# The examples of the registry of ISO 13616.
PUBLISHED = """
    NO9386011117947 BE68539007547034 DK5000400440116243 FI2112345600000785 NL91ABNA0417164300
    SI56263300012039086 MK07250120000058984 AT611904300234573201 EE382200221020145685
    LU280019400644750000 KZ86125KZT5004100100 LT121000011101001000 BA391290079401028494
    XK051212012345678906 CH9300762011623852957 HR1210010051863000160 LV80BANK0000435195001
    LI21088100002324013AA BG80BNBG96611020345678 GB29NWBK60161331926819 IE29AIBK93115212345678
    GE29NB0000000101904917 CR05015202001026284066 RS35260005601001611379 ME25505000012345678951
    BH67BMAG00001299123456 VA59001123000012345678 AE070331234567890123456 GI75NWBK000000007099453
    IL620108000000099999999 IQ98NBIQ850123456789012 TL380080012345678910157 CZ6508000000192000145399
    ES9121000418450200051332 RO49AAAA1B31007593840000 SE4550000000058398257466
    SK3112000000198742637541 AD1200012030200359100100 SA0380000000608010167519
    PK36SCBL0000001123456702 TN5910006035183598478831 VG96VPVG0000012345678901
    PT50000201231234567890154 ST23000100010051845310146 IS140159260076545510730339
    TR330006100519786457841326 FR1420041010050500013M02606 GR1601101250000000012300695
    IT60X0542811101000000123456 SM86U0322509800000000270100 MC5811222000010123456789030
    MR1300020001010000123456753 AL47212110090000000235698741 CY17002001280000001200527600
    HU42117730161111101800000000 PL61109010140000071219812874 LB62099900000001001901229114
    DO28BAGR00000001212453611324 AZ21NABZ00000000137010001944 BY13NBRB3600900000002Z00AB00
    GT82TRAJ01020000001210029690 SV62CENR00000000000000700025 BR1800360305000010009795493C1
    QA58DOHB00001234567890ABCDEFG UA213223130000026007233566001 PS92PALS000000000400123456702
    EG380019000500000000263180002 JO94CBJO0010000000000131000302 KW81CBKU0000000000001234560101
    MU17BOMM0101101030300200000MUR MT84MALT011000012345MTLCAST001S SC18SSCB11010000000000001497USD
    LC55HEMM000100010012001200023015
"""


@pytest.mark.parametrize("number", PUBLISHED.split())
def test_the_length_of_an_account_is_its_countrys(number: str) -> None:
    assert masked(f"{number}.") == "[iban]."
    grouped = " ".join(number[n : n + 4] for n in range(0, len(number), 4))
    assert masked(f"an {grouped} 50") == "an [iban] 50"


@pytest.mark.parametrize(
    "number",
    [
        "4111 1111 1111 1111", "4111111111111111", "4111-1111-1111-1111", "5555 5555 5555 4444",
        "2223003122003222", "378282246310005", "3782 822463 10005", "3056 930902 5904", "6011 1111 1111 1117",
        "3530111333300000", "6200000000000005", "6212 3412 3412 3412 346",
    ],
)  # fmt: skip
def test_cards_are_masked(number: str) -> None:
    assert masked(f"card {number} 12/27") == "card [card] 12/27"
    assert masked(f"{number}, {number}") == "[card], [card]"


def test_nineteen_digits_are_a_card_where_a_word_says_so() -> None:
    number = "62" + "1234" * 4
    number += str((10 - luhn(number + "0")) % 10)
    assert len(number) == 19
    assert masked(f"卡号：{number}") == "卡号：[card]"
    assert masked(f"my card number {number}.") == "my card number [card]."
    assert masked(f"item {number}") == f"item {number}"


# What is left alone


@pytest.mark.parametrize(
    "text",
    [
        # prices and quantities
        "$1,299.00", "1.299.000,00 €", "$150-200", "100 000 000 000", "+10 000 000", "1 000-2 000",
        "0.1234567890",
        "£2000-3000-4000", "3.1415926535", "6.02214076e23", "1,234,567,890",
        # dates and times
        "2024-01-15", "15.01.2024", "01/02/2003 10:15:00", "2024-01-15T10:15:00.000Z", "2020-01-01 12:00:00",
        "1465413032", "1465413032000", "20200101120000", "01.02.2003-05.06.2004", "12:30-14:45", "10-23-2012",
        "1990-2000", "1990 2000", "2009-2010", "01 2016 02 2017", "02-2016 03-2017", "05.06.2004 12.30",
        "phone 2018-2019", "iPhone 8 2018",
        # books, orders, parts, versions, addresses
        "978-3-16-148410-0", "9783161484100", "0-306-40615-2", "0306406152", "1384719342",
        "123-4567890-1234567",
        "Order 10023456", "item 0612345678", "SKU-555-123-4567", "073-3150-406", "099 0818 300",
        "A1-123-456-7890", "030 12345", "0171 123 456 789 01",
        "10.0.19041.1234", "Chrome/56.0.2924.76", "192.168.100.200", "100-200-3000-4000", "555-123-4567-8",
        "-3499919498720038879", "6236312923258954569", "0001234567890", "20814-1234",
        "tracking 1Z9991234567890",
        "http://x.de/555-123-4567", "x.de/?id=13812345678", "uuid 123e4567-e89b-12d3-a456-426614174000",
        # medicine
        "500 mg/5 ml", "120/80", "160/90-100mmHg", "NCT01234567", "357(13):1350",
        "2007 Jun 28;356(26):2700-3",
        "52.520008, 13.404954", "22q11.2", "1.758x10^7IU/ml", "乙肝表面抗原223.600ng/ml",
        "CD4 cell 350-500", "call 2000000 people",
        # no addresses
        "user@host", "@foo", "a @ b", "icon@2x.png", "4 apples @ 1.50", "life!@", "a@b.c1", "look at me. now",
        # checksums that fail
        "DE89370400440532013100", "4111 1111 1111 1112", "4000 5000 6000 8000",
    ],
)  # fmt: skip
def test_what_is_no_personal_data_is_left_alone(text: str) -> None:
    assert masked(text) == text
    assert masked(f"it is {text}, yes") == f"it is {text}, yes"


def test_kinds_can_be_chosen() -> None:
    text = "a@b.de, 555-123-4567, 4111111111111111, DE89370400440532013000"
    assert masked(text) == "[email], [phone], [card], [iban]"
    assert masked(text, "email") == "[email], 555-123-4567, 4111111111111111, DE89370400440532013000"
    assert masked(text, "phone", "iban") == "a@b.de, [phone], 4111111111111111, [iban]"


# Properties that hold for any text


TRICKY = st.text(st.sampled_from("0123456789+-() ./@[]\"'aZ:,é电话\ufdd0\ufdd1\n\\"), max_size=60)
PARTS = st.sampled_from(
    ["+49 30 1234567", "a@b.de", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "555-123-4567", "tel ",
     "[email]", "[phone]", "00", "0171", " ", "-", ".", "1", '"', "@", "x", "\ufdd0", "\ufdd1\ufdd3", "电话",
     "("]
)  # fmt: skip
TEXTS = TRICKY | st.lists(PARTS, max_size=12).map("".join) | st.text(max_size=40)


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=20))
@example(['"a@b.de"@x.de'])
def test_masking_twice_changes_nothing_and_each_text_is_masked_by_itself(texts: list[str]) -> None:
    once = mask(pl.Series(texts))
    assert mask(once).to_list() == once.to_list()
    assert [masked(text) for text in texts] == once.to_list()


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Nd", "Cs"], exclude_characters="@＠[]({})"), max_size=80))
def test_a_text_without_digits_or_at_is_unchanged(text: str) -> None:
    assert masked(text) == text


NAME = st.from_regex(r"[a-z0-9]([a-z0-9._+-]{0,12}[a-z0-9])?", fullmatch=True)
HOST = st.from_regex(r"([a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?\.){1,3}[a-z]{2,6}", fullmatch=True)
ADDRESS = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["", " ", ",", "<", "：", "\n", "我"]), NAME, HOST), max_size=6))
def test_no_address_is_left(parts: list[tuple[str, str, str]]) -> None:
    text = " ".join(f"{before}{name}@{host}" for before, name, host in parts)
    if re.search(r"@[1-4]x\.(png|jpe?g|gif|webp|svg)\b", text):
        return
    assert not ADDRESS.search(masked(text))
    assert masked(text).count("[email]") == len(parts)


def luhn(digits: str) -> int:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10


@settings(max_examples=100, deadline=None)
@given(
    st.from_regex(r"(4[0-9]{3}|5[1-5][0-9]{2})[0-9]{12}", fullmatch=True).filter(str.isascii),
    st.sampled_from(" -"),
)
def test_cards_are_masked_where_luhn_says_so(digits: str, sign: str) -> None:
    right = digits[:-1] + str((10 - luhn(digits[:-1] + "0")) % 10)
    for number in (digits, right):
        expected = luhn(number) == 0 and not re.fullmatch(r"(?:\d\d00)+", number)
        for text in (number, sign.join(re.findall("....", number))):
            assert (masked(text, "card") == "[card]") == expected


def iban(country: str, account: str) -> str:
    turned = "".join(str(int(c, 36)) for c in f"{account}{country}00")
    return f"{country}{98 - int(turned) % 97:02}{account}"


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_accounts_are_masked_where_the_check_digits_say_so(data: st.DataObject) -> None:
    size, countries = data.draw(st.sampled_from(sorted(IBAN_TAILS.items())))
    country = data.draw(st.sampled_from(countries.split("|")))
    alphabet = string.digits + string.ascii_uppercase
    letters = data.draw(st.text(alphabet, min_size=4, max_size=4))  # the bank's; the rest is mostly digits
    number = iban(country, letters + data.draw(st.text(string.digits, min_size=size - 4, max_size=size - 4)))
    grouped = " ".join(number[n : n + 4] for n in range(0, len(number), 4))
    assert masked(number, "iban") == masked(grouped, "iban") == masked(number.lower(), "iban") == "[iban]"
    other = number[:2] + f"{(int(number[2:4]) + data.draw(st.integers(1, 96))) % 97:02}" + number[4:]
    if int("".join(str(int(c, 36)) for c in other[4:] + other[:4])) % 97 != 1:
        assert masked(other, "iban") == other


@pytest.mark.parametrize(
    "unit",
    [
        "1",
        "1-",
        "1 ",
        "(1) ",
        "+1",
        "a@",
        "a.",
        "@a.",
        "tel ",
        "DE89 ",
        '"',
        "[at] ",
        "电话1",
        "0 0",
        "a@b.de ",
    ],
)
def test_time_grows_with_the_length(unit: str) -> None:
    def spent(size: int) -> float:
        text = pl.Series([(unit * (size // len(unit) + 1))[:size]])
        start = process_time()
        mask(text)
        return process_time() - start

    spent(1000)
    assert spent(800_000) < 0.2 + 40 * spent(100_000)  # a square would be 64


def test_nulls_stay_and_the_given_series_is_not_written_to() -> None:
    given_ = pl.Series("text", ["a@b.de", None, "x", ""])
    assert mask(given_).to_list() == ["[email]", None, "x", ""]
    assert given_.to_list() == ["a@b.de", None, "x", ""]
    assert mask(given_).name == "text"
    assert mask(pl.Series([], dtype=pl.String)).to_list() == []
    assert mask(pl.Series([None], dtype=pl.String)).to_list() == [None]


def test_an_expression_is_masked_like_a_series() -> None:
    frame = pl.DataFrame({"text": ["a@b.de", None, "call 555-123-4567"], "n": [1, 2, 3]})
    for found in (
        frame.with_columns(mask(pl.col("text"))),
        frame.lazy().with_columns(mask(pl.col("text"))).collect(),
    ):
        assert found["text"].to_list() == ["[email]", None, "call [phone]"]
    assert frame.select(mask(pl.col("text"), ("phone",)))["text"][0] == "a@b.de"


# Properties and events


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ('{"a":"x@y.de", "n":1.10,"e": 1e400}', '{"a":"[email]", "n":1.10,"e": 1e400}'),
        ('{"x@y.de": "x@y.de"}', '{"x@y.de": "[email]"}'),
        ('{"x@y.de" : {"l": [1, ["+49 30 1234567", null]]}}', '{"x@y.de" : {"l": [1, ["[phone]", null]]}}'),
        (r'{"a": "x\u0040y.de"}', '{"a": "[email]"}'),
        (r'{"a": "\n0171 1234567\t\"ä\""}', r'{"a": "\n[phone]\t\"ä\""}'),
        (r'{"a": "030\/1234567", "b": "\/"}', r'{"a": "[phone]", "b": "\/"}'),
        (r'{"a": "\ud83d x@y.de"}', '{"a": "? [email]"}'),
        (r'{"a": "\ud83d 1234567 x"}', r'{"a": "\ud83d 1234567 x"}'),
        ('{"a": 13812345678, "b": true}', '{"a": 13812345678, "b": true}'),
        ('{"a": "13812345678"}', '{"a": "[phone]"}'),
        ('{"a": "1381", "b": "2345678"}', '{"a": "1381", "b": "2345678"}'),
        ('{"note": "\ufdd0 x@y.de \ufdd1"}', '{"note": "\ufdd0 [email] \ufdd1"}'),
        (None, None),
    ],
)
def test_only_string_values_of_properties_are_masked(given_: str | None, expected: str | None) -> None:
    assert mask_json(pl.Series([given_, "{}"], dtype=pl.String)).to_list() == [expected, "{}"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS.filter(lambda t: t.isprintable()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)


def each_masked(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {key: each_masked(part) for key, part in value.items()}
    return [each_masked(part) for part in value] if isinstance(value, list) else value


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(TEXTS, JSON, max_size=5), st.booleans())
def test_json_is_masked_leaf_by_leaf(value: dict[str, Any], escaped: bool) -> None:
    text = mask_json(pl.Series([json.dumps(value, ensure_ascii=escaped)]))[0]
    assert json.loads(text) == each_masked(value)


def events(**columns: Any) -> pl.DataFrame:
    rows = {
        "event_id": ["e0", "e1", "e2"],
        "user_id": "ann@x.de",
        "event_type": "note",
        "timestamp": None,
    } | columns
    frame = pl.DataFrame(rows, strict=False).with_columns(timestamp=pl.datetime(2025, 1, 1, time_zone="UTC"))
    return EVENTS.conform(frame)


def test_events_are_masked_only_on_request_and_only_where_words_are() -> None:
    frame = events(
        text=["x@y.de", None, "0171 1234567"],
        properties=[None, '{"mail": "x@y.de"}', "{}"],
        item_id="+49 30 1234567",
    )
    assert apply(frame, PrivacyConfig()) is frame
    done = apply(frame, PrivacyConfig(mask=True))
    assert done["text"].to_list() == ["[email]", None, "[phone]"]
    assert done["properties"].to_list() == [None, '{"mail": "[email]"}', "{}"]
    assert done.drop("text", "properties").equals(frame.drop("text", "properties"))
    assert done.schema == EVENTS.schema
    phones = apply(frame, PrivacyConfig(mask=True, kinds=("phone",)))
    assert phones["text"].to_list() == ["x@y.de", None, "[phone]"]
    assert phones["properties"][1] == '{"mail": "x@y.de"}'
    assert apply(EVENTS.empty(), PrivacyConfig(mask=True)).equals(EVENTS.empty())


def test_ids_made_after_masking_do_not_depend_on_the_data() -> None:
    ids = [
        assign_ids(apply(events(text=text), PrivacyConfig(mask=True)).drop("event_id"), "s")[
            "event_id"
        ].to_list()
        for text in ("write to x@y.de", "write to a@b.de")
    ]
    assert ids[0] == ids[1]


def test_find_names_the_rows_and_the_kinds() -> None:
    frame = events(
        text=["x@y.de or 0171 1234567", "nothing", None],
        properties=[None, '{"n": 1}', '{"card": "4111111111111111"}'],
    )
    assert find(frame).rows(named=True) == [
        {"row": 0, "email": True, "iban": False, "card": False, "phone": True},
        {"row": 2, "email": False, "iban": False, "card": True, "phone": False},
    ]
    assert find(frame, ("phone",)).rows() == [(0, True)]
    assert find(EVENTS.empty()).is_empty()


@pytest.mark.parametrize("wrong", [{"mask": "maybe"}, {"kinds": ("name",)}, {"kinds": ()}, {"hide": True}])
def test_a_wrong_setting_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PrivacyConfig(**wrong)


def test_a_setting_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        PrivacyConfig().mask = True  # type: ignore[misc]


# Real texts, every hit of which was looked at


def hits(path: str, *columns: str) -> dict[str, int]:
    """Count by kind the distinct texts that hold it."""
    frame = pl.read_parquet(DATA / path)
    text = pl.concat([frame[name].drop_nulls().cast(pl.String).alias("text") for name in columns]).unique()
    frame = EVENTS.conform(
        pl.DataFrame({"text": text}).select(
            pl.int_range(pl.len()).cast(pl.String).alias("event_id"), "text",
            user_id=pl.lit("u"), event_type=pl.lit("t"), timestamp=pl.datetime(2025, 1, 1, time_zone="UTC"),
        )
    )  # fmt: skip
    found = find(frame).drop("row").sum().row(0, named=True)
    return {kind: count for kind, count in found.items() if count}


@REAL
@pytest.mark.parametrize(
    ("path", "columns", "expected"),
    [
        # addresses of sellers and reviewers
        ("amazon_instruments/reviews.parquet", ("reviewText", "summary"), {"email": 4}),
        # of institutes, as are the phone numbers
        ("medquad/qa.parquet", ("question", "answer", "url"), {"email": 11, "phone": 67}),
        ("banking77/train.parquet", ("text",), {}),
        ("chinese_medical_qa/internal_medicine_sample.parquet", ("title", "ask", "answer"), {}),
        ("deskdrop/users_interactions.parquet", ("userAgent", "contentId", "sessionId", "timestamp"), {}),
        (
            "mind_sample/news.parquet",
            ("title", "abstract", "title_entities", "url"),
            {"email": 2, "phone": 2},
        ),
        ("ml_1m/movies_extra_imdb.parquet", ("plot", "poster"), {}),
        ("lastfm/artists.parquet", ("name", "url", "pictureURL"), {}),
    ],
)
def test_real_texts_show_what_is_there_and_nothing_else(
    path: str, columns: tuple[str, ...], expected: dict[str, int]
) -> None:
    assert hits(path, *columns) == expected
