"""Presets: the files of well-known data sets, quirks and all, become the rows written here by hand."""

import gzip
import json
import os
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from profiles.interactions import InteractionsConfig
from profiles.schema import EVENTS, EXPOSURES, ITEMS, ContractError
from profiles.sources import (
    Batch,
    Kind,
    Sandbox,
    SourceConfig,
    presets,
    presets_convert,
    presets_layouts,
    presets_mind,
    presets_read,
    read,
)
from profiles.sources.presets_layouts import PRESET_LAYOUTS, companions, scan
from profiles.sources.presets_read import File
from recsys.evaluation import EvaluationConfig

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KINDS: tuple[Kind, ...] = ("events", "items", "users")
DATA = os.environ.get("ATTUNE_DATA")
SANDBOX = Sandbox()

Write = Callable[[Mapping[str, str | bytes]], Path]


@pytest.fixture(scope="module", autouse=True)
def sandbox() -> Iterator[None]:
    """One parser for all tests."""
    yield
    SANDBOX.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def write(folder: Path) -> Write:
    """Write files, those named .gz packed."""

    def run(files: Mapping[str, str | bytes]) -> Path:
        for name, content in files.items():
            raw = content.encode() if isinstance(content, str) else content
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return folder

    return run


def read_table(table: dict[str, Any], kind: Kind, root: Path) -> Batch:
    """Read one table of a preset as the pipeline reads it."""
    return read(SourceConfig.model_validate(table), kind, root, NOW, SANDBOX)


def batches(name: str, root: Path, path: str = "data") -> dict[tuple[Kind, str], Batch]:
    tables = presets.expand(name, path, root)
    found = {
        (kind, table["name"]): read_table(table, kind, root)
        for kind in KINDS
        for table in tables.get(kind, [])
    }
    for batch in found.values():
        assert batch.rows == batch.frame.height + batch.rejected.height + batch.duplicates
    return found


def gather(name: str, folder: Path) -> dict[Kind, pl.DataFrame]:
    """Read a whole preset; nothing in it may be refused."""
    found = batches(name, folder.parent)
    assert [batch.rejected.to_dicts() for batch in found.values() if batch.rejected.height] == []
    return {
        kind: pl.concat(
            [b.frame for (k, _), b in found.items() if k == kind and b.frame.height], how="diagonal"
        )
        for kind in KINDS
        if any(k == kind and b.frame.height for (k, _), b in found.items())
    }


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type]


def order(place: int) -> datetime:
    return at(1970, 1, 1) + timedelta(microseconds=place)


def shown(frame: pl.DataFrame, *names: str) -> list[tuple[Any, ...]]:
    return frame.select(names).rows()


EVENT = ("user_id", "item_id", "event_type", "timestamp", "value")


# Each preset against rows written by hand


def test_movielens_100k(write: Write) -> None:
    no, flags = "0|" * 18, "0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0"
    found = gather(
        "movielens-100k",
        write(
            {
                "u.data": "196\t242\t3\t881250949\n186\t302\t5\t891717742\n",
                "u.item": f"1|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M|{flags}\n"
                f"267|unknown||||1|{no[:-1]}\n"
                f"543|Misérables, Les (1995)|01-Jan-1995||http://x|{no}0\n".encode("latin-1"),
                "u.user": "1|24|M|technician|85711\n2|53|F|other|T8H1N\n",
            }
        ),
    )
    assert shown(found["events"], *EVENT) == [
        ("196", "242", "rating", at(1997, 12, 4, 15, 55, 49), 3.0),
        ("186", "302", "rating", at(1998, 4, 4, 19, 22, 22), 5.0),
    ]
    assert shown(found["items"], "item_id", "title", "categories") == [
        ("1", "Toy Story (1995)", ["Animation", "Children's", "Comedy"]),
        ("267", "unknown", ["unknown"]),
        ("543", "Misérables, Les (1995)", None),
    ]
    assert shown(found["users"], "user_id", "age", "gender", "occupation") == [
        ("1", 24, "M", "technician"),
        ("2", 53, "F", "other"),
    ]


def test_movielens_1m(write: Write) -> None:
    found = gather(
        "movielens-1m",
        write(
            {
                "ratings.dat": "1::1193::5::978300760\n2::661::3::978302109\n",
                "movies.dat": "1::Toy Story (1995)::Animation|Children's|Comedy\n"
                "73::Misérables, Les (1995)::Drama|Musical\n".encode("latin-1"),
                "users.dat": "1::F::1::10::48067\n2::M::56::16::70072-1234\n",
            }
        ),
    )
    assert shown(found["events"], *EVENT) == [
        ("1", "1193", "rating", at(2000, 12, 31, 22, 12, 40), 5.0),
        ("2", "661", "rating", at(2000, 12, 31, 22, 35, 9), 3.0),
    ]
    assert shown(found["items"], "item_id", "title", "categories") == [
        ("1", "Toy Story (1995)", ["Animation", "Children's", "Comedy"]),
        ("73", "Misérables, Les (1995)", ["Drama", "Musical"]),
    ]
    assert shown(found["users"], "user_id", "age", "occupation", "gender") == [
        ("1", 1, "10", "F"),
        ("2", 56, "16", "M"),
    ]


def test_movielens_10m_has_tags_with_colons_for_separators(write: Write) -> None:
    found = gather(
        "movielens-10m",
        write(
            {
                "ratings.dat": "1::122::3.5::838985046\n",
                "movies.dat": "122::Boomerang (1992)::Comedy|Romance\n",
                "tags.dat": "15::4973::excellent! :) ok::1215184630\n20::1747::café: noir::1188263867\r\n",
            }
        ),
    )
    assert shown(found["events"], *EVENT, "text") == [
        ("1", "122", "rating", at(1996, 8, 2, 11, 24, 6), 3.5, None),
        ("15", "4973", "tag", at(2008, 7, 4, 15, 17, 10), None, "excellent! :) ok"),
        ("20", "1747", "tag", at(2007, 8, 28, 1, 17, 47), None, "café: noir"),
    ]


@pytest.mark.parametrize("name", ["movielens-20m", "movielens-25m", "movielens-32m", "movielens-latest"])
def test_movielens_with_headers(name: str, write: Write) -> None:
    found = gather(
        name,
        write(
            {
                "ratings.csv": "userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n",
                "tags.csv": 'userId,movieId,tag,timestamp\n18,4141,"dark, ""noir"" hero",1240597180\n',
                "movies.csv": "movieId,title,genres\n"
                '11,"American President, The (1995)",Comedy|Drama\n999,Untitled,(no genres listed)\n',
            }
        ),
    )
    assert shown(found["events"], *EVENT, "text") == [
        ("1", "2", "rating", at(2005, 4, 2, 23, 53, 47), 3.5, None),
        ("18", "4141", "tag", at(2009, 4, 24, 18, 19, 40), None, 'dark, "noir" hero'),
    ]
    assert shown(found["items"], "item_id", "title", "categories") == [
        ("11", "American President, The (1995)", ["Comedy", "Drama"]),
        ("999", "Untitled", None),
    ]


