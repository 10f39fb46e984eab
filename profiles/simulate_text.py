"""The words of the simulated shop: its categories, and the sentences made of them.

Nothing here knows a user or a taste. `simulate` decides which item, which tags and which rating; these
functions say it in English, so that whoever learns from the text can find the tags again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Category:
    """One department: what it sells, how that is described, by whom, and at what median price.

    No tag belongs to two categories; kinds take a plural "s"; brands and tags are single words.
    """

    name: str
    price: float
    kinds: tuple[str, ...]
    tags: tuple[str, ...]
    brands: tuple[str, ...]
    lines: tuple[str, ...]
    title: str
    use: str


def _category(
    name: str, price: float, kinds: str, tags: str, brands: str, lines: str, use: str, title: str = ""
) -> Category:
    def split(text: str) -> tuple[str, ...]:
        return tuple(word.strip() for word in text.split(","))

    title = title or "{brand} {line} {Kind}, {tag}"
    return Category(name, price, split(kinds), split(tags), split(brands), split(lines), title, use)


PRINTED = "{line}: {article} {tag} {kind} ({brand})"

CATEGORIES: tuple[Category, ...] = (
    _category(
        "outdoor",
        90.0,
        "trail boot, rain jacket, tent, sleeping bag, backpack, headlamp, camp stove, fleece, hiking pole",
        "waterproof, ultralight, insulated, breathable, alpine, windproof, rugged, packable, fast-drying, "
        "four-season, reflective, family-sized",
        "Nordvik, Cairnway, Tarnfell, Highbeck, Larkspur, Ostrava",
        "Fjell, Ridge, Tundra, Summit, Moor, Glacier, Drift, Beacon",
        "Made for weekends on the trail and nights under canvas",
    ),
    _category(
        "cycling",
        70.0,
        "helmet, saddle, handlebar, pannier, bike light, jersey, floor pump, pedal, bottle cage",
        "aerodynamic, gravel, commuting, carbon, padded, tubeless, rechargeable, anti-theft, racing, "
        "mudproof, touring, high-visibility",
        "Velora, Pedalka, Corvino, Ruota, Spokewell, Brisa",
        "Strada, Sprint, Canal, Col, Pave, Tempo, Metro, Loop",
        "Built for the daily ride and the long way home",
    ),
    _category(
        "kitchen",
        45.0,
        "frying pan, kettle, coffee grinder, chopping board, casserole, mixing bowl, blender, teapot",
        "cast-iron, nonstick, enamelled, induction-ready, dishwasher-safe, copper, stackable, one-cup, "
        "programmable, olive-wood, quiet, ovenproof",
        "Brasero, Maison, Kuchari, Hearthly, Almendra, Stovell",
        "Bistro, Atelier, Sunday, Copperline, Granary, Nonna, Studio, Ember",
        "For cooks who use their kitchen every day",
    ),
    _category(
        "books",
        16.0,
        "crime novel, memoir, travel journal, story collection, poetry collection, historical novel, "
        "science essay, graphic novel, fantasy saga",
        "slow-burning, nordic, witty, prizewinning, illustrated, dystopian, coming-of-age, epic, translated, "
        "heartwarming, suspenseful, philosophical",
        "Harbourlight, Quillmark, Papermoon, Oxbow, Inkwell, Meridian",
        "The Salt Road, A Winter of Keys, The Last Ferry, Northern Rooms, The Glass Orchard, Letters to Ada, "
        "The Quiet Cartographer, An Ocean Between, Lantern Street, Ten Kinds of Rain",
        "A book to be read in long evenings and lent to friends",
        PRINTED,
    ),
    _category(
        "music",
        24.0,
        "vinyl record, live album, piano album, string quartet, debut album, remix album, film score, "
        "concert recording, anniversary edition",
        "ambient, baroque, jazzy, lo-fi, acoustic, electronic, soulful, experimental, danceable, wistful, "
        "orchestral, folk",
        "Bluehour, Tonarm, Echolane, Sundial, Cantata, Lowtide",
        "Night Trains, Paper Boats, Static Bloom, Second Sunrise, Hollow Hills, Blue Corridor, Velvet Hours, "
        "Distant Harbour, Small Fires, Open Strings",
        "Cut from the original tapes, with sleeve notes",
        PRINTED,
    ),
    _category(
        "garden",
        35.0,
        "watering can, planter, pruning saw, rose trellis, seed kit, garden hose, bird feeder, "
        "raised bed, compost bin",
        "frost-resistant, organic, drought-tolerant, bee-friendly, galvanised, self-watering, terracotta, "
        "climbing, long-handled, balcony-sized, shade-loving, heirloom",
        "Verdano, Mossgrove, Thornby, Solbloom, Potager, Hedgerow",
        "Orchard, Meadow, Allotment, Kew, Fern, Cottage, Pergola, Bramble",
        "For beds, balconies and everything that grows on them",
    ),
    _category(
        "toys",
        28.0,
        "building set, jigsaw puzzle, board game, rag doll, train set, marble run, kite, card game, "
        "play tent",
        "wooden, cooperative, educational, magnetic, glow-in-the-dark, toddler-safe, collectible, strategic, "
        "musical, washable, pocket-sized, battery-free",
        "Kuddel, Tinkerfox, Playmoor, Zirkus, Bobbin, Owlery",
        "Jungle, Castle, Rocket, Pirate, Farmyard, Carnival, Dino, Lagoon",
        "Keeps small hands and grown-up friends busy for hours",
    ),
    _category(
        "home",
        80.0,
        "table lamp, wool blanket, armchair, wall mirror, rug, side table, cushion, curtain, storage basket",
        "minimalist, handwoven, mid-century, linen, dimmable, velvet, rattan, reversible, oak, "
        "blackout, stain-resistant, rustic",
        "Lagom, Haverford, Casaluna, Tessel, Fabrikk, Umbra",
        "Aalto, Loft, Dune, Haven, Solstice, Quay, Arbor, Lumen",
        "Quietly changes the room it stands in",
    ),
    _category(
        "stationery",
        14.0,
        "notebook, fountain pen, sketchbook, desk planner, ink bottle, pencil set, letter set, stamp set, "
        "washi tape",
        "dotted, leather-bound, recycled, refillable, watercolour, calligraphy, undated, pastel, archival, "
        "fine-nibbed, spiral-bound, letterpress",
        "Papelle, Grafito, Tinta, Foliant, Marlowe, Kamiya",
        "Ledger, Atlas, Studio, Margin, Verso, Post, Dawn, Archive",
        "For people who still think best on paper",
    ),
    _category(
        "audio",
        120.0,
        "headphone, turntable, bookshelf speaker, microphone, soundbar, radio, amplifier, earbud, "
        "audio interface",
        "wireless, noise-cancelling, studio-grade, bass-heavy, portable, hi-res, open-backed, valve-driven, "
        "multiroom, low-latency, retro, sweatproof",
        "Sonavox, Klangwerk, Auralis, Hertzen, Ondine, Decibelle",
        "Reference, Nocturne, Pulse, Wave, Monitor, Field, Cadence, Prism",
        "Tuned by ear, measured in the laboratory",
    ),
    _category(
        "bath",
        18.0,
        "hand soap, bath towel, face cream, shampoo bar, bath salt, body scrub, beard oil, candle, hair mask",
        "fragrance-free, lavender, vegan, moisturising, exfoliating, cedarwood, gentle, plastic-free, "
        "citrus, overnight, botanical, mineral",
        "Saponara, Dewpoint, Alkemia, Florisse, Tidewell, Barbero",
        "Ritual, Calm, Spring, Harbour, Petal, Thermal, Bare, Dusk",
        "Made in small batches for the slow end of the day",
    ),
    _category(
        "pets",
        26.0,
        "dog bed, cat tree, lead, feeding bowl, chew toy, travel crate, aquarium light, harness strap, "
        "litter tray",
        "chew-proof, orthopaedic, grain-free, machine-washable, interactive, escape-proof, puppy-friendly, "
        "slow-feeding, scratch-resistant, hypoallergenic, no-pull, catnip",
        "Pawsome, Furrow, Wagtail, Miezel, Barkley, Finley",
        "Buddy, Scout, Whisker, Nap, Roamer, Nest, Fetch, Companion",
        "Approved by animals with strong opinions",
    ),
)

EDITIONS = ("Classic", "Plus", "Pro", "Lite", "Duo", "Select")

DESCRIPTIONS = (
    "From {brand}, {article} {first} {kind}: {rest}. {use}.",
    "{use}. This {kind} by {brand} is {tags}.",
    "{brand} calls it {line}: {tags}, as {article} {kind} should be. {use}.",
)

QUERIES = (
    "{tag} {kind}s",
    "{tag} {kind}s",
    "{tag} {other} {kind}s",
    "{kind}s",
    "{brand} {kind}s",
    "{tag} {category} gift",
)

# By stars: an opening, then a remark; the remark names a tag the user cares for.
OPENINGS = {
    5: (
        "Love this {kind}.",
        "Best {kind} I have owned.",
        "Perfect, would buy it again.",
        "{brand} at its best.",
    ),
    4: ("Very good {kind}.", "Happy with it.", "A solid {kind} for the money.", "Good work by {brand}."),
    3: ("It is all right.", "A decent {kind}, nothing more.", "Mixed feelings about this {kind}."),
    2: ("Not what I hoped for.", "A weak {kind}.", "Expected more from {brand}."),
    1: ("Terrible {kind}.", "Sent it back.", "A waste of money.", "Never again from {brand}."),
}
PRAISE = (
    "Really {tag}, just what I wanted.",
    "I was looking for something {tag} and this is it.",
    "Great if you like it {tag}.",
)
BLAME = (
    "Too {tag} for me.",
    "I do not care for {tag}, and here it is all there is.",
    "They say {tag}; I found that disappointing.",
)


# One sentence that says both.
TERSE = 0.2
VERDICTS = {
    5: ("A wonderfully {liked} {kind}.", "As {liked} as promised, {brand} never fails."),
    4: ("A good, {liked} {kind}.", "Pleasantly {liked}."),
    2: ("Far too {disliked} for my taste.", "A poor {kind}, {disliked} or not."),
    1: ("Awful, {disliked} in the worst way.", "The worst {disliked} {kind} I know."),
}


def pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    """Draw one of the choices."""
    return choices[int(rng.integers(len(choices)))]


@dataclass(frozen=True)
class Product:
    """What the sentences may say of one item; `tags` is never empty."""

    category: Category
    kind: str
    brand: str
    line: str
    tags: tuple[str, ...]

    @property
    def words(self) -> dict[str, str]:
        return {
            "category": self.category.name,
            "kind": self.kind,
            "brand": self.brand,
            "line": self.line,
            "use": self.category.use,
        }


def make_title(product: Product, occurrence: int) -> str:
    """Return a title; the nth product of the same words (from 0) gets an edition of its own."""
    line = product.line
    if occurrence:
        edition = EDITIONS[occurrence - 1] if occurrence <= len(EDITIONS) else f"No. {occurrence + 1}"
        line = f"{line} {edition}"
    tag = product.tags[0]
    said = {**product.words, "line": line, "tag": tag, "Kind": product.kind.title()}
    return product.category.title.format(**said, article=_article(tag))


def describe(rng: np.random.Generator, product: Product) -> str:
    """Return two or three sentences that name every tag."""
    template = pick(rng, DESCRIPTIONS)
    follows = product.tags[0] if "{first}" in template else product.kind
    return template.format(
        **product.words,
        article=_article(follows),
        first=product.tags[0],
        rest=_listed(product.tags[1:]),
        tags=_listed(product.tags),
    )


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(", ".join(names).rsplit(", ", 1))


def make_query(rng: np.random.Generator, product: Product, tags: Sequence[str]) -> str:
    """Return one to four words for what a user looks for; `tags` with the most wanted first."""
    return pick(rng, QUERIES).format(**product.words, tag=tags[0], other=tags[1]).lower()


def make_review(rng: np.random.Generator, product: Product, tags: Sequence[str], stars: int) -> str:
    """Return one to three sentences whose mood is `stars`; `tags` with the most liked first."""
    liked, disliked = tags[0], tags[-1]
    opening = pick(rng, OPENINGS[stars]).format(**product.words)
    remarks = []
    if stars >= 3:
        remarks.append(pick(rng, PRAISE).format(tag=liked))
    if stars <= 3:
        remarks.append(pick(rng, BLAME).format(tag=disliked))
    if stars != 3 and rng.random() < TERSE:
        return pick(rng, VERDICTS[stars]).format(**product.words, liked=liked, disliked=disliked)
    return " ".join([opening, *remarks])
