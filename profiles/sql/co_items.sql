-- The items most often next to each item in visits, strongest first (ties by row): from pairs counted once
-- a part (small row, large row, times) to {other, share}, the share of all the item's neighbours.
with both_ways as (
  select small as item, large as other, times from pairs
  union all
  select large, small, times from pairs
),
counted as (
  select item, other, sum(times)::bigint as times from both_ways group by item, other
),
ranked as (
  select
    item, other,
    times / sum(times) over (partition by item) as share,
    row_number() over (partition by item order by times desc, other) as place
  from counted
)
select item, other, share from ranked where place - 1 < $keep order by item, place
