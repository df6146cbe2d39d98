\set id random(1, :customers)
UPDATE shop.customers SET last_seen = now() WHERE id BETWEEN :id AND :id + 9;