REVIEW_2014 = {
    "reviewerID": "A2SUAM1J3GNN3B",
    "asin": "0000013714",
    "reviewerName": "J. McDonald",
    "helpful": [2, 3],
    "reviewText": 'He is having a "great" time.\nFun!',
    "overall": 5.0,
    "summary": "Heavenly Highway Hymns",
    "unixReviewTime": 1252800000,
    "reviewTime": "09 13, 2009",
}


def test_amazon_2014(write: Write) -> None:
    """Reviews are JSON in one archive and Python literals in another; products are always literals."""
    literal = {
        "reviewerID": "B",
        "asin": "X",
        "overall": 2.0,
        "unixReviewTime": 1252886400,
        "helpful": [0, 0],
    }
    product = {
        "asin": "0000031852",
        "title": "Girls Ballet Tutu Zebra &amp; Hot Pink",
        "price": 3.17,
        "imUrl": "http://x.jpg",
        "related": {"also_bought": ["B00JHONN1S"]},
        "salesRank": {"Toys & Games": 211836},
        "brand": "Coxlures",
        "categories": [["Sports & Outdoors", "Dance"], ["Sports & Outdoors", "Girls'"]],
    }
    bare = {"asin": "0001", "description": "\nIt's on – "}
    found = gather(
        "amazon-2014",
        write(
            {
                "reviews_Toys_5.json.gz": f"{json.dumps(REVIEW_2014)}\n{literal!r}\n",
                "meta_Toys.json.gz": f"{product!r}\n{bare!r}\n",
            }
        ),
    )
    assert shown(found["events"], *EVENT, "text") == [
        (
            *("A2SUAM1J3GNN3B", "0000013714", "review", at(2009, 9, 13), 5.0),
            'Heavenly Highway Hymns He is having a "great" time.\nFun!',
        ),
        ("B", "X", "review", at(2009, 9, 14), 2.0, None),
    ]
    assert shown(found["items"], "item_id", "title", "text", "categories", "brand", "price") == [
        (
            *("0000031852", "Girls Ballet Tutu Zebra & Hot Pink", None),
            *(["Sports & Outdoors", "Dance", "Girls'"], "Coxlures", 3.17),
        ),
        ("0001", None, "It's on –", [], None, None),
    ]


def test_amazon_2018(write: Write) -> None:
    review = REVIEW_2014 | {"verified": True, "style": {"Format:": " Hardcover"}, "vote": "5", "image": ["u"]}
    review.pop("summary")
    product = {
        "asin": "0000031852",
        "title": "Girls Tutu",
        "feature": ["Botiquecutie", "Hot pink"],
        "description": ["A tutu.", ""],
        "price": "$1,003.17",
        "brand": "Coxlures",
        "category": ["Sports", "Dance", "</span></span></span>"],
    }
    broken = {
        "asin": "2",
        "title": "var aPageStart = (new Date()).getTime();",
        "price": ".a-section.a-spacing-mini{margin}",
        "category": [],
        "description": [],
    }
    found = gather(
        "amazon-2018",
        write(
            {
                "AMAZON_FASHION_5.json.gz": json.dumps(review) + "\n",
                "meta_AMAZON_FASHION.json.gz": f"{json.dumps(product)}\n{json.dumps(broken)}\n",
            }
        ),
    )
    assert shown(found["events"], *EVENT, "text") == [
        (
            *("A2SUAM1J3GNN3B", "0000013714", "review", at(2009, 9, 13), 5.0),
            'He is having a "great" time.\nFun!',
        )
    ]
    assert shown(found["items"], "item_id", "title", "text", "categories", "brand", "price") == [
        (
            *("0000031852", "Girls Tutu", "A tutu. Botiquecutie Hot pink"),
            *(["Sports", "Dance"], "Coxlures", 1003.17),
        ),
        ("2", None, None, [], None, None),
    ]


def test_amazon_2023(write: Write) -> None:
    review = {
        "rating": 4.0,
        "title": "Nice",
        "text": "Works <br /> well",
        "images": [],
        "asin": "B0BSGM6CQ9",
        "parent_asin": "B0BSGM6CQ8",
        "user_id": "AFKZENTNBQ7A7V7UXW5JJI6UGRYQ",
        "timestamp": 1588687728923,
        "verified_purchase": True,
        "helpful_vote": 3,
    }
    product = {
        "main_category": "All Beauty",
        "title": "Hairspray",
        "average_rating": 4.8,
        "rating_number": 10,
        "features": ["Holds"],
        "description": ["Spray", "it"],
        "price": "from 6.50",
        "store": "Howard LC",
        "categories": ["Beauty", "Hair"],
        "details": {"Package Dimensions": "7 x 2"},
        "parent_asin": "B0BSGM6CQ8",
        "bought_together": None,
    }
    bare = {"parent_asin": "B2", "main_category": None, "price": None, "categories": [], "title": ""}
    found = gather(
        "amazon-2023",
        write(
            {
                "All_Beauty.jsonl.gz": json.dumps(review),
                "meta_All_Beauty.jsonl.gz": f"{json.dumps(product)}\n{json.dumps(bare)}\n",
            }
        ),
    )
    assert shown(found["events"], *EVENT, "text") == [
        (
            *("AFKZENTNBQ7A7V7UXW5JJI6UGRYQ", "B0BSGM6CQ8", "review"),
            *(at(2020, 5, 5, 14, 8, 48, 923000), 4.0, "Nice Works <br /> well"),
        )
    ]
    assert shown(found["items"], "item_id", "title", "text", "categories", "brand", "price") == [
        ("B0BSGM6CQ8", "Hairspray", "Spray it Holds", ["All Beauty", "Beauty", "Hair"], "Howard LC", 6.5),
        ("B2", None, None, [], None, None),
    ]
    assert set(found["items"].columns) == set(ITEMS.columns)  # no average of all reviews, past and future


BEHAVIORS = (
    "1\tU13740\t11/11/2019 9:05:58 AM\tN55189 N42782\tN55689-1 N35729-0 N7-1\n"
    "2\tU91836\t11/12/2019 6:11:30 PM\t\tN20678-0 N39317-0\n"
    "3\tU13740\t11/10/2019 12:30:00 AM\tN55189 N42782\tN35729-1\n"
)
NEWS = (
    'N55528\tlifestyle\tlifestyleroyals\tThe "Brands" Queen Swears By\tShop it.\thttps://x\t[]\t[]\n'
    'N55689\tsports\tfootball_nfl\tRodgers\t\thttps://y\t[{"Label": "A"}]\t[]\n'
)


