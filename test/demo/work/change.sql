\set id random(1, :customers)
\set n random(1, 1000000)
UPDATE shop.customers SET first_name = shop.first_name(:n), last_name = shop.last_name(:n) WHERE id = :id;
