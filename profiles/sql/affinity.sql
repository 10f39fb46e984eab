-- What each user leans to: the time-decayed weight of each value of an item attribute in what they did,
-- as a share of the user's whole, the strongest $keep values first (ties by name). Age counts from the
-- user's newest: the same shares, and no sum of weights sinks to zero.
with aged as (
  select *, age_days - min(age_days) over (partition by user_id) as older from touched
),
leanings as (
  select user_id, unnest(attribute) as value, weight * pow(0.5, older / $half_life_days) as strength
  from aged
),
shares as (
  select user_id, value, sum(strength) as strength from leanings group by user_id, value
),
ranked as (
  select
    user_id, value,
    strength / sum(strength) over (partition by user_id) as share,
    row_number() over (partition by user_id order by strength desc, value) as place
  from shares
)
select user_id, list({'value': value, 'share': share} order by place) as affinity
from ranked
where place - 1 < $keep
group by user_id
order by user_id
