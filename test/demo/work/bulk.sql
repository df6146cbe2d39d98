\set id random(1, :customers)
UPDATE shop.customers SET plan = 'team' WHERE id BETWEEN :id AND :id + 49;
