\set id random(1, :customers)
DELETE FROM shop.customers WHERE id = :id;
