"""What `attune init` writes."""

TEMPLATE = """\
# attune.toml: where your behaviour log is, and what to make of it.
# Only [[events]] is needed. `attune run` does the rest; `attune doctor` says what is missing.

[[events]]
path = "events.csv"            # CSV, TSV, Parquet or JSON Lines; a glob; or a list: the first that exists
# format = "csv"               # if the file's name does not tell
#   In place of path, a database:
#   url = "postgresql://me:${PASSWORD}@host/shop"
#   query = "select * from events"
# time_unit = "auto"           # auto, iso, s, ms, us, ns

[events.columns]               # ours = yours; what is not named is taken from the column of the same name
user_id = "user_id"
item_id = "item_id"
event_type = "event_type"      # or { constant = "view" }
timestamp = "timestamp"        # or  order = "position"  for a log without times
# value = "rating"
# text = { expression = "title || ' ' || body" }

# [[items]]                    # titles, categories and texts make lists readable and new items findable
# path = "items.csv"
# attributes = ["director"]    # further columns to keep
# [items.columns]
# item_id = "item_id"
# title = "title"
# text = "description"
# categories = { column = "categories", split = "|" }

# [[users]]
# path = "users.csv"

# [[vectors]]                  # of images, sounds, anything: Parquet of item_id and vector
# path = "vectors.parquet"

# [[labels]]                   # what `attune classify train` learned to tell: three columns of profiles
# name = "topic"               # of users by what they wrote, of items by what they say
# classifier = "topics"        # its folder

#   Or a well-known public data set; `attune presets` lists them:
#   [[dataset]]
#   preset = "movielens-1m"
#   path = "ml-1m"

#   The log in PostgreSQL; without it a SQLite file in the workspace:
#   [store]
#   url = "postgresql://me:${PASSWORD}@host/log"

[privacy]
# mask = false                 # true: e-mail addresses, phone numbers and cards in texts become [email] …

[profiles]
# timezone = "UTC"             # of hours and weekdays, as Europe/Berlin
# smoothing = 5.0              # weighted events that the log's own shares count for in an affinity
#   consents = ["newsletter"]    user attributes that say yes or no

[interactions]
# weights = { view = 1, purchase = 5 }   # types not named are ignored; without this every type weighs 1
# minimum_value = { rating = 4 }         # below it, an event says nothing for the item

# [text]
# enabled = true               # vectors of texts by all-MiniLM-L6-v2; model = "folder" for another

# [pairs]                      # what `attune finetune` learns from: what people wrote and chose next
# within_days = 30.0           # a choice counts this long after a text

# [finetune]                   # the tuned encoder's folder is for [text] model
# epochs = 3
# batch_size = 64              # each pair is a negative of all others
#   sizes = [128]              # Matryoshka: [text] dimension = 128 then loses little

# [rerank]                     # the cross-encoder of `attune rerank`: pairs of [pairs], read together
# epochs = 2
# negatives = 3                # wrong texts that share words, drawn for a pair

# [search]                     # of `attune search`
# by = "both"                  # words (BM25), vectors, or both, fused
# reread = 50                  # first places that a cross-encoder puts in order
#   [search.reader]
#   model = "workspace/encoders/reranker-…"

[recommenders.popularity]      # each table is a source of the blend; `type` names the recommender
[recommenders.recent]
type = "popularity"
half_life_days = 7
[recommenders.item_knn]
[recommenders.als]
[recommenders.ease]            # `attune recommenders` lists all there are
[recommenders.content_text]
# [recommenders.content_vectors] # near what one chose, by your own vectors: [[vectors]] above

[blend]
# constant = 5                 # of w / (constant + rank)
# weights = "fit"              # chosen on validation; or { ease = 1, recent = 0.5 }
# fallback = "popularity"      # fills lists, so that nobody gets an empty one

[evaluation]
# split = "temporal"           # or rolling, leave_last_out, ratio, random, k_fold, strong, cold_users …
# quantile = 0.9               # temporal: the first 90 % of the interactions are learned from; or date = …
# target = "all"               # temporal: of what follows all counts, or the first, last, random, successive
# repeat_consumption = false   # true: what was seen may be recommended again
# slices = ["spending_band"]   # columns of the user profiles by which `attune report` tells users apart

[train]
# warm = false                 # true: go on from the release before, for new events at a fraction of a fit
# checkpoint_seconds = 60      # a training is kept this often; killed, the same command goes on from there

[tune]                         # of `attune tune NAME`
# method = "bayesian"          # or random, grid
# trials = 30
# minutes = 60                 # a run stops then; the next goes on
# memory_gb = 4                # of the process of a trial
# metric = "ndcg"              # at k = 10, on the validation that weights are chosen on; never on test

[recommend]
# k = 20                       # items in each user's list

[explore]                      # the end of an answer's list, so that other releases can be judged by the log
# epsilon = 0.0                # share of the answers whose last places are drawn, for `attune off-policy`
# tail = 3
# pool = 20                    # candidates they are drawn from

[serve]
# port = 8000
"""