def test_mind(write: Write) -> None:
    found = gather("mind", write({"behaviors.tsv": BEHAVIORS, "news.tsv": NEWS}))
    first = at(2019, 11, 10, 0, 30)
    assert shown(found["events"], *EVENT[:4], "recommendation_id") == [
        ("U13740", "N55689", "click", at(2019, 11, 11, 9, 5, 58), "1"),
        ("U13740", "N7", "click", at(2019, 11, 11, 9, 5, 58), "1"),
        ("U13740", "N35729", "click", first, "3"),
        ("U13740", "N55189", "history_click", first - timedelta(microseconds=2), None),
        ("U13740", "N42782", "history_click", first - timedelta(microseconds=1), None),
    ]
    assert shown(found["items"], "item_id", "title", "text", "categories") == [
        ("N55528", 'The "Brands" Queen Swears By', "Shop it.", ["lifestyle", "lifestyleroyals"]),
        ("N55689", "Rodgers", None, ["sports", "football_nfl"]),
    ]


def test_mind_impressions_are_exposures_of_everything_shown(write: Write) -> None:
    folder = write({"behaviors.tsv": BEHAVIORS, "news.tsv": NEWS})
    shown_rows = pl.concat(presets.exposures("mind", "data", folder.parent))
    assert shown_rows.schema == EXPOSURES.schema
    assert shown(shown_rows, "recommendation_id", "user_id", "item_id", "rank", "timestamp") == [
        ("1", "U13740", "N55689", 1, at(2019, 11, 11, 9, 5, 58)),
        ("1", "U13740", "N35729", 2, at(2019, 11, 11, 9, 5, 58)),
        ("1", "U13740", "N7", 3, at(2019, 11, 11, 9, 5, 58)),
        ("2", "U91836", "N20678", 1, at(2019, 11, 12, 18, 11, 30)),
        ("2", "U91836", "N39317", 2, at(2019, 11, 12, 18, 11, 30)),
        ("3", "U13740", "N35729", 1, at(2019, 11, 10, 0, 30)),
    ]
    assert set(shown(shown_rows, "propensity", "source", "release", "blend")) == {
        (None, "logged", "logged", "logged")
    }
    clicks = gather("mind", folder)["events"].filter(pl.col("event_type") == "click")
    key = {"recommendation_id": "recommendation_id", "user_id": "user_id", "item_id": "item_id"}
    assert clicks.join(shown_rows, on=list(key), how="anti").is_empty()


def test_mind_in_its_parts_keeps_their_impressions_apart(write: Write) -> None:
    """Each part numbers its impressions from 1; the histories of dev are those of train again."""
    folder = write(
        {
            "MINDsmall_train/behaviors.tsv": BEHAVIORS,
            "MINDsmall_train/news.tsv": NEWS,
            "MINDsmall_dev/behaviors.tsv": "1\tU13740\t11/15/2019 9:00:00 AM\tN55189 N42782\tN9-1\n",
            "MINDsmall_dev/news.tsv": "N9\tnews\tworld\tNine\t\thttps://z\t[]\t[]\n",
            "MINDlarge_test/behaviors.tsv": "1\tU1\t11/16/2019 9:00:00 AM\t\tN9 N55528\n",
        }
    )
    found = gather("mind", folder)
    clicks = found["events"].filter(pl.col("event_type") == "click")
    assert sorted(clicks["recommendation_id"].to_list()) == ["dev-1", "train-1", "train-1", "train-3"]
    assert found["events"].filter(pl.col("event_type") == "history_click").height == 2
    assert sorted(found["items"]["item_id"]) == ["N55528", "N55689", "N9"]
    rows = pl.concat(presets.exposures("mind", "data", folder.parent))
    assert not rows.select("recommendation_id", "rank").is_duplicated().any()
    assert shown(rows.filter(pl.col("recommendation_id") == "test-1"), "item_id", "rank") == [
        ("N9", 1),
        ("N55528", 2),
    ]


def test_mind_says_which_time_it_cannot_read(write: Write) -> None:
    lines = BEHAVIORS + "9\tU2\t2019-13-45\t\tN1-1\n"
    folder = write({"behaviors.tsv": lines, "news.tsv": NEWS})
    refused = batches("mind", folder.parent)["events", "clicks"].rejected
    assert refused["problem"].to_list() == ["unreadable time '2019-13-45'"]
    assert "9" not in pl.concat(presets.exposures("mind", "data", folder.parent))["recommendation_id"]


RETAILROCKET = {
    "events.csv": "timestamp,visitorid,event,itemid,transactionid\n"
    "1433221332117,257597,view,355908,\n1433222276276,599528,transaction,356475,4000\n",
    "item_properties_part1.csv": "timestamp,itemid,property,value\n"
    "1435460400000,460429,categoryid,1338\n1441508400000,206783,888,1116713 960601 n277.200\n"
    "1439089200000,395014,400,n552.000 639502 n720.000\n1436065200000,460429,categoryid,1338\n"
    "1435460400000,460429,available,0\n",
    "item_properties_part2.csv": "timestamp,itemid,property,value\n"
    "1437879600000,460429,available,1\n1433041200000,77,available,1\n"
    "1431831600000,460429,790,n32880.000\n1438000000000,460429,categoryid,7\n",
    "category_tree.csv": "categoryid,parentid\n1338,1278\n1278,378\n378,\n",
}


def test_retailrocket(write: Write) -> None:
    found = gather("retailrocket", write(RETAILROCKET))
    assert shown(found["events"], *EVENT[:4], "properties") == [
        ("257597", "355908", "view", at(2015, 6, 2, 5, 2, 12, 117000), None),
        ("599528", "356475", "transaction", at(2015, 6, 2, 5, 17, 56, 276000), '{"transactionid":"4000"}'),
    ]
    assert shown(found["items"], "item_id", "valid_from", "categories", "available") == [
        ("460429", at(2015, 6, 28, 3), ["378", "1278", "1338"], "0"),
        ("460429", at(2015, 7, 26, 3), ["378", "1278", "1338"], "1"),
        ("460429", at(2015, 7, 27, 12, 26, 40), ["7"], "1"),
        ("77", at(2015, 5, 31, 3), None, "1"),
    ]


