-- How telling each term is: ln(1 + users / users of the term), over the users who wrote anything.
-- Terms of a single user are left out: they tell who wrote, not what about.
with worded as (select distinct user_id, term from written),
totals as (select count(distinct user_id) as users from worded)
select term, ln(1 + any_value(totals.users) / count(*)) as telling
from worded, totals
group by term
having count(*) > 1
order by term
