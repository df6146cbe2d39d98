\set id random(1, :customers)
UPDATE shop.customers SET email = shop.typed_address(nextval('shop.number')) WHERE id = :id;
