\set id random(1, :customers)
UPDATE shop.customers SET points = points + 1 WHERE id = :id;