@pytest.mark.parametrize("missing", ["item_properties_part2.csv", "category_tree.csv"])
def test_retailrocket_names_the_file_that_is_not_beside(missing: str, write: Write) -> None:
    folder = write({name: text for name, text in RETAILROCKET.items() if name != missing})
    with pytest.raises(ContractError, match=f"{missing}, which is not beside it"):
        batches("retailrocket", folder.parent)


HETREC = {
    "user_artists.dat": "userID\tartistID\tweight\r\n2\t51\t13883\r\n2\t52\t11690\r\n",
    "artists.dat": "id\tname\turl\tpictureURL\r\n51\tDuran Duran\thttp://x\thttp://y\r\n"
    '52\t"Weird Al" Yankovic\thttp://z\t\r\n',
    "tags.dat": "tagID\ttagValue\r\n13\tchillout\r\n15\tdéprime\r\n".encode("latin-1"),
    "user_taggedartists-timestamps.dat": "userID\tartistID\ttagID\ttimestamp\r\n"
    "2\t52\t13\t1238536800000\r\n2\t52\t15\t1238536800001\r\n2\t51\t99\t1238536800000\r\n",
    "user_taggedartists.dat": "userID\tartistID\ttagID\tday\tmonth\tyear\r\n2\t52\t13\t1\t4\t2009\r\n",
}


def test_lastfm_2k_counts_have_an_order_and_no_time(write: Write) -> None:
    folder = write(HETREC)
    found = gather("lastfm-2k", folder)
    assert batches("lastfm-2k", folder.parent)["events", "listens"].timeless
    assert shown(found["events"], *EVENT) == [
        ("2", "51", "listen", order(0), 13883.0),
        ("2", "52", "listen", order(1), 11690.0),
    ]
    assert shown(found["items"], "item_id", "title") == [("51", "Duran Duran"), ("52", '"Weird Al" Yankovic')]


def test_lastfm_2k_tags_are_words_with_times(write: Write) -> None:
    found = gather("lastfm-2k-tags", write(HETREC))
    assert shown(found["events"], *EVENT[:4], "text") == [
        ("2", "52", "tag", at(2009, 3, 31, 22), "chillout"),
        ("2", "52", "tag", at(2009, 3, 31, 22, 0, 0, 1000), "déprime"),
        ("2", "51", "tag", at(2009, 3, 31, 22), None),  # a tag without a word is still a tag
    ]


def test_lastfm_2k_tags_by_day(write: Write) -> None:
    files = dict(HETREC)
    del files["user_taggedartists-timestamps.dat"]
    assert isinstance(files["user_taggedartists.dat"], str)
    files["user_taggedartists.dat"] += "2\t52\t15\t31\t2\t2009\r\n"
    batch = batches("lastfm-2k-tags", write(files).parent)["events", "tags"]
    assert shown(batch.frame, *EVENT[:4], "text") == [("2", "52", "tag", at(2009, 4, 1), "chillout")]
    assert batch.rejected["problem"].to_list() == ["unreadable time 'no day 20090231'"]


SONGS = (
    "user_000001\t2009-05-04T23:08:57Z\tf1b1cf71\tDeep Dish\t\tFuck Me I'm \"Famous\n"
    "user_000001\t2009-05-04T13:54:10Z\ta7f7df4a\t坂本龍一\t3858b16c\tTibetan Dance\r\n"
    "user_000002\t2009-05-04T13:54:11Z\t\tNobody\t3858b16c\tTibetan Dance (Live)\n"
)
LASTFM_1K = {
    "userid-timestamp-artid-artname-traid-traname.tsv": SONGS,
    "userid-profile.tsv": "#id\tgender\tage\tcountry\tregistered\n"
    "user_000001\tm\t\tJapan\tAug 13, 2006\nuser_000002\tf\t23\t\t\n",
}


def test_lastfm_1k(write: Write) -> None:
    found = gather("lastfm-1k", write(LASTFM_1K))
    own = "Deep Dish / Fuck Me I'm \"Famous"
    assert shown(found["events"], *EVENT[:4]) == [
        ("user_000001", own, "listen", at(2009, 5, 4, 23, 8, 57)),
        ("user_000001", "3858b16c", "listen", at(2009, 5, 4, 13, 54, 10)),
        ("user_000002", "3858b16c", "listen", at(2009, 5, 4, 13, 54, 11)),
    ]
    assert shown(found["items"], "item_id", "title", "brand") == [
        (own, "Fuck Me I'm \"Famous", "Deep Dish"),
        ("3858b16c", "Tibetan Dance", "坂本龍一"),
    ]
    assert shown(found["users"], "user_id", "age", "gender", "country", "registered") == [
        ("user_000001", None, "m", "Japan", "Aug 13, 2006"),
        ("user_000002", 23, "f", None, None),
    ]


def test_lastfm_1k_with_artists_for_items(write: Write) -> None:
    found = gather("lastfm-1k-artists", write(LASTFM_1K))
    assert found["events"]["item_id"].to_list() == ["f1b1cf71", "a7f7df4a", "Nobody"]
    assert shown(found["items"], "item_id", "title") == [
        ("f1b1cf71", "Deep Dish"),
        ("a7f7df4a", "坂本龍一"),
        ("Nobody", "Nobody"),
    ]


def test_a_torn_line_is_set_aside_with_its_text(write: Write) -> None:
    torn = SONGS + "user_000003\t2009\twith a tab\there\tand\tthere\tand more\n"
    folder = write(LASTFM_1K | {"userid-timestamp-artid-artname-traid-traname.tsv": torn})
    batch = batches("lastfm-1k", folder.parent)["events", "listens"]
    assert batch.frame.height == 3
    assert batch.rejected["problem"].to_list() == ["an event with no user"]
    assert "and more" in json.loads(batch.rejected["content"][0])[presets_read.UNREADABLE]


def test_lastfm_360k(write: Write) -> None:
    found = gather(
        "lastfm-360k",
        write(
            {
                "usersha1-artmbid-artname-plays.tsv": "00000c\t3bd73256\tbetty blowtorch\t2137\n"
                "00000c\t\tdie Ärzte\t1099\n00001d\t3bd73256\tbetty b.\t12\n",
                "usersha1-profile.tsv": "00000c\tf\t\tGermany\tFeb 1, 2007\n"
                "00001d\t\t-1\tMexico\tApr 28, 2008\n",
            }
        ),
    )
    assert shown(found["events"], *EVENT) == [
        ("00000c", "3bd73256", "listen", order(0), 2137.0),
        ("00000c", "die Ärzte", "listen", order(1), 1099.0),
        ("00001d", "3bd73256", "listen", order(2), 12.0),
    ]
    assert shown(found["items"], "item_id", "title") == [
        ("3bd73256", "betty blowtorch"),
        ("die Ärzte", "die Ärzte"),
    ]
    assert shown(found["users"], "user_id", "age", "country") == [
        ("00000c", None, "Germany"),
        ("00001d", -1, "Mexico"),
    ]


