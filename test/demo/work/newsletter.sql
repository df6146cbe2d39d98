\set id random(1, :customers)
UPDATE shop.customers SET newsletter = NOT newsletter WHERE id = :id;
