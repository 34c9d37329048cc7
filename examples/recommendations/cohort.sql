-- The cohort of a month: four fifths of all users, drawn by a hash of user and month, and the
-- region that each belongs to. The sample has no months and no regions of its own, so both are
-- derived from the user's number, the same way every time.
WITH lines AS (SELECT split(value, '::') AS field FROM text.`${hivevar:ratings}`)
SELECT DISTINCT
    CAST(field[0] AS INT) AS user,
    element_at(array('amer', 'apac', 'emea'), CAST(pmod(CAST(field[0] AS INT), 3) + 1 AS INT)) AS region
FROM lines
WHERE pmod(xxhash64(field[0], '${hivevar:cohort}'), 5) < 4
ORDER BY user;