@pytest.mark.parametrize("suffix", [".txt.gz", ".txt"])
def test_gowalla(suffix: str, write: Write) -> None:
    found = gather(
        "gowalla",
        write(
            {
                f"loc-gowalla_totalCheckins{suffix}": "0\t2010-10-19T23:55:27Z\t30.2359091167\t"
                "-97.7951395833\t22847\n"
                "0\t2010-10-18T22:17:43Z\t30.2691029532\t-97.7493953705\t420315\n"
                "1\t2010-10-17T23:42:03Z\t30.99\t-97.99\t22847\n"
            }
        ),
    )
    assert shown(found["events"], *EVENT[:4]) == [
        ("0", "22847", "checkin", at(2010, 10, 19, 23, 55, 27)),
        ("0", "420315", "checkin", at(2010, 10, 18, 22, 17, 43)),
        ("1", "22847", "checkin", at(2010, 10, 17, 23, 42, 3)),
    ]
    assert shown(found["items"], "item_id", "latitude", "longitude") == [
        ("22847", 30.2359091167, -97.7951395833),
        ("420315", 30.2691029532, -97.7493953705),
    ]


def test_gowalla_as_lightgcn_split_it(write: Write) -> None:
    found = gather(
        "gowalla-lightgcn",
        write(
            {
                "train.txt": "0 0 1\n1 2 \n2\n",
                "test.txt": "0 5\n",
                "item_list.txt": "org_id remap_id\n9190 1\n8975 0\n",
            }
        ),
    )
    assert shown(found["events"], "user_id", "item_id", "timestamp") == [
        ("0", "0", order(0)),
        ("0", "1", order(1)),
        ("1", "2", order(2)),
        ("0", "5", order(1_000_000_000)),
    ]
    assert shown(found["items"], "item_id", "org_id") == [("1", "9190"), ("0", "8975")]


def test_yelp(write: Write) -> None:
    review = {
        "review_id": "KU_O5udG6zpxOg-VcAEodg",
        "user_id": "mh_-eMZ6K5RLWhZyISBhwA",
        "business_id": "XQfwVwDr-v0ZS3_CbbE5Xw",
        "stars": 3.0,
        "useful": 0,
        "text": "If you decide to eat here\n\nbe aware 🍜",
        "date": "2018-07-07 22:09:11",
    }
    tip = {"user_id": "u", "business_id": "b", "text": "Try it", "date": "2012-05-18 02:17:21"}
    place = {
        "business_id": "MTSW4McQd7CbVtyjqoe9mw",
        "name": "St Honore Pastries",
        "city": "Philadelphia",
        "state": "PA",
        "latitude": 39.9555052,
        "longitude": -75.1555641,
        "stars": 4.0,
        "review_count": 80,
        "attributes": None,
        "categories": "Restaurants, Food, Bubble Tea",
    }
    user = {"user_id": "u", "name": "Walker", "yelping_since": "2007-01-25 16:47:26", "average_stars": 3.91}
    prefix = "yelp_academic_dataset_"
    found = gather(
        "yelp",
        write(
            {
                f"{prefix}review.json": json.dumps(review, ensure_ascii=False) + "\n",
                f"{prefix}tip.json": json.dumps(tip) + "\n",
                f"{prefix}business.json": json.dumps(place)
                + "\n"
                + json.dumps({"business_id": "n", "name": "Bare", "categories": None})
                + "\n",
                f"{prefix}user.json": json.dumps(user) + "\n",
            }
        ),
    )
    assert shown(found["events"], *EVENT, "text") == [
        (
            *("mh_-eMZ6K5RLWhZyISBhwA", "XQfwVwDr-v0ZS3_CbbE5Xw", "review", at(2018, 7, 7, 22, 9, 11), 3.0),
            "If you decide to eat here\n\nbe aware 🍜",
        ),
        ("u", "b", "tip", at(2012, 5, 18, 2, 17, 21), None, "Try it"),
    ]
    assert found["events"]["event_id"][0] == "KU_O5udG6zpxOg-VcAEodg"
    assert shown(found["items"], "item_id", "title", "categories", "city", "latitude") == [
        (
            *("MTSW4McQd7CbVtyjqoe9mw", "St Honore Pastries"),
            *(["Restaurants", "Food", "Bubble Tea"], "Philadelphia", 39.9555052),
        ),
        ("n", "Bare", [], None, None),
    ]
    assert shown(found["users"], "user_id", "yelping_since") == [("u", "2007-01-25 16:47:26")]
    assert set(found["users"].columns) == {"user_id", "yelping_since"}


def test_steam(write: Write) -> None:
    folder = write(
        {
            "steam-200k.csv": '151603712,"The Elder Scrolls V Skyrim","purchase",1.0,0\r\n'
            '151603712,"The Elder Scrolls V Skyrim","play",273.0,0\r\n'
            '59945701,"Rust, 10,000 ""nights""","play",0.1,0\r\n'
        }
    )
    found = gather("steam", folder)
    rust = 'Rust, 10,000 "nights"'
    assert shown(found["events"], *EVENT) == [
        ("151603712", "The Elder Scrolls V Skyrim", "purchase", order(0), 1.0),
        ("151603712", "The Elder Scrolls V Skyrim", "play", order(1), 273.0),
        ("59945701", rust, "play", order(2), 0.1),
    ]
    assert shown(found["items"], "item_id", "title") == [
        ("The Elder Scrolls V Skyrim", "The Elder Scrolls V Skyrim"),
        (rust, rust),
    ]


@pytest.mark.parametrize("row", ['1,"Game","play",1.0', '1,"Game","play",1.0,0,0'])
def test_steam_refuses_a_row_of_another_width(row: str, write: Write) -> None:
    folder = write({"steam-200k.csv": f'1,"Game","play",1.0,0\n{row}\n'})
    with pytest.raises(ContractError, match="user, item, event, value, zero"):
        batches("steam", folder.parent)


def test_hm(write: Write) -> None:
    names = presets_layouts.ARTICLES
    article = {
        "article_id": "0108775015",
        "prod_name": "Strap top",
        "product_type_name": "Vest top",
        "product_group_name": "Garment Upper body",
        "graphical_appearance_name": "Solid",
        "colour_group_name": "Black",
        "department_name": "Jersey Basic",
        "index_name": "Ladieswear",
        "index_group_name": "Ladieswear",
        "section_name": "Womens Everyday Basics",
        "garment_group_name": "Jersey Basic",
        "detail_desc": '"Jersey top, narrow\nstraps."',
    }
    found = gather(
        "hm",
        write(
            {
                "transactions_train.csv": "t_dat,customer_id,article_id,price,sales_channel_id\n"
                "2018-09-20,000058a1,0663713001,0.050830508474576264,2\n",
                "articles.csv": ",".join(("product_code", *names))
                + "\n0108775,"
                + ",".join(article[name] for name in names)
                + "\n",
                "customers.csv": "customer_id,FN,Active,club_member_status,fashion_news_frequency,"
                "age,postal_code\n"
                "000058a1,,,ACTIVE,NONE,49,52043ee2\n00007d2d,1.0,1.0,,,,2973abc5\n",
            }
        ),
    )
    assert shown(found["events"], *EVENT, "properties") == [
        (
            *("000058a1", "0663713001", "purchase", at(2018, 9, 20), 0.050830508474576264),
            '{"sales_channel_id":"2"}',
        )
    ]
    assert shown(found["items"], "item_id", "title", "text", "categories", "tags", "department_name") == [
        (
            *("0108775015", "Strap top", "Jersey top, narrow\nstraps."),
            ["Ladieswear", "Womens Everyday Basics", "Garment Upper body", "Vest top"],
            ["Jersey Basic", "Black", "Solid"],
            "Jersey Basic",
        )
    ]
    assert shown(found["users"], "user_id", "age", "active", "newsletter", "club_member_status") == [
        ("000058a1", 49.0, None, None, "ACTIVE"),
        ("00007d2d", None, 1.0, 1.0, None),
    ]


# What is asked wrongly


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("movielens-1M", "did you mean 'movielens-1m'?"),
        ("amazon_2014", "did you mean 'amazon-2014'?"),
        ("gowala", "did you mean 'gowalla'?"),
        ("xyz", "there are movielens-100k, "),
    ],
)
def test_an_unknown_preset_is_told_with_the_nearest(name: str, hint: str, tmp_path: Path) -> None:
    for ask in (presets.expand, lambda *a: list(presets.exposures(*a))):
        with pytest.raises(ContractError) as told:
            ask(name, "data", tmp_path)
        assert repr(name) in str(told.value)
        assert hint in str(told.value)


def test_a_missing_file_is_named_with_where_it_comes_from(write: Write) -> None:
    folder = write({"ratings.dat": "1::1193::5::978300760\n"})
    with pytest.raises(ContractError) as told:
        presets.expand("movielens-1m", "data", folder.parent)
    for part in (str(folder), "movies are read from movies.dat or movies.parquet", "ml-1m.zip", "https://"):
        assert part in str(told.value)


def test_a_folder_too_high_is_told_the_right_one(write: Write) -> None:
    folder = write({"ml-1m/ratings.dat": "1::1193::5::978300760\n"})
    with pytest.raises(ContractError, match=r"there is one in .*/ml-1m: give that folder"):
        presets.expand("movielens-1m", "data", folder.parent)


def test_a_file_for_a_folder_and_no_folder_at_all(write: Write) -> None:
    folder = write({"u.data": "1\t1\t1\t881250949\n"})
    with pytest.raises(ContractError, match=r"is a file; give the folder that holds it"):
        presets.expand("movielens-100k", "data/u.data", folder.parent)
    with pytest.raises(ContractError, match=r"there is no folder .*nowhere; ratings are read from u.data"):
        presets.expand("movielens-100k", "nowhere", folder.parent)


def test_a_variable_that_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATTUNE_NOWHERE", raising=False)
    with pytest.raises(ContractError, match=r"\$\{ATTUNE_NOWHERE\}, which is not set"):
        presets.expand("steam", "${ATTUNE_NOWHERE}/steam", tmp_path)


def test_a_folder_may_be_named_by_a_variable_and_hold_brackets(
    write: Write, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = folder / "a [1] *"
    write({f"{odd.name}/reviews_Toys_5.json.gz": json.dumps(REVIEW_2014) + "\n"})
    monkeypatch.setenv("ATTUNE_HERE", str(odd))
    write({f"{odd.name}/steam-200k.csv": "1,a,play,1.0,0\n"})
    for path in ("${ATTUNE_HERE}", f"data/{odd.name}/", str(odd)):
        assert batches("amazon-2014", folder.parent, path)["events", "reviews"].frame.height == 1, path
        assert batches("steam", folder.parent, path)["events", "events"].frame.height == 1, path


def test_an_unknown_layout_is_told_with_the_nearest(tmp_path: Path) -> None:
    for ask in (
        lambda: list(scan(File(tmp_path / "x"), "mind-click")),
        lambda: companions(tmp_path, "mind-click"),
    ):
        with pytest.raises(ContractError, match="did you mean 'mind-clicks'"):
            ask()


# What holds for all presets


@pytest.mark.parametrize("name", presets.presets())
def test_a_preset_is_a_configuration(name: str, tmp_path: Path) -> None:
    """Each is described on one line, valid where it stands, and names only layouts there are."""
    line = presets.presets()[name]
    assert "\n" not in line
    assert "; http" in line
    everything = presets._presets()[name]
    for table in (t for kind in KINDS for t in everything.get(kind, [])):
        for path in presets._alternatives(table):
            file = tmp_path / path.replace("*", "X").replace("[A-Z]", "A")
            file.parent.mkdir(exist_ok=True)
            file.touch()
    tables = presets.expand(name, str(tmp_path), Path("/"))
    assert set(tables) <= {*KINDS, *presets.SECTIONS}
    assert tables["events"]
    for kind in KINDS:
        labels = [table["name"] for table in tables.get(kind, [])]
        assert len(labels) == len(set(labels))
        for table in tables.get(kind, []):
            assert table.get("layout") in (None, *PRESET_LAYOUTS)
            SourceConfig.model_validate(table)
    InteractionsConfig.model_validate(tables.get("interactions", {}))
    evaluation = EvaluationConfig.model_validate(tables.get("evaluation", {}))
    ordered = ["order" in table["columns"] for table in tables["events"]]
    assert len(set(ordered)) == 1  # one log has times or an order
    assert ordered[0] == (evaluation.split == "leave_last_out")


def test_every_layout_is_used() -> None:
    named = {
        t.get("layout") for about in presets._presets().values() for k in KINDS for t in about.get(k, [])
    }
    assert named - {None} == set(PRESET_LAYOUTS)


def test_what_expand_gives_is_the_callers_own(write: Write) -> None:
    folder = write({"steam-200k.csv": "1,a,play,1.0,0\n"})
    first = presets.expand("steam", "data", folder.parent)
    second = deepcopy(first)
    first["events"][0]["columns"]["user_id"] = "changed"
    first["interactions"]["weights"].clear()
    assert presets.expand("steam", "data", folder.parent) == second


def test_parquet_of_the_same_columns_gives_the_same_rows(write: Write, folder: Path) -> None:
    original = gather("mind", write({"behaviors.tsv": BEHAVIORS, "news.tsv": NEWS}))
    for name, columns in (("behaviors", presets_mind.BEHAVIORS), ("news", presets_mind.NEWS)):
        frames = list(presets_layouts.plain(columns)(File(folder / f"{name}.tsv")))
        pl.concat(frames).write_parquet(folder / f"{name}.parquet")
        (folder / f"{name}.tsv").unlink()
    again = gather("mind", folder)
    for kind in ("events", "items"):
        assert_frame_equal(original[kind], again[kind], check_row_order=False)


# The readers


def lines_of(path: Path, **settings: Any) -> pl.DataFrame:
    return pl.concat(presets_read.delimited(File(path), ("a", "b"), **settings))


@given(
    rows=st.lists(st.tuples(*[st.text("xyé \"',|", max_size=5)] * 2), min_size=1),
    separator=st.sampled_from(["\t", "::"]),
    end=st.sampled_from(["\n", "\r\n"]),
    block=st.integers(3, 40),
)
def test_delimited_text_is_the_same_in_pieces_of_any_size(
    rows: list[tuple[str, str]],
    separator: str,
    end: str,
    block: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("text") / "rows.txt"
    path.write_bytes("".join(f"{a}{separator}{b}{end}" for a, b in rows).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("profiles.sources.unpacking.BLOCK", block)
        found = lines_of(path, separator=separator)
    assert found.rows() == [(a or None, b or None) for a, b in rows]


scalars = (
    st.none()
    | st.text(max_size=6)
    | st.integers(-(2**53), 2**53)
    | st.booleans()
    | st.integers(-99, 99).map(float)
)


@given(values=st.lists(st.dictionaries(st.sampled_from("abc"), scalars), min_size=1))
def test_json_and_python_literals_read_alike(
    values: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("json")
    (folder / "a").write_text("".join(json.dumps(v) + "\n" for v in values))
    (folder / "b").write_text(
        "".join(repr(v) + "\n" for v in values) + "{'a': 'so that JSON cannot read it'}\n"
    )
    first, second = (pl.concat(presets_read.objects(File(folder / n), tuple("abc"))) for n in "ab")
    assert_frame_equal(first, second[:-1])


def test_half_a_character_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for text in ('{"a":"x\\ud83dy"}\n', '{"a":"x\\ud83dy"}\n{\'a\': 1}\n'):
        path.write_text(text)
        assert pl.concat(presets_read.objects(File(path), ("a",)))["a"][0] in ("x\ufffdy", "x\ufffd")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a":1}\n{"a":\n', "line 2 is neither JSON nor a Python literal"),
        ("{'a': __import__('os')}\n", "line 1 is neither JSON nor a Python literal"),
        ("[1]\n", "line 1 is list: each line must be one object"),
        ('{"a":1}\n\n5\n', "line 3 is int"),
        ("(" * 100_000 + "\n", "line 1 is neither"),
        ("{'a': " + "9" * 5000 + "}\n", "line 1 is neither"),
    ],
)
def test_a_line_that_is_no_object_is_named(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ContractError, match=told):
        list(presets_read.objects(File(tmp_path / "x.json"), ("a",)))


def test_a_line_of_another_width_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("1\t2\n\n3\n")
    with pytest.raises(ContractError, match=r"x\.tsv, line 3: 1 fields separated by '\\t' where"):
        lines_of(tmp_path / "x.tsv")
    (tmp_path / "x.tsv").write_text("1\n2\n3\t4\n")
    with pytest.raises(ContractError, match="line 1: 1 fields"):
        lines_of(tmp_path / "x.tsv", tolerant=True)  # most lines are torn: it is another file


def test_another_header_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_text("a\tc\n1\t2\n")
    with pytest.raises(ContractError, match=r"line 1: the header of this file is 'a\\tb', not 'a\\tc'"):
        lines_of(tmp_path / "x.dat", header=True)
    (tmp_path / "x.dat").write_bytes(b"\xef\xbb\xbfa\tb\n1\t2\n")
    assert lines_of(tmp_path / "x.dat", header=True).rows() == [("1", "2")]


def test_parquet_without_a_column_is_told(tmp_path: Path) -> None:
    pl.DataFrame({"id": [1], "url": ["x"]}).write_parquet(tmp_path / "artists.parquet")
    with pytest.raises(ContractError, match=r"artists\.parquet has no column 'name'; it has id, url"):
        list(scan(File(tmp_path / "artists.parquet"), "lastfm-2k-artists"))


def test_the_first_frame_of_a_scan_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("0 1 2\n")
    first, second = scan(File(tmp_path / "x.txt"), "lightgcn-train")
    assert first.schema == second.schema
    assert (first.height, second.height) == (0, 2)


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").touch()
    with pytest.raises(ContractError, match="is empty"):
        list(scan(File(tmp_path / "x.tsv"), "gowalla-checkins"))


def test_files_that_belong_together_are_one_content(write: Write) -> None:
    folder = write(RETAILROCKET)
    found = companions(folder / "item_properties_part1.csv", "retailrocket-items")
    assert [file.name for file in found] == ["category_tree.csv", "item_properties_part2.csv"]
    assert companions(folder / "events.csv", "steam-events") == []


# The conversions


@pytest.mark.parametrize(
    ("written", "number"),
    [
        *(
            (3.17, "3.17"),
            (5, "5"),
            ("$1,299.00", "1299.00"),
            ("from 3.99", "3.99"),
            ("$3.50 - $5.00", "3.50"),
        ),
        *((None, None), (True, None), ("", None), ("—", None), ("N/A", None), (".a-box{top:1}", None)),
        *((float("nan"), None), ({"a": 1}, None), ("1.2.3", None)),
    ],
)
def test_prices(written: Any, number: str | None) -> None:
    assert presets_convert.price(written) == number


def test_a_circle_of_categories_ends() -> None:
    paths = dict(presets_convert.category_paths({"1": "2", "2": "1", "3": "3", "4": "5"}))
    assert paths == {"1": ["2", "1"], "2": ["1", "2"], "3": ["3"], "4": ["5", "4"]}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.booleans(), st.sampled_from("xy"))))
def test_versions_say_at_every_moment_what_the_log_of_properties_says(
    said: list[tuple[str, int, bool, str]],
) -> None:
    kinds = {True: "categoryid", False: "available"}
    rows = [(str(when), item, kinds[kind], value) for item, when, kind, value in said]
    frame = pl.DataFrame(
        rows, dict.fromkeys(("timestamp", "itemid", "property", "value"), pl.String), orient="row"
    )
    found = presets_convert.versions(frame, {})
    assert not found.select("item", "valid_from").is_duplicated().any()
    previous: tuple[Any, ...] = ()
    for row in found.iter_rows():
        assert (row[0], *row[2:]) != previous  # a version that changes nothing is none
        previous = (row[0], *row[2:])
    for item in "ab":
        for moment in range(6):
            before = sorted((r for r in rows if r[1] == item and int(r[0]) <= moment), key=lambda r: r[0])
            known = {kind: value for _, _, kind, value in before}
            past = found.filter((pl.col("item") == item) & (pl.col("valid_from") <= moment)).tail(1)
            category = known.get("categoryid")
            expected = [([category] if category else None, known.get("available"))] if known else []
            assert past.select("categories", "available").rows() == expected


def frames_of(rows: list[int | None], cut: int) -> Iterator[pl.DataFrame]:
    frame = pl.DataFrame({"k": rows, "n": range(len(rows))}, {"k": pl.Int64, "n": pl.Int64})
    return (frame[start : start + cut] for start in range(0, max(len(rows), 1), cut))


@given(st.lists(st.none() | st.integers(0, 5)), st.integers(1, 4))
def test_batches_change_neither_distinct_nor_numbered(rows: list[int | None], cut: int) -> None:
    kept = pl.concat(presets_convert.distinct(frames_of(rows, cut), "k"))["k"].to_list()
    assert kept == list(dict.fromkeys(k for k in rows if k is not None))
    places = pl.concat(presets_convert.numbered(frames_of(rows, cut), 7))
    assert places["order"].to_list() == list(range(7, 7 + len(rows)))
    assert places["n"].to_list() == list(range(len(rows)))


impressions = st.tuples(st.sampled_from("ab"), st.integers(1, 9), st.sampled_from(["", "N1", "N1 N2", "N3"]))


@given(st.lists(impressions), st.integers(1, 4))
def test_a_history_is_that_of_the_users_first_impression(
    shown_to: list[tuple[str, int, str]], cut: int
) -> None:
    rows = [
        (str(n), u, f"11/{day}/2019 9:00:00 AM", past or None, "N9-0")
        for n, (u, day, past) in enumerate(shown_to)
    ]
    frame = pl.DataFrame(rows, dict.fromkeys(presets_mind.BEHAVIORS, pl.String), orient="row")
    batches = [frame[start : start + cut] for start in range(0, max(frame.height, 1), cut)]
    found = pl.concat(presets_mind.histories(lambda: iter(batches))).sort("user", "timestamp")
    expected = []
    for user in "ab":
        told = [(day, past.split()) for u, day, past in shown_to if u == user and past]
        if told:
            day, items = min(told, key=lambda one: one[0])  # the first of the file among equals
            expected += [
                (user, item, at(2019, 11, day, 9) - timedelta(microseconds=len(items) - place))
                for place, item in enumerate(items)
            ]
    assert found.rows() == expected


# The data sets themselves

REAL: dict[tuple[str, str], dict[tuple[str, str], tuple[int, int]]] = {  # rows kept, rows refused
    ("movielens-100k", "ml_100k"): {
        ("events", "ratings"): (100_000, 0),
        ("items", "movies"): (1_682, 0),
        ("users", "members"): (943, 0),
    },
    ("movielens-1m", "ml_1m"): {
        ("events", "ratings"): (1_000_209 - 249, 249),  # those without a time
        ("items", "movies"): (3_883, 0),
        ("users", "members"): (6_040, 0),
    },
    ("lastfm-2k", "lastfm"): {("events", "listens"): (92_834, 0), ("items", "artists"): (17_632, 0)},
    ("lastfm-2k-tags", "lastfm"): {
        ("events", "tags"): (186_479 - 5, 5),  # in 1956 and 1979
        ("items", "artists"): (17_632, 0),
    },
    ("steam", "steam"): {("events", "events"): (200_000, 0), ("items", "games"): (5_155, 0)},
    ("amazon-2014", "amazon_instruments"): {("events", "reviews"): (10_261, 0)},
    ("mind", "mind_sample"): {
        ("events", "clicks"): (7_542, 0),
        ("events", "history"): (138_932, 0),
        ("items", "news"): (2_000, 0),
    },
    ("gowalla-lightgcn", "gowalla"): {
        ("events", "train"): (810_128, 0),
        ("events", "test"): (217_242, 0),
        ("items", "places"): (40_981, 0),
    },
}
USERS = {
    **{"movielens-100k": 943, "movielens-1m": 6_040, "lastfm-2k": 1_892, "steam": 12_393},
    **{"amazon-2014": 1_429, "gowalla-lightgcn": 29_858},
}


@pytest.mark.data
@pytest.mark.parametrize(("name", "place"), REAL)
def test_real_files_have_the_counts_their_owners_state(name: str, place: str) -> None:
    if not DATA or not (Path(DATA) / place).is_dir():
        pytest.skip(f"ATTUNE_DATA names no folder that holds {place}")
    found = batches(name, Path(DATA), f"${{ATTUNE_DATA}}/{place}")
    counts = {key: (b.frame.height, b.rejected.height) for key, b in found.items() if b.rows}
    assert counts == REAL[name, place]
    events = pl.concat([b.frame for (kind, _), b in found.items() if kind == "events"])
    assert events.schema == EVENTS.schema
    assert not events["event_id"].is_duplicated().any()
    if name in USERS:
        assert events["user_id"].n_unique() == USERS[name]


@pytest.mark.data
def test_real_impressions_are_exposures() -> None:
    if not DATA or not (Path(DATA) / "mind_sample").is_dir():
        pytest.skip("ATTUNE_DATA names no folder that holds mind_sample")
    rows = pl.concat(presets.exposures("mind", "${ATTUNE_DATA}/mind_sample", Path()))
    given_rows = pl.read_parquet(Path(DATA) / "mind_sample" / "behaviors.parquet")
    assert rows.height == given_rows["impressions"].str.count_matches(r"\S+").sum()
    assert rows["recommendation_id"].n_unique() == 5_000
    assert not rows.select(EXPOSURES.key).is_duplicated().any()


def test_nothing_but_what_is_declared_is_taken() -> None:
    """A misspelt key in presets.toml would be refused where a source is checked, not ignored."""
    with pytest.raises(ValidationError):
        SourceConfig.model_validate({"path": "x", "lay_out": "mind-clicks"})
